//! What the engine reads of the log, and when it lets the log go.
//!
//! Deltas are read from here, so a purge has three bounds: the snapshot, the store's durability and the caller's.
//! What the log does not have any more, or never had on a node that installed a snapshot, is read from the entries
//! that the snapshot carries. It must not write entries. Invariant: nothing is purged that a restart could need.

use std::ops::Range;
use std::sync::Arc;

use openraft::RaftMetrics;
use openraft::storage::Snapshot;
use openraft::type_config::alias::SnapshotOf;

use alluvium_types::{Entry, LogIndex, Term};
use alluvium_wal::{Error as Wal, Reader, Record};

use crate::encoding::{log_id_of, log_id_of_applied};
use crate::error::Error;
use crate::frame::Frame;
use crate::limits;
use crate::log_store::STREAM;
use crate::node::RaftNode;
use crate::snapshots::{Carried, SnapshotFile};
use crate::status::{LogBounds, committed};
use crate::type_config::TypeConfig;

impl RaftNode {
    /// Returns an entry of the log, or one that the newest snapshot carries for a log that does not hold it. One
    /// above the committed index may yet be replaced.
    ///
    /// # Errors
    /// [`Error::NotInLog`]; [`Error::ReadLog`], [`Error::ReadSnapshot`] and [`Error::ReadEntry`] when it is damaged:
    /// ask another node.
    pub fn log_entry(&self, index: LogIndex) -> Result<Entry, Error> {
        read_entry(self.wal.reader(), || self.snapshots.carried(), index)
    }

    /// Returns the term of an entry that the log holds or the newest snapshot carries.
    ///
    /// # Errors
    /// As [`RaftNode::log_entry`].
    pub fn log_term(&self, index: LogIndex) -> Result<Term, Error> {
        let record = read_record(self.wal.reader(), || self.snapshots.carried(), index)?;
        Ok(Term(log_id_of(record.index, record.tag).leader_id.term))
    }

    /// Returns the entries of a range that the log holds, as many as fit [`limits::READ_BYTES_MAX`] and at least
    /// one if there is one. Ask again from behind the last. Those that a snapshot carries are single ones with holes
    /// between them, and not among them.
    ///
    /// # Errors
    /// As [`RaftNode::log_entry`]; [`Error::NotInLog`] when the range begins before the log does.
    pub fn log_range(&self, range: Range<LogIndex>) -> Result<Vec<(LogIndex, Entry)>, Error> {
        let reader = self.wal.reader();
        let numbers = range.start.0..range.end.0;
        let records = reader.read_limited(STREAM, numbers, limits::READ_BYTES_MAX);
        let records = records.map_err(|source| Error::ReadLog { source })?;
        // A hole at the front would read as "no rows": it is an error.
        if !range.is_empty() && records.first().is_none_or(|first| first.index != range.start.0) {
            return Err(Error::NotInLog { index: range.start });
        }
        let parse = |record: Record| {
            let index = LogIndex(record.index);
            Ok((index, parse(index, record.payload)?))
        };
        records.into_iter().map(parse).collect()
    }

    /// Returns what the log holds.
    ///
    /// # Errors
    /// [`Error::ReadLog`] when the log no longer works.
    pub fn log_bounds(&self) -> Result<LogBounds, Error> {
        let state = self.wal.state(STREAM).map_err(|source| Error::ReadLog { source })?;
        Ok(LogBounds {
            first: state.first_index.map(LogIndex),
            last: state.last.map(|last| LogIndex(last.index)),
            committed: committed(&self.metrics()),
        })
    }

    /// Takes a snapshot of what is applied now, and waits for it. Returns the last entry in it.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when it could not be written, which ends the node; [`Error::Shutdown`].
    pub async fn trigger_snapshot(&self) -> Result<LogIndex, Error> {
        let Some(applied) = self.store.raft().applied else { return Ok(LogIndex(0)) };
        let wanted = log_id_of_applied(&applied);
        // openraft ignores a trigger while a build is under way, and that build may be older: ask until it covers.
        loop {
            let have = self.metrics().snapshot;
            if Some(wanted) <= have {
                return Ok(LogIndex(have.map_or(0, |id| id.index)));
            }
            let triggered = self.raft.trigger().snapshot().await;
            triggered.map_err(|fatal| self.stopped_error(&fatal))?;
            let moved = move |metrics: &RaftMetrics<TypeConfig>| have < metrics.snapshot;
            let wait = self.raft.wait(None);
            let waited = self.unless_failed(wait.metrics(moved, "a snapshot is built")).await?;
            waited.map_err(|_stopping| self.why_stopped())?;
        }
    }

