//! Bugs that other systems shipped: see docs/TESTING.md.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use datafusion::arrow::array::{ArrayRef, BinaryArray, Float64Array, RecordBatch, StringArray};
use object_store::ObjectStoreExt;

use alluvium_materialize::object_key;
use alluvium_state_machine::{Table, ViewError};
use alluvium_types::{DataType, ErrorKind, Schema};

use super::watched::Watched;
use super::*;
use crate::QueryConfig;

struct Switches {
    on: Arc<AtomicBool>,
    skip: Arc<AtomicU64>,
}

/// The small lake over metadata that can fail.
async fn faulty(table: Table) -> (Lake, DatasetKey, Switches) {
    let (on, skip) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let switches = Switches { on: Arc::clone(&on), skip: Arc::clone(&skip) };
    let before = move |read| {
        let skipped =
            || skip.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match read == table && on.load(Ordering::SeqCst) && skipped().is_err() {
            true => Err(ViewError::Read {
                table,
                kind: ErrorKind::Unavailable,
                source: "planted".into(),
            }),
            false => Ok(()),
        }
    };
    let mut lake = Lake::with(|_| {}, |inner| Arc::new(Watched::new(inner, before)));
    let t = lake.register("t", keyed_schema());
    lake.append(t, &rows(&[(1, Some(10), Some("a")), (2, Some(20), Some("b"))]));
    lake.seal(t).await.expect("a file");
    lake.append(t, &rows(&[(3, None, None), (4, None, None)]));
    lake.tombstone(t, &ids(&[2, 3]));
    (lake, t, switches)
}

#[tokio::test]
async fn museum_m05_cached_positions_never_show_deleted_rows() {
    let mut cached = Lake::new();
    let without_caches = |config: &mut QueryConfig| {
        (config.tombstone_cache_bytes, config.delta_cache_bytes) = (0, 0);
    };
    let mut uncached = Lake::with(without_caches, |view| view);
    for lake in [&mut cached, &mut uncached] {
        let t = lake.register("t", keyed_schema());
        let many: Vec<Row> = (0..50).map(|id| (id, None, None)).collect();
        lake.append(t, &rows(&many));
        lake.seal(t).await.expect("a file");
        for id in 0..10 {
            lake.tombstone(t, &ids(&[id * 3]));
            let left = (50 - id - 1).to_string();
            assert_eq!(lake.sql("SELECT count(id) FROM t").await, [left]);
        }
    }
    for at in 2..=cached.at.0 {
        let sql = format!("SELECT id FROM t AS OF {at}");
        assert_eq!(cached.sql(&sql).await, uncached.sql(&sql).await, "{sql}");
    }
}

#[tokio::test]
async fn museum_m05_cached_positions_of_unsealed_rows_never_show_deleted_rows() {
    let mut cached = Lake::new();
    let without_caches = |config: &mut QueryConfig| {
        (config.tombstone_cache_bytes, config.delta_cache_bytes) = (0, 0);
    };
    let mut uncached = Lake::with(without_caches, |view| view);
    for lake in [&mut cached, &mut uncached] {
        let t = lake.register("t", keyed_schema());
        for round in 0..12 {
            // Each round replaces a part of what is there, hides a part, and asks: a later index each time.
            let some: Vec<Row> = (0..30).map(|id| ((id * 7 + round) % 60, None, None)).collect();
            lake.upsert(t, &rows(&some));
            lake.tombstone(t, &ids(&[round, round * 3, 200 + round]));
            let distinct = lake.sql("SELECT count(id) - count(DISTINCT id) FROM t").await;
            assert_eq!(distinct, ["0"], "an upsert hides what it replaces");
            lake.sql(&format!("SELECT id FROM t AS OF {}", lake.at.0 - 1)).await;
        }
    }
    for at in 2..=cached.at.0 {
        let sql = format!("SELECT id FROM t AS OF {at}");
        assert_eq!(cached.sql(&sql).await, uncached.sql(&sql).await, "{sql}");
    }
}

