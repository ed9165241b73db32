//! More writes at once than there is room for, and a node that stops under them.

use std::time::Duration;

use alluvium_engine::{RegisterOptions, SqlOptions};
use alluvium_types::ErrorKind;

use crate::support::{Lake, batch, caller, open, schema};

#[tokio::test(flavor = "multi_thread")]
async fn more_large_appends_than_there_is_room_for_wait_and_all_end() {
    let lake = Lake::keyed().await;
    // 20 times 6 MiB: almost twice what may be on its way into the log at once.
    let text = "z".repeat(1024);
    let appends = (0..20_i64).map(|writer| {
        let (node, text) = (lake.node.clone(), text.clone());
        async move {
            let rows: Vec<_> = (0..6_000).map(|n| (text.as_str(), writer * 6_000 + n)).collect();
            node.append(&caller(), "t", vec![batch(&rows)]).await
        }
    });
    let answers = futures::future::join_all(appends).await;
    let rows: u64 = answers.into_iter().map(|answer| answer.expect("waits its turn").count).sum();
    assert_eq!(rows, 120_000);
    let distinct = lake.number("SELECT count(DISTINCT value) FROM t").await.expect("counts");
    assert_eq!(distinct, 120_000);
}

/// Appends one row after another until it is refused; returns what was acknowledged, and the next.
async fn append_until_refused(lake: &Lake, writer: i64) -> (Vec<i64>, i64) {
    let mut acknowledged = Vec::new();
    for value in writer * 1_000_000.. {
        match lake.node.append(&caller(), "t", vec![batch(&[("k", value)])]).await {
            Ok(_) => acknowledged.push(value),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                return (acknowledged, value);
            }
        }
    }
    unreachable!("the node stops")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_under_appends_keeps_what_it_acknowledged_and_refuses_the_rest() {
    let lake = Lake::new().await;
    let options = RegisterOptions::keyed(&[]);
    lake.node.register(&caller(), "t", schema(), options).await.expect("registers");
    let writers =
        futures::future::join_all((0..16).map(|writer| append_until_refused(&lake, writer)));
    let stopping = async {
        while lake.number("SELECT count(*) FROM t").await.expect("counts") < 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        lake.node.clone().shutdown().await.expect("stops in order");
    };
    let (writers, ()) = tokio::join!(writers, stopping);
    let dir = lake.dir();
    let Lake { node, root } = lake;
    drop(node);
    let lake = Lake { node: open(&dir).await.expect("opens again").into(), root };
    let found: Vec<i64> = lake.rows().await.into_iter().map(|row| row.1).collect();
    let total: usize = writers.iter().map(|(acknowledged, _)| acknowledged.len()).sum();
    assert!(total >= 200, "{total} appends were acknowledged");
    for (acknowledged, refused) in &writers {
        let lost: Vec<_> = acknowledged.iter().filter(|value| !found.contains(value)).collect();
        assert!(lost.is_empty(), "{lost:?} were acknowledged");
        assert!(!found.contains(&(refused + 1)), "nobody appended it");
    }
    // Of what was refused, some may be there: the answer was lost, not the row.
    assert!((total..=total + writers.len()).contains(&found.len()), "{} of {total}", found.len());
}

/// In one task: a statement that worked there would keep the append from ever beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_statement_that_never_pauses_keeps_no_append_waiting_and_ends_with_its_time() {
    let lake = Lake::keyed().await;
    let rows: Vec<(String, i64)> = (0..2_000).map(|value| (format!("k{value}"), value)).collect();
    let rows: Vec<(&str, i64)> = rows.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    lake.append(&rows).await;
    let text = "SELECT count(*) FROM t a, t b, t c WHERE a.value + b.value + c.value = -1";
    let timeout = Some(Duration::from_secs(2));
    let options = SqlOptions { timeout, ..SqlOptions::default() };
    let busy = async { lake.node.sql(text, options).await?.collect().await };
    let beside = async {
        for value in 0..20 {
            lake.append(&[("beside", value)]).await;
        }
        lake.node.status().await.expect("answers")
    };
    let (busy, _status) = tokio::join!(busy, beside);
    let error = busy.expect_err("it would take hours");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert_eq!(
        lake.number("SELECT count(*) FROM t WHERE key = 'beside'").await.expect("counts"),
        20
    );
}
