//! How apply reads state, and what it answers.

use alluvium_types::{DatasetKey, ErrorKind, FileId, LogIndex, Response};

use crate::{Key, Table};

/// A fault of this node while reading its state. It poisons the node: the log is right, the copy is
/// not.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The store could not be read.
    #[error("read metadata table {table:?}")]
    Read {
        /// The table.
        table: Table,
        /// Whether it is damaged or out of reach.
        kind: ErrorKind,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record does not decode: the store is damaged, or was written by a newer version.
    #[error("decode a record of metadata table {table:?}")]
    Decode {
        /// The table.
        table: Table,
        /// Why.
        #[source]
        source: alluvium_types::Error,
    },
    /// A record that another one refers to is missing.
    #[error("metadata table {table:?} lacks a record that another refers to")]
    Dangling {
        /// The table.
        table: Table,
    },
    /// No fault: the read asked for what expire has pruned. A read of the latest never meets it.
    #[error("dataset {dataset:?} can be read from index {floor} on, not at {asked}")]
    BelowFloor {
        /// The dataset's name.
        dataset: String,
        /// The index asked for.
        asked: LogIndex,
        /// The lowest index that is kept.
        floor: LogIndex,
    },
}

impl ViewError {
    /// Returns the kind by which protocols report it: damage, unless the store was only out of reach.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { kind, .. } => *kind,
            Self::Decode { .. } | Self::Dangling { .. } => ErrorKind::Corrupt,
            Self::BelowFloor { .. } => ErrorKind::OutOfRange,
        }
    }
}

/// Reads metadata as of an index. Latest-only tables ignore the index.
pub trait View {
    /// Returns the value of a key as of `at`.
    ///
    /// # Errors
    /// A local fault.
    fn get_at(&self, table: Table, key: &Key, at: LogIndex) -> Result<Option<Vec<u8>>, ViewError>;

    /// Returns up to `limit` keys that start with `prefix` and are not below `from`, ascending,
    /// with their values as of `at`.
    ///
    /// # Errors
    /// A local fault.
    fn scan_at(
        &self,
        range: &ScanRange<'_>,
        at: LogIndex,
    ) -> Result<Vec<(Key, Vec<u8>)>, ViewError>;

    /// Returns the stored versions of a key, ascending; of a latest-only table at most one, with
    /// index zero.
    ///
    /// # Errors
    /// A local fault.
    fn versions(&self, table: Table, key: &Key) -> Result<Vec<Version>, ViewError>;

    /// Returns the keys of a range that have versions which no read at or above `floor` can see,
    /// ascending, each with how many; see [`unreachable_versions`].
    ///
    /// # Errors
    /// A local fault.
    fn prunable(
        &self,
        range: &ScanRange<'_>,
        floor: LogIndex,
    ) -> Result<Vec<(Key, u64)>, ViewError>;

    /// Returns the latest value of a key.
    ///
    /// # Errors
    /// A local fault.
    fn get(&self, table: Table, key: &Key) -> Result<Option<Vec<u8>>, ViewError> {
        self.get_at(table, key, LogIndex::MAX)
    }

    /// Returns all keys with `prefix` as of `at`. For tables whose size a limit bounds.
    ///
    /// # Errors
    /// A local fault.
    fn scan_prefix(
        &self,
        table: Table,
        prefix: &Key,
        at: LogIndex,
    ) -> Result<Vec<(Key, Vec<u8>)>, ViewError> {
        self.scan_at(&ScanRange { table, prefix, from: None, limit: usize::MAX }, at)
    }
}

/// Returns and decodes a record as of `at`.
///
/// # Errors
/// A local fault.
pub fn record_at<T: bincode::Decode<()>>(
    view: &dyn View,
    table: Table,
    key: &Key,
    at: LogIndex,
) -> Result<Option<T>, ViewError> {
    let value = view.get_at(table, key, at)?;
    value.map(|bytes| decode_record(table, &bytes)).transpose()
}

/// Decodes a record of a table.
///
/// # Errors
/// [`ViewError::Decode`].
pub fn decode_record<T: bincode::Decode<()>>(table: Table, bytes: &[u8]) -> Result<T, ViewError> {
    alluvium_types::codec::decode(bytes).map_err(|source| ViewError::Decode { table, source })
}

/// One stored version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The index that wrote it; zero in latest-only tables.
    pub index: LogIndex,
    /// The value, or none for a deletion marker.
    pub value: Option<Vec<u8>>,
}

/// Returns how many of a key's first versions no read at or above `floor` can see.
///
/// `marks` are the versions, ascending, each with whether it is a deletion marker. The newest
/// version at or below the floor is still seen, unless it is a deletion marker: then its absence
/// reads the same.
#[must_use]
pub fn unreachable_versions(marks: &[(LogIndex, bool)], floor: LogIndex) -> usize {
    let visible = marks.partition_point(|(index, _)| *index <= floor);
    match marks[..visible].last() {
        Some((_, true)) => visible,
        Some((_, false)) => visible - 1,
        None => 0,
    }
}

/// Which keys a scan returns.
#[derive(Debug, Clone, Copy)]
pub struct ScanRange<'a> {
    /// The table.
    pub table: Table,
    /// What every key starts with.
    pub prefix: &'a Key,
    /// The lowest key, if not the first with the prefix.
    pub from: Option<&'a Key>,
    /// The most keys to return.
    pub limit: usize,
}

/// One change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: Key,
    /// What becomes of it.
    pub operation: Operation,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// It has this value from this entry's index on.
    Put(Vec<u8>),
    /// It has no value from this entry's index on.
    Delete,
    /// Versions that no read at or above `floor` can see are removed. Versioned tables only.
    Prune {
        /// The lowest index that may still be read.
        floor: LogIndex,
    },
}

/// What the engine should do beside apply. Effects are hints: each can be found again from the
/// state, so a lost one costs time, never truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A file was planned and must be written.
    WriteFile {
        /// The dataset.
        dataset: DatasetKey,
        /// The file.
        file: FileId,
    },
    /// Objects may be deleted.
    Sweep {
        /// The dataset.
        dataset: DatasetKey,
    },
}

/// What one entry did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The changes, in order.
    pub mutations: Vec<Mutation>,
    /// Hints for the engine.
    pub effects: Vec<Effect>,
    /// The answer.
    pub response: Response,
}
