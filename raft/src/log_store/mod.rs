//! openraft's log on the WAL: entries, vote and committed index of one stream.
//!
//! An append returns when its entries are readable, and completes openraft's callback from the WAL's writer when
//! they are synced, so the next append never waits for the disk. It must not acknowledge before that. Invariant:
//! openraft's order of calls is the WAL's order of records, so a durable record vouches for all before it.

mod reader;
#[cfg(test)]
mod tests;

use std::io;

use bytes::Bytes;
use openraft::LogState;
use openraft::storage::{IOFlushed, RaftLogStorage};

use alluvium_wal::{Operation, Position, StreamId, WalHandle};

use crate::alone::Alone;
use crate::encoding::{decode_log_id, encode_log_id, encode_vote, log_id_of, tag_of};
use crate::error::Fault;
use crate::health::Health;
use crate::limits;
use crate::type_config::{LogId, RaftEntry, TypeConfig, Vote};

pub(crate) use reader::LogReader;

/// The stream of the one Raft group there is.
pub(crate) const STREAM: StreamId = StreamId(0);
/// The slot of the vote.
pub(crate) const VOTE_SLOT: u16 = 0;
/// The slot of the committed index.
pub(crate) const COMMITTED_SLOT: u16 = 1;

/// openraft's log.
#[derive(Debug)]
pub(crate) struct LogStore {
    wal: WalHandle,
    health: Health,
    /// The last committed index that openraft told. It is written beside the next append: it is a hint that saves
    /// a restart from waiting for a leader, and not worth a sync of its own.
    committed: Option<LogId>,
    /// Whether `committed` is on its way to the disk.
    committed_written: bool,
    node: u64,
    alone: Alone,
}

impl LogStore {
    /// Reads what the WAL holds of the committed index.
    pub(crate) fn open(
        wal: WalHandle,
        health: Health,
        node: u64,
        alone: Alone,
    ) -> Result<Self, Fault> {
        let slot = wal.slot(STREAM, COMMITTED_SLOT).map_err(Fault::Log)?;
        let committed = slot.map(|bytes| decode_log_id(&bytes)).transpose();
        let committed =
            committed.map_err(|source| Fault::Slot { slot: "committed index", source })?;
        Ok(Self { wal, health, committed, committed_written: true, node, alone })
    }

    fn fail(&self, error: alluvium_wal::Error) -> io::Error {
        self.health.fail(Fault::Log(error))
    }

    fn committed_operation(&mut self) -> Option<Operation> {
        let committed = self.committed.filter(|_| !self.committed_written)?;
        self.committed_written = true;
        Some(committed_operation(&committed))
    }

    /// Appends without waiting for the disk. A failure there poisons the WAL, which the next call reports.
    async fn submit(&self, operations: Vec<Operation>) -> io::Result<()> {
        let health = self.health.clone();
        let told = move |result| {
            if let Err(error) = result {
                health.record(Fault::Log(error));
            }
        };
        let appended = self.wal.append(operations, Box::new(told)).await;
        appended.map_err(|error| self.fail(error))
    }

    /// Appends and waits for the disk.
    async fn commit(&self, operations: Vec<Operation>) -> io::Result<()> {
        let durable = self.wal.append_durable(operations).await;
        durable.map(drop).map_err(|error| self.fail(error))
    }
}

/// Returns the operation that keeps a committed index.
pub(crate) fn committed_operation(committed: &LogId) -> Operation {
    let value = Bytes::from(encode_log_id(committed));
    Operation::Slot { stream: STREAM, slot: COMMITTED_SLOT, value }
}

fn append_operation(entry: RaftEntry) -> Operation {
    let (index, tag) = (entry.log_id.index, tag_of(&entry.log_id));
    let payload = entry.payload.entry().as_bytes().clone();
    Operation::Append { stream: STREAM, index, tag, payload }
}

pub(crate) fn position_of(id: &LogId) -> Position {
    Position { index: id.index, tag: tag_of(id) }
}

/// Returns the identity of the entry at a position.
pub(crate) fn log_id_at(position: Position) -> LogId {
    log_id_of(position.index, position.tag)
}

fn payload_bytes(operation: &Operation) -> u64 {
    match operation {
        Operation::Append { payload, .. } => u64::try_from(payload.len()).unwrap_or(u64::MAX),
        Operation::Truncate { .. } | Operation::Purge { .. } | Operation::Slot { .. } => 0,
    }
}

/// Returns the bytes of entries that one append may hold: a follower that lags gets more at once than a small segment has.
fn part_bytes(segment_bytes: u64) -> u64 {
    limits::APPEND_BYTES_MAX.min(segment_bytes / 4)
}

/// Divides operations so that each part fits a segment; the WAL keeps their order.
fn divide(operations: Vec<Operation>, part_bytes: u64) -> Vec<Vec<Operation>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0_u64;
    for operation in operations {
        let more = payload_bytes(&operation).saturating_add(limits::RECORD_BYTES);
        let part = parts.last_mut().expect("starts with one and only grows");
        let full = part_bytes < bytes.saturating_add(more);
        if full && !part.is_empty() {
            parts.push(vec![operation]);
            bytes = more;
        } else {
            part.push(operation);
            bytes = bytes.saturating_add(more);
        }
    }
    parts
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.wal.state(STREAM).map_err(|error| self.fail(error))?;
        let last_log_id = state.end().map(log_id_at);
        let last_purged_log_id = state.purged.map(log_id_at);
        assert!(last_purged_log_id <= last_log_id, "a log ends at or behind its purge");
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader::new(self.wal.clone(), self.health.clone())
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let value = Bytes::from(encode_vote(vote));
        // Synced before openraft answers: a restarted node must not vote twice in one term.
        self.commit(vec![Operation::Slot { stream: STREAM, slot: VOTE_SLOT, value }]).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.committed_written = self.committed_written && self.committed == committed;
        self.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + Send,
        I::IntoIter: Send,
    {
        let committed = self.committed_operation();
        let (node, alone) = (self.node, &self.alone);
        let noted = |entry: &RaftEntry| {
            if let Some(membership) = entry.payload.membership() {
                alone.note(node, membership);
            }
        };
        let entries = entries.into_iter().inspect(noted).map(append_operation);
        let part_bytes = part_bytes(self.wal.segment_bytes());
        let mut parts = divide(committed.into_iter().chain(entries).collect(), part_bytes);
        let last = parts.pop().expect("at least one part");
        for part in parts {
            self.submit(part).await?;
        }
        let health = self.health.clone();
        let told = move |result: Result<_, alluvium_wal::Error>| {
            let result = result.map(drop).map_err(|error| health.fail(Fault::Log(error)));
            callback.io_completed(result);
        };
        self.wal.append(last, Box::new(told)).await.map_err(|error| self.fail(error))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let after = last.map(|id| id.index);
        self.commit(vec![Operation::Truncate { stream: STREAM, after }]).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        // Not waited for: what a purge drops is in a synced snapshot, and a lost purge is asked for again.
        self.submit(vec![Operation::Purge { stream: STREAM, upto: position_of(&upto) }]).await
    }
}
