//! pyarrow, polars and DuckDB read what we write, and write no smaller files than we do.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use alluvium_parquet::{Codec, ParquetTableWriter, Recipe};
use alluvium_stdx::Prng;
use arrow::array::{
    Array, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::{cast, sum};
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type, Schema};

use crate::rows::{disguised, random};

/// Runs the Python side; without its modules this is a failure, because a skipped check proves nothing.
fn python(args: &[&str]) -> String {
    let interpreter = std::env::var("ALLUVIUM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = include_str!("interop.py");
    let output = Command::new(&interpreter).args(["-c", script]).args(args).output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "cannot run {interpreter}: {error}; `cargo xtask test` installs what this test needs"
        )
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.starts_with("MISSING"),
        "{interpreter} lacks a module ({}); `cargo xtask test` installs pyarrow, polars and duckdb",
        errors.trim()
    );
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

fn int_sum(batch: &RecordBatch, name: &str) -> i64 {
    let column = batch.column_by_name(name).expect("column");
    let narrow = if *column.data_type() == DataType::Date32 {
        cast(column, &DataType::Int32).expect("cast")
    } else {
        Arc::clone(column)
    };
    let wide = cast(&narrow, &DataType::Int64).expect("cast");
    sum(wide.as_primitive::<Int64Type>()).unwrap_or(0)
}

/// What every reader must find, as the script prints it.
fn expected(batch: &RecordBatch) -> String {
    let column = |name| batch.column_by_name(name).expect("column");
    let float = |values: &dyn Array| sum(values.as_primitive::<Float64Type>()).unwrap_or(0.0);
    let names = column("name").as_string::<i32>();
    let chars: usize = names.iter().flatten().map(|name| name.chars().count()).sum();
    let blobs: usize = column("blob").as_binary::<i32>().iter().flatten().map(<[u8]>::len).sum();
    let tags: usize = column("tags").as_list::<i32>().iter().flatten().map(|tags| tags.len()).sum();
    let point = column("point").as_struct();
    let xs = point.column(0).as_primitive::<Float64Type>();
    let x: f64 = (0..point.len())
        .filter(|&row| point.is_valid(row) && xs.is_valid(row))
        .map(|row| xs.value(row))
        .sum();
    let money = sum(column("money").as_primitive::<Decimal128Type>()).unwrap_or(0);
    let sign = if money < 0 { "-" } else { "" };
    let money = format!("{sign}{}.{:04}", money.abs() / 10_000, money.abs() % 10_000);
    format!(
        "\"sums\": {{\"blob\": {blobs}, \"day\": {}, \"f64\": {:?}, \"flag\": {}, \"id\": {}, \
         \"money\": \"{money}\", \"name\": {chars}, \"null_name\": {}, \"point\": {x:?}, \"tags\": {tags}, \
         \"ts\": {}, \"ts_utc\": {}}}",
        int_sum(batch, "day"),
        float(column("f64")),
        column("flag").as_boolean().true_count(),
        int_sum(batch, "id"),
        names.null_count(),
        int_sum(batch, "ts"),
        int_sum(batch, "ts_utc"),
    )
}

#[test]
fn pyarrow_polars_and_duckdb_read_the_same_rows() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let batch = random(21, 10_000);
    for codec in [Codec::Uncompressed, Codec::Snappy, Codec::Zstd { level: 1 }, Codec::Lz4Raw] {
        let recipe = Recipe { writer_version: 1, codec, row_group_rows: 4_096 };
        let file = ParquetTableWriter::write_all(&batch.schema(), &recipe, &disguised(2, &batch));
        let path = dir.path().join("f.parquet");
        alluvium_stdx::durable::write(&path, &file.expect("write").bytes).expect("write");
        let found = python(&["read", text(&path)]);
        let line = |reader| {
            let (number, sums) = (batch.num_rows(), expected(&batch));
            format!("{{\"number\": {number}, \"reader\": \"{reader}\", {sums}}}\n")
        };
        let lines: String = ["pyarrow", "polars", "duckdb"].map(line).concat();
        assert_eq!(found, lines, "{codec:?}");
    }
}

/// Rows like those of a busy table: sorted times, small numbers, few names, hidden log index.
fn flights(rows: usize) -> RecordBatch {
    let mut prng = Prng::from_seed(4);
    let airports: Vec<String> = (0..230_u32).map(|n| format!("A{n:02}")).collect();
    let mut at = 978_307_260_000_000_i64;
    let mut times = Vec::with_capacity(rows);
    for _ in 0..rows {
        at += i64::try_from(prng.below(3)).expect("small") * 60_000_000;
        times.push(at);
    }
    let mut skewed = |bound: u64| prng.below(bound).min(prng.below(bound)).min(prng.below(bound));
    let delay: Vec<i64> =
        (0..rows).map(|_| i64::try_from(skewed(300)).expect("small") - 30).collect();
    let distance: Vec<i64> =
        (0..rows).map(|_| i64::try_from(skewed(4_900)).expect("small")).collect();
    let mut airport = || airports[usize::try_from(skewed(230)).expect("small")].as_str();
    let origin: Vec<&str> = (0..rows).map(|_| airport()).collect();
    let destination: Vec<&str> = (0..rows).map(|_| airport()).collect();
    let fields = [
        ("date", DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None)),
        ("delay", DataType::Int64),
        ("distance", DataType::Int64),
        ("origin", DataType::Utf8),
        ("destination", DataType::Utf8),
        ("_log_index", DataType::UInt64),
    ]
    .map(|(name, data_type)| Field::new(name, data_type, true));
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times)),
        Arc::new(Int64Array::from(delay)),
        Arc::new(Int64Array::from(distance)),
        Arc::new(StringArray::from(origin)),
        Arc::new(StringArray::from(destination)),
        Arc::new(UInt64Array::from_iter_values((0..rows as u64).map(|row| 1_000 + row / 50))),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).expect("batch")
}

#[test]
fn museum_m02_files_are_no_larger_than_those_of_other_writers() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let batch = flights(100_000);
    let cases = [
        (Codec::Zstd { level: 1 }, "zstd", "1"),
        (Codec::Zstd { level: 3 }, "zstd", "3"),
        (Codec::Snappy, "snappy", "0"),
        (Codec::Lz4Raw, "lz4", "0"),
        (Codec::Uncompressed, "none", "0"),
    ];
    let mut sizes = Vec::new();
    let mut args = vec!["size".to_owned()];
    for (codec, name, level) in cases {
        let recipe = Recipe { codec, ..Recipe::standard() };
        let file = ParquetTableWriter::write_all(&batch.schema(), &recipe, [&batch]);
        let bytes = file.expect("write").bytes;
        let path = dir.path().join(format!("{name}{level}.parquet"));
        alluvium_stdx::durable::write(&path, &bytes).expect("write");
        args.extend([text(&path), name, level].map(str::to_owned));
        // One line for each of the three other writers.
        sizes.extend([(name, level, bytes.len() as u64); 3]);
    }
    let found = python(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(found.lines().count(), sizes.len(), "{found}");
    for ((name, level, ours), line) in sizes.into_iter().zip(found.lines()) {
        let number = line.strip_prefix("{\"number\": ").and_then(|rest| rest.split(',').next());
        let theirs: u64 = number.and_then(|n| n.parse().ok()).expect("a size");
        assert!(ours * 100 <= theirs * 105, "{name} {level}: ours {ours}, {line}");
    }
}
