//! A replica whose state differs: found by the others within one period, kept from being believed, and mended.

use std::path::Path;
use std::time::Duration;

use alluvium_engine::{Caller, Error, Node, Reinstall, SqlOptions};
use alluvium_metastore::{OpenOptions, RocksStore};
use alluvium_state_machine::record::AppliedEntry;
use alluvium_state_machine::{BatchEntry, EntryContent, MetaStore, apply_batch, payload_hash};
use alluvium_types::{Command, Envelope, ErrorKind, NodeId, OpenSession};
use bytes::Bytes;

use crate::cluster::{Three, caller, check_same, register, rows, totals, until};

/// A period that is short for a test and long enough for a cluster under load.
const PERIOD: Duration = Duration::from_millis(500);

fn copy_dir(from: &Path, to: &Path) {
    alluvium_stdx::durable::create_dir_all(to).expect("makes it");
    for entry in std::fs::read_dir(from).expect("lists") {
        let path = entry.expect("lists").path();
        let name = path.file_name().expect("has one");
        if path.is_dir() {
            copy_dir(&path, &to.join(name));
            continue;
        }
        std::fs::copy(&path, to.join(name)).expect("copies");
    }
}

/// Applies to a copy of a node's metadata another command than the log has at the next index, as a replica does that is
/// not deterministic.
fn apply_another(meta: &Path, term: u64, leader: u64) {
    let store = RocksStore::open(meta, OpenOptions::standard()).expect("opens");
    let applied = store.raft().applied.expect("it applied something");
    let command = Command::OpenSession(OpenSession { ttl_ms: 1_000 });
    let body = Bytes::new();
    let payload_hash = payload_hash(&command, &body);
    let envelope = Envelope {
        session: None,
        actor: "nobody".to_owned(),
        proposed_at_ms: 1,
        expected_index: None,
        command,
    };
    let id = AppliedEntry { term, leader: NodeId(leader), index: applied.index.next() };
    let content = EntryContent::Command { envelope: &envelope, body: &body, payload_hash };
    let batch = apply_batch(&store, &[BatchEntry { id, content }]).expect("applies");
    store.commit(batch.commit).expect("commits");
    store.flush().expect("flushes");
}

/// Starts three nodes, and makes the third differ while it is down.
async fn three_with_one_that_differs() -> Three {
    let mut three = Three::start().await;
    for config in &mut three.tuned {
        config.compare_every = PERIOD;
    }
    register(&three.nodes[0]).await;
    three.nodes[0].append(&caller(), "t", vec![rows(0..10)]).await.expect("appends");
    let (path, meta) = (three.path(2), three.path(2).join("meta"));
    let aside = path.with_extension("meta");
    three.close(2).await;
    copy_dir(&meta, &aside);
    three.nodes[0].append(&caller(), "t", vec![rows(10..20)]).await.expect("appends");
    let status = three.nodes[0].status().await.expect("status");
    let leader = status.leader.expect("there is one");
    three.open(2).await;
    totals(&three.nodes[2], SqlOptions::default()).await.expect("it has caught up");
    three.close(2).await;
    apply_another(&aside, status.term, leader);
    alluvium_stdx::durable::rename(&meta, &path.with_extension("meta.right")).expect("renames");
    alluvium_stdx::durable::rename(&aside, &meta).expect("renames");
    three
}

async fn until_quarantined(node: &Node) -> String {
    until("the node is in quarantine", || async { node.quarantine().is_some() }).await;
    node.quarantine().expect("as above")
}

fn is_quarantined(error: &Error) -> bool {
    matches!(error, Error::Raft(alluvium_raft::Error::Quarantined))
}

