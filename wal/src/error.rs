//! What can go wrong in the log, and what each means for the caller.
//!
//! A torn tail is not here: it is cut, and reported by [`Recovery`](crate::Recovery).

use std::io;
use std::sync::Arc;

use crate::ids::{Lsn, Owner, SegmentSeq, StreamId};
use crate::record::Defect;
use crate::segment::HeaderDefect;

/// The operation on the storage that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoOperation {
    /// Taking the lock of the directory.
    Lock,
    /// Listing the directory.
    List,
    /// Opening a segment.
    OpenSegment,
    /// Reading a segment.
    ReadSegment,
    /// Writing a segment's header, or giving the segment its name.
    CreateSegment,
    /// Writing records.
    WriteRecords,
    /// Syncing records.
    SyncRecords,
    /// Creating the watermark's file.
    CreateWatermark,
    /// Reading the watermark.
    ReadWatermark,
    /// Writing the watermark.
    WriteWatermark,
    /// Preparing a spare segment.
    PrepareSpare,
    /// Giving a purged segment back.
    RetireSegment,
    /// Syncing the directory.
    SyncDirectory,
    /// Starting a thread.
    StartThread,
}

/// An error of the log. Cheap to clone: one failure is told to all who wait.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The storage failed before the log accepted anything. Nothing changed; opening may be tried
    /// again.
    #[error("{operation:?} of {file} failed")]
    Io {
        /// What was tried.
        operation: IoOperation,
        /// On which file.
        file: String,
        /// Why it failed.
        #[source]
        source: Arc<io::Error>,
    },
    /// A write or a sync failed earlier. Nothing works any more: stop the process, and open the log
    /// anew.
    #[error("the log is poisoned since {operation:?} failed")]
    Poisoned {
        /// What failed.
        operation: IoOperation,
        /// Why it failed.
        #[source]
        source: Arc<io::Error>,
    },
    /// The disk has no room for another segment. Nothing was accepted; it works again when there is
    /// room.
    #[error("no room for another segment")]
    Full {
        /// What the storage said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Bytes that were durable are not what was written. Nothing was changed; repair from a peer.
    #[error("segment {segment} is damaged at offset {offset}, position {lsn}: {reason}")]
    Corrupt {
        /// The segment.
        segment: SegmentSeq,
        /// Where in the segment.
        offset: u64,
        /// The position of the first record that is not there; zero where only the place is known.
        lsn: Lsn,
        /// What is wrong.
        reason: Reason,
    },
    /// Both slots of the watermark are damaged, so nobody can say what was acknowledged.
    #[error("the watermark is damaged: both slots are bad, or the file is gone")]
    CorruptWatermark,
    /// A file belongs to another cluster or another node.
    #[error("{file} belongs to {found}, not to {expected}")]
    Foreign {
        /// The file.
        file: String,
        /// Who opened the log.
        expected: Owner,
        /// Who wrote the file.
        found: Owner,
    },
    /// A segment that holds live entries, or that the watermark names, is not in the directory.
    #[error("segment {segment} is missing")]
    MissingSegment {
        /// The segment.
        segment: SegmentSeq,
    },
    /// A newer version of Alluvium wrote this file.
    #[error("{file} has format version {version}, which is newer than this program")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its version.
        version: u16,
    },
    /// An operation is over a limit. Nothing was accepted.
    #[error("{limit} allows {max}, got {value}")]
    TooLarge {
        /// The name of the limit.
        limit: &'static str,
        /// The largest value allowed.
        max: u64,
        /// The value given.
        value: u64,
    },
    /// An entry does not follow the one before it. Nothing was accepted.
    #[error("stream {stream} expects index {expected}, got {got}")]
    NotConsecutive {
        /// The stream.
        stream: StreamId,
        /// The index that would follow.
        expected: u64,
        /// The index given.
        got: u64,
    },
    /// A truncation would undo a purge, or a purge names another tag than the last. Nothing was
    /// accepted.
    #[error("stream {stream} is purged up to {purged}: {got} is below or contradicts it")]
    BelowPurged {
        /// The stream.
        stream: StreamId,
        /// The last purged index.
        purged: u64,
        /// The index given.
        got: u64,
    },
    /// The queue is full and the caller does not want to wait. Nothing was accepted.
    #[error("the log's queue is full")]
    Busy,
    /// The stream has no entry at this index: it was purged, truncated or not yet appended.
    #[error("stream {stream} has no entry {index}")]
    NotFound {
        /// The stream.
        stream: StreamId,
        /// The index.
        index: u64,
    },
    /// The log was shut down.
    #[error("the log is closed")]
    Closed,
}

/// What is wrong with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A record cannot be decoded.
    #[error(transparent)]
    Record(#[from] Defect),
    /// The segment's header cannot be decoded.
    #[error(transparent)]
    Header(#[from] HeaderDefect),
    /// The file is shorter than its header says, or than a header.
    #[error("file has {len} bytes of {expected}")]
    Truncated {
        /// Bytes there are.
        len: u64,
        /// Bytes there were.
        expected: u64,
    },
    /// The header names another segment than the file name: a copy, or two files exchanged.
    #[error("file holds segment {found}")]
    WrongSegment {
        /// The number in the header.
        found: SegmentSeq,
    },
    /// An intact record of this segment stands where another belongs.
    #[error("record {found} stands here")]
    WrongRecord {
        /// The position that the record names.
        found: Lsn,
    },
    /// An intact record of another life of this file stands where a durable record was.
    #[error("a record of an earlier life of the file stands here")]
    StaleRecord,
    /// A record or segment does not continue the hash chain.
    #[error("the hash chain is broken")]
    ChainBroken,
    /// The record at the watermark's position has another hash than the watermark.
    #[error("the record differs from the one that the watermark vouches for")]
    WatermarkMismatch,
    /// The watermark vouches for records behind the end of the log.
    #[error("the log ends before the watermark {watermark}")]
    EndsBeforeWatermark {
        /// The position that the watermark vouches for.
        watermark: Lsn,
    },
    /// Records decode, but do not make sense in this order.
    #[error("the record does not follow from those before it")]
    Sequence,
}

impl Error {
    pub(crate) fn io(operation: IoOperation, file: &str, source: io::Error) -> Self {
        Self::Io { operation, file: file.to_owned(), source: Arc::new(source) }
    }

    /// Says whether the log's bytes are damaged: repair from a peer, do not retry.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        match self {
            Self::Corrupt { .. }
            | Self::CorruptWatermark
            | Self::MissingSegment { .. }
            | Self::Foreign { .. } => true,
            Self::Io { .. }
            | Self::Poisoned { .. }
            | Self::Full { .. }
            | Self::NewerFormat { .. }
            | Self::TooLarge { .. }
            | Self::NotConsecutive { .. }
            | Self::BelowPurged { .. }
            | Self::Busy
            | Self::NotFound { .. }
            | Self::Closed => false,
        }
    }
}
