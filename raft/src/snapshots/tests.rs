//! Snapshot files: whole, verified, kept few; and the crash matrix around build, install, purge and restart.

use alluvium_state_machine::MemoryStore;
use alluvium_state_machine::record::RaftRecord;
use alluvium_state_machine::{CommitBatch, StateDigest};
use alluvium_types::LogIndex;

use super::*;
use crate::applier::install;
use crate::encoding::log_id_of;
use crate::error::Error;
use crate::support::{Machine, applied_index, open_wal, propose};

mod carried;

fn store_at(index: u64) -> MemoryStore {
    let store = MemoryStore::new();
    let applied = alluvium_state_machine::record::AppliedEntry {
        term: 1,
        leader: alluvium_types::NodeId(1),
        index: LogIndex(index),
    };
    let raft = RaftRecord { applied: Some(applied), membership: Vec::new() };
    store.commit(CommitBatch::without_mutations(raft)).expect("commits");
    store
}

/// Builds a snapshot of a store that refers to no entry.
fn build(snapshots: &Snapshots, store: &MemoryStore) -> Current {
    let (wal, _service) = open_wal(&alluvium_wal::sim::SimDisk::new(1));
    snapshots.build(store, wal.reader()).expect("builds")
}

fn names(dir: &Path) -> Vec<String> {
    let mut names = list(dir).expect("lists");
    names.sort();
    names
}

fn name(index: u64) -> String {
    format!("{index:020}.alvs")
}

#[test]
fn the_newest_two_snapshots_are_kept_and_the_newest_is_current() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let snapshots = Snapshots::open(dir.path()).expect("opens");
    for index in [3, 5, 9] {
        build(&snapshots, &store_at(index));
    }
    assert_eq!(names(dir.path()), [name(5), name(9)]);
    let reopened = Snapshots::open(dir.path()).expect("opens").current().expect("there is one");
    assert_eq!(reopened.last_log_id(), Some(log_id_of(9, 1 << 64 | 1)));
}

#[test]
fn unfinished_files_are_dropped_and_damaged_ones_are_set_aside_for_the_one_before() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let snapshots = Snapshots::open(dir.path()).expect("opens");
    build(&snapshots, &store_at(5));
    let newest = build(&snapshots, &store_at(9)).file.path;
    let mut bytes = durable::read_bounded(&newest, 1 << 20).expect("reads");
    *bytes.last_mut().expect("not empty") ^= 1;
    durable::write(&newest, &bytes).expect("damages");
    durable::write(&dir.path().join(BUILDING), b"half").expect("writes");
    let current = Snapshots::open(dir.path()).expect("opens").current().expect("falls back");
    assert_eq!(current.meta.applied.map(|applied| applied.index), Some(LogIndex(5)));
    assert_eq!(names(dir.path()), [name(5), format!("{:020}.damaged", 9)]);
}

#[test]
fn a_damaged_snapshot_is_not_installed_and_changes_nothing() {
    let source = tempfile::tempdir().expect("temporary directory");
    let built = build(&Snapshots::open(source.path()).expect("opens"), &store_at(9));
    let mut bytes = durable::read_bounded(&built.file.path, 1 << 20).expect("reads");
    bytes[40] ^= 1;
    durable::write(&built.file.path, &bytes).expect("damages");

    let target = tempfile::tempdir().expect("temporary directory");
    let snapshots = Snapshots::open(target.path()).expect("opens");
    let store = store_at(4);
    let refused = install(&store, &snapshots, &built.file, built.last_log_id());
    assert!(matches!(refused, Err(Fault::Store(_))), "{refused:?}");
    assert_eq!(applied_index(&store), LogIndex(4));
    assert!(snapshots.current().is_none());
}

#[test]
fn a_snapshot_that_ends_elsewhere_than_announced_is_not_imported() {
    let source = tempfile::tempdir().expect("temporary directory");
    let built = build(&Snapshots::open(source.path()).expect("opens"), &store_at(9));
    let target = tempfile::tempdir().expect("temporary directory");
    let snapshots = Snapshots::open(target.path()).expect("opens");
    let store = store_at(4);
    let refused = install(&store, &snapshots, &built.file, Some(log_id_of(8, 1 << 64 | 1)));
    assert!(matches!(refused, Err(Fault::SnapshotMismatch { .. })), "{refused:?}");
    assert_eq!(applied_index(&store), LogIndex(4));
}

