//! What calls answer. Every answer of a write names the index at which readers see it.
//!
//! No behaviour lives here.

use alluvium_proto::v1;
use alluvium_types::LogIndex;

/// The answer to a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The dataset's id, a UUID.
    pub dataset_id: String,
    /// Which life of the name it is.
    pub incarnation: u64,
    /// The number of its schema.
    pub schema_version: u32,
    /// Whether it was there before, with the same schema and options.
    pub existing: bool,
    /// Readers at this index or above see it.
    pub index: LogIndex,
}

/// The answer to an append, upsert, tombstone, evolve, expire or drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Readers at this index or above see the effect.
    pub index: LogIndex,
    /// Rows added, distinct keys hidden, steps made, or metadata versions pruned.
    pub count: u64,
}

/// The answer to a seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Readers at this index or above see the files.
    pub index: LogIndex,
    /// Files written, in order; empty when there was nothing to seal.
    pub files: Vec<u64>,
    /// Rows in them.
    pub rows: u64,
}

/// The answer to a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Readers at this index or above see the result.
    pub index: LogIndex,
    /// Files that were rewritten.
    pub files_in: u64,
    /// Files that replaced them.
    pub files_out: u64,
    /// Rows read.
    pub rows_in: u64,
    /// Rows that tombstones hid: they are in no file that replaced the inputs.
    pub rows_hidden: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
}

/// The answer to a command, whichever it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Of a register.
    Registered(Registered),
    /// Of an append, upsert, tombstone, evolve, expire or drop.
    Written(Written),
    /// Of a seal.
    Sealed(Sealed),
    /// Of a compaction.
    Compacted(Compacted),
}

impl Answer {
    /// Returns the index at which readers see the effect.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        match self {
            Self::Registered(Registered { index, .. })
            | Self::Written(Written { index, .. })
            | Self::Sealed(Sealed { index, .. })
            | Self::Compacted(Compacted { index, .. }) => *index,
        }
    }
}

impl From<v1::RegisterResponse> for Answer {
    fn from(answer: v1::RegisterResponse) -> Self {
        let v1::RegisterResponse { dataset_id, incarnation, schema_version, existing, index } =
            answer;
        let index = LogIndex(index);
        Self::Registered(Registered { dataset_id, incarnation, schema_version, existing, index })
    }
}

impl From<v1::WriteResponse> for Written {
    fn from(answer: v1::WriteResponse) -> Self {
        Self { index: LogIndex(answer.index), count: answer.count }
    }
}

impl From<v1::WriteResponse> for Answer {
    fn from(answer: v1::WriteResponse) -> Self {
        Self::Written(answer.into())
    }
}

impl From<v1::SealResponse> for Answer {
    fn from(answer: v1::SealResponse) -> Self {
        let v1::SealResponse { index, files, rows } = answer;
        Self::Sealed(Sealed { index: LogIndex(index), files, rows })
    }
}

impl From<v1::CompactResponse> for Answer {
    fn from(answer: v1::CompactResponse) -> Self {
        Self::Compacted(Compacted {
            index: LogIndex(answer.index),
            files_in: answer.files_in,
            files_out: answer.files_out,
            rows_in: answer.rows_in,
            rows_hidden: answer.rows_hidden,
            rows_out: answer.rows_out,
            bytes_in: answer.bytes_in,
            bytes_out: answer.bytes_out,
        })
    }
}
