//! Where objects lie in a bucket: the only place that builds or parses an object key.
//!
//! A key is a function of the data file's name alone, never of its content, host or time, so that a retry
//! meets its own earlier try. Invariant INV-S1: the function is injective, and its inverse accepts nothing
//! that it does not produce. See docs/adr/0006-object-naming.md.

use object_store::path::{Path, PathPart};
use uuid::Uuid;

use crate::error::{Error, KeyFault, Result};
use crate::limits::{KEY_BYTES_MAX, KEY_SEGMENT_BYTES_MAX, KEY_SEGMENTS_MAX};

const DATA_DIR: &str = "data";
const DATA_SUFFIX: &str = ".parquet";

/// What names one immutable data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataFileName {
    /// The dataset's id.
    pub dataset: Uuid,
    /// Which life of the dataset: drop and re-create never meet each other's files.
    pub incarnation: u64,
    /// The file's id within the dataset, given out by the log.
    pub file: u64,
    /// How many times these rows were rewritten.
    pub generation: u32,
}

impl DataFileName {
    /// Returns the key of this file.
    #[must_use]
    pub fn key(&self) -> Path {
        let Self { dataset, incarnation, file, generation } = self;
        let dataset = dataset.as_hyphenated();
        let key = Path::from(format!(
            "{DATA_DIR}/{dataset}/{incarnation}/{generation}-{file:016x}{DATA_SUFFIX}"
        ));
        assert!(check_key(&key).is_ok(), "layout built a key outside the grammar: {key}");
        key
    }

    /// Returns the file that `key` names.
    ///
    /// # Errors
    /// `Error::Key` for every key that [`DataFileName::key`] does not produce.
    pub fn parse(key: &Path) -> Result<Self> {
        let refused = || Error::Key { key: key.to_string(), fault: KeyFault::NotADataFile };
        let name = Self::parse_parts(key).ok_or_else(refused)?;
        // Re-encoding refuses leading zeros, upper case and every other spelling of the same numbers.
        if name.key() == *key { Ok(name) } else { Err(refused()) }
    }

    fn parse_parts(key: &Path) -> Option<Self> {
        let parts: Vec<PathPart<'_>> = key.parts().collect();
        let [root, dataset, incarnation, name] = parts.as_slice() else { return None };
        if root.as_ref() != DATA_DIR {
            return None;
        }
        let (generation, file) =
            name.as_ref().strip_suffix(DATA_SUFFIX).and_then(|stem| stem.split_once('-'))?;
        Some(Self {
            dataset: Uuid::try_parse(dataset.as_ref()).ok()?,
            incarnation: incarnation.as_ref().parse().ok()?,
            file: u64::from_str_radix(file, 16).ok()?,
            generation: generation.parse().ok()?,
        })
    }
}

/// Returns the key of a data file; the free form of [`DataFileName::key`].
#[must_use]
pub fn data_file_key(dataset: Uuid, incarnation: u64, file: u64, generation: u32) -> Path {
    DataFileName { dataset, incarnation, file, generation }.key()
}

/// Returns the key of the object that says whose bucket this is.
#[must_use]
pub fn marker_key() -> Path {
    Path::from("_alluvium/bucket")
}

/// Checks that `key` stays inside a bucket and means the same on every backend.
///
/// # Errors
/// `Error::Key` saying which rule it breaks.
pub fn check_key(key: &Path) -> Result<()> {
    let refused = |fault| Err(Error::Key { key: key.to_string(), fault });
    let text = key.as_ref();
    if text.is_empty() {
        return refused(KeyFault::Empty);
    }
    if text.len() > KEY_BYTES_MAX {
        return refused(KeyFault::TooLong);
    }
    let mut segments = 0;
    for segment in text.split('/') {
        segments += 1;
        if let Some(fault) = segment_fault(segment) {
            return refused(fault);
        }
    }
    if segments > KEY_SEGMENTS_MAX { refused(KeyFault::TooDeep) } else { Ok(()) }
}

