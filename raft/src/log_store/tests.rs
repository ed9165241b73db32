//! openraft's own suite over the log store and the state machine, and what it does not ask.

use std::sync::Arc;

use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderIdExt;
use openraft::{RaftTypeConfig, StorageError};
use tempfile::TempDir;
use tokio::sync::mpsc;

use alluvium_state_machine::{Effect, MemoryStore};
use alluvium_wal::sim::{Faults, SimDisk};
use alluvium_wal::{FsStorage, Storage, Wal, WalService};

use super::*;
use crate::alone::Alone;
use crate::applier::Applier;
use crate::frame::Frame;
use crate::quarantine::Quarantine;
use crate::snapshots::Snapshots;
use crate::support::{command, open_wal, options};

/// Builds a fresh node's stores, on the file system or on the simulator's disk.
struct Builder {
    simulated: bool,
}

/// What must outlive the stores.
struct Kept {
    _dir: TempDir,
    _service: WalService,
    _effects: mpsc::Receiver<Vec<Effect>>,
}

impl StoreBuilder<TypeConfig, LogStore, Applier, Kept> for Builder {
    async fn build(&self) -> Result<(Kept, LogStore, Applier), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let storage: Arc<dyn Storage> = match self.simulated {
            true => Arc::new(SimDisk::new(1)),
            false => Arc::new(FsStorage::open(&dir.path().join("wal")).expect("directory")),
        };
        let (wal, _recovery) = Wal::open(storage, options()).expect("opens");
        let (wal, service) = WalService::start(wal).expect("starts");
        let health = Health::new();
        let entries = wal.reader().clone();
        let log = LogStore::open(wal, health.clone(), 1, Alone::default()).expect("opens");
        let snapshots = Snapshots::open(&dir.path().join("snapshots")).expect("opens");
        let (sender, effects) = mpsc::channel(1);
        let applier = Applier::new(
            Arc::new(MemoryStore::new()),
            snapshots,
            entries,
            sender,
            (health, Quarantine::default()),
        );
        Ok((Kept { _dir: dir, _service: service, _effects: effects }, log, applier))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_s_suite_passes_on_the_simulated_disk() {
    Suite::test_all(Builder { simulated: true }).await.expect("the suite passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_s_suite_passes_on_the_file_system() {
    Suite::test_all(Builder { simulated: false }).await.expect("the suite passes");
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(<TypeConfig as RaftTypeConfig>::LeaderId::new_committed(term, 1), index)
}

fn entry(index: u64) -> RaftEntry {
    RaftEntry { log_id: id(1, index), payload: Frame::command(command(&index.to_string())) }
}

async fn append(log: &mut LogStore, entries: Vec<RaftEntry>) -> io::Result<()> {
    let (sender, receiver) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await?;
    receiver.await.expect("the callback is called")
}

fn open(disk: &SimDisk) -> (LogStore, WalService) {
    let (wal, service) = open_wal(disk);
    (LogStore::open(wal, Health::new(), 1, Alone::default()).expect("opens"), service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_keeps_vote_entries_and_the_committed_index_that_travelled_with_them() {
    let disk = SimDisk::new(11);
    let (mut log, service) = open(&disk);
    let vote = Vote::new_committed(3, 1);
    log.save_vote(&vote).await.expect("synced");
    append(&mut log, vec![entry(1), entry(2)]).await.expect("synced");
    log.save_committed(Some(id(1, 2))).await.expect("noted");
    append(&mut log, vec![entry(3)]).await.expect("synced");
    disk.crash();
    drop((log, service));
    disk.crash();

    let (mut log, _service) = open(&disk);
    let mut reader = log.get_log_reader().await;
    assert_eq!(reader.read_vote().await.expect("reads"), Some(vote));
    assert_eq!(log.read_committed().await.expect("reads"), Some(id(1, 2)));
    let entries = reader.try_get_log_entries(0..100).await.expect("reads");
    assert_eq!(entries, vec![entry(1), entry(2), entry(3)]);
    assert_eq!(log.get_log_state().await.expect("reads").last_log_id, Some(id(1, 3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_in_the_log_are_the_frame_that_was_proposed() {
    let disk = SimDisk::new(12);
    let (mut log, _service) = open(&disk);
    let proposed = entry(1);
    append(&mut log, vec![proposed.clone()]).await.expect("synced");
    let record = log.wal.read_record(STREAM, 1).expect("reads");
    assert_eq!(&record.payload, proposed.payload.entry().as_bytes());
    assert_eq!(record.tag, 1 << 64 | 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_a_newer_format_is_an_error_that_names_its_index() {
    let disk = SimDisk::new(13);
    let (mut log, _service) = open(&disk);
    let mut bytes = command("from the future").as_bytes().to_vec();
    bytes[4] = 9;
    let payload = Bytes::from(bytes);
    let operation = Operation::Append { stream: STREAM, index: 5, tag: 1 << 64 | 1, payload };
    log.wal.append_durable(vec![operation]).await.expect("synced");
    let mut reader = log.get_log_reader().await;
    let error = reader.try_get_log_entries(5..6).await.expect_err("is not read");
    let text = "entry 5 cannot be read: an entry has format version 9, this program reads up to 2";
    assert_eq!(error.to_string(), text);
    let fault = log.health.fault().expect("is final");
    assert!(matches!(fault.as_ref(), Fault::Entry { index, .. } if index.0 == 5), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_sync_fails_is_told_so_and_nothing_works_afterwards() {
    let disk = SimDisk::new(14);
    let (mut log, _service) = open(&disk);
    // The log's own idle work counts too, so the fault is set some operations ahead and appends run into it.
    let soon = Some(disk.operations() + 10);
    disk.set_faults(Faults { fail_at: soon, ..Faults::default() });
    let mut index = 1;
    while index < 100 && append(&mut log, vec![entry(index)]).await.is_ok() {
        index += 1;
    }
    assert!(index < 100, "the fault was never met");
    let later = append(&mut log, vec![entry(index + 1)]).await.expect_err("poisoned");
    assert!(later.to_string().starts_with("the log failed"), "{later}");
    let fault = log.health.fault().expect("is final");
    let poisoned = matches!(fault.as_ref(), Fault::Log(alluvium_wal::Error::Poisoned { .. }));
    assert!(poisoned, "{fault:?}");
}

#[test]
fn operations_are_divided_by_bytes_and_keep_their_order() {
    let operation = |index, bytes: u64| {
        let payload = Bytes::from(vec![0; usize::try_from(bytes).expect("fits")]);
        Operation::Append { stream: STREAM, index, tag: 0, payload }
    };
    let indexes = |part: &Vec<Operation>| {
        let index = |operation: &Operation| {
            let Operation::Append { index, .. } = operation else {
                panic!("unexpected {operation:?}")
            };
            *index
        };
        part.iter().map(index).collect::<Vec<_>>()
    };
    let check = |bytes: u64, segment_bytes: u64, expected: &[&[u64]]| {
        let operations = (1..=3).map(|index| operation(index, bytes)).collect();
        let parts = divide(operations, part_bytes(segment_bytes));
        assert_eq!(parts.iter().map(indexes).collect::<Vec<_>>(), expected, "{bytes}");
    };
    let standard = alluvium_wal::limits::SEGMENT_BYTES_DEFAULT;
    check(limits::APPEND_BYTES_MAX / 2 + 1, standard, &[&[1], &[2], &[3]]);
    check(1_000, standard, &[&[1, 2, 3]]);
    // A small segment has room for few of them.
    check(20_000, 256 * 1024, &[&[1, 2, 3]]);
    check(30_000, 256 * 1024, &[&[1, 2], &[3]]);
}
