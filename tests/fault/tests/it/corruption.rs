//! Bytes that rot in every file of a node: found and named, and never a wrong answer.

use std::path::{Path, PathBuf};

use alluvium_fault::model::{Model, operations};
use alluvium_fault::run_worker;
use alluvium_fault::worker::{open, visible};
use alluvium_stdx::Prng;

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

fn files_below(dir: &Path) -> Vec<PathBuf> {
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

fn copy_dir(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).expect("below it"));
        std::fs::create_dir_all(target.parent().expect("has one")).expect("creates");
        std::fs::copy(&file, &target).expect("copies");
    }
}

#[expect(clippy::disallowed_methods, reason = "damage need not be durable")]
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
    std::fs::write(path, bytes).expect("writes");
}

/// Opens a damaged copy; returns what was said about it, or nothing when all answers are right.
async fn outcome(dir: &Path, expect: &Model) -> Option<String> {
    let node = match open(dir).await {
        Ok(node) => node,
        Err(error) => return Some(format!("{error:?}")),
    };
    let said = match visible(&node).await {
        Ok(found) => {
            assert_eq!(found, *expect, "a wrong answer from {}", dir.display());
            let report = node.verify().await.map(|report| report.damage.join("; "));
            match report {
                Ok(damage) if damage.is_empty() => None,
                Ok(damage) => Some(damage),
                Err(error) => Some(format!("{error:?}")),
            }
        }
        Err(error) => Some(format!("{error:?}")),
    };
    // It may refuse to stop in order, too: what counts is what it said.
    drop(node.shutdown().await);
    said
}

#[test]
fn museum_m21_damage_to_any_one_file_is_named_or_harmless_and_never_a_wrong_answer() {
    let root = tempfile::tempdir().expect("temporary directory");
    let original = root.path().join("original");
    let ended = run_worker(WORKER, &original, (SEED, OPERATIONS), None).expect("it starts");
    assert_eq!((ended.errors, ended.acknowledged), (vec![], OPERATIONS));
    let expect = Model::after(&operations(SEED, OPERATIONS), OPERATIONS);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut prng = Prng::from_seed(SEED);
    let mut named = 0;
    for file in files_below(&original) {
        let relative = file.strip_prefix(&original).expect("below it").to_owned();
        for how in [Damage::Flip, Damage::Zero, Damage::Cut, Damage::Delete] {
            let copy = root.path().join("copy");
            copy_dir(&original, &copy);
            damage(&copy.join(&relative), how, &mut prng);
            let said = runtime.block_on(outcome(&copy, &expect));
            if let Some(said) = &said {
                assert!(!said.is_empty(), "{how:?} of {}: no words", relative.display());
                named += 1;
            }
            let parquet = relative.extension().is_some_and(|extension| extension == "parquet");
            assert!(
                !parquet || said.is_some(),
                "{how:?} of {} was not noticed",
                relative.display()
            );
            std::fs::remove_dir_all(&copy).expect("removes");
        }
    }
    assert!(named > 10, "only {named} damages were noticed");
}
