//! Queries over a real lake in memory.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};

use alluvium_types::{DatasetKey, SchemaChange};

use super::*;
use crate::lake::{Lake, field, keyed_schema};

mod deep;
mod expire;
mod memory;
mod model;
mod museum;
mod refusals;
mod stop;
mod watched;

pub(crate) type Row = (i64, Option<i32>, Option<&'static str>);

pub(crate) fn rows(rows: &[Row]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
    let numbers: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int32Array>());
    let texts: ArrayRef = Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>());
    RecordBatch::try_from_iter([("id", ids), ("n", numbers), ("v", texts)]).expect("a batch")
}

pub(crate) fn ids(ids: &[i64]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(ids.iter().copied().collect::<Int64Array>());
    RecordBatch::try_from_iter([("id", ids)]).expect("a batch")
}

/// A lake with dataset `t`: rows 1 to 3 in a file, row 4 in the log, row 2 deleted.
async fn small() -> (Lake, DatasetKey) {
    let mut lake = Lake::new();
    let t = lake.register("t", keyed_schema());
    lake.append(t, &rows(&[(1, Some(10), Some("a")), (2, Some(20), Some("b")), (3, None, None)]));
    lake.seal(t).await.expect("a file");
    lake.append(t, &rows(&[(4, Some(40), Some("d"))]));
    lake.tombstone(t, &ids(&[2]));
    (lake, t)
}

#[tokio::test]
async fn files_and_deltas_are_one_table_without_deleted_rows() {
    let (lake, _) = small().await;
    assert_eq!(lake.sql("SELECT * FROM t").await, ["1|10|a", "3||", "4|40|d"]);
    assert_eq!(lake.sql("SELECT count(*) FROM t").await, ["3"]);
    assert_eq!(lake.sql("SELECT v FROM t WHERE n > 15").await, ["d"]);
    assert_eq!(lake.sql("SELECT max(n), sum(id) FROM t").await, ["40|8"]);
}

#[tokio::test]
async fn as_of_shows_each_index_as_it_was() {
    let (lake, _) = small().await;
    // 1 register, 2 append, 3 seal, 4 attest, 5 append, 6 tombstone.
    for (at, count) in [(1, 0), (2, 3), (3, 3), (4, 3), (5, 4), (6, 3)] {
        for form in ["AS OF", "VERSION AS OF", "FOR SYSTEM_VERSION AS OF"] {
            let sql = format!("SELECT count(*) FROM t {form} {at}");
            assert_eq!(lake.sql(&sql).await, [count.to_string()], "{sql}");
        }
    }
    let joined = "SELECT old.id FROM t AS OF 5 AS old LEFT JOIN t AS OF 6 new ON old.id = new.id \
                  WHERE new.id IS NULL";
    assert_eq!(lake.sql(joined).await, ["2"]);
    assert_eq!(lake.sql("SELECT t.id FROM t AS OF 2 WHERE t.id = 2").await, ["2"]);
    assert!(matches!(lake.error("SELECT * FROM t AS OF 7").await, Error::AsOfAhead { .. }));
    let error = lake.error("SELECT * FROM t AS OF '2020-01-01'").await;
    assert!(matches!(error, Error::AsOfNotAnIndex { .. }), "{error:?}");
}

#[tokio::test]
async fn a_dataset_without_rows_is_an_empty_table() {
    let mut lake = Lake::new();
    lake.register("empty", keyed_schema());
    assert_eq!(lake.sql("SELECT * FROM empty").await, [""; 0]);
    assert_eq!(lake.sql("SELECT count(*), max(id) FROM empty").await, ["0|"]);
}

#[tokio::test]
async fn older_files_are_read_by_field_id() {
    let mut lake = Lake::new();
    let t = lake.register("t", keyed_schema());
    lake.append(t, &rows(&[(1, Some(10), Some("a"))]));
    lake.seal(t).await.expect("a file");
    let rename = SchemaChange::Rename { column: "v".to_owned(), to: "w".to_owned() };
    lake.evolve(t, rename);
    let widen = SchemaChange::Widen { column: "n".to_owned(), to: alluvium_types::DataType::Int64 };
    lake.evolve(t, widen);
    lake.evolve(t, SchemaChange::Add(field("v", alluvium_types::DataType::Utf8, true)));
    assert_eq!(lake.sql("SELECT id, n, w, v FROM t").await, ["1|10|a|"]);
    assert_eq!(lake.sql("SELECT id FROM t WHERE w = 'a' AND v IS NULL AND n = 10").await, ["1"]);
    assert_eq!(lake.sql("SELECT id FROM t WHERE v = 'a'").await, [""; 0]);
    assert_eq!(lake.sql("SELECT v FROM t AS OF 2").await, ["a"]);
}

