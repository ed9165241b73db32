//! What a start makes of state, snapshot and log, before Raft sees any of them.
//!
//! openraft trusts what its stores tell it. So the restore from a snapshot happens here, and what does not fit
//! together is refused. It must not adopt an index whose data was not restored. Invariant: when it succeeds, the
//! log continues the state without a hole.

use alluvium_state_machine::MetaStore;
use alluvium_state_machine::record::AppliedEntry;
use alluvium_types::LogIndex;
use alluvium_wal::{Reader, WalHandle};

use crate::applier::import;
use crate::encoding::{log_id_of_applied, tag_of};
use crate::error::Fault;
use crate::log_store::STREAM;
use crate::snapshots::Snapshots;

/// Brings the state to the newest verified snapshot, and checks that the log continues both.
pub(crate) fn reconcile(
    store: &dyn MetaStore,
    snapshots: &Snapshots,
    wal: &WalHandle,
) -> Result<(), Fault> {
    let snapshot = snapshots.current();
    if let Some(snapshot) = &snapshot
        && store.raft().applied < snapshot.meta.applied
    {
        tracing::info!(path = %snapshot.file.path.display(), "restore the state from a snapshot");
        import(store, snapshot)?;
    }
    let applied = store.raft().applied;
    let covered = snapshot.and_then(|snapshot| snapshot.meta.applied);
    check_history(applied, covered, wal.reader())?;
    let purged = wal.reader().state(STREAM).map_err(Fault::Log)?.purged;
    if covered.map(|covered| covered.index.0) < purged.map(|purged| purged.index) {
        // The newest snapshot was damaged, and the one before it ends before the log begins. The state has what lies
        // between: openraft wants it in a snapshot before it starts.
        tracing::warn!("the snapshots do not reach the log: a new one is made of the state");
        snapshots.build(store, wal.reader())?;
    }
    Ok(())
}

/// Refuses a state that the log does not continue.
pub(crate) fn check_history(
    applied: Option<AppliedEntry>,
    snapshot: Option<AppliedEntry>,
    reader: &Reader,
) -> Result<(), Fault> {
    let log = reader.state(STREAM).map_err(Fault::Log)?;
    let index = applied.map(|entry| entry.index.0);
    let purged = log.purged.map(|position| position.index);
    if index < purged {
        let (applied, purged) = (LogIndex(index.unwrap_or(0)), LogIndex(purged.unwrap_or(0)));
        return Err(Fault::HistoryMissing { applied, purged });
    }
    let Some(applied) = applied else { return Ok(()) };
    let end = log.end().map(|position| position.index);
    if end < index && snapshot < Some(applied) {
        // A snapshot that was installed explains a state ahead of the log; nothing else does.
        let end = LogIndex(end.unwrap_or(0));
        return Err(Fault::LogBehindState { end, applied: applied.index });
    }
    match tag_at(applied.index, reader)? {
        Some(tag) if tag != tag_of(&log_id_of_applied(&applied)) => {
            Err(Fault::HistoryConflict { index: applied.index })
        }
        Some(_) | None => Ok(()),
    }
}

/// Returns the tag of the log's entry at an index, if the log holds or purged exactly that.
fn tag_at(index: LogIndex, reader: &Reader) -> Result<Option<u128>, Fault> {
    let log = reader.state(STREAM).map_err(Fault::Log)?;
    if let Some(purged) = log.purged.filter(|purged| purged.index == index.0) {
        return Ok(Some(purged.tag));
    }
    let held = log.first_index.is_some_and(|first| first <= index.0)
        && log.last.is_some_and(|last| index.0 <= last.index);
    match held {
        true => Ok(Some(reader.read_record(STREAM, index.0).map_err(Fault::Log)?.tag)),
        false => Ok(None),
    }
}
