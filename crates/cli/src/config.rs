//! Settings: a TOML file, then the environment, then flags; the later wins.
//!
//! It must not ignore a key that it does not know: a setting with a typo would look as if it held.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::error::Kind;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Deserialize;

use crate::args::{Global, LogFormat};
use crate::failure::Failure;
use crate::output::Format;

const KEYS: [&str; 10] = [
    "data_dir",
    "listen",
    "connect",
    "output",
    "query_memory",
    "statement_timeout",
    "buckets",
    "log_level",
    "log_format",
    "actor",
];

/// The address of a server when nobody says.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:7171";

/// What the file and the environment may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    connect: Option<String>,
    output: Option<Format>,
    query_memory: Option<toml_value::Text>,
    statement_timeout: Option<toml_value::Text>,
    buckets: Option<toml_value::Texts>,
    log_level: Option<String>,
    log_format: Option<LogFormat>,
    actor: Option<String>,
}

/// A value that may be written as text or as a number.
mod toml_value {
    #[derive(Debug, serde::Deserialize)]
    #[serde(untagged)]
    pub(super) enum Text {
        Text(String),
        Number(u64),
    }

    /// Several texts, or one with a comma between them.
    #[derive(Debug, serde::Deserialize)]
    #[serde(untagged)]
    pub(super) enum Texts {
        One(String),
        Several(Vec<String>),
    }

    impl Texts {
        pub(super) fn into_texts(self) -> Vec<String> {
            match self {
                Self::One(text) => text.split(',').map(|text| text.trim().to_owned()).collect(),
                Self::Several(texts) => texts,
            }
        }
    }

    impl Text {
        pub(super) fn into_text(self) -> String {
            match self {
                Self::Text(text) => text,
                Self::Number(number) => number.to_string(),
            }
        }
    }
}

/// Where a command works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Directory(PathBuf),
    Server(String),
    Unknown,
}

/// The settings of one run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) place: Place,
    /// The directory, whatever the place: `serve` works on it alone.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) listen: Option<String>,
    pub(crate) output: Format,
    pub(crate) query_memory: Option<usize>,
    pub(crate) statement_timeout: Option<Duration>,
    /// Shared buckets: names and addresses.
    pub(crate) buckets: BTreeMap<String, String>,
    pub(crate) log_level: Option<String>,
    pub(crate) log_format: LogFormat,
    pub(crate) actor: String,
}

/// Reads the file and the environment and lays the flags over them.
pub(crate) fn load(flags: &Global) -> Result<Settings, Failure> {
    let mut figment = Figment::new();
    if let Some(path) = file_of(flags)? {
        figment = figment.merge(Toml::file_exact(path));
    }
    figment = figment.merge(Variables);
    let written: Written = figment.extract().map_err(explain)?;
    settle(flags, written)
}

/// The environment as texts: a directory may be called `2024`, and a person `true`.
struct Variables;

impl Provider for Variables {
    fn metadata(&self) -> Metadata {
        Metadata::named("the environment")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut values = Dict::new();
        for key in KEYS {
            match std::env::var(format!("ALLUVIUM_{}", key.to_uppercase())) {
                Ok(text) if !text.is_empty() => {
                    values.insert(key.to_owned(), text.into());
                }
                Ok(_) | Err(std::env::VarError::NotPresent) => {}
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(figment::Error::from("it is not UTF-8".to_owned()).with_path(key));
                }
            }
        }
        Ok(Profile::Default.collect(values))
    }
}

