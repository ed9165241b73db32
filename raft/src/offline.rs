//! The log of a node that does not run, and what applying it again gives.
//!
//! It must not propose, vote or write to the log. Invariant: entries are applied by the code that a running node
//! applies them with, so the two cannot differ.

use std::path::Path;
use std::sync::Arc;

use alluvium_state_machine::MetaStore;
use alluvium_state_machine::record::AppliedEntry;
use alluvium_types::{Entry, LogIndex};
use alluvium_wal::{Reader, Record};

use crate::applier::apply_again;
use crate::encoding::{decode_log_id, log_id_of};
use crate::error::{Error, Fault};
use crate::frame::Frame;
use crate::limits;
use crate::log_access::{read_entry, read_record};
use crate::log_store::{COMMITTED_SLOT, STREAM};
use crate::recovery::check_history;
use crate::snapshots::{Carried, open_carried, open_state};
use crate::type_config::RaftEntry;

/// The entries of a log that no node has open. Clones are cheap.
#[derive(Debug, Clone)]
pub struct OfflineLog {
    reader: Reader,
    carried: Option<Arc<Carried>>,
}

impl OfflineLog {
    /// Reads through `reader`.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        Self { reader, carried: None }
    }

    /// Adds the entries that the snapshot at `path` carries: rows which the log may not have any more. The snapshot
    /// must be the newest one that is whole, as for a node that runs.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn with_snapshot(self, path: &Path) -> Result<Self, Fault> {
        Ok(Self { carried: Some(Arc::new(open_carried(path)?)), ..self })
    }

    /// Returns the first and the last entry; none when there is no entry.
    ///
    /// # Errors
    /// [`Error::ReadLog`].
    pub fn bounds(&self) -> Result<Option<(LogIndex, LogIndex)>, Error> {
        let state = self.reader.state(STREAM).map_err(|source| Error::ReadLog { source })?;
        Ok(state
            .first_index
            .zip(state.last)
            .map(|(first, last)| (LogIndex(first), LogIndex(last.index))))
    }

    /// Says whether the log never had an entry.
    ///
    /// # Errors
    /// [`Error::ReadLog`].
    pub fn is_new(&self) -> Result<bool, Error> {
        let state = self.reader.state(STREAM).map_err(|source| Error::ReadLog { source })?;
        Ok(state.end().is_none())
    }

    /// Returns an entry of the log, or one that the snapshot carries for the log that does not hold it.
    ///
    /// # Errors
    /// [`Error::NotInLog`]; [`Error::ReadLog`], [`Error::ReadSnapshot`] and [`Error::ReadEntry`] when it is damaged.
    pub fn entry(&self, index: LogIndex) -> Result<Entry, Error> {
        read_entry(&self.reader, || self.carried.clone(), index)
    }

    /// Returns the last entry that this log's node knew to be committed; none when it knew of none.
    ///
    /// # Errors
    /// [`Error::ReadLog`]; a committed index that does not decode is none.
    pub fn committed(&self) -> Result<Option<LogIndex>, Error> {
        let slot = self.reader.slot(STREAM, COMMITTED_SLOT);
        let slot = slot.map_err(|source| Error::ReadLog { source })?;
        let committed = slot.and_then(|bytes| decode_log_id(&bytes).ok());
        Ok(committed.map(|committed| LogIndex(committed.index)))
    }

    pub(crate) fn record(&self, index: LogIndex) -> Result<Record, Error> {
        read_record(&self.reader, || self.carried.clone(), index)
    }

    /// Checks that the log goes on where a state ends, as a start does. `snapshot` is the last entry of the newest
    /// snapshot, which explains a state that is ahead of the log.
    ///
    /// # Errors
    /// [`Fault::HistoryMissing`], [`Fault::LogBehindState`], [`Fault::HistoryConflict`], or the log cannot be read.
    pub fn continues(
        &self,
        applied: Option<AppliedEntry>,
        snapshot: Option<AppliedEntry>,
    ) -> Result<(), Fault> {
        check_history(applied, snapshot, &self.reader)
    }

    /// Applies to `store` the entries that it lacks, up to and with `upto` or the last one.
    ///
    /// # Errors
    /// The first entry that cannot be read or applied, or the store's.
    ///
    /// # Panics
    /// If the log does not go on where the store ends: ask [`OfflineLog::continues`] before.
    pub fn replay(&self, store: &dyn MetaStore, upto: LogIndex) -> Result<(), Fault> {
        loop {
            let applied = store.raft().applied.map(|applied| applied.index.0);
            let next = applied.map_or(0, |applied| applied.saturating_add(1));
            let most = next.saturating_add(limits::APPLY_ENTRIES_MAX as u64);
            let range = next..upto.0.saturating_add(1).min(most);
            let records = self.reader.read_limited(STREAM, range, limits::APPLY_BYTES_MAX);
            let records = records.map_err(Fault::Log)?;
            let Some(first) = records.first() else { return Ok(()) };
            assert_eq!(first.index, next, "the log goes on where the state ends");
            let entries = records.into_iter().map(decode).collect::<Result<Vec<_>, _>>()?;
            let last = entries.last().map(|entry| entry.log_id.index);
            apply_again(store, &entries)?;
            let applied = store.raft().applied.map(|applied| applied.index.0);
            assert_eq!(applied, last, "the store took the whole batch");
        }
    }
}

fn decode(record: Record) -> Result<RaftEntry, Fault> {
    let Record { index, tag, payload } = record;
    let payload = Frame::parse(payload);
    let payload = payload.map_err(|source| Fault::Entry { index: LogIndex(index), source })?;
    Ok(RaftEntry { log_id: log_id_of(index, tag), payload })
}

/// Replaces the state of `store` by the snapshot at `path`.
///
/// # Errors
/// What is wrong with the file, or the store's.
pub fn restore(store: &dyn MetaStore, path: &Path) -> Result<(), Fault> {
    store.import(&mut open_state(path)?).map(drop).map_err(Fault::Store)
}