#[tokio::test]
async fn museum_m06_a_tombstone_read_error_fails_the_query() {
    // Wherever the fault comes, planning or running, for the file or for the delta: an error, no answer. Each time
    // a lake that has read nothing yet: what was read once is remembered.
    let mut failed = 0;
    for skip in 0..8 {
        let (lake, _, switches) = faulty(Table::Tombstone).await;
        switches.skip.store(skip, Ordering::SeqCst);
        switches.on.store(true, Ordering::SeqCst);
        match lake.try_sql("SELECT id FROM t").await {
            Ok(batches) => assert_eq!(crate::lake::lines(&batches), ["1", "4"]),
            Err(error) => {
                failed += 1;
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            }
        }
        switches.on.store(false, Ordering::SeqCst);
        assert_eq!(lake.sql("SELECT id FROM t").await, ["1", "4"]);
    }
    assert!((3..8).contains(&failed), "the fault was met {failed} times");
}

#[tokio::test]
async fn museum_m07_a_delta_that_cannot_be_read_fails_the_query_every_time() {
    let (lake, _) = small().await;
    lake.log.break_at(LogIndex(5));
    for _ in 0..2 {
        let error = lake.error("SELECT * FROM t").await;
        assert!(matches!(&error, Error::Delta { index: LogIndex(5), .. }), "{error:?}");
    }
    lake.log.break_at(LogIndex(0));
    assert_eq!(lake.sql("SELECT id FROM t").await, ["1", "3", "4"]);
}

/// What is kept is the rows of the log as they are, whatever hides them: it needs the log no more.
#[tokio::test]
async fn a_delta_that_was_read_is_answered_without_the_log() {
    let (mut lake, t) = small().await;
    assert_eq!(lake.sql("SELECT id FROM t").await, ["1", "3", "4"]);
    lake.log.break_at(LogIndex(5));
    assert_eq!(lake.sql("SELECT id FROM t").await, ["1", "3", "4"]);
    lake.tombstone(t, &ids(&[4]));
    assert_eq!(lake.sql("SELECT id FROM t").await, ["1", "3"]);
    assert_eq!(lake.sql("SELECT id FROM t AS OF 6").await, ["1", "3", "4"]);
    lake.append(t, &rows(&[(5, None, None)]));
    lake.log.break_at(lake.at);
    let error = lake.error("SELECT id FROM t").await;
    assert!(matches!(&error, Error::Delta { .. }), "what was never read cannot be answered");
}

#[tokio::test]
async fn museum_m11_rows_with_null_nan_and_empty_values_survive_tombstones() {
    let mut lake = Lake::new();
    let fields = vec![
        field("k", DataType::Utf8, false),
        field("f", DataType::Float64, true),
        field("b", DataType::Binary, true),
    ];
    let t = lake.register("t", Schema { fields, key_columns: vec!["k".to_owned()] });
    let batch = |from: usize, to: usize| {
        let k: ArrayRef =
            Arc::new(StringArray::from(["", "a", "a\0", "b", "NULL"][from..to].to_vec()));
        let f = [None, Some(f64::NAN), Some(-0.0), Some(0.0), None];
        let f: ArrayRef = Arc::new(Float64Array::from(f[from..to].to_vec()));
        let b: ArrayRef = Arc::new(BinaryArray::from(
            [None, Some(&b""[..]), None, Some(&b"\0"[..]), None][from..to].to_vec(),
        ));
        RecordBatch::try_from_iter([("k", k), ("f", f), ("b", b)]).expect("a batch")
    };
    lake.append(t, &batch(0, 3));
    lake.seal(t).await.expect("a file");
    lake.append(t, &batch(3, 5));
    for (deleted, left) in [(1, 4), (0, 3), (3, 2)] {
        lake.tombstone(t, &batch(deleted, deleted + 1));
        assert_eq!(lake.sql("SELECT count(k) FROM t").await, [left.to_string()]);
    }
    assert_eq!(lake.sql("SELECT octet_length(k) FROM t").await, ["2", "4"]);
}

