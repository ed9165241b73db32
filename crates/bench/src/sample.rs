//! What the one who compares and a measuring process say to each other: words in, one JSON line out.
//!
//! The Python peers speak the same. Invariant: a sample without its peak memory is not a sample.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// `key=value` words; the first word without a value names the work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params {
    pub(crate) work: String,
    values: BTreeMap<String, String>,
}

impl Params {
    pub(crate) fn new(work: &str) -> Self {
        Self { work: work.to_owned(), values: BTreeMap::new() }
    }

    /// Names the work of one contender among several of this program.
    pub(crate) fn suffixed(self, contender: &str) -> Self {
        Self { work: format!("{}-{contender}", self.work), ..self }
    }

    pub(crate) fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.values.insert(key.to_owned(), value.to_string());
        self
    }

    pub(crate) fn path(self, key: &str, value: &Path) -> Self {
        self.with(key, value.display())
    }

    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        let (work, rest) = words.split_first().context("name the work")?;
        let mut params = Self::new(work);
        for word in rest {
            let (key, value) = word.split_once('=').with_context(|| format!("`{word}`: no `=`"))?;
            params = params.with(key, value);
        }
        Ok(params)
    }

    pub(crate) fn words(&self) -> Vec<String> {
        let values = self.values.iter().map(|(key, value)| format!("{key}={value}"));
        std::iter::once(self.work.clone()).chain(values).collect()
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str> {
        let value = self.values.get(key).map(String::as_str);
        value.with_context(|| format!("`{}` needs `{key}`", self.work))
    }

    pub(crate) fn number(&self, key: &str) -> Result<u64> {
        let text = self.text(key)?;
        text.parse().with_context(|| format!("`{key}={text}` is not a number"))
    }

    pub(crate) fn directory(&self) -> Result<PathBuf> {
        self.text("dir").map(PathBuf::from)
    }
}

/// What one process measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The figure that is compared.
    pub(crate) value: f64,
    /// Other figures, shown beside it.
    #[serde(default)]
    pub(crate) extra: BTreeMap<String, f64>,
    /// What the work answered: it must be the same for all contenders.
    #[serde(default)]
    pub(crate) check: Option<String>,
    /// The most memory that the process ever held.
    pub(crate) rss_bytes: u64,
}

impl Sample {
    pub(crate) fn of(value: f64) -> Self {
        Self { value, ..Self::default() }
    }

    pub(crate) fn and(mut self, key: &str, value: f64) -> Self {
        self.extra.insert(key.to_owned(), value);
        self
    }

    pub(crate) fn checked(self, check: String) -> Self {
        Self { check: Some(check), ..self }
    }

    /// Reads the last line of what a process printed: a library may have printed before it.
    pub(crate) fn parse(output: &str) -> Result<Self> {
        let line = output.trim_end().lines().next_back().context("it printed nothing")?;
        let sample: Self = serde_json::from_str(line).with_context(|| format!("read `{line}`"))?;
        anyhow::ensure!(sample.rss_bytes > 0, "the sample has no peak memory");
        Ok(sample)
    }

    /// Returns the line that [`Sample::parse`] reads, with this process's peak memory.
    pub(crate) fn line(self) -> Result<String> {
        let sample = Self { rss_bytes: peak_bytes()?, ..self };
        Ok(serde_json::to_string(&sample)?)
    }
}

/// Returns the high-water mark of this process's resident memory.
fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).context("no VmHWM line")?;
    Ok(kib.parse::<u64>().context("VmHWM is a number")? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_way_to_a_process() {
        let params = Params::new("wal-bare").with("writers", 16).with("dir", "/a=b");
        let again = Params::parse(&params.words()).expect("valid");
        assert_eq!((again.work.as_str(), again.number("writers").ok()), ("wal-bare", Some(16)));
        assert_eq!(again.text("dir").ok(), Some("/a=b"));
    }

    #[test]
    fn a_sample_is_the_last_line_and_has_peak_memory() {
        let line = Sample::of(2.5).and("p50", 1.0).checked("x".to_owned()).line().expect("linux");
        let sample = Sample::parse(&format!("noise\n{line}\n")).expect("valid");
        assert_eq!((sample.value, sample.check.as_deref()), (2.5, Some("x")));
        assert!(sample.rss_bytes > 0);
        let told = Sample::parse("{\"value\": 1.0, \"rss_bytes\": 0}").expect_err("no memory");
        assert_eq!(told.to_string(), "the sample has no peak memory");
    }
}
