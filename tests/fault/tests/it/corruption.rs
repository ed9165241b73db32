//! Bytes that rot in every file of a node: found and named, and never a wrong answer.

use std::path::{Path, PathBuf};

use alluvium_engine::Error;
use alluvium_fault::model::{Model, operations};
use alluvium_fault::run_worker;
use alluvium_fault::worker::{open, visible};
use alluvium_stdx::Prng;
use alluvium_wal::limits::SEGMENT_HEADER_BYTES;
use alluvium_wal::record;

use crate::kill::check_digest;

const WORKER: &str = env!("CARGO_BIN_EXE_alluvium-fault-worker");
const OPERATIONS: usize = 20;
const SEED: u64 = 21;

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Zero,
    Cut,
    Delete,
}

pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in
            std::fs::read_dir(&dir).expect("reads").map(|entry| entry.expect("entry").path())
        {
            if entry.is_dir() { dirs.push(entry) } else { files.push(entry) }
        }
    }
    files.sort();
    files
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).expect("below it"));
        std::fs::create_dir_all(target.parent().expect("has one")).expect("creates");
        std::fs::copy(&file, &target).expect("copies");
    }
}

fn damage(path: &Path, how: Damage, prng: &mut Prng) {
    let mut bytes = std::fs::read(path).expect("reads");
    // Within the part that was written: what follows is preallocated zeros, where a flip is no damage.
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let at = usize::try_from(prng.below(used.max(1) as u64)).expect("fits");
    match how {
        Damage::Flip if used > 0 => bytes[at] ^= 1 << prng.below(8),
        Damage::Zero => bytes[at..used].fill(0),
        Damage::Cut => bytes.truncate(at),
        Damage::Flip | Damage::Delete => return std::fs::remove_file(path).expect("removes"),
    }
    write(path, &bytes);
}

/// A node that ended in good order, whose copies are damaged.
struct Whole {
    root: tempfile::TempDir,
    expect: Model,
    runtime: tokio::runtime::Runtime,
}

impl Whole {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = root.path().join("original");
        let ended = run_worker(WORKER, &dir, (SEED, OPERATIONS), None).expect("it starts");
        assert_eq!((ended.errors, ended.acknowledged), (vec![], OPERATIONS));
        let expect = Model::after(&operations(SEED, OPERATIONS), OPERATIONS);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        Self { root, expect, runtime }
    }

    fn original(&self) -> PathBuf {
        self.root.path().join("original")
    }

    fn copy(&self) -> PathBuf {
        self.root.path().join("copy")
    }

    /// Returns the files whose path within the node satisfies a condition.
    fn files(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let original = self.original();
        let files = files_below(&original).into_iter();
        let names = files.map(|file| file.strip_prefix(&original).expect("below it").to_owned());
        let found: Vec<_> = names.filter(|name| is_wanted(&name.to_string_lossy())).collect();
        assert!(!found.is_empty(), "the workload makes such files");
        found
    }

    /// Damages a copy and opens it; returns what was said about it, or nothing when all answers are right.
    fn said_of(&self, harm: impl FnOnce(&Path)) -> Option<String> {
        let copy = self.copy();
        if copy.exists() {
            std::fs::remove_dir_all(&copy).expect("removes");
        }
        copy_dir(&self.original(), &copy);
        harm(&copy);
        let said = self.runtime.block_on(outcome(&copy, &self.expect));
        assert!(said.as_ref().is_none_or(|said| !said.is_empty()), "no words");
        said
    }

    /// The last copy has the digest that its log makes.
    fn check_digest(&self) {
        self.runtime.block_on(check_digest(&self.copy(), (SEED, 0)));
    }
}

/// Opens a damaged copy; returns what was said about it, or nothing when all answers are right.
async fn outcome(dir: &Path, expect: &Model) -> Option<String> {
    let node = match open(dir).await {
        Ok(node) => node,
        Err(error) => return Some(text_of(&error)),
    };
    let said = match visible(&node).await {
        Ok(found) => {
            assert_eq!(found, *expect, "a wrong answer from {}", dir.display());
            let report = node.verify().await.map(|report| report.damage.join("; "));
            match report {
                Ok(damage) if damage.is_empty() => None,
                Ok(damage) => Some(damage),
                Err(error) => Some(text_of(&error)),
            }
        }
        Err(error) => Some(text_of(&error)),
    };
    // It may refuse to stop in order, too: what counts is what it said.
    drop(node.shutdown().await);
    said
}