fn settle(flags: &Global, written: Written) -> Result<Settings, Failure> {
    let place = match (&flags.data_dir, &flags.connect, &written.connect, &written.data_dir) {
        (Some(dir), ..) => Place::Directory(dir.clone()),
        (None, Some(url), ..) | (None, None, Some(url), _) => Place::Server(url.clone()),
        (None, None, None, Some(dir)) => Place::Directory(dir.clone()),
        (None, None, None, None) => Place::Unknown,
    };
    let text = toml_value::Text::into_text;
    let memory = flags.query_memory.clone().or(written.query_memory.map(text));
    let timeout = flags.statement_timeout.clone().or(written.statement_timeout.map(text));
    Ok(Settings {
        place,
        data_dir: flags.data_dir.clone().or(written.data_dir),
        listen: written.listen,
        output: flags.output.or(written.output).unwrap_or(Format::Table),
        query_memory: memory.as_deref().map(parse_bytes).transpose()?,
        statement_timeout: timeout.as_deref().map(parse_duration).transpose()?,
        buckets: named_buckets(match flags.bucket.is_empty() {
            true => written.buckets.map(toml_value::Texts::into_texts).unwrap_or_default(),
            false => flags.bucket.clone(),
        })?,
        log_level: flags.log_level.clone().or(written.log_level),
        log_format: flags.log_format.or(written.log_format).unwrap_or_default(),
        actor: flags
            .actor
            .clone()
            .or(written.actor)
            .or_else(user_name)
            .unwrap_or_else(|| "alluvium".to_owned()),
    })
}

/// Reads `NAME=URL` pairs.
fn named_buckets(pairs: Vec<String>) -> Result<BTreeMap<String, String>, Failure> {
    let mut buckets = BTreeMap::new();
    for pair in pairs {
        let Some((name, url)) = pair.split_once('=') else {
            // What stands before an @ may be a credential.
            let shown = pair.rsplit('@').next().unwrap_or_default();
            return Err(Failure::usage(format!("{shown:?} is not a bucket"))
                .with_hint("a name and an address, such as lake=s3://bucket/prefix"));
        };
        if buckets.insert(name.to_owned(), url.to_owned()).is_some() {
            return Err(Failure::usage(format!("there are two buckets named {name:?}")));
        }
    }
    Ok(buckets)
}

impl Settings {
    /// Returns the address that `serve` listens on.
    pub(crate) fn listen(&self, flag: Option<&str>) -> Result<SocketAddr, Failure> {
        let text = flag.or(self.listen.as_deref()).unwrap_or(LISTEN_DEFAULT);
        text.parse().map_err(|_not_one| {
            Failure::usage(format!("{text:?} is not an address to listen on"))
                .with_hint(format!("an IP address and a port, such as {LISTEN_DEFAULT}"))
        })
    }
}

fn user_name() -> Option<String> {
    std::env::var("USER").ok().filter(|name| !name.is_empty() && name.len() <= 256)
}

fn file_of(flags: &Global) -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = &flags.config {
        return match path.is_file() {
            true => Ok(Some(path.clone())),
            false => Err(Failure::usage(format!("there is no file {}", path.display()))),
        };
    }
    let directory = user_directory("XDG_CONFIG_HOME", ".config");
    Ok(directory.map(|directory| directory.join("config.toml")).filter(|path| path.is_file()))
}

/// Returns our directory within one of the user's: an environment variable, else below home.
pub(crate) fn user_directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(below_home));
    Some(set.or_else(home)?.join("alluvium"))
}

fn explain(error: figment::Error) -> Failure {
    let place = match &error.metadata {
        Some(metadata) => match &metadata.source {
            Some(source) => format!("{} {source}", metadata.name),
            None => metadata.name.to_string(),
        },
        None => "the configuration".to_owned(),
    };
    let Kind::UnknownField(key, known) = &error.kind else {
        let (key, kind) = (error.path.join("."), &error.kind);
        return Failure::usage(format!("{place} has a wrong value for {key:?}: {kind}"));
    };
    let failure = Failure::usage(format!("{place} has a key {key:?} that does not exist"));
    match closest(key, known) {
        Some(close) => failure.with_hint(format!("did you mean {close:?}?")),
        None => failure.with_hint(format!("the keys are {}", known.join(", "))),
    }
}

/// Returns the known word that is at most two edits away.
pub(crate) fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().min_by_key(|known| edits(word, known))?;
    (edits(word, best) <= 2).then_some(*best)
}

