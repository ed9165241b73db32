//! What callers ask of the log, and what it answers.

use bytes::Bytes;

use crate::ids::{Lsn, Owner, Position, StreamId};
use crate::limits;

/// One change of one stream. Several given together become durable together, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Appends an entry. Its index must follow the last; a stream that is empty and was never
    /// purged starts anywhere.
    Append {
        /// The stream.
        stream: StreamId,
        /// The index of the entry.
        index: u64,
        /// The caller's tag, kept beside the entry.
        tag: u128,
        /// The entry's bytes. They are not copied unless they are few.
        payload: Bytes,
    },
    /// Drops the entries behind an index, or all.
    Truncate {
        /// The stream.
        stream: StreamId,
        /// The last index that stays; nothing for none.
        after: Option<u64>,
    },
    /// Drops the entries up to and including an index, which may lie behind the last: the next
    /// entry then follows it. A purge below an earlier one changes nothing.
    Purge {
        /// The stream.
        stream: StreamId,
        /// The index and tag of the last entry that goes.
        upto: Position,
    },
    /// Replaces the value of a slot: for small things of which only the latest counts.
    Slot {
        /// The stream.
        stream: StreamId,
        /// Which of its slots.
        slot: u16,
        /// The value.
        value: Bytes,
    },
}

/// An entry as it is read. Its payload was verified against its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The index in its stream.
    pub index: u64,
    /// The caller's tag.
    pub tag: u128,
    /// The entry's bytes. Read from disk, they start at a multiple of 64 in memory.
    pub payload: Bytes,
}

/// Where a stream begins and ends, appends that wait for the disk included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamState {
    /// The index of the first entry; nothing when there is none.
    pub first_index: Option<u64>,
    /// The last entry; nothing when there is none.
    pub last: Option<Position>,
    /// The last purged entry.
    pub purged: Option<Position>,
}

impl StreamState {
    /// Returns the last entry that was ever there and not truncated: the last one, or the last
    /// purged.
    #[must_use]
    pub fn end(&self) -> Option<Position> {
        self.last.or(self.purged)
    }
}

/// The answer to an append: all of it is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// The position up to which the physical log is durable.
    pub lsn: Lsn,
}

/// How a log is opened. There is no default: an owner that is wrong by default loses data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Who opens it. Files of anyone else are refused.
    pub owner: Owner,
    /// Bytes of each new segment: a multiple of 4 KiB within the limits.
    pub segment_bytes: u64,
    /// Bytes of recent payloads kept in memory.
    pub cache_bytes: u64,
    #[cfg(test)]
    pub(crate) planted: Option<crate::planted::Planted>,
}

impl Options {
    /// Returns the usual sizes for `owner`.
    #[must_use]
    pub fn new(owner: Owner) -> Self {
        Self {
            owner,
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            cache_bytes: limits::CACHE_BYTES_DEFAULT,
            #[cfg(test)]
            planted: None,
        }
    }

    /// Says whether a bug was planted, which only this crate's tests can do.
    #[cfg(test)]
    pub(crate) fn has(&self, bug: crate::planted::Planted) -> bool {
        self.planted == Some(bug)
    }

    /// Says whether a bug was planted, which the tests can do, and a build with its feature.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the tests' version reads it")]
    pub(crate) fn has(&self, bug: crate::planted::Planted) -> bool {
        bug.is_awake()
    }
}