/// What an operator reads: the error and its causes.
fn text_of(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

const EVERY_DAMAGE: [Damage; 4] = [Damage::Flip, Damage::Zero, Damage::Cut, Damage::Delete];

#[test]
fn museum_m21_damage_to_a_data_file_is_named_by_the_file() {
    let whole = Whole::new();
    let mut prng = Prng::from_seed(SEED);
    for file in whole.files(|name| name.ends_with(".parquet")) {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        for how in EVERY_DAMAGE {
            let said = whole.said_of(|copy| damage(&copy.join(&file), how, &mut prng));
            let said = said.unwrap_or_else(|| panic!("{how:?} of {name} was not noticed"));
            assert!(said.contains(&name), "{how:?} of {name}: {said}");
        }
    }
}

#[test]
fn museum_m21_damaged_metadata_is_built_anew_with_the_same_digest_or_named() {
    let whole = Whole::new();
    let mut prng = Prng::from_seed(SEED);
    let mut rebuilt = 0;
    for file in whole.files(|name| name.starts_with("meta/")) {
        for how in EVERY_DAMAGE {
            match whole.said_of(|copy| damage(&copy.join(&file), how, &mut prng)) {
                Some(said) => {
                    assert!(said.contains("/meta/"), "{how:?} of {}: {said}", file.display());
                }
                None => whole.check_digest(),
            }
            rebuilt += usize::from(whole.copy().join("meta.damaged.0").exists());
        }
    }
    assert!(rebuilt >= 4, "only {rebuilt} stores were set aside and made of the log");
}

#[test]
fn museum_m21_damage_to_any_other_file_is_named_or_harmless() {
    let whole = Whole::new();
    let mut prng = Prng::from_seed(SEED);
    let is_other = |name: &str| {
        let elsewhere = ["meta/", "wal/segment-", "buckets/local/data/"];
        !elsewhere.iter().any(|start| name.starts_with(start))
    };
    for file in whole.files(is_other) {
        let name = file.to_string_lossy().into_owned();
        // Locks and spares hold nothing. Whose directory and bucket it is cannot be guessed.
        let must_be_named = match name.as_str() {
            "node.alluvium" => Some("copy"),
            "buckets/local/_alluvium/bucket" => Some("bucket local"),
            "wal/watermark" => Some("watermark"),
            "lock" | "wal/LOCK" => None,
            spare if spare.starts_with("wal/spare-") => None,
            other => panic!("{other} is of no known class"),
        };
        for how in EVERY_DAMAGE {
            let said = whole.said_of(|copy| damage(&copy.join(&file), how, &mut prng));
            match (must_be_named, said) {
                (Some(word), Some(said)) => assert!(said.contains(word), "{name}: {said}"),
                // One good slot of two is enough.
                (Some("watermark"), None) => assert!(!matches!(how, Damage::Delete), "{name}"),
                (Some(_), None) => panic!("{how:?} of {name} was not noticed"),
                (None, said) => assert_eq!(said, None, "{how:?} of {name}"),
            }
        }
    }
}

#[test]
fn museum_m21_damage_to_the_log_at_its_head_middle_or_tail_is_refused_by_name() {
    let whole = Whole::new();
    let file = whole.files(|name| name.starts_with("wal/segment-")).pop().expect("there is one");
    let bytes = std::fs::read(whole.original().join(&file)).expect("reads");
    let places = records_of(&bytes);
    assert!(places.len() > 2 * OPERATIONS, "only {} records", places.len());
    for number in [0, places.len() / 2, places.len() - 1] {
        let (offset, length) = places[number];
        let cut = bytes[..offset + length / 2].to_vec();
        let mut zeroed = bytes.clone();
        zeroed[offset..offset + length].fill(0);
        let mut flipped = bytes.clone();
        flipped[offset + length / 2] ^= 1;
        for (how, content) in [("cut", cut), ("zeroed", zeroed), ("flipped", flipped)] {
            let said = whole.said_of(|copy| write(&copy.join(&file), &content));
            let said = said.unwrap_or_else(|| panic!("record {number} {how}: not noticed"));
            // A file that is too short is damaged as a whole.
            let place = if how == "cut" { 0 } else { offset };
            let named = format!("segment 1 is damaged at offset {place}, ");
            assert!(said.contains(&named), "record {number} {how}: {said}");
        }
    }
}

#[test]
fn museum_m21_a_record_that_was_begun_behind_the_tail_is_cut_and_nothing_else() {
    let whole = Whole::new();
    let file = whole.files(|name| name.starts_with("wal/segment-")).pop().expect("there is one");
    let bytes = std::fs::read(whole.original().join(&file)).expect("reads");
    let (last, length) = records_of(&bytes).pop().expect("the log has records");
    for begun in [1, length / 2, length - 1, length] {
        let mut torn = bytes.clone();
        torn.copy_within(last..last + begun, last + length);
        let said = whole.said_of(|copy| write(&copy.join(&file), &torn));
        assert_eq!(said, None, "{begun} bytes of a record");
        whole.check_digest();
    }
}

#[expect(clippy::disallowed_methods, reason = "damage need not be durable")]
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("writes");
}

/// Offset and length of every record of a segment.
pub(crate) fn records_of(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    let mut offset = usize::try_from(SEGMENT_HEADER_BYTES).expect("small");
    while let Ok((header, _payload)) = record::decode(&bytes[offset..]) {
        let length = usize::try_from(header.record_bytes()).expect("small");
        places.push((offset, length));
        offset += length;
    }
    places
}