/// Returns what is wrong with one segment of a key.
pub(crate) fn segment_fault(segment: &str) -> Option<KeyFault> {
    if segment.len() > KEY_SEGMENT_BYTES_MAX {
        return Some(KeyFault::SegmentTooLong);
    }
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let rest = |b: u8| first(b) || b == b'.' || b == b'-';
    let mut bytes = segment.bytes();
    let fits = bytes.next().is_some_and(first) && bytes.all(rest);
    (!fits).then_some(KeyFault::Grammar)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = DataFileName> {
        let small = || prop_oneof![0_u64..300, any::<u64>()];
        (0_u128..4, small(), small(), prop_oneof![0_u32..300, any::<u32>()]).prop_map(
            |(dataset, incarnation, file, generation)| DataFileName {
                dataset: Uuid::from_u128(dataset),
                incarnation,
                file,
                generation,
            },
        )
    }

    proptest! {
        #[test]
        fn museum_m08_two_names_share_a_key_only_when_they_are_equal(a in names(), b in names()) {
            prop_assert_eq!(a == b, a.key() == b.key());
        }

        #[test]
        fn a_key_parses_back_to_its_name(name in names()) {
            prop_assert_eq!(DataFileName::parse(&name.key()).expect("own key"), name);
        }

        #[test]
        fn whatever_parses_is_what_the_layout_would_write(text in "data/[0-9a-f-]{36}/[0-9+ ]{1,3}/[0-9]{1,2}-[0-9a-fA-F]{15,17}\\.parquet") {
            if let Ok(key) = Path::parse(&text) && let Ok(name) = DataFileName::parse(&key) {
                prop_assert_eq!(name.key().to_string(), text);
            }
        }
    }

    #[test]
    fn the_key_of_a_file_is_pinned_because_every_replica_and_version_must_agree() {
        let key = data_file_key(Uuid::from_u128(0xabc), 2, 0x1f, 3);
        assert_eq!(
            key.as_ref(),
            "data/00000000-0000-0000-0000-000000000abc/2/3-000000000000001f.parquet"
        );
    }

    #[test]
    fn other_spellings_of_the_same_numbers_are_refused() {
        let uuid = "00000000-0000-0000-0000-000000000abc";
        for text in [
            format!("data/{uuid}/02/3-000000000000001f.parquet"),
            format!("data/{uuid}/2/3-000000000000001F.parquet"),
            format!("data/{uuid}/2/+3-000000000000001f.parquet"),
            format!("data/{uuid}/2/3-1f.parquet"),
            format!("data/{uuid}/2/3-000000000000001f.parquet/x"),
            format!("date/{uuid}/2/3-000000000000001f.parquet"),
        ] {
            let fault = DataFileName::parse(&Path::from(text.clone())).map_err(|e| e.to_string());
            assert!(fault.clone().is_err_and(|e| e.contains("not the name")), "{text}: {fault:?}");
        }
    }

    #[test]
    fn keys_that_leave_the_bucket_or_hide_in_it_are_refused() {
        let long = "a".repeat(KEY_SEGMENT_BYTES_MAX + 1);
        let deep = ["a"; KEY_SEGMENTS_MAX + 1].join("/");
        let broad = ["a".repeat(100).as_str(); 11].join("/");
        for (text, expected) in [
            ("", KeyFault::Empty),
            ("..", KeyFault::Grammar),
            ("a/../b", KeyFault::Grammar),
            (".tmp/x", KeyFault::Grammar),
            ("a//b", KeyFault::Grammar),
            ("a b", KeyFault::Grammar),
            ("A", KeyFault::Grammar),
            ("a%2e%2e", KeyFault::Grammar),
            ("a\u{0}", KeyFault::Grammar),
            ("\u{ff0e}\u{ff0e}/a", KeyFault::Grammar),
            (long.as_str(), KeyFault::SegmentTooLong),
            (deep.as_str(), KeyFault::TooDeep),
            (broad.as_str(), KeyFault::TooLong),
        ] {
            let fault = match check_text(text) {
                Err(Error::Key { fault, .. }) => fault,
                other => panic!("{text:?} gave {other:?}"),
            };
            assert_eq!(fault, expected, "{text:?}");
        }
    }

    // `Path` cannot hold some of these spellings at all, which is refusal enough; the grammar must still
    // refuse what it can hold, encoded or not.
    fn check_text(text: &str) -> Result<()> {
        match Path::parse(text) {
            Ok(key) => check_key(&key),
            Err(_) => Err(Error::Key { key: text.to_owned(), fault: KeyFault::Grammar }),
        }
    }
}
