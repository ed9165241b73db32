//! The same range of the log is the same data files, byte for byte, whichever process writes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use alluvium_engine::{Node, RegisterOptions};
use alluvium_types::{Codec, Recipe};

use crate::support::{batch, caller, open, schema};

/// Where a child finds its own copy of the log.
const DIR: &str = "ALLUVIUM_INTEGRATION_BYTES";
/// How many threads its runtime has.
const THREADS: &str = "ALLUVIUM_INTEGRATION_THREADS";
/// What it prints a file after.
const MARK: &str = "data file ";
const ROWS_PER_APPEND: u32 = 3_000;

/// Each data file by its place in the bucket, and the hash of its bytes.
type Files = BTreeMap<PathBuf, String>;

fn recipe() -> Recipe {
    // Several row groups a file, and a codec with a level.
    Recipe { row_group_rows: 2_048, codec: Codec::Zstd { level: 3 }, ..Recipe::standard() }
}

/// Writes the log: appends, an upsert and a tombstone, and no file.
async fn write_log(dir: &Path, recipe: Recipe, odd_value: i64) {
    let node = open(dir).await.expect("opens");
    let options = RegisterOptions::keyed(&["key"]).with_recipe(recipe);
    node.register(&caller(), "t", schema(), options).await.expect("registers");
    for append in 0..4 {
        let first = append * ROWS_PER_APPEND;
        let keys: Vec<String> =
            (first..first + ROWS_PER_APPEND).map(|n| format!("key-{n}")).collect();
        let value = |at: usize| if at == 1_234 { odd_value } else { (at % 97) as i64 };
        let rows: Vec<(&str, i64)> =
            keys.iter().enumerate().map(|(at, key)| (key.as_str(), value(at))).collect();
        node.append(&caller(), "t", vec![batch(&rows)]).await.expect("appends");
    }
    node.upsert(&caller(), "t", vec![batch(&[("key-5", 5), ("key-7000", 7)])]).await.expect("fits");
    let keys = ["key-1", "key-2999", "key-3000"].map(|key| vec![key.to_owned()]).to_vec();
    let keys = alluvium_engine::TombstoneKeys::Texts(keys);
    node.tombstone(&caller(), "t", keys).await.expect("hides");
    assert_eq!(node.status().await.expect("tells").jobs, 0, "no file is planned yet");
    node.shutdown().await.expect("stops");
}

/// Seals and compacts what the log in `dir` holds, on so many threads, and prints each file's hash.
fn make_files(dir: &Path, threads: usize) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(threads).enable_all().build().expect("a runtime");
    assert_eq!(runtime.metrics().num_workers(), threads);
    runtime.block_on(async {
        let node: Node = open(dir).await.expect("opens");
        let sealed = node.seal(&caller(), "t").await.expect("seals");
        assert_eq!((sealed.files.len(), sealed.rows), (1, u64::from(4 * ROWS_PER_APPEND + 2)));
        let compacted = node.compact(&caller(), "t").await.expect("compacts");
        assert_eq!((compacted.files_in, compacted.files_out, compacted.rows_hidden), (1, 1, 5));
        node.shutdown().await.expect("stops");
    });
    let mut text = String::new();
    let data = dir.join("buckets/local/data");
    for path in files_below(&data) {
        let bytes = std::fs::read(&path).expect("readable");
        let place = path.strip_prefix(&data).expect("below").display();
        text.push_str(&format!("\n{MARK}{place} {:032x}", xxhash_rust::xxh3::xxh3_128(&bytes)));
    }
    text.push('\n');
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).expect("the parent listens");
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let paths = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => files_below(&path),
        path => vec![path],
    });
    paths.collect()
}

/// Makes the files of a copy of the log in a process of its own.
fn files_of(log: &Path, threads: usize) -> Files {
    let dir = tempfile::tempdir().expect("temporary directory");
    let copy = dir.path().join("node");
    copy_dir(log, &copy);
    let name =
        "identical::one_range_of_the_log_is_the_same_files_from_two_processes_with_other_threads";
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", name, "--nocapture"]).env(DIR, &copy);
    let threads = threads.to_string();
    for variable in [THREADS, "TOKIO_WORKER_THREADS", "RAYON_NUM_THREADS"] {
        child.env(variable, &threads);
    }
    let output = child.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let lines = text.lines().filter_map(|line| line.strip_prefix(MARK));
    let files: Files = lines
        .map(|line| line.rsplit_once(' ').expect("a path and a hash"))
        .map(|(path, hash)| (PathBuf::from(path), hash.to_owned()))
        .collect();
    assert_eq!(files.len(), 2, "a seal and its compaction: {text}");
    files
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creates");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy_dir(&path, &target),
            false => drop(std::fs::copy(&path, &target).expect("copies")),
        }
    }
}

#[test]
fn one_range_of_the_log_is_the_same_files_from_two_processes_with_other_threads() {
    if let Some(dir) = std::env::var_os(DIR) {
        let threads = std::env::var(THREADS).expect("said").parse().expect("a number");
        return make_files(Path::new(&dir), threads);
    }
    let root = tempfile::tempdir().expect("temporary directory");
    let log = |name: &str, recipe: Recipe, odd_value: i64| {
        let dir = root.path().join(name);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(write_log(&dir, recipe, odd_value));
        dir
    };
    let base = log("base", recipe(), 7);
    let files = files_of(&base, 1);
    assert_eq!(files_of(&base, 8), files);
    // The comparison can fail: one value of 12,000, or one step of the codec's level, is another file.
    let hashes = |files: &Files| files.values().cloned().collect::<Vec<_>>();
    let known = hashes(&files);
    let other_level = Recipe { codec: Codec::Zstd { level: 4 }, ..recipe() };
    for other in [log("value", recipe(), 8), log("recipe", other_level, 7)] {
        let other = hashes(&files_of(&other, 1));
        assert!(other.iter().all(|hash| !known.contains(hash)), "{other:?} and {known:?}");
    }
}