#[tokio::test]
async fn a_purged_log_changes_no_answer() {
    let (mut lake, t) = small().await;
    lake.seal(t).await.expect("a file");
    lake.compact(t).await.expect("a file");
    let before: Vec<_> = history(&lake).await;
    lake.log.purge_below(lake.at);
    assert_eq!(history(&lake).await, before);
}

#[tokio::test]
async fn a_sealed_file_is_read_once_for_all_deltas_that_it_covers() {
    let mut lake = Lake::new();
    let t = lake.register("t", keyed_schema());
    for id in 0..10 {
        lake.append(t, &rows(&[(id, Some(1), None), (id + 100, None, None)]));
    }
    let before = lake.at;
    lake.seal(t).await.expect("a file");
    lake.log.purge_below(lake.at);
    let sql = format!("SELECT id FROM t AS OF {before}");
    assert_eq!(lake.sql(&sql).await.len(), 20);
    let plan = lake.sql(&format!("EXPLAIN ANALYZE {sql}")).await.join("\n");
    let read = plan.split("sealed_files_read=").nth(1).expect("it is counted");
    assert_eq!(read.split([',', ']']).next(), Some("1"), "{plan}");
    let earlier = format!("SELECT count(*), max(id) FROM t AS OF {}", before.0 - 1);
    assert_eq!(lake.sql(&earlier).await, ["18|108"]);
}

async fn history(lake: &Lake) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for at in 1..=lake.at.0 {
        all.push(lake.sql(&format!("SELECT * FROM t AS OF {at}")).await);
    }
    all
}

#[tokio::test]
async fn the_hidden_column_is_neither_shown_nor_named() {
    let (lake, _) = small().await;
    let stream = lake.start("SELECT * FROM t").await.expect("runs");
    let names: Vec<_> = stream.schema.fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["id", "n", "v"]);
    let error = lake.error("SELECT _alluvium_index FROM t").await;
    assert!(matches!(error, Error::ColumnNotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn explain_analyze_shows_files_and_hidden_rows() {
    let (mut lake, t) = small().await;
    lake.seal(t).await.expect("a file");
    lake.upsert(t, &rows(&[(4, Some(41), None)]));
    let plan = lake.sql("EXPLAIN ANALYZE SELECT * FROM t WHERE id <= 3").await.join("\n");
    for expected in ["files_pruned=1", "rows_hidden=1", "tombstones=positions", "DeltaScanExec"] {
        assert!(plan.contains(expected), "{expected} is missing: {plan}");
    }
}

#[tokio::test]
async fn a_limit_never_brings_hidden_rows_back() {
    let mut lake = Lake::new();
    let t = lake.register("t", keyed_schema());
    let many: Vec<Row> = (0..100).map(|id| (id, Some(1), None)).collect();
    lake.append(t, &rows(&many));
    lake.seal(t).await.expect("a file");
    let hidden: Vec<i64> = (0..90).collect();
    lake.tombstone(t, &ids(&hidden));
    let found = lake.sql("SELECT id FROM t WHERE n >= 1 LIMIT 5").await;
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|id| 90 <= id.parse::<i64>().expect("a number")), "{found:?}");
    assert_eq!(lake.sql("SELECT id FROM t ORDER BY id LIMIT 2").await, ["90", "91"]);
}

#[tokio::test]
async fn system_tables_show_the_metadata_and_the_log() {
    let (lake, _) = small().await;
    let log = "SELECT index, kind, dataset, rows FROM system.log WHERE index BETWEEN 2 AND 3";
    assert_eq!(lake.sql(log).await, ["2|append|t|3", "3|seal|t|"]);
    assert_eq!(lake.sql("SELECT count(*) FROM system.log").await, ["6"]);
    assert_eq!(lake.sql("SELECT index FROM system.log WHERE 5 < index LIMIT 1").await, ["6"]);
    assert_eq!(lake.sql("SELECT name, key_columns FROM system.datasets").await, ["t|id"]);
    let files = "SELECT dataset, file, state, rows FROM system.files";
    assert_eq!(lake.sql(files).await, ["t|3|live|3"]);
    assert_eq!(lake.sql("SELECT \"index\", keys FROM system.tombstones").await, ["6|1"]);
    assert_eq!(
        lake.sql(
            "SELECT table_name FROM information_schema.tables \
                         WHERE table_schema = 'main'"
        )
        .await,
        ["t"]
    );
}

#[tokio::test]
async fn a_row_limit_ends_the_stream_and_says_so() {
    let (lake, _) = small().await;
    let request = QueryRequest { row_limit: Some(2), ..QueryRequest::at(lake.at) };
    let stream = lake.engine.run("SELECT * FROM t", request).await.expect("runs");
    let stats = Arc::clone(&stream.stats);
    let rows: usize = stream.collect().await.expect("rows").iter().map(RecordBatch::num_rows).sum();
    assert_eq!((rows, stats.rows(), stats.is_truncated()), (2, 2, true));
}
