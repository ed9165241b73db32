//! Disks that fail: a sync that errors once and then lies, and a disk without space.

use std::path::Path;
use std::time::Duration;

use alluvium_engine::{Error, Node};
use alluvium_fault::model::{Model, Operation, operations};
use alluvium_fault::worker::{open, perform, register, visible};
use alluvium_fault::{Ended, Fault, run_worker, shim};
use alluvium_types::ErrorKind;

use crate::inside::{self, runtime};

const WORKER: &str = env!("CARGO_BIN_EXE_alluvium-fault-worker");
const OPERATIONS: usize = 24;

#[test]
fn museum_m14_a_failed_sync_is_final_and_nothing_is_acknowledged_after_it() {
    let root = tempfile::tempdir().expect("temporary directory");
    let seed = 14;
    let mut log_syncs_failed = 0;
    // The first ones make the directory, the log and the metadata; from the middle on, the log is synced most.
    for sync in [6, 9, 14, 22, 31, 44, 47, 52, 60, 67] {
        let dir = root.path().join(format!("node-{sync}"));
        let fault = Fault::SyncError(sync);
        let ended = run_worker(WORKER, &dir, (seed, OPERATIONS), Some(&fault)).expect("it starts");
        let (file, before) = ended.failed_sync.clone().unwrap_or_else(|| panic!("sync {sync}"));
        if is_log_segment(&dir, &file) {
            log_syncs_failed += 1;
            // It ends by itself, with the code of an error: it neither goes on nor panics.
            assert_eq!(ended.status.code(), Some(3), "sync {sync}: {ended:?}");
            assert_eq!(ended.acknowledged, before, "sync {sync}, after the failure: {ended:?}");
            assert!(before < OPERATIONS, "sync {sync}: {ended:?}");
            assert!(!ended.errors.is_empty(), "sync {sync}: {ended:?}");
        }
        runtime().block_on(check_kept(&dir, &operations(seed, OPERATIONS), sync, &ended));
    }
    assert!(log_syncs_failed >= 3, "only {log_syncs_failed} syncs of the log failed");
}

fn is_log_segment(dir: &Path, file: &Path) -> bool {
    let name = file.strip_prefix(dir.join("wal")).ok().and_then(Path::to_str);
    name.is_some_and(|name| name.starts_with("segment-"))
}

/// What was acknowledged before or after the failed sync of another file is there, all of it.
async fn check_kept(dir: &Path, operations: &[Operation], sync: u64, ended: &Ended) {
    let node = open(dir).await.unwrap_or_else(|error| panic!("sync {sync}: {error:?}"));
    register(&node).await.expect("registers");
    let found = visible(&node).await.expect("reads");
    let without = Model::after(operations, ended.acknowledged);
    let with = Model::after(operations, ended.acknowledged + 1);
    assert!(found == without || found == with, "sync {sync}: {ended:?}");
    node.shutdown().await.expect("stops");
}

#[test]
fn museum_m20_a_full_disk_refuses_writes_and_the_same_process_goes_on_when_there_is_space() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let name = "disk::museum_m20_a_full_disk_refuses_writes_and_the_same_process_goes_on_when_there_is_space";
    inside::run(name, &dir, (&Fault::Full, &dir), async |dir| full_disk_inside(&dir).await);
}

#[test]
fn opening_on_a_full_disk_is_told_as_that_and_the_same_process_opens_when_there_is_space() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let name = "disk::opening_on_a_full_disk_is_told_as_that_and_the_same_process_opens_when_there_is_space";
    if !inside::is_inner() {
        let ended = run_worker(WORKER, &dir, (7, OPERATIONS), None).expect("it starts");
        assert_eq!((ended.errors, ended.acknowledged), (vec![], OPERATIONS));
    }
    inside::run(name, &dir, (&Fault::Full, &dir), async |dir| {
        let mut there = Vec::new();
        let mut new = Vec::new();
        for left in OPENED_WITH_SPACE_FOR {
            there.push(open_on_full_disk(&dir, &dir, left).await);
            let fresh = dir.with_file_name(format!("node-{left}"));
            new.push(open_on_full_disk(&fresh, &dir, left).await);
            let node = open(&dir).await.expect("there is space again");
            let found = visible(&node).await.expect("reads");
            assert_eq!(
                found,
                sorted(&Model::after(&operations(7, OPERATIONS), OPERATIONS)),
                "{left}"
            );
            node.shutdown().await.expect("stops");
        }
        // A directory that is there needs less than a new one, but both meet a full disk at several places.
        let refused = |found: &[bool]| found.iter().filter(|refused| **refused).count();
        assert!(refused(&there) >= 4 && refused(&new) >= 8, "{there:?}, {new:?}");
    });
}

