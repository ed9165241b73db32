//! Bytes are a function of rows and recipe: in one process, in two, and in the next release.

use std::process::Command;
use std::sync::Arc;

use alluvium_parquet::{
    Codec, ParquetTableWriter, Projection, Recipe, WrittenFile, read_file, row_hash_sum, verify,
};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::concat_batches;
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use crate::rows::{disguised, random};

fn recipe(codec: Codec) -> Recipe {
    Recipe { writer_version: 1, codec, row_group_rows: 5_000 }
}

fn write(batches: &[RecordBatch], like: &RecordBatch, recipe: &Recipe) -> WrittenFile {
    ParquetTableWriter::write_all(&like.schema(), recipe, batches).expect("write")
}

const CODECS: [Codec; 4] =
    [Codec::Uncompressed, Codec::Snappy, Codec::Zstd { level: 3 }, Codec::Lz4Raw];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn rows_leave_the_same_bytes_however_they_were_batched_and_encoded(
        seed in any::<u64>(), rows in prop_oneof![0_usize..100, 16_300_usize..19_000], codec in 0_usize..4,
    ) {
        let batch = random(seed, rows);
        let recipe = recipe(CODECS[codec]);
        let whole = write(std::slice::from_ref(&batch), &batch, &recipe);
        let parts = write(&disguised(seed, &batch), &batch, &recipe);
        prop_assert_eq!(xxh3_128(&whole.bytes), xxh3_128(&parts.bytes));
        prop_assert_eq!(whole.rows, rows as u64);
        prop_assert_eq!(format!("{:?}", whole.stats), format!("{:?}", parts.stats));
    }
}

#[test]
fn pages_are_cut_at_the_same_rows_however_they_were_batched() {
    // Only row groups of more than one page can tell where batches ended.
    let wide = random(31, 50_000);
    let columns = ["id", "i64", "f64", "name", "unique", "tags", "_log_index"];
    let columns = columns.map(|name| wide.schema().index_of(name).expect("column"));
    let batch = wide.project(&columns).expect("project");
    let recipe = Recipe { codec: Codec::Uncompressed, ..Recipe::standard() };
    let whole = xxh3_128(&write(std::slice::from_ref(&batch), &batch, &recipe).bytes);
    for seed in 0..4 {
        let parts = write(&disguised(seed, &batch), &batch, &recipe);
        assert_eq!(xxh3_128(&parts.bytes), whole, "seed {seed}");
    }
}

#[test]
fn museum_m01_every_row_of_many_batches_is_read_back_and_there_is_one_footer() {
    let batch = random(5, 20_000);
    let file = write(&disguised(9, &batch), &batch, &recipe(Codec::Zstd { level: 1 }));
    let read = read_file(file.bytes.clone(), &Projection::All).expect("read");
    let read = concat_batches(&read[0].schema(), &read).expect("one batch");
    assert_eq!(read.columns(), batch.columns());
    assert_eq!(read.schema().fields(), batch.schema().fields());
    let verified = verify(file.bytes.clone(), 20_000).expect("verify");
    assert_eq!(verified.hash_sum, row_hash_sum(&batch).expect("hash"));
    assert_eq!(&file.bytes[..4], b"PAR1");
    let tail = file.bytes.len() - 8;
    let footer = u32::from_le_bytes(file.bytes[tail..tail + 4].try_into().expect("four bytes"));
    assert!((footer as usize) < tail, "the footer's length leaves no room for data");
}

#[test]
fn the_bytes_of_a_small_file_are_pinned() {
    // A new hash means that old replicas and new ones would write different files: a new writer version.
    let batch = random(1, 3_000);
    let hash = |codec| {
        format!(
            "{:032x}",
            xxh3_128(&write(std::slice::from_ref(&batch), &batch, &recipe(codec)).bytes)
        )
    };
    let found = CODECS.map(hash);
    assert_eq!(found, GOLDEN);
}

const GOLDEN: [&str; 4] = [
    "c63c3e9c36595d797f8a18e358574d79",
    "3f5afe0bf572615b0bf364f52ba74d3c",
    "1287b027a2cfa877fa3cb9cfd37d4c19",
    "1b3d482edd4c47ef86deb095bde44e3c",
];

