//! Statements that work for long without a pause: they end when their time is over, and keep nobody waiting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alluvium_state_machine::Table;
use alluvium_types::ErrorKind;

use super::watched::Watched;
use super::*;
use crate::QueryConfig;

/// A lake with dataset `t` of so many rows, half of them in a file.
async fn many(rows: i64, configure: impl FnOnce(&mut QueryConfig)) -> Lake {
    let mut lake = Lake::with(configure, |view| view);
    let t = lake.register("t", keyed_schema());
    let part =
        |from, to| super::rows(&(from..to).map(|id| (id, Some(1), None)).collect::<Vec<_>>());
    lake.append(t, &part(0, rows / 2));
    lake.seal(t).await.expect("a file");
    lake.append(t, &part(rows / 2, rows));
    lake
}

async fn until_none_runs(lake: &Lake) {
    let mut queries = lake.queries.clone();
    queries.wait_for(|running| *running == 0).await.expect("the engine is there");
}

/// None of these gives a row before all pairs were looked at, which would take hours.
#[tokio::test]
async fn joins_that_find_nothing_end_with_their_time() {
    // Time is to end them, not memory.
    let lake = many(6_000, |config| config.memory_bytes = 16 << 30).await;
    for text in [
        "SELECT count(*) FROM t a, t b, t c WHERE a.n + b.n + c.n = 5",
        "SELECT count(*) FROM t a JOIN t b ON a.id < b.id JOIN t c ON b.id + c.id < a.id - 9000",
        "SELECT count(*) FROM t a JOIN t b ON a.n = b.n JOIN t c ON b.n = c.n AND a.id + c.id < 0",
        "SELECT count(*) FROM t a CROSS JOIN t b CROSS JOIN t c",
    ] {
        // Long enough to be planned on a busy machine.
        let timeout = Some(Duration::from_secs(1));
        let request = QueryRequest { timeout, ..QueryRequest::at(lake.at) };
        let running = lake.engine.run(text, request).await.expect("planned in time");
        let error = running.collect().await.expect_err("there is no answer in time");
        assert!(matches!(error, Error::Deadline { timeout_ms: 1_000 }), "{text}: {error:?}");
        until_none_runs(&lake).await;
    }
}

#[tokio::test]
async fn a_reader_that_goes_ends_its_query() {
    let lake = many(6_000, |_| {}).await;
    let text = "SELECT * FROM t a, t b, t c WHERE a.n + b.n + c.n = 5";
    let running = lake.engine.run(text, QueryRequest::at(lake.at)).await.expect("starts");
    assert_eq!(*lake.queries.borrow(), 1);
    drop(running);
    until_none_runs(&lake).await;
}

#[tokio::test]
async fn a_join_of_each_row_with_each_row_that_has_no_memory_says_so() {
    let lake = many(60_000, |config| config.memory_bytes = 1 << 20).await;
    for text in [
        "SELECT count(*) FROM t a, t b, t c WHERE a.n + b.n + c.n = 5",
        "SELECT count(*) FROM t a JOIN t b ON a.id < b.id - 59000 JOIN t c ON c.id < a.id",
    ] {
        let error = lake.error(text).await;
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{text}: {error:?}");
    }
    until_none_runs(&lake).await;
}

/// However small the caches are, a scan makes its index of tombstones once, not once for each delta.
#[tokio::test]
async fn tombstones_are_read_as_often_for_many_deltas_as_for_few() {
    let mut scans = Vec::new();
    for deltas in [4, 40] {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let without_caches = |config: &mut QueryConfig| {
            (config.tombstone_cache_bytes, config.delta_cache_bytes) = (0, 0);
        };
        let before = move |table| {
            let more = u64::from(table == Table::Tombstone);
            counted.fetch_add(more, Ordering::SeqCst);
            Ok(())
        };
        let mut lake = Lake::with(without_caches, |inner| Arc::new(Watched::new(inner, before)));
        let t = lake.register("t", keyed_schema());
        for id in 0..deltas {
            lake.upsert(t, &rows(&[(id, None, None), (id + 1, None, None)]));
        }
        count.store(0, Ordering::SeqCst);
        assert_eq!(lake.sql("SELECT count(*) FROM t").await, [(deltas + 1).to_string()]);
        scans.push(count.load(Ordering::SeqCst));
    }
    assert_eq!(scans[0], scans[1], "read {scans:?} times");
}