/// Ten commands, a snapshot, a purge, five more commands, and a power cut.
async fn crashed_behind_a_snapshot(seed: u64) -> (Machine, LogIndex, StateDigest) {
    let machine = Machine::new(seed);
    let running = machine.start().await;
    propose(&running.node, 10).await;
    running.node.trigger_snapshot().await.expect("built");
    running.node.purge(LogIndex::MAX).await.expect("purged").expect("something");
    let last = propose(&running.node, 5).await.pop().expect("five").index;
    let digest = machine.store.digest();
    machine.crash(running).await;
    (machine, last, digest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m35_a_lost_state_is_restored_from_the_snapshot_before_its_index_is_believed() {
    let (mut machine, last, digest) = crashed_behind_a_snapshot(21).await;
    machine.store = Arc::new(MemoryStore::new());
    let running = machine.start().await;
    running.node.wait_applied(last).await.expect("applied");
    assert_eq!(machine.store.digest(), digest);
    assert_eq!(machine.store.recompute_digest().expect("computes"), digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m35_without_snapshot_or_state_the_node_refuses_to_start() {
    let (mut machine, _last, _digest) = crashed_behind_a_snapshot(22).await;
    for name in names(&machine.snapshots_dir()) {
        durable::remove_file(&machine.snapshots_dir().join(name)).expect("removes");
    }
    machine.store = Arc::new(MemoryStore::new());
    let refused = machine.start_unready().await.err().expect("does not start");
    let Error::Poisoned { fault } = refused else { panic!("unexpected {refused:?}") };
    assert!(matches!(fault.as_ref(), Fault::HistoryMissing { .. }), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m35_a_log_that_lost_what_the_state_has_is_refused() {
    let (machine, _last, _digest) = crashed_behind_a_snapshot(23).await;
    let running = machine.start().await;
    propose(&running.node, 3).await;
    running.node.shutdown().await.expect("stops and flushes");
    drop(running);
    let other = Machine::new(24);
    let swapped = Machine { disk: other.disk, dir: machine.dir, store: machine.store };
    let refused = swapped.start_unready().await.err().expect("does not start");
    let Error::Poisoned { fault } = refused else { panic!("unexpected {refused:?}") };
    assert!(matches!(fault.as_ref(), Fault::LogBehindState { .. }), "{fault:?}");
}

/// Where the power goes while a snapshot from elsewhere is installed.
#[derive(Debug, Clone, Copy)]
enum Cut {
    WhileCopied,
    BeforeImport,
    AfterImport,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m36_an_install_that_is_cut_anywhere_applies_nothing_twice() {
    for (seed, cut) in [(31, Cut::WhileCopied), (32, Cut::BeforeImport), (33, Cut::AfterImport)] {
        let (source, _last, _digest) = crashed_behind_a_snapshot(seed).await;
        let running = source.start().await;
        running.node.trigger_snapshot().await.expect("built");
        let sent = running.node.snapshots.current().expect("built");
        assert_ne!(sent.meta.digest, StateDigest::default());
        let target = Machine::new(seed + 100);
        let snapshots = Snapshots::open(&target.snapshots_dir()).expect("opens");
        let half = || fs::copy(&sent.file.path, target.snapshots_dir().join(ADOPTING));
        match cut {
            Cut::WhileCopied => drop(half().expect("copies")),
            Cut::BeforeImport => drop(snapshots.adopt(&sent.file).expect("adopts")),
            Cut::AfterImport => {
                let expected = sent.last_log_id();
                install(target.store.as_ref(), &snapshots, &sent.file, expected).expect("installs");
            }
        }
        drop(snapshots);
        target.store.lose_unflushed();
        let restarted = target.start_unready().await.expect("starts");
        let expected = match cut {
            Cut::WhileCopied => StateDigest::default(),
            Cut::BeforeImport | Cut::AfterImport => sent.meta.digest,
        };
        assert_eq!(target.store.digest(), expected, "cut {cut:?}");
        assert_eq!(target.store.recompute_digest().expect("computes"), expected, "cut {cut:?}");
        let snapshot = restarted.node.snapshots.current().map(|current| current.meta);
        let wanted = (expected == sent.meta.digest).then_some(sent.meta);
        assert_eq!(snapshot, wanted, "cut {cut:?}");
    }
}

/// What the disks of a machine hold at a moment, and the state that it has acknowledged.
struct Moment {
    label: &'static str,
    machine: Machine,
    digest: StateDigest,
}

fn moment(label: &'static str, of: &Machine) -> Moment {
    let machine = Machine::new(50);
    fs::create_dir(machine.snapshots_dir()).expect("creates");
    for name in names(&of.snapshots_dir()) {
        let from = of.snapshots_dir().join(&name);
        fs::copy(from, machine.snapshots_dir().join(name)).expect("copies");
    }
    for (name, _bytes) in of.disk.files() {
        machine.disk.put(&name, &of.disk.content(&name).expect("just listed"));
    }
    Moment { label, machine, digest: of.store.digest() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m36_every_moment_around_a_snapshot_restarts_to_the_state_that_was_acknowledged() {
    let machine = Machine::new(41);
    let running = machine.start().await;
    propose(&running.node, 10).await;
    let mut moments = vec![moment("before the snapshot", &machine)];
    running.node.trigger_snapshot().await.expect("built");
    moments.push(moment("after the snapshot", &machine));
    running.node.purge(LogIndex::MAX).await.expect("purged");
    moments.push(moment("after the purge", &machine));
    propose(&running.node, 5).await;
    moments.push(moment("after more commands", &machine));
    running.node.trigger_snapshot().await.expect("built");
    moments.push(moment("after the second snapshot", &machine));
    running.node.purge(LogIndex::MAX).await.expect("purged");
    moments.push(moment("after the second purge", &machine));
    for Moment { label, machine, digest } in moments {
        let restarted = machine.start().await;
        assert_eq!(machine.store.digest(), digest, "{label}");
        assert_eq!(machine.store.recompute_digest().expect("computes"), digest, "{label}");
        restarted.node.shutdown().await.expect("stops");
    }
}
