//! A log that is kept short: what is purged from it is in files, and what is in no file is not purged.

use std::path::Path;

use alluvium_engine::{Node, SqlOptions};
use alluvium_fault::model::PLAIN;
use alluvium_fault::worker::{
    SHORT_ROWS, open_short, perform, register, short_batch, visible, wait_purged,
};
use alluvium_fault::{Fault, run_retention, shim};
use alluvium_types::{ErrorKind, LogIndex};

use crate::corruption::copy_dir;
use crate::inside::{self, runtime};

const WORKER: &str = env!("CARGO_BIN_EXE_alluvium-fault-worker");
/// Appends after which the log is about as long as it may be.
const BASE: usize = 300;
/// Appends of each worker that is killed.
const APPENDS: usize = 120;
const POINTS: u64 = 10;

/// The values of so many whole appends.
fn values_of(appends: usize) -> Vec<i64> {
    (0..i64::try_from(appends).expect("small") * SHORT_ROWS).collect()
}

async fn check_whole(node: &Node, at: &str) {
    let report = node.verify().await.expect("it looks");
    assert_eq!(report.damage, Vec::<String>::new(), "{at}");
    let dataset = node.dataset(PLAIN, None).await.expect("there");
    let values = visible(node).await.expect("reads").plain;
    assert_eq!(dataset.file_rows + dataset.delta_rows, values.len() as u64, "{at}");
}

#[test]
fn rows_whose_entries_are_purged_are_read_from_files_after_a_restart() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    runtime().block_on(async {
        let node = open_short(&dir).await.expect("opens");
        register(&node).await.expect("registers");
        let mut indexes = Vec::new();
        for number in 0..BASE {
            perform(&node, &short_batch(number)).await.expect("appends");
            indexes.push(node.applied());
        }
        wait_purged(&node, indexes[BASE / 10]).await.expect("the log is purged");
        node.shutdown().await.expect("stops");

        let node = open_short(&dir).await.expect("opens again");
        assert!(node.status().await.expect("status").log.0 > indexes[BASE / 10]);
        assert_eq!(visible(&node).await.expect("reads").plain, values_of(BASE));
        check_whole(&node, "reopened").await;
        let dataset = node.dataset(PLAIN, None).await.expect("there");
        assert!(dataset.file_rows > BASE as u64 / 10 * SHORT_ROWS as u64, "{dataset:?}");
        check_past(&node, indexes[BASE / 20], BASE / 20 + 1).await;
        node.shutdown().await.expect("stops");
    });
}

/// An index whose entries are gone reads as it was, from files.
async fn check_past(node: &Node, at: LogIndex, appends: usize) {
    let options = SqlOptions { as_of: Some(at), ..SqlOptions::default() };
    let stream = node.sql("SELECT value FROM plain", options).await.expect("above the floor");
    let rows: usize = stream.collect().await.expect("reads").iter().map(|b| b.num_rows()).sum();
    assert_eq!(rows, values_of(appends).len(), "as of {at}");
}

#[test]
fn kill_while_the_log_is_sealed_and_purged_loses_no_acknowledged_row() {
    let root = tempfile::tempdir().expect("temporary directory");
    let base = root.path().join("base");
    let ended = run_retention(WORKER, &base, (0, BASE), None).expect("it starts");
    assert_eq!((ended.errors, ended.acknowledged), (vec![], BASE));
    let counted = root.path().join("counted");
    copy_dir(&base, &counted);
    let work = (BASE, APPENDS);
    let ended = run_retention(WORKER, &counted, work, Some(&Fault::Count)).expect("it starts");
    assert_eq!((ended.errors, ended.acknowledged), (vec![], BASE + APPENDS));
    let points = 2 * shim::counts(&counted).expect("it ended by itself").calls;
    let mut killed = 0;
    for stretch in 0..POINTS {
        let point = (2 * stretch + 1) * points / (2 * POINTS);
        let dir = root.path().join(format!("node-{point}"));
        copy_dir(&base, &dir);
        let fault = Fault::Kill(point);
        let ended = run_retention(WORKER, &dir, work, Some(&fault)).expect("it starts");
        assert_eq!(ended.errors, Vec::<String>::new(), "point {point}");
        assert!(ended.was_killed() || ended.status.success(), "point {point}: {ended:?}");
        killed += u64::from(ended.was_killed());
        runtime().block_on(check_killed(&dir, ended.acknowledged.max(BASE), point));
    }
    assert!(4 * killed >= 3 * POINTS, "only {killed} of {POINTS} were killed");
}

async fn check_killed(dir: &Path, acknowledged: usize, point: u64) {
    let node = open_short(dir).await.unwrap_or_else(|error| panic!("point {point}: {error:?}"));
    assert!(node.status().await.expect("status").log.0 > LogIndex(1), "the base was purged");
    let found = visible(&node).await.unwrap_or_else(|error| panic!("point {point}: {error:?}"));
    let (without, with) = (values_of(acknowledged), values_of(acknowledged + 1));
    let is_whole = found.plain == without || found.plain == with;
    assert!(
        is_whole,
        "point {point}: {} rows, {} or {}",
        found.plain.len(),
        without.len(),
        with.len()
    );
    check_whole(&node, &format!("point {point}")).await;
    node.shutdown().await.expect("stops");
}

#[test]
fn a_log_whose_rows_cannot_be_put_into_files_is_not_purged_and_refuses_more_at_its_limit() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let watched = dir.join("buckets");
    let name = "retention::a_log_whose_rows_cannot_be_put_into_files_is_not_purged_and_refuses_more_at_its_limit";
    inside::run(name, &dir, (&Fault::Full, &watched), async |dir| full_bucket(&dir).await);
}

async fn full_bucket(dir: &Path) {
    let node = open_short(dir).await.expect("opens");
    register(&node).await.expect("registers");
    perform(&node, &short_batch(0)).await.expect("appends");
    let first_row = node.applied();
    let control = shim::control_file(&dir.join("buckets"));
    std::fs::File::create(&control).expect("the bucket fills up");
    let mut appended = 1;
    let refused = loop {
        match perform(&node, &short_batch(appended)).await {
            Ok(()) => appended += 1,
            Err(error) => break error,
        }
        assert!(appended < 20_000, "the log grows without end");
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(refused.to_string().contains("in no data file"), "{refused}");
    let status = status_with_job_errors(&node).await;
    assert!(status.log.0 <= first_row, "rows in no file were purged: {status:?}");
    assert_eq!(visible(&node).await.expect("reads").plain, values_of(appended));

    std::fs::remove_file(&control).expect("there is space again");
    wait_purged(&node, first_row).await.expect("what was sealed late is purged");
    append_when_it_may(&node, appended).await;
    assert_eq!(visible(&node).await.expect("reads").plain, values_of(appended + 1));
    check_whole(&node, "the same process").await;
    node.shutdown().await.expect("stops");
}

/// Jobs run behind everything else: on a busy machine the first failure comes later than the refusal.
async fn status_with_job_errors(node: &Node) -> alluvium_engine::Status {
    for _ in 0..600 {
        let status = node.status().await.expect("status");
        if !status.job_errors.is_empty() {
            return status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("a minute has passed");
}

/// The node measures its log from time to time: until it has, it refuses.
async fn append_when_it_may(node: &Node, number: usize) {
    for _ in 0..600 {
        match perform(node, &short_batch(number)).await {
            Ok(()) => return,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("a minute has passed");
}