/// How many calls of an opening that need space still find it.
const OPENED_WITH_SPACE_FOR: [u32; 16] = [0, 1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 70];

/// Opens a directory while there is little space, and again when there is enough; says whether it was refused.
async fn open_on_full_disk(dir: &Path, watched: &Path, left: u32) -> bool {
    let control = shim::control_file(watched);
    let prepared = control.with_file_name("left");
    let mut file = std::fs::File::create(&prepared).expect("it is not watched");
    std::io::Write::write_all(&mut file, left.to_string().as_bytes()).expect("nor full");
    rename(&prepared, &control);
    let opened = open(dir).await;
    let refused = opened.as_ref().err().map(|error| (error.kind(), format!("{error:?}")));
    if let Ok(node) = opened {
        // What it has to write to end may find no space: then the next opening has more to do.
        drop(node.shutdown().await);
    }
    std::fs::remove_file(&control).expect("there is space again");
    if let Some((kind, text)) = &refused {
        assert_eq!(*kind, ErrorKind::StorageFull, "space for {left}: {text}");
    }
    let node = open(dir).await.unwrap_or_else(|error| panic!("after {left}: {error:?}"));
    register(&node).await.expect("the same process goes on");
    node.shutdown().await.expect("stops");
    refused.is_some()
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test need not be durable")]
fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).expect("the disk fills up");
}

#[test]
fn a_directory_on_a_read_only_disk_is_refused_by_its_path_and_left_as_it_is() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let name = "disk::a_directory_on_a_read_only_disk_is_refused_by_its_path_and_left_as_it_is";
    if !inside::is_inner() {
        let ended = run_worker(WORKER, &dir, (1, 4), None).expect("it starts");
        assert_eq!((ended.errors, ended.acknowledged), (vec![], 4));
    }
    inside::run(name, &dir, (&Fault::ReadOnly, &dir), async |dir| {
        for path in [dir.clone(), dir.with_file_name("node-new")] {
            let error = open(&path).await.expect_err("nothing can be written");
            let named = matches!(&error, Error::DirectoryUnusable { path: found, .. } if found.starts_with(&path));
            assert!(named, "{error:?}");
            let why = std::error::Error::source(&error).expect("a cause").to_string();
            assert!(why.contains("Read-only file system"), "{why}");
        }
    });
    if !inside::is_inner() {
        let found = async { visible(&open(&dir).await.expect("nothing was changed")).await };
        let found = runtime().block_on(found).expect("reads");
        assert_eq!(found, Model::after(&operations(1, 4), 4));
    }
}

async fn full_disk_inside(dir: &Path) {
    let operations = operations(20, 12);
    let node = open(dir).await.expect("opens");
    register(&node).await.expect("registers");
    let mut model = Model::default();
    for operation in &operations[..6] {
        perform(&node, operation).await.expect("there is space");
        model.apply(operation);
    }
    std::fs::File::create(shim::control_file(dir)).expect("the disk fills up");
    probe_until(&node, &mut model, |done| done == Err(ErrorKind::StorageFull)).await;
    for operation in &operations[6..] {
        let refused = perform(&node, operation).await.expect_err("there is no space");
        assert_eq!(refused.kind(), ErrorKind::StorageFull, "{operation:?}: {refused}");
    }
    // Reading needs no space.
    assert_eq!(visible(&node).await.expect("reads"), sorted(&model));
    std::fs::remove_file(shim::control_file(dir)).expect("there is space again");
    probe_until(&node, &mut model, |done| done.is_ok()).await;
    for operation in &operations[6..] {
        perform(&node, operation).await.expect("the same process goes on");
        model.apply(operation);
    }
    assert_eq!(visible(&node).await.expect("reads"), sorted(&model));
    node.shutdown().await.expect("stops");
}

/// Appends a row at a time until the outcome is the one that is waited for: a node measures its disk from time to
/// time, and what it accepts before it has measured must be kept.
async fn probe_until(
    node: &Node,
    model: &mut Model,
    is_it: impl Fn(Result<(), ErrorKind>) -> bool,
) {
    for first in 1_000_000.. {
        let probe = Operation::Append { first: first + model.plain.len() as i64, rows: 1 };
        let done = perform(node, &probe).await;
        let text = format!("{done:?}");
        let done = done.map_err(|error| error.kind());
        if done.is_ok() {
            model.apply(&probe);
        }
        if is_it(done) {
            return;
        }
        assert!(matches!(done, Ok(()) | Err(ErrorKind::StorageFull)), "{text}");
        assert!(first < 1_000_600, "a minute has passed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn sorted(model: &Model) -> Model {
    let mut model = model.clone();
    model.plain.sort_unstable();
    model.keyed.sort_unstable();
    model
}
