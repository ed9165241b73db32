//! Clients that never heard the answer and ask again, all at once.

use std::future::Future;

use alluvium_engine::{Caller, Error, Node, Written};
use alluvium_types::Sequence;

use crate::support::{Lake, batch, caller, expect};

/// Retries of one numbered command that are on their way at once.
const RETRIES: usize = 24;

/// Sends one numbered command many times at once; every sender gets the same answer, which is returned.
async fn storm<F>(lake: &Lake, number: u64, write: impl Fn(Node, Caller) -> F) -> Written
where
    F: Future<Output = Result<Written, Error>>,
{
    let session = lake.node.open_session("storm", None).await.expect("opens");
    let numbered = Caller { session: Some((session, Sequence(number))), ..caller() };
    let retries = (0..RETRIES).map(|_| write(lake.node.clone(), numbered.clone()));
    let answers = futures::future::join_all(retries).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let late = write(lake.node.clone(), numbered).await.expect("an answer");
    assert_eq!(late, answers[0], "long after the others");
    late
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m40_a_storm_of_one_append_adds_its_rows_once() {
    let lake = Lake::keyed().await;
    let written = storm(&lake, 1, async |node, caller| {
        node.append(&caller, "t", vec![batch(&[("a", 1), ("b", 2)])]).await
    })
    .await;
    assert_eq!(written.count, 2);
    assert_eq!(lake.rows().await, expect(&[("a", 1), ("b", 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m40_a_storm_of_one_append_in_parts_adds_its_rows_once() {
    let lake = Lake::keyed().await;
    let text = "y".repeat(1024);
    let rows: Vec<_> = (0..20_000).map(|value| (text.as_str(), value)).collect();
    let rows = batch(&rows);
    let written = storm(&lake, 1, |node, caller| {
        let rows = vec![rows.clone()];
        async move { node.append(&caller, "t", rows).await }
    })
    .await;
    assert_eq!(written.count, 20_000);
    assert_eq!(lake.number("SELECT count(*) FROM t").await.expect("counts"), 20_000);
    assert_eq!(lake.number("SELECT count(DISTINCT value) FROM t").await.expect("counts"), 20_000);
    let parts = lake.node.log(None, 1_000).await.expect("log");
    assert!(parts.iter().any(|record| record.kind == "stage"), "it was one entry");
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m40_a_storm_of_one_upsert_replaces_once() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 0), ("b", 0), ("c", 0)]).await;
    let written = storm(&lake, 7, async |node, caller| {
        node.upsert(&caller, "t", vec![batch(&[("a", 1), ("b", 2)])]).await
    })
    .await;
    assert_eq!(written.count, 2);
    assert_eq!(lake.rows().await, expect(&[("a", 1), ("b", 2), ("c", 0)]));
    let lake = lake.restart().await;
    assert_eq!(lake.rows().await, expect(&[("a", 1), ("b", 2), ("c", 0)]));
}
