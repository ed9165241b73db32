//! Reads entries and the vote for openraft's replication and apply.
//!
//! It must not write. Invariant: every entry it hands out was checked by the WAL's hash and by its own frame.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};

use futures::{Stream, StreamExt, stream};
use openraft::storage::RaftLogReader;

use alluvium_types::LogIndex;
use alluvium_wal::{Record, WalHandle};

use super::{STREAM, VOTE_SLOT};
use crate::encoding::{decode_vote, log_id_of};
use crate::error::Fault;
use crate::frame::Frame;
use crate::health::Health;
use crate::limits;
use crate::type_config::{RaftEntry, TypeConfig, Vote};

/// Reads the log. Clones are cheap.
#[derive(Debug, Clone)]
pub(crate) struct LogReader {
    wal: WalHandle,
    health: Health,
}

impl LogReader {
    pub(crate) fn new(wal: WalHandle, health: Health) -> Self {
        Self { wal, health }
    }

    fn read(&self, range: Range<u64>, bytes_max: u64) -> io::Result<Vec<RaftEntry>> {
        let records = self.wal.reader().read_limited(STREAM, range, bytes_max);
        let records = records.map_err(|error| self.health.fail(Fault::Log(error)))?;
        records.into_iter().map(|record| self.decode(record)).collect()
    }

    /// Fails closed: an entry that this program cannot read is named, never skipped.
    fn decode(&self, record: Record) -> io::Result<RaftEntry> {
        let Record { index, tag, payload } = record;
        let payload = Frame::parse(payload)
            .map_err(|source| self.health.fail(Fault::Entry { index: LogIndex(index), source }))?;
        Ok(RaftEntry { log_id: log_id_of(index, tag), payload })
    }
}

/// Returns the half-open range of what openraft asks for.
fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<RaftEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        self.read(half_open(&range), u64::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let slot = self.wal.slot(STREAM, VOTE_SLOT);
        let slot = slot.map_err(|error| self.health.fail(Fault::Log(error)))?;
        slot.map(|bytes| decode_vote(&bytes))
            .transpose()
            .map_err(|source| self.health.fail(Fault::Slot { slot: "vote", source }))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> io::Result<Vec<RaftEntry>> {
        self.read(start..end, limits::READ_BYTES_MAX)
    }

    /// Reads in steps: after a restart the range is all that was not applied, which need not fit in memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let cursor = Cursor { reader: self.clone(), range: half_open(&range) };
        let steps = stream::unfold(Some(cursor), |cursor| async move { cursor?.step() });
        steps.flat_map(stream::iter)
    }
}

struct Cursor {
    reader: LogReader,
    range: Range<u64>,
}

impl Cursor {
    /// Returns the next entries and where to go on; nothing at the end of the range or the log.
    fn step(mut self) -> Option<(Vec<io::Result<RaftEntry>>, Option<Self>)> {
        if self.range.is_empty() {
            return None;
        }
        match self.reader.read(self.range.clone(), limits::READ_BYTES_MAX) {
            Err(error) => Some((vec![Err(error)], None)),
            Ok(entries) => {
                self.range.start = entries.last()?.log_id.index.saturating_add(1);
                Some((entries.into_iter().map(Ok).collect(), Some(self)))
            }
        }
    }
}