async fn check_refuses(node: &Node) {
    let local = SqlOptions { local: true, ..SqlOptions::default() };
    let stale = SqlOptions { max_stale: Some(Duration::from_secs(60)), ..SqlOptions::default() };
    for options in [SqlOptions::default(), local, stale] {
        let error = totals(node, options).await.expect_err("it answers nothing");
        assert!(is_quarantined(&error), "{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert!(is_quarantined(&node.datasets(None).await.expect_err("nor this")));
    let error = node.append(&caller(), "t", vec![rows(0..1)]).await.expect_err("nor this");
    assert!(is_quarantined(&error), "{error}");
    let reasons = node.unready();
    assert!(reasons.iter().any(|reason| reason.starts_with("in quarantine")), "{reasons:?}");
    node.status().await.expect("says how it is").quarantine.expect("and why");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_differs_is_kept_from_answering_and_voting_until_it_is_reinstalled() {
    let mut three = three_with_one_that_differs().await;
    three.tuned[2].reinstall = Reinstall::ByHand;
    three.open(2).await;
    let why = until_quarantined(&three.nodes[2]).await;
    assert!(why.contains("node 3 has digest"), "{why}");
    check_refuses(&three.nodes[2]).await;
    for node in &three.nodes[..2] {
        assert_eq!(node.quarantine(), None);
        assert_eq!(totals(node, SqlOptions::default()).await.expect("answers").0, 20);
    }
    assert!(three.nodes[0].transfer_leader(3).await.is_err(), "it leads nothing");
    // Over a restart too.
    three.close(2).await;
    three.open(2).await;
    assert_eq!(three.nodes[2].quarantine().as_deref(), Some(why.as_str()));
    check_refuses(&three.nodes[2]).await;
    // It takes entries all the same, which count for the quorum of a leader that there is, and it makes none.
    three.close(1).await;
    three.nodes[0].append(&caller(), "t", vec![rows(20..30)]).await.expect("appends");
    three.close(0).await;
    three.open(0).await;
    let error = totals(&three.nodes[0], SqlOptions::default()).await.expect_err("nobody leads");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    three.open(1).await;
    let error = three.nodes[0].reinstall().await.expect_err("the first is sound");
    assert!(matches!(error, Error::NotInQuarantine), "{error}");
    three.nodes[2].reinstall().await.expect("asks");
    let stopped = three.nodes[2].stopped().await;
    assert!(matches!(stopped, Some(Error::Reopen)), "{stopped:?}");
    three.close(2).await;
    three.open(2).await;
    assert_eq!(three.nodes[2].quarantine(), None);
    check_same(&three.nodes, 30, 435).await;
    let evidence = three.path(2).join("quarantined.0");
    assert!(evidence.join("meta").is_dir(), "the state that differed is kept");
    let kept = std::fs::read_to_string(evidence.join("quarantine")).expect("the reason too");
    assert_eq!(kept.trim_end(), why);
    until("they are compared again", || async {
        let status = three.nodes[2].status().await.expect("status");
        status.agreed_at.is_some()
    })
    .await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_differs_gives_up_and_is_reinstalled_by_policy() {
    let mut three = three_with_one_that_differs().await;
    for config in &mut three.tuned {
        // Long enough to make it the leader first.
        config.compare_every = Duration::from_secs(600);
    }
    for number in [1, 0] {
        three.close(number).await;
        three.open(number).await;
    }
    three.tuned[2].compare_every = Duration::from_secs(3);
    three.open(2).await;
    until("it leads", || async { three.nodes[0].transfer_leader(3).await.is_ok() }).await;
    let stopped = three.nodes[2].stopped().await;
    assert!(matches!(stopped, Some(Error::Reopen)), "{stopped:?}");
    until("another one leads", || async {
        let answered = totals(&three.nodes[0], SqlOptions::default()).await;
        answered.is_ok_and(|answer| answer.0 == 20)
    })
    .await;
    three.close(2).await;
    three.open(2).await;
    three.nodes[2].append(&caller(), "t", vec![rows(20..30)]).await.expect("appends");
    check_same(&three.nodes, 30, 435).await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_read_is_answered_without_the_others_and_only_as_long_as_it_may() {
    let mut three = Three::start().await;
    register(&three.nodes[0]).await;
    three.nodes[0].append(&caller(), "t", vec![rows(0..10)]).await.expect("appends");
    totals(&three.nodes[2], SqlOptions::default()).await.expect("it has asked the leader");
    for number in [1, 0] {
        three.close(number).await;
    }
    let long = SqlOptions { max_stale: Some(Duration::from_secs(600)), ..SqlOptions::default() };
    let found = totals(&three.nodes[0], long).await.expect("it asked a moment ago");
    assert_eq!(found.0, 10);
    let short = SqlOptions { max_stale: Some(Duration::from_nanos(1)), ..SqlOptions::default() };
    let error = totals(&three.nodes[0], short).await.expect_err("that was too long ago");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let named = Caller::named("test");
    let error =
        three.nodes[0].append(&named, "t", vec![rows(0..1)]).await.expect_err("no majority");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    three.stop().await;
}
