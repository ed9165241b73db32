//! The same rows and recipe are the same bytes, whatever process and thread writes them, and whenever.

use std::process::Command;

use alluvium_state_machine::record::FileRecord;
use alluvium_types::{Codec, DatasetOptions, LogIndex, Recipe};

use super::lake::{Lake, row};

const THREADS: &str = "ALLUVIUM_TEST_SEAL_THREADS";
const MARK: &str = "made as ";

fn recipe() -> Recipe {
    Recipe { row_group_rows: 2_048, codec: Codec::Zstd { level: 3 }, ..Recipe::standard() }
}

/// Makes the same range of the log into a file, and that file without a hidden row into another.
fn made(recipe: Recipe, values: u32) -> String {
    let mut lake = Lake::with(DatasetOptions { recipe, ..DatasetOptions::standard() });
    for batch in 0..5_u32 {
        let rows = |n: u32| row(&(batch * 1_000 + n).to_be_bytes(), &format!("v{}", n % values));
        lake.append(&(0..1_000).map(rows).collect::<Vec<_>>());
    }
    lake.tombstone(&[&7_u32.to_be_bytes()]);
    let sealed = lake.seal();
    let compacted = lake.compact().expect("rows are left");
    let hash = |record: &FileRecord| {
        blake3::Hash::from(record.attested().expect("attested").digest.blake3).to_hex()
    };
    let (sealed, compacted) = (hash(&sealed), hash(&compacted));
    assert_ne!(sealed, compacted, "a row less is another file");
    format!("{sealed} {compacted}")
}

#[test]
fn a_range_of_the_log_seals_to_one_hash_in_two_processes_with_other_thread_counts() {
    let Ok(threads) = std::env::var(THREADS) else { return compare_children() };
    let threads: usize = threads.parse().expect("a number");
    let made = || made(recipe(), 13);
    let spawned: Vec<_> = (0..threads)
        .map(|_| alluvium_stdx::spawn::thread("seal", made).expect("a thread"))
        .collect();
    for thread in spawned {
        // The parent reads this; the test harness lets it pass because of --nocapture.
        let line = format!("\n{MARK}{}\n", thread.join().expect("no panic"));
        std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).expect("written");
    }
}

fn compare_children() {
    let own = made(recipe(), 13);
    let name = "tests::identity::\
        a_range_of_the_log_seals_to_one_hash_in_two_processes_with_other_thread_counts";
    for threads in ["1", "4"] {
        let program = std::env::current_exe().expect("this test");
        let mut child = Command::new(program);
        let output = child.args(["--exact", name, "--nocapture"]).env(THREADS, threads).output();
        let output = String::from_utf8(output.expect("runs").stdout).expect("text");
        let hashes: Vec<&str> = output.lines().filter_map(|l| l.strip_prefix(MARK)).collect();
        assert_eq!(hashes.len().to_string(), threads, "{output}");
        assert!(hashes.iter().all(|hash| *hash == own), "{hashes:?} and {own}");
    }
    // The comparison can fail: other values, and one step of the codec's level, are other files.
    let other_level = Recipe { codec: Codec::Zstd { level: 4 }, ..recipe() };
    for other in [made(recipe(), 14), made(other_level, 13)] {
        let same = other.split(' ').filter(|hash| own.contains(hash)).count();
        assert_eq!(same, 0, "{other} and {own}");
    }
}

#[test]
fn a_replica_that_comes_late_writes_the_same_files() {
    let mut lake = Lake::new();
    lake.append(&[row(b"a", "1"), row(b"b", "1")]);
    let first = lake.plan_seal();
    let made = lake.make(&first).expect("made");
    lake.attest(&first, made.clone());
    lake.tombstone(&[b"a"]);
    let second = lake.plan_compaction();
    let compacted = lake.make(&second).expect("made");
    lake.attest(&second, compacted.clone());
    lake.tombstone(&[b"b"]);
    lake.append(&[row(b"c", "1")]);
    // Another node's bucket has only the seal; its metadata is already past the attestations.
    let bucket = Lake::new().bucket;
    lake.bucket = bucket;
    assert_eq!(lake.make(&first).expect("made late"), made);
    assert_eq!(lake.make(&second).expect("made late"), compacted);
    assert!(lake.last() > LogIndex(second.file.0));
    // A second try meets its own earlier object and succeeds.
    assert_eq!(lake.make(&second).expect("made again"), compacted);
}