/// Counts the insertions, deletions and replacements between two words (Levenshtein, 1966).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, character) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = done + 1;
        for (at, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *other);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

/// Parses a number of bytes, such as `1073741824`, `512MiB` or `2GB`.
pub(crate) fn parse_bytes(text: &str) -> Result<usize, Failure> {
    let bad = || {
        Failure::usage(format!("{text:?} is not a number of bytes"))
            .with_hint("a number with B, KiB, MiB, GiB, KB, MB or GB")
    };
    let (digits, unit) = split_unit(text);
    let factor: usize = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(bad()),
    };
    let number: usize = digits.parse().map_err(|_not_one| bad())?;
    number.checked_mul(factor).filter(|bytes| 0 < *bytes).ok_or_else(bad)
}

/// Parses a time, such as `500ms`, `30s`, `5m` or `1h`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, Failure> {
    let bad = || {
        Failure::usage(format!("{text:?} is not a time")).with_hint("a number with ms, s, m or h")
    };
    let (digits, unit) = split_unit(text);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_not_one| bad())?;
    let total = number.checked_mul(milliseconds).filter(|total| 0 < *total).ok_or_else(bad)?;
    Ok(Duration::from_millis(total))
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    (digits, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_times_are_read_with_their_units() {
        assert_eq!(parse_bytes("512MiB").ok(), Some(512 << 20));
        assert_eq!(parse_bytes("2 GB").ok(), Some(2_000_000_000));
        assert_eq!(parse_duration("1500ms").ok(), Some(Duration::from_millis(1_500)));
        assert_eq!(parse_duration("2").ok(), Some(Duration::from_secs(2)));
        for bad in ["", "x", "-1", "0", "5 parsecs", "99999999999999999999", "1é"] {
            assert!(parse_bytes(bad).is_err() && parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_flag_decides_where_to_work_whatever_the_file_says() {
        let written = || Written {
            data_dir: Some("d".into()),
            connect: Some("http://a".to_owned()),
            ..Written::default()
        };
        let place = |flags: Global| settle(&flags, written()).expect("valid").place;
        assert_eq!(place(Global::default()), Place::Server("http://a".to_owned()));
        let flags = Global { data_dir: Some("x".into()), ..Global::default() };
        assert_eq!(place(flags), Place::Directory("x".into()));
        let flags = Global { connect: Some("http://b".to_owned()), ..Global::default() };
        assert_eq!(place(flags), Place::Server("http://b".to_owned()));
    }

    #[test]
    fn buckets_are_read_as_a_list_or_a_text_and_flags_replace_them() {
        let named = |flags: &[&str], written| {
            let bucket = flags.iter().map(|&flag| flag.to_owned()).collect();
            let flags = Global { bucket, ..Global::default() };
            settle(&flags, Written { buckets: written, ..Written::default() }).map(|s| s.buckets)
        };
        let one = BTreeMap::from([("a".to_owned(), "s3://x/y=z".to_owned())]);
        assert_eq!(named(&["a=s3://x/y=z"], None).ok(), Some(one.clone()));
        let several = toml_value::Texts::Several(vec!["a=s3://x/y=z".to_owned()]);
        assert_eq!(named(&[], Some(several)).ok(), Some(one.clone()));
        let text = || Some(toml_value::Texts::One("b=s3://b, c=s3://c".to_owned()));
        assert_eq!(named(&[], text()).expect("two").len(), 2);
        assert_eq!(named(&["a=s3://x/y=z"], text()).ok(), Some(one));
        assert!(named(&["a"], None).is_err() && named(&["a=1", "a=2"], None).is_err());
    }

    #[test]
    fn a_typo_is_answered_with_the_word_that_was_meant() {
        assert_eq!(closest("datadir", &KEYS), Some("data_dir"));
        assert_eq!(closest("ouput", &KEYS), Some("output"));
        assert_eq!(closest("colour", &KEYS), None);
    }
}