#[test]
fn what_lies_under_a_null_leaves_no_trace() {
    let nulls: NullBuffer = (0..6_000).map(|row| row % 2 == 0).collect();
    let file = |hidden: fn(i64) -> i64| {
        let values = (0..6_000).map(|row| if row % 2 == 0 { row % 7 } else { hidden(row) });
        let column = Int64Array::new(values.collect(), Some(nulls.clone()));
        let batch = RecordBatch::try_from_iter([("c", Arc::new(column) as ArrayRef)]);
        let batch = batch.expect("batch");
        let file = write(std::slice::from_ref(&batch), &batch, &recipe(Codec::Uncompressed));
        (file.bytes, row_hash_sum(&batch).expect("hash"))
    };
    assert_eq!(file(|_| 0), file(|row| row * 1_000_003));
}

const CHILD_THREADS: &str = "ALLUVIUM_PARQUET_CHILD_THREADS";
const CHILD_MARK: &str = "wrote ";

/// Returns the hash of the file with these rows, cut into batches in a way that depends on `cut`.
fn hash_of(seed: u64, recipe: &Recipe, cut: u64) -> String {
    let batch = random(seed, 20_000);
    format!("{:032x}", xxh3_128(&write(&disguised(cut, &batch), &batch, recipe).bytes))
}

#[test]
fn two_processes_with_other_thread_counts_write_the_same_bytes() {
    if let Ok(threads) = std::env::var(CHILD_THREADS) {
        return write_on_threads(threads.parse().expect("a number"));
    }
    let expected = hash_of(77, &Recipe::standard(), 0);
    for threads in ["1", "7"] {
        let hashes = hashes_of_child(threads);
        assert_eq!(hashes.len().to_string(), threads, "a file from each thread");
        assert!(hashes.iter().all(|hash| *hash == expected), "{hashes:?} and {expected}");
    }
    // The comparison can fail: other rows, and one step of the codec's level, are other files.
    let other_level = Recipe { codec: Codec::Zstd { level: 5 }, ..Recipe::standard() };
    assert_ne!(other_level, Recipe::standard());
    assert_ne!(hash_of(78, &Recipe::standard(), 0), expected);
    assert_ne!(hash_of(77, &other_level, 0), expected);
}

/// Writes the same file on each of so many threads at once, from batches that are cut otherwise on each.
fn write_on_threads(threads: u64) {
    let process = u64::from(std::process::id());
    let write = move |thread| hash_of(77, &Recipe::standard(), process * 31 + thread);
    let spawned: Vec<_> = (0..threads)
        .map(|thread| {
            alluvium_stdx::spawn::thread("write", move || write(thread)).expect("a thread")
        })
        .collect();
    for thread in spawned {
        // The parent reads this; the test harness lets it pass because of --nocapture.
        let line = format!("\n{CHILD_MARK}{}\n", thread.join().expect("no panic"));
        std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).expect("written");
    }
}

fn hashes_of_child(threads: &str) -> Vec<String> {
    let test = "determinism::two_processes_with_other_thread_counts_write_the_same_bytes";
    let output = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", test, "--nocapture"])
        .envs([CHILD_THREADS, "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS"].map(|v| (v, threads)))
        .output()
        .expect("child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    text.lines().filter_map(|line| line.strip_prefix(CHILD_MARK)).map(str::to_owned).collect()
}

#[test]
fn the_footer_names_the_writer_version_and_the_codec_and_no_time() {
    use parquet::basic::Compression;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let batch = random(3, 2_000);
    let file = write(std::slice::from_ref(&batch), &batch, &Recipe::standard());
    let reader = SerializedFileReader::new(file.bytes).expect("open");
    let metadata = reader.metadata();
    assert_eq!(metadata.file_metadata().created_by(), Some("alluvium writer version 1"));
    let keys: Vec<&str> = metadata
        .file_metadata()
        .key_value_metadata()
        .expect("the arrow schema")
        .iter()
        .map(|kv| kv.key.as_str())
        .collect();
    assert_eq!(keys, ["ARROW:schema"]);
    // Museum M2: a file whose codec was forgotten grew threefold.
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        assert!(matches!(column.compression(), Compression::ZSTD(_)), "{:?}", column.column_path());
    }
    let ids: Vec<i32> = metadata
        .file_metadata()
        .schema()
        .get_fields()
        .iter()
        .map(|field| field.get_basic_info().id())
        .collect();
    assert_eq!(ids[..3], [1, 2, 3]);
}