    /// Builds a snapshot of what is applied now, for another node.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when this node has not applied `at_least` yet; as [`RaftNode::trigger_snapshot`].
    pub async fn new_snapshot(
        &self,
        at_least: LogIndex,
    ) -> Result<SnapshotOf<TypeConfig, SnapshotFile>, Error> {
        self.check_trusted()?;
        if self.trigger_snapshot().await? < at_least {
            return Err(Error::Unavailable);
        }
        let current = self.snapshots.current().ok_or(Error::Unavailable)?;
        let meta = current.raft_meta().map_err(|fault| self.poison(fault))?;
        Ok(Snapshot { meta, snapshot: current.file })
    }

    /// Lets the log go up to an index, as far as that is safe: never beyond the snapshot less the margin, nor
    /// beyond what the store made durable. Returns the last purged entry.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Shutdown`].
    pub async fn purge(&self, upto: LogIndex) -> Result<Option<LogIndex>, Error> {
        self.check_running()?;
        let metrics = self.metrics();
        let purged = metrics.purged.map(|id| LogIndex(id.index));
        let Some(bound) = self.purge_bound(upto) else { return Ok(purged) };
        if Some(bound) <= purged {
            return Ok(purged);
        }
        let triggered = self.raft.trigger().purge_log(bound.0).await;
        triggered.map_err(|fatal| self.stopped_error(&fatal))?;
        let gone = move |metrics: &RaftMetrics<TypeConfig>| {
            Some(bound.0) <= metrics.purged.map(|id| id.index)
        };
        let wait = self.raft.wait(None);
        let waited = self.unless_failed(wait.metrics(gone, "the log is purged")).await?;
        let metrics = waited.map_err(|_stopping| self.why_stopped())?;
        Ok(metrics.purged.map(|id| LogIndex(id.index)))
    }

    fn purge_bound(&self, upto: LogIndex) -> Option<LogIndex> {
        let snapshot = self.snapshots.current()?.meta.applied?.index;
        // openraft's view may trail: it purges nothing that its own snapshot does not cover.
        let known = self.metrics().snapshot.map(|id| LogIndex(id.index))?;
        let behind_margin = snapshot.min(known).0.checked_sub(self.config.purge_margin)?;
        let durable = self.store.durable()?.index;
        Some(upto.min(durable).min(LogIndex(behind_margin)))
    }
}

/// Returns an entry of a log, or one that a snapshot carries.
pub(crate) fn read_entry(
    reader: &Reader,
    carried: impl FnOnce() -> Option<Arc<Carried>>,
    index: LogIndex,
) -> Result<Entry, Error> {
    parse(index, read_record(reader, carried, index)?.payload)
}

/// Returns the record of an entry of a log, or of one that a snapshot carries.
///
/// The log is asked first: what it purges meanwhile is then in a snapshot that became the current one before.
pub(crate) fn read_record(
    reader: &Reader,
    carried: impl FnOnce() -> Option<Arc<Carried>>,
    index: LogIndex,
) -> Result<Record, Error> {
    let logged = reader.read_record(STREAM, index.0);
    let carried = carried();
    let place = carried.as_ref().and_then(|carried| Some((carried, carried.find(index)?)));
    match (logged, place) {
        (Ok(record), None) => Ok(record),
        (Ok(record), Some((_, place))) if record.tag == place.tag() => Ok(record),
        // While a snapshot is installed, the log below it may end in entries that were never committed.
        (Ok(_), Some((carried, place))) => carried.read(place),
        (Err(Wal::NotFound { .. } | Wal::Corrupt { .. }), Some((carried, place))) => {
            carried.read(place)
        }
        (Err(Wal::NotFound { .. }), None) => Err(Error::NotInLog { index }),
        (Err(source), _) => Err(Error::ReadLog { source }),
    }
}

fn parse(index: LogIndex, payload: bytes::Bytes) -> Result<Entry, Error> {
    let frame = Frame::parse(payload).map_err(|source| Error::ReadEntry { index, source })?;
    Ok(frame.into_entry())
}
