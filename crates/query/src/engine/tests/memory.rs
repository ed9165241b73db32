//! What running queries hold together, and until when.

use std::time::Duration;

use super::*;

/// An answer that is not over with its first batch.
const LONG: &str = "SELECT value FROM generate_series(1, 1000000)";

fn request(lake: &Lake, memory_bytes: usize) -> QueryRequest {
    let timeout = Some(Duration::from_millis(300));
    QueryRequest { memory_bytes: Some(memory_bytes), timeout, ..QueryRequest::at(lake.at) }
}

#[tokio::test]
async fn running_queries_hold_at_most_twice_the_limit_of_one() {
    const LIMIT: usize = 64 << 20;
    let lake = Lake::with(|config| config.memory_bytes = LIMIT, |view| view);
    let long = || QueryRequest::at(lake.at);
    let first = lake.engine.run(LONG, long()).await.expect("the first has room");
    let second = lake.engine.run(LONG, long()).await.expect("the second has room");
    for bytes in [LIMIT, 1] {
        let error = lake.engine.run("SELECT 1", request(&lake, bytes)).await;
        let error = error.expect_err("there is no room");
        assert!(matches!(error, Error::Deadline { timeout_ms: 300 }), "{error:?}");
    }
    // One dropped, one read to its end: both give their share back.
    drop(first);
    let third = lake.engine.run(LONG, long()).await.expect("there is room again");
    second.collect().await.expect("rows");
    let small = lake.engine.run("SELECT 1", request(&lake, 1)).await.expect("there is room");
    small.collect().await.expect("a row");
    drop(third);
}

#[tokio::test]
async fn a_query_that_waits_for_memory_runs_when_there_is_some() {
    let lake = Lake::new();
    let long = || QueryRequest::at(lake.at);
    let first = lake.engine.run(LONG, long()).await.expect("room");
    let _second = lake.engine.run(LONG, long()).await.expect("room");
    let waiting = lake.engine.run("SELECT 1", long());
    let (answer, _) = tokio::join!(waiting, async { drop(first) });
    assert_eq!(answer.expect("room").collect().await.expect("a row").len(), 1);
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_any_more_does_not_wait_for_memory() {
    let lake = Lake::new();
    let long = || QueryRequest::at(lake.at);
    let _first = lake.engine.run(LONG, long()).await.expect("room");
    let _second = lake.engine.run(LONG, long()).await.expect("room");
    let error = lake.engine.run("SELECT 1", request(&lake, 1)).await.expect_err("no room");
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    let mut queries = lake.queries.clone();
    queries.wait_for(|running| *running == 2).await.expect("the engine is there");
}

#[tokio::test]
async fn a_predicate_that_waits_for_memory_meets_the_deadline() {
    let (lake, t) = {
        let mut lake = Lake::with(|config| config.default_timeout_ms = 200, |view| view);
        let t = lake.register("t", keyed_schema());
        (lake, t)
    };
    let timeout = Some(Duration::from_secs(60));
    let long = || QueryRequest { timeout, ..QueryRequest::at(lake.at) };
    let _first = lake.engine.run(LONG, long()).await.expect("room");
    let _second = lake.engine.run(LONG, long()).await.expect("room");
    let error = lake.engine.resolve_predicate(&lake.record(t), lake.at, "id = 1").await;
    assert!(matches!(error, Err(Error::Deadline { timeout_ms: 200 })), "{error:?}");
}
