//! Small writes as fast as they go, while every node snapshots and purges: openraft's issue 2116 lost a quorum there.
//!
//! `cargo xtask load --minutes 5` runs it for longer. What it measured is printed.

use std::io::Write as _;
use std::time::Duration;

use alluvium_engine::{Error, Node};
use alluvium_types::LogIndex;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::machines::{LogBytes, Numbered, Three, is_passing, register, wide_rows};

/// How long a run writes at least, in seconds. It goes on until each node has purged, so that it proves something.
const SECONDS_VARIABLE: &str = "ALLUVIUM_LOAD_SECONDS";
const SECONDS: u64 = 5;
/// Until each node has purged, however slow the machine is.
const PURGED_MAX: Duration = Duration::from_secs(200);
/// Writers at each node, each with one write under way.
const WRITERS: i64 = 96;
/// Bytes of a row, about.
const ROW_BYTES: usize = 1_000;
/// Half of it makes a node seal, snapshot and purge: every thousand entries or so.
const LOG: LogBytes = LogBytes { max: 3 * 1024 * 1024, segment: 256 * 1024 };
/// Entries between two snapshots; the issue had as many.
const SNAPSHOT_EVERY_MAX: u64 = 50_000;
/// How long one write may be refused and tried again.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a long run says how it goes.
const TELL_EVERY: Duration = Duration::from_secs(20);
/// Snapshots that each node has made when a run ends.
const SNAPSHOTS_MIN: u64 = 2;

/// What writers did.
#[derive(Debug, Default, Clone, Copy)]
struct Written {
    count: i64,
    sum: i64,
    /// Writes that waited because the log was over its limit.
    held_back: u64,
    /// Calls that were made again because no leader answered.
    retried: u64,
    slowest: Duration,
}

async fn write(node: Node, first: i64, stop: watch::Receiver<bool>) -> Written {
    let (mut numbered, mut written) = (Numbered::open(&node, "load").await, Written::default());
    while !*stop.borrow() {
        let value = first + written.count;
        let (caller, began) = (numbered.next(), Instant::now());
        let row = wide_rows(value..value + 1, ROW_BYTES);
        while let Err(error) = node.append(&caller, "t", vec![row.clone()]).await {
            // What passes at another moment is a fault of this one when it lasts.
            let lasts = PATIENCE < began.elapsed();
            assert!(is_passing(&error) && !lasts, "node {}: {error:?}", node.node_id());
            match matches!(error, Error::Backlog { .. }) {
                true => written.held_back += 1,
                false => written.retried += 1,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        written.count += 1;
        written.sum += value;
        written.slowest = written.slowest.max(began.elapsed());
    }
    written
}

/// What a node did beside: its snapshots, and how far it purged.
#[derive(Debug, Default, Clone, Copy)]
struct Kept {
    snapshots: u64,
    last: LogIndex,
    /// The most entries between two snapshots.
    farthest: u64,
    first_in_log: LogIndex,
}

async fn watch_log(
    node: Node,
    stop: watch::Receiver<bool>,
    has_purged: watch::Sender<bool>,
) -> Kept {
    let (mut kept, mut told) = (Kept::default(), Instant::now());
    while !*stop.borrow() {
        let status = node.status().await.expect("status");
        if let Some(snapshot) = status.snapshot.filter(|snapshot| kept.last < *snapshot) {
            kept.snapshots += 1;
            kept.farthest = kept.farthest.max(snapshot.0 - kept.last.0);
            kept.last = snapshot;
        }
        kept.first_in_log = status.log.0;
        if TELL_EVERY < told.elapsed() {
            told = Instant::now();
            let (first, last) = status.log;
            report(&format!(
                "node {}: term {}, leader {:?}, log {first} to {last} in {} bytes, applied {}, \
                 snapshot {:?}, {} jobs, {:?}",
                status.node_id,
                status.term,
                status.leader,
                status.log_bytes,
                status.applied,
                status.snapshot,
                status.jobs,
                status.job_errors
            ));
        }
        if SNAPSHOTS_MIN <= kept.snapshots && LogIndex(1) < kept.first_in_log {
            has_purged.send_replace(true);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            fault = node.stopped() => panic!("node {} stopped: {fault:?}", node.node_id()),
        }
    }
    kept
}

fn seconds() -> u64 {
    let asked = std::env::var(SECONDS_VARIABLE).ok();
    asked.map_or(SECONDS, |asked| asked.parse().expect("a number of seconds"))
}

fn report(lines: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{lines}").expect("somebody listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m45_a_cluster_keeps_its_quorum_while_it_writes_snapshots_and_purges() {
    let three = Three::with_log(LOG).await;
    register(&three.nodes[0]).await;
    let term = three.nodes[0].status().await.expect("status").term;
    let (stop, stopped) = watch::channel(false);
    let writers = (0..3 * WRITERS).map(|writer| {
        let node = three.nodes[usize::try_from(writer % 3).expect("small")].clone();
        write(node, writer * 10_000_000, stopped.clone())
    });
    let purged: Vec<_> = three.nodes.iter().map(|_| watch::Sender::new(false)).collect();
    let watchers = three.nodes.iter().zip(&purged);
    let watchers =
        watchers.map(|(node, purged)| watch_log(node.clone(), stopped.clone(), purged.clone()));
    let (writers, watchers) = (join_all(writers), join_all(watchers));
    let began = Instant::now();
    let ending = async {
        tokio::time::sleep(Duration::from_secs(seconds())).await;
        let all = purged.iter().map(|purged| async {
            purged.subscribe().wait_for(|purged| *purged).await.expect("it is watched");
        });
        let all = tokio::time::timeout(PURGED_MAX, join_all(all)).await;
        stop.send_replace(true);
        all
    };
    let (writers, kept, ended) = tokio::join!(writers, watchers, ending);
    let took = began.elapsed();
    let (count, sum) = writers.iter().fold((0, 0), |(count, sum), written| {
        assert!(written.count > 0, "a writer was never served");
        (count + written.count, sum + written.sum)
    });
    let slowest = writers.iter().map(|written| written.slowest).max().expect("writers");
    let retried: u64 = writers.iter().map(|written| written.retried).sum();
    let held_back: u64 = writers.iter().map(|written| written.held_back).sum();
    three.check_same(count, sum).await;
    let status = three.nodes[0].status().await.expect("status");
    assert!(status.leader.is_some() && status.job_errors.is_empty(), "{status:?}");
    let each_second = u64::try_from(count).expect("a count") * 1_000
        / u64::try_from(took.as_millis()).expect("it is short").max(1);
    report(&format!(
        "{count} rows of {ROW_BYTES} bytes in {took:?}: {each_second} a second; slowest {slowest:?}, \
         held back {held_back} times, retried {retried} times; terms {term} to {}; each node: {kept:?}",
        status.term
    ));
    ended.expect("every node snapshots and purges");
    for kept in &kept {
        assert!(kept.farthest <= SNAPSHOT_EVERY_MAX, "{kept:?}");
    }
    three.stop().await;
}