#[tokio::test]
async fn museum_m12_a_reinserted_key_survives_compaction() {
    let mut lake = Lake::new();
    let t = lake.register("t", keyed_schema());
    lake.append(t, &rows(&[(1, Some(1), None), (2, Some(1), None)]));
    lake.seal(t).await.expect("a file");
    lake.tombstone(t, &ids(&[1]));
    lake.append(t, &rows(&[(1, Some(2), None)]));
    lake.seal(t).await.expect("a file");
    let expected = ["1|2|", "2|1|"];
    assert_eq!(lake.sql("SELECT * FROM t").await, expected);
    lake.compact(t).await.expect("a file");
    assert_eq!(lake.sql("SELECT * FROM t").await, expected);
}

#[tokio::test]
async fn museum_m27_an_error_on_a_lookup_is_never_an_absence() {
    for table in [Table::Name, Table::Dataset, Table::Schema, Table::File, Table::Delta] {
        let (lake, _, switches) = faulty(table).await;
        switches.on.store(true, Ordering::SeqCst);
        for skip in 0..12 {
            switches.skip.store(skip, Ordering::SeqCst);
            match lake.try_sql("SELECT id FROM t").await {
                Ok(batches) => assert_eq!(crate::lake::lines(&batches), ["1", "4"], "{table:?}"),
                Err(error) => assert!(matches!(error, Error::Metadata { .. }), "{error:?}"),
            }
        }
        switches.skip.store(0, Ordering::SeqCst);
        let error = lake.error("SELECT id FROM t").await;
        assert!(matches!(error, Error::Metadata { .. }), "{table:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_missing_and_a_damaged_file_are_named() {
    for damaged in [false, true] {
        let (lake, t) = small().await;
        let file = lake.live_files(t).pop().expect("a file");
        let key = object_key(t, file.file, file.generation);
        if damaged {
            let mut bytes =
                lake.objects.get(&key).await.expect("there").bytes().await.expect("read").to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            lake.objects.put(&key, bytes.into()).await.expect("put");
        } else {
            lake.objects.delete(&key).await.expect("deleted");
        }
        for sql in ["SELECT * FROM t", "SELECT * FROM t AS OF 4"] {
            let error = lake.error(sql).await;
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
            let Error::DataFile { dataset, file, key: named, bucket, .. } = error else {
                panic!("{error:?}");
            };
            let found = (dataset.as_str(), file, named, bucket.as_str());
            assert_eq!(found, ("t", 3, key.to_string(), "primary"));
        }
    }
}

#[tokio::test]
async fn museum_m41_names_fold_once_and_alike() {
    let mut lake = Lake::new();
    for name in ["flights", "Mixed", "a.b", "größe", "航班", "Twin", "twin"] {
        let fields = vec![
            field("UserId", DataType::Int64, false),
            field("lower", DataType::Int64, true),
            field("with space", DataType::Int64, true),
        ];
        let t = lake.register(name, Schema { fields, key_columns: Vec::new() });
        let one = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
        let columns = [("UserId", one(1)), ("lower", one(2)), ("with space", one(3))];
        lake.append(t, &RecordBatch::try_from_iter(columns).expect("a batch"));
    }
    let found = [
        "SELECT userid, LOWER, \"with space\" FROM FLIGHTS",
        "SELECT UserId, lower, \"with space\" FROM flights",
        "SELECT Flights.USERID, f.lower, 3 FROM flights JOIN flights f ON f.\"UserId\" = flights.UserId",
        "SELECT userid, lower, 3 FROM mixed",
        "SELECT userid, lower, 3 FROM \"Mixed\"",
        "SELECT userid, lower, 3 FROM main.mixed",
        "SELECT userid, lower, 3 FROM alluvium.main.\"a.b\"",
        "SELECT \"a.b\".userid, lower, 3 FROM \"a.b\"",
        "SELECT userid, lower, 3 FROM GRÖSSE".replace("GRÖSSE", "Größe").leak(),
        "SELECT userid, lower, 3 FROM 航班",
        "SELECT userid, lower, 3 FROM twin",
        "SELECT userid, lower, 3 FROM Twin",
        "WITH Local AS (SELECT 1 AS Total, 2 b) SELECT TOTAL, B, COUNT(*) + 2 FROM local GROUP BY total, b",
        "SELECT UserId AS Renamed, lower, 3 FROM flights ORDER BY RENAMED",
    ];
    for sql in found {
        assert_eq!(lake.sql(sql).await, ["1|2|3"], "{sql}");
    }
    for sql in ["SELECT 1 FROM \"FLIGHTS\"", "SELECT 1 FROM \"mixed\"", "SELECT 1 FROM flight"] {
        let error = lake.error(sql).await;
        let suggests = matches!(&error, Error::TableNotFound { suggestion: Some(_), .. });
        assert!(suggests && error.kind() == ErrorKind::NotFound, "{sql}: {error:?}");
    }
    let ambiguous = lake.error("SELECT 1 FROM TWIN").await;
    assert!(matches!(ambiguous, Error::TableAmbiguous { .. }), "{ambiguous:?}");
    for sql in ["SELECT \"userid\" FROM flights", "SELECT usrid FROM flights"] {
        let error = lake.error(sql).await;
        let suggests =
            matches!(&error, Error::ColumnNotFound { suggestion: Some(s), .. } if s == "UserId");
        assert!(suggests, "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn museum_m43_predicates_that_could_differ_are_refused() {
    let (lake, t) = small().await;
    let record = lake.record(t);
    let refused = [
        "random() < 0.5",
        "v = uuid()",
        "now() > '2020-01-01'",
        "current_date = '2020-01-01'",
        "id IN (SELECT id FROM t)",
        "EXISTS (SELECT 1)",
        "id = (SELECT max(id) FROM t)",
        "max(id) = 3",
        "row_number() OVER () = 1",
        "id = $1",
        "id + 1",
    ];
    for predicate in refused {
        let error = lake.engine.resolve_predicate(&record, lake.at, predicate).await;
        let error = error.expect_err(predicate);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{predicate}: {error:?}");
        assert!(matches!(error, Error::Predicate { .. }), "{predicate}: {error:?}");
    }
}

#[tokio::test]
async fn a_predicate_becomes_the_distinct_keys_of_visible_rows_that_match() {
    let (mut lake, t) = small().await;
    let resolved = lake.engine.resolve_predicate(&lake.record(t), lake.at, "N >= 10").await;
    let resolved = resolved.expect("resolves");
    let encoder = alluvium_rows::KeyEncoder::new(&lake.schema(t)).expect("keyed");
    let texts: Vec<_> =
        resolved.keys.iter().map(|key| encoder.describe(key).expect("a key")).collect();
    assert_eq!((texts, resolved.rows), (vec![vec!["1".to_owned()], vec!["4".to_owned()]], 2));
    lake.append(t, &rows(&[(1, Some(5), None)]));
    let error = lake.engine.resolve_predicate(&lake.record(t), lake.at, "n >= 10").await;
    assert!(matches!(error, Err(Error::KeyNotUnique { .. })), "{error:?}");
    let none = lake.engine.resolve_predicate(&lake.record(t), lake.at, "n > 1000").await;
    assert_eq!(none.expect("resolves").keys.len(), 0);
    let wrong = lake.engine.resolve_predicate(&lake.record(t), lake.at, "nn > 1").await;
    assert!(matches!(wrong, Err(Error::ColumnNotFound { .. })), "{wrong:?}");
}
