//! kill -9 at durable writes: what was acknowledged is there, what was not is there whole or not at all.

use std::path::Path;

use alluvium_fault::model::{Model, Operation, operations};
use alluvium_fault::worker::{open, perform, register, visible};
use alluvium_fault::{Fault, replay, run_worker, shim};
use alluvium_stdx::Prng;
use alluvium_types::LogIndex;
use alluvium_wal::Owner;

use crate::inside::runtime;
use crate::offline;

const WORKER: &str = env!("CARGO_BIN_EXE_alluvium-fault-worker");
const OPERATIONS: usize = 24;
/// Points of one ordinary run; `ALLUVIUM_FAULT_POINTS` asks for more, or for `all`.
const POINTS: u64 = 24;

/// Kills a worker of `seed` at `point` and checks what it left; says whether the kill came before its end.
fn check_kill(seed: u64, point: u64) -> bool {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let work = (seed, OPERATIONS);
    let ended = run_worker(WORKER, &dir, work, Some(&Fault::Kill(point))).expect("it starts");
    assert_eq!(ended.errors, Vec::<String>::new(), "seed {seed}, point {point}");
    // A run makes a few calls more or fewer than the one that was counted: the last points may miss it.
    let is_whole = ended.status.success() && ended.acknowledged == OPERATIONS;
    assert!(ended.was_killed() || is_whole, "seed {seed}, point {point}: {ended:?}");
    // Before its identity is written, it is no data directory yet.
    if dir.join("node.alluvium").exists() {
        offline::look_whole(&dir);
    }
    let operations = operations(seed, OPERATIONS);
    runtime().block_on(check_survivor(&dir, &operations, ended.acknowledged, (seed, point)));
    ended.was_killed()
}

async fn check_survivor(dir: &Path, operations: &[Operation], acknowledged: usize, at: (u64, u64)) {
    let node = open(dir).await.unwrap_or_else(|error| panic!("{at:?}: it opens: {error:?}"));
    register(&node).await.expect("registering again is no change");
    let found = visible(&node).await.unwrap_or_else(|error| panic!("{at:?}: it reads: {error:?}"));
    let without = Model::after(operations, acknowledged);
    let with = Model::after(operations, acknowledged + 1);
    assert!(
        found == without || found == with,
        "{at:?}: after {acknowledged} acknowledged operations, the next {:?}: found {} and {} rows, expected {} and {} or {} and {}",
        operations.get(acknowledged),
        found.plain.len(),
        found.keyed.len(),
        without.plain.len(),
        without.keyed.len(),
        with.plain.len(),
        with.keyed.len(),
    );
    // The next write succeeds without any helper.
    let probe = Operation::Append { first: 1_000_000, rows: 3 };
    perform(&node, &probe).await.unwrap_or_else(|error| panic!("{at:?}: it writes: {error:?}"));
    let report = node.verify().await.expect("it looks");
    assert_eq!(report.damage, Vec::<String>::new(), "{at:?}");
    node.shutdown().await.expect("it stops");
    check_digest(dir, at).await;
}

/// The digest of the reopened node equals that of its log applied from the first entry.
pub(crate) async fn check_digest(dir: &Path, at: (u64, u64)) {
    let node = open(dir).await.expect("it opens once more");
    let status = node.status().await.expect("status");
    let cluster = u128::from_str_radix(&status.cluster_id, 16).expect("hexadecimal");
    node.shutdown().await.expect("it stops");
    let owner = Owner { cluster, node: 1 };
    let replayed = replay::digest_of_log(dir, owner, status.applied).expect("the log is whole");
    assert_eq!(replayed.to_string(), status.digest, "{at:?}: at index {}", status.applied);
    assert!(status.applied > LogIndex(0));
}

/// Counts the calls of a run that nothing disturbs.
pub(crate) fn calls_of(seed: u64) -> u64 {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let work = (seed, OPERATIONS);
    let ended = run_worker(WORKER, &dir, work, Some(&Fault::Count)).expect("it starts");
    assert_eq!((ended.errors, ended.acknowledged), (vec![], OPERATIONS));
    assert!(ended.status.success());
    shim::counts(&dir).expect("it ended by itself").calls
}

fn points_of(seed: u64) -> Vec<u64> {
    let points = 2 * calls_of(seed);
    let wanted = std::env::var("ALLUVIUM_FAULT_POINTS").unwrap_or_else(|_unset| POINTS.to_string());
    if wanted == "all" {
        return (0..points).collect();
    }
    let wanted: u64 = wanted.parse().expect("ALLUVIUM_FAULT_POINTS is a number or `all`");
    // One point from each of as many equal stretches, so that start, middle and end are all met.
    let mut prng = Prng::from_seed(seed);
    let stretch = (points / wanted).max(1);
    (0..wanted.min(points)).map(|n| n * stretch + prng.below(stretch)).collect()
}

#[test]
fn museum_m03_kill_at_any_durable_write_loses_no_acknowledged_row_and_counts_none_twice() {
    let seed = 3;
    let points = points_of(seed);
    let killed = points.iter().filter(|point| check_kill(seed, **point)).count();
    assert!(4 * killed >= 3 * points.len(), "only {killed} of {} were killed", points.len());
}

#[test]
fn museum_m36_kill_twice_in_a_row_and_the_second_recovery_is_as_good_as_the_first() {
    let seed = 36;
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    // Of the points, two per call, three quarters: half of the calls are those of opening.
    let point = calls_of(seed) * 3 / 2;
    let work = (seed, OPERATIONS);
    let first = run_worker(WORKER, &dir, work, Some(&Fault::Kill(point))).expect("it starts");
    assert!(first.was_killed() && first.errors.is_empty(), "{first:?}");
    assert!((1..OPERATIONS).contains(&first.acknowledged), "in the middle of its work: {first:?}");
    // The second process dies while it recovers: among its first calls, before any operation.
    for point in [1, 4, 9, 16] {
        let again = Some(Fault::Kill(point));
        let ended = run_worker(WORKER, &dir, (seed, 0), again.as_ref()).expect("it starts");
        assert!(ended.was_killed() && ended.errors.is_empty(), "point {point}: {ended:?}");
    }
    let operations = operations(seed, OPERATIONS);
    let at = (seed, point);
    runtime().block_on(check_survivor(&dir, &operations, first.acknowledged, at));
}

#[test]
fn a_workload_that_nothing_disturbs_ends_as_the_model_says() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let ended = run_worker(WORKER, &dir, (7, OPERATIONS), None).expect("it starts");
    assert_eq!((ended.errors, ended.acknowledged), (vec![], OPERATIONS));
    let operations = operations(7, OPERATIONS);
    runtime().block_on(check_survivor(&dir, &operations, OPERATIONS, (7, u64::MAX)));
}
