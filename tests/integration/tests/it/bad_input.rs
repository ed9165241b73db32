//! Input that is wrong: a typed error that says so, and nothing lost or half done.

use std::sync::Arc;

use alluvium_engine::{Config, Error, Node, RegisterOptions, SqlOptions, TombstoneKeys};
use alluvium_types::limits::UPLOAD_PARTS_MAX;
use alluvium_types::{ErrorKind, LogIndex, Rejection};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema};

use crate::support::{Lake, batch, caller, expect, open, schema};

/// Registers a schema that must be refused, and checks that nothing was registered.
async fn refuse_schema(fields: Vec<Field>, keys: &[&str], kind: ErrorKind, words: &str) {
    let lake = Lake::new().await;
    let schema = Arc::new(Schema::new(fields));
    let refused = lake.node.register(&caller(), "t", schema, RegisterOptions::keyed(keys)).await;
    let error = refused.expect_err(words);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(lake.node.datasets(None).await.expect("lists").1.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn illegal_names_are_refused() {
    let lake = Lake::new().await;
    let long = "x".repeat(200);
    let before = lake.node.status().await.expect("tells");
    let look_alikes =
        ["раypal", "\u{441}\u{43e}\u{440}\u{443}", "fligh\u{57f}s", "\u{13aa}", "\u{ff41}"];
    let unseen = ["a\u{200b}", "a\u{202e}b", "\u{feff}a", "a\u{301}", "\u{1d41a}"];
    let tricks = ["", "../x", "a/b", "/etc/passwd", "a\0b", "a..b", "system", long.as_str()];
    for name in [&look_alikes[..], &unseen, &tricks].concat() {
        let options = RegisterOptions::keyed(&[]);
        let refused = lake.node.register(&caller(), name, schema(), options).await;
        let error = refused.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name:?}: {error}");
    }
    let after = lake.node.status().await.expect("tells");
    assert_eq!((after.applied, after.digest), (before.applied, before.digest));
    assert_eq!(lake.node.datasets(None).await.expect("lists").1.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn illegal_schemas_are_refused() {
    let int = |name: &str| Field::new(name, DataType::Int64, false);
    let invalid = ErrorKind::InvalidArgument;
    refuse_schema(vec![], &[], invalid, "at least one column").await;
    refuse_schema(vec![int("a"), int("A")], &[], invalid, "twice").await;
    refuse_schema(vec![int("a"), int("b"), int("a")], &[], invalid, "twice").await;
    refuse_schema(vec![int("a")], &["b"], invalid, "not a column").await;
    refuse_schema(vec![int("a\u{200b}")], &[], invalid, "cannot be seen").await;
    refuse_schema(vec![int("\u{202e}a")], &[], invalid, "cannot be seen").await;
    let nullable = Field::new("a", DataType::Int64, true);
    refuse_schema(vec![nullable], &["a"], invalid, "nullable").await;
    let float = Field::new("a", DataType::Float64, false);
    refuse_schema(vec![float], &["a"], invalid, "exact equality").await;
    let interval = Field::new("a", DataType::Interval(IntervalUnit::DayTime), true);
    let words = "column \"a\" has type Interval(DayTime), which a dataset cannot hold";
    refuse_schema(vec![interval], &[], invalid, words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_another_schema_are_refused_and_nothing_is_appended() {
    let lake = Lake::keyed().await;
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let fields = schema().fields().clone();
    let reordered = Schema::new(vec![fields[1].as_ref().clone(), fields[0].as_ref().clone()]);
    let null = Schema::new(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Int64, false),
    ]);
    let no_key: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    let bad = [
        RecordBatch::try_new(Arc::new(reordered), vec![Arc::clone(&values), keys]),
        RecordBatch::try_new(Arc::new(null), vec![no_key, Arc::clone(&values)]),
        RecordBatch::try_new(
            Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)])),
            vec![values],
        ),
    ];
    for batch in bad {
        let refused = lake.node.append(&caller(), "t", vec![batch.expect("a batch")]).await;
        let error = refused.expect_err("another schema");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    assert_eq!(lake.rows().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_is_named_by_its_place_among_all_rows_counted_from_one() {
    let lake = Lake::keyed().await;
    let good = batch(&[("a", 1), ("b", 2)]);
    let fields =
        vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Int64, false)];
    let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("c"), None]));
    let values: ArrayRef = Arc::new(Int64Array::from(vec![3, 4]));
    let null = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![keys, values]);
    let null = null.expect("a batch");
    let huge = "x".repeat(9 * 1024 * 1024);
    for (bad, words) in
        [(null, "column \"key\" is NULL in row 4"), (batch(&[("c", 3), (&huge, 4)]), "row 4 has ")]
    {
        let refused = lake.node.append(&caller(), "t", vec![good.clone(), bad]).await;
        let error = refused.expect_err("one row is bad").to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(lake.rows().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_without_rows_is_refused() {
    let lake = Lake::keyed().await;
    for batches in [vec![], vec![batch(&[])]] {
        let error = lake.node.append(&caller(), "t", batches).await.expect_err("no rows");
        assert!(matches!(error, Error::Rejected(Rejection::NoRows)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_over_the_limit_is_refused_by_size_and_limit() {
    let lake = Lake::keyed().await;
    let huge = "x".repeat(100 * 1024 * 1024);
    let error = lake.node.append(&caller(), "t", vec![batch(&[(&huge, 1)])]).await;
    let error = error.expect_err("100 MB");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert!(error.to_string().contains("limit"), "{error}");
    assert_eq!(lake.rows().await, []);
}

/// Pushes one part after the other until one is refused; returns how many were taken, and the refusal.
async fn push_until_refused(lake: &Lake) -> (u32, Error) {
    // Just above what becomes a part: each push is one.
    let text = "y".repeat(1024 * 1024);
    let rows: Vec<_> = (0..4).map(|value| (text.as_str(), value)).collect();
    let part = batch(&rows);
    let mut appender = lake.node.appender(caller(), "t", false);
    for taken in 0.. {
        if let Err(error) = appender.push(part.clone()).await {
            return (taken, error);
        }
        assert!(taken <= UPLOAD_PARTS_MAX, "more parts than one append may have");
    }
    unreachable!("it is refused or too many")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_of_too_many_parts_is_refused_by_number_and_limit_and_leaves_nothing() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1)]).await;
    let (taken, error) = push_until_refused(&lake).await;
    assert_eq!(taken, UPLOAD_PARTS_MAX);
    let named = matches!(
        &error,
        Error::TooLarge { what: "one append (in entries)", value: 257, limit: 256 }
    );
    assert!(named, "{error:?}");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.to_string().contains("256"), "{error}");
    assert_eq!(lake.rows().await, expect(&[("a", 1)]), "no part of it is visible");
    // The same process takes the next one, in parts as well.
    let text = "z".repeat(1024 * 1024);
    let rows: Vec<_> = (0..9).map(|value| (text.as_str(), value)).collect();
    lake.node.append(&caller(), "t", vec![batch(&rows)]).await.expect("a few parts");
    assert_eq!(lake.number("SELECT count(*) FROM t").await.expect("counts"), 10);
    lake.node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_larger_than_an_entry_becomes_visible_at_one_index() {
    let lake = Lake::keyed().await;
    let text = "y".repeat(1024);
    let rows: Vec<_> = (0..40_000).map(|value| (text.as_str(), value)).collect();
    let written =
        lake.node.append(&caller(), "t", vec![batch(&rows)]).await.expect("several entries");
    assert_eq!(written.count, 40_000);
    let before = LogIndex(written.index.0 - 1);
    let options = SqlOptions { as_of: Some(before), ..SqlOptions::default() };
    let stream = lake.node.sql("SELECT key FROM t", options).await.expect("reads");
    let batches = stream.collect().await.expect("reads");
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    assert_eq!(lake.number("SELECT count(*) FROM t").await.expect("counts"), 40_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_that_name_nothing_legal_are_refused() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1)]).await;
    lake.node
        .register(&caller(), "u", schema(), RegisterOptions::keyed(&[]))
        .await
        .expect("registers");
    let texts = |keys: &[&str]| {
        TombstoneKeys::Texts(vec![keys.iter().map(|&key| key.to_owned()).collect()])
    };
    let error = lake.node.tombstone(&caller(), "u", texts(&["a"])).await.expect_err("keyless");
    assert!(matches!(error, Error::Rejected(Rejection::Keyless)), "{error}");
    let error =
        lake.node.tombstone(&caller(), "t", texts(&["a", "b"])).await.expect_err("two parts");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let null: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    let field = Field::new("key", DataType::Utf8, true);
    let null =
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![null]).expect("a batch");
    let keys = TombstoneKeys::Batches(vec![null]);
    let error = lake.node.tombstone(&caller(), "t", keys).await.expect_err("NULL");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    // A key that no row has is no error: the tombstone says what must not be there.
    lake.tombstone(&["zzz"]).await;
    assert_eq!(lake.rows().await, expect(&[("a", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_keys_at_once_are_hidden_together() {
    let lake = Lake::keyed().await;
    lake.append(&[("key-7", 1), ("key-999999", 2), ("other", 3)]).await;
    let keys: Vec<String> = (0..1_000_000).map(|n| format!("key-{n}")).collect();
    let array: ArrayRef = Arc::new(StringArray::from(keys));
    let field = Field::new("key", DataType::Utf8, false);
    let keys =
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).expect("a batch");
    let keys = TombstoneKeys::Batches(vec![keys]);
    let written = lake.node.tombstone(&caller(), "t", keys).await.expect("hides");
    assert_eq!(written.count, 1_000_000);
    assert_eq!(lake.rows().await, expect(&[("other", 3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_that_repeats_a_key_names_both_rows() {
    let lake = Lake::keyed().await;
    let error =
        lake.node.upsert(&caller(), "t", vec![batch(&[("a", 1), ("b", 2), ("a", 3)])]).await;
    let error = error.expect_err("twice");
    assert!(error.to_string().contains("rows 1 and 3"), "{error}");
    assert_eq!(lake.rows().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_of_nothing_does_nothing_and_says_so() {
    let lake = Lake::keyed().await;
    let compact = async || lake.node.compact(&caller(), "t").await.expect("nothing is no error");
    assert_eq!((compact().await.files_in, compact().await.rows_in), (0, 0));
    lake.append(&[("a", 1)]).await;
    lake.node.seal(&caller(), "t").await.expect("seals");
    // One file, and nothing is hidden in it.
    assert_eq!((compact().await.files_in, compact().await.rows_in), (0, 0));
    assert_eq!(lake.rows().await, expect(&[("a", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_that_is_wrong_or_asks_too_much_is_a_typed_error() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1)]).await;
    let cases = [
        ("SELEC 1", ErrorKind::InvalidArgument),
        ("SELECT nope FROM t", ErrorKind::NotFound),
        ("SELECT * FROM nope", ErrorKind::NotFound),
        ("DROP TABLE t", ErrorKind::InvalidArgument),
        ("COPY t TO '/tmp/x.parquet'", ErrorKind::InvalidArgument),
        (
            "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
            ErrorKind::InvalidArgument,
        ),
        ("INSERT INTO t VALUES ('b', 2)", ErrorKind::InvalidArgument),
        ("SET datafusion.execution.batch_size = 1", ErrorKind::InvalidArgument),
    ];
    for (text, kind) in cases {
        let asked = lake.node.sql(text, SqlOptions::default()).await;
        let error = asked.expect_err(text);
        assert_eq!(error.kind(), kind, "{text}: {error}");
    }
    let options = SqlOptions { memory_bytes: Some(256 * 1024), ..SqlOptions::default() };
    let hungry = "SELECT a.value, count(*) FROM generate_series(1, 2000000) AS a(value) GROUP BY a.value ORDER BY 2";
    let outcome = match lake.node.sql(hungry, options).await {
        Ok(stream) => stream.collect().await.map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(outcome.expect_err("256 KiB").kind(), ErrorKind::ResourceExhausted);
    // The node serves on.
    assert_eq!(lake.number("SELECT count(*) FROM t").await.expect("counts"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_that_are_not_ours_to_open_are_refused() {
    let lake = Lake::keyed().await;
    let error = open(&lake.dir()).await.expect_err("in use");
    assert!(matches!(error, Error::DirectoryLocked { .. }), "{error}");
    let dir = lake.dir();
    lake.node.shutdown().await.expect("stops");
    let other = Node::open(Config { node_id: Some(2), ..Config::single(&dir) }).await;
    let error = other.expect_err("another node");
    assert!(matches!(error, Error::ForeignDirectory { .. }), "{error}");
    let foreign = tempfile::tempdir().expect("temporary directory");
    std::fs::create_dir(foreign.path().join("thesis")).expect("creates");
    let error = open(foreign.path()).await.expect_err("somebody's");
    assert!(matches!(error, Error::NotADataDirectory { .. }), "{error}");
    open(&dir).await.expect("still opens").shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_precondition_that_does_not_hold_changes_nothing() {
    let lake = Lake::keyed().await;
    let changed_at = lake.node.dataset("t", None).await.expect("there").changed_at;
    lake.append(&[("a", 1)]).await;
    let stale = alluvium_engine::Caller { expected_index: Some(changed_at), ..caller() };
    let error = lake.node.append(&stale, "t", vec![batch(&[("b", 2)])]).await.expect_err("stale");
    assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
    assert_eq!(lake.rows().await, expect(&[("a", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_file_with_a_ragged_row_appends_nothing() {
    let lake = Lake::keyed().await;
    let path = lake.root.path().join("ragged.csv");
    let good: String = (0..200_000).map(|n| format!("key-{n},{n}\n")).collect();
    write(&path, &format!("key,value\n{good}one,2,three\n"));
    let source = alluvium_ingest::Source::at(&path);
    let wanted = alluvium_types::Schema {
        fields: alluvium_ingest::infer_schema(&source, &["key".to_owned()])
            .expect("infers")
            .schema
            .fields,
        key_columns: vec!["key".to_owned()],
    };
    let reader = alluvium_ingest::open(&source, Some(&wanted)).expect("opens");
    let mut appender = lake.node.appender(caller(), "t", false);
    let mut pushed = 0;
    let mut refused = None;
    for batch in reader {
        match batch {
            Ok(batch) => {
                pushed += batch.num_rows();
                let columns = batch.columns().to_vec();
                let batch = RecordBatch::try_new(schema(), columns).expect("the same columns");
                appender.push(batch).await.expect("good rows");
            }
            Err(error) => refused = Some(error.to_string()),
        }
    }
    drop(appender);
    let refused = refused.expect("the last row is ragged");
    assert!(refused.contains("line 200002") && refused.contains("3 fields"), "{refused}");
    assert!(pushed > 100_000, "only {pushed} rows were on their way");
    assert_eq!(lake.rows().await, []);
    let staged = lake.node.log(None, 1_000).await.expect("log");
    assert!(
        staged.iter().any(|record| record.kind == "stage"),
        "some rows were in the log already"
    );
    lake.append(&[("a", 1)]).await;
    let lake = lake.restart().await;
    assert_eq!(lake.rows().await, expect(&[("a", 1)]));
}

#[expect(clippy::disallowed_methods, reason = "an input file need not be durable")]
fn write(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).expect("writes");
}
