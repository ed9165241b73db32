//! The apply loop alone: batches, answers, and what stops it.

use alluvium_state_machine::MemoryStore;
use alluvium_wal::sim::SimDisk;
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::encoding::log_id_of;
use crate::frame::Frame;
use crate::support::{command, open_wal};

struct Subject {
    applier: Applier,
    effects: Receiver<Vec<Effect>>,
    _dir: tempfile::TempDir,
    _service: alluvium_wal::WalService,
}

fn subject() -> Subject {
    let dir = tempfile::tempdir().expect("temporary directory");
    let snapshots = Snapshots::open(dir.path()).expect("opens");
    let (sender, effects) = mpsc::channel(1);
    let store = Arc::new(MemoryStore::new());
    let (wal, service) = open_wal(&SimDisk::new(1));
    let watched = (Health::new(), Quarantine::default());
    let applier = Applier::new(store, snapshots, wal.reader().clone(), sender, watched);
    Subject { applier, effects, _dir: dir, _service: service }
}

fn entry(index: u64) -> RaftEntry {
    let payload = Frame::command(command(&index.to_string()));
    RaftEntry { log_id: log_id_of(index, 1 << 64 | 1), payload }
}

async fn apply(applier: &mut Applier, entries: Vec<RaftEntry>) -> io::Result<()> {
    applier.apply(futures::stream::iter(entries.into_iter().map(|entry| Ok((entry, None))))).await
}

#[tokio::test]
async fn the_size_of_batches_does_not_change_the_state() {
    let count = u64::try_from(limits::APPLY_ENTRIES_MAX).expect("fits") * 2 + 3;
    let (mut one, mut many) = (subject(), subject());
    apply(&mut one.applier, (1..=count).map(entry).collect()).await.expect("applies");
    for index in 1..=count {
        apply(&mut many.applier, vec![entry(index)]).await.expect("applies");
    }
    let state = *one.applier.applied().borrow();
    assert_eq!(state, *many.applier.applied().borrow());
    assert_eq!(state.index, LogIndex(count));
    assert_eq!(state.digest, one.applier.store.recompute_digest().expect("computes"));
}

#[tokio::test]
async fn an_entry_that_is_applied_already_stops_the_node_and_changes_nothing() {
    let mut subject = subject();
    apply(&mut subject.applier, vec![entry(1), entry(2)]).await.expect("applies");
    let before = *subject.applier.applied().borrow();
    let error = apply(&mut subject.applier, vec![entry(2)]).await.expect_err("refuses");
    assert_eq!(error.to_string(), "applying a batch that starts at entry 2 panicked");
    assert_eq!(*subject.applier.applied().borrow(), before);
}

#[tokio::test]
async fn a_command_at_entry_zero_is_refused() {
    let mut subject = subject();
    let error = apply(&mut subject.applier, vec![entry(0)]).await.expect_err("refuses");
    let text = "entry 0 holds a command, not the cluster's first membership";
    assert_eq!(error.to_string(), text);
    assert_eq!(subject.applier.store.raft(), RaftRecord::default());
}

#[tokio::test]
async fn a_hint_that_finds_no_room_is_dropped_and_apply_goes_on() {
    let mut subject = subject();
    let hint = || vec![Effect::Sweep { dataset: dataset() }];
    subject.applier.hint(hint());
    subject.applier.hint(hint());
    apply(&mut subject.applier, vec![entry(1)]).await.expect("applies");
    assert_eq!(subject.effects.try_recv().expect("the first one"), hint());
    assert!(subject.effects.try_recv().is_err(), "the second found no room");
}

fn dataset() -> alluvium_types::DatasetKey {
    let name: alluvium_types::DatasetName = "flights".parse().expect("a legal name");
    let id = alluvium_types::DatasetId::of(&name);
    alluvium_types::DatasetKey { id, incarnation: alluvium_types::Incarnation(1) }
}
