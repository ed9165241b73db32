//! What can go wrong with files. Names files, entries and indexes; never holds row content.

use alluvium_state_machine::ViewError;
use alluvium_types::{ErrorKind, FileId, LogIndex};

/// A log entry that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log no longer holds it.
    #[error("log entry {index} is purged")]
    Purged {
        /// The entry.
        index: LogIndex,
    },
    /// It cannot be read, or is damaged.
    #[error("read log entry {index}")]
    Read {
        /// The entry.
        index: LogIndex,
        /// Whether it is damaged, or only out of reach.
        kind: ErrorKind,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl LogError {
    /// Returns the kind by which protocols report it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Purged { .. } => ErrorKind::Unavailable,
            Self::Read { kind, .. } => *kind,
        }
    }
}

/// A file that could not be made, read, verified or deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum Error {
    /// An entry that holds rows of a delta is not to be had.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An entry's rows do not decode.
    #[error("the rows of log entry {index} cannot be read")]
    Entry {
        index: LogIndex,
        #[source]
        source: alluvium_rows::Error,
    },
    /// An entry holds other rows than the delta says.
    #[error("log entry {index} does not hold the rows that its delta names")]
    EntryDiffers { index: LogIndex },
    /// Rows do not fit the schema they must have.
    #[error(transparent)]
    Rows(#[from] alluvium_rows::Error),
    /// The metadata could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The bucket failed, or holds damaged bytes.
    #[error(transparent)]
    Storage(Box<alluvium_storage::Error>),
    /// The file format failed.
    #[error("data file {file}")]
    Parquet {
        file: FileId,
        #[source]
        source: alluvium_parquet::Error,
    },
    /// A plan of another kind, or of a file that exists.
    #[error("data file {file} is not planned this way")]
    Plan { file: FileId },
    /// The deltas of a seal are not those that were planned.
    #[error("data file {file}: its deltas have {found} rows, {expected} were planned")]
    PlannedRows { file: FileId, expected: u64, found: u64 },
    /// An input of a compaction is not there as of its plan.
    #[error("data file {file}: its input {input} is not live")]
    Input { file: FileId, input: FileId },
    /// What was read from the bucket is not what was written or attested.
    #[error("data file {file} has {found} where {expected} must be")]
    Differs { file: FileId, expected: Sums, found: Sums },
    /// Rows in, minus rows hidden, are not the rows out.
    #[error(
        "data file {file}: conservation failed: {rows_in} in, {rows_hidden} hidden, {rows_out} out"
    )]
    Conservation { file: FileId, rows_in: Sums, rows_hidden: Sums, rows_out: Sums },
    /// A file that would exceed its limit.
    #[error("data file {file} has {bytes} bytes, the limit is {limit}")]
    TooLarge { file: FileId, bytes: u64, limit: u64 },
}

/// How many rows, and the wrapping sum of their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many.
    pub rows: u64,
    /// The sum.
    pub hash_sum: u128,
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows of sum {:032x}", self.rows, self.hash_sum)
    }
}

impl Error {
    /// Returns the kind by which protocols report it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Rows(error) => error.kind(),
            Self::Log(error) => error.kind(),
            Self::View(error) => error.kind(),
            Self::Storage(error) if error.is_transient() => ErrorKind::Unavailable,
            Self::Storage(error) if is_full(error) => ErrorKind::StorageFull,
            Self::Storage(error) if is_out_of_reach(error) => ErrorKind::Unavailable,
            Self::TooLarge { .. } => ErrorKind::ResourceExhausted,
            Self::Plan { .. } | Self::Conservation { .. } => ErrorKind::Internal,
            Self::Entry { .. }
            | Self::EntryDiffers { .. }
            | Self::Storage(_)
            | Self::Parquet { .. }
            | Self::PlannedRows { .. }
            | Self::Input { .. }
            | Self::Differs { .. } => ErrorKind::Corrupt,
        }
    }

    /// Says whether the same call may succeed later without anybody acting on it: the store was out of
    /// reach, full, or the metadata could not be read just now.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Storage(error) => {
                error.is_transient() || is_full(error) || is_out_of_reach(error)
            }
            Self::View(ViewError::Read { .. }) => true,
            Self::Log(LogError::Read { kind, .. }) => *kind == ErrorKind::Unavailable,
            Self::Log(LogError::Purged { .. })
            | Self::Entry { .. }
            | Self::EntryDiffers { .. }
            | Self::Rows(_)
            | Self::View(_)
            | Self::Parquet { .. }
            | Self::Plan { .. }
            | Self::PlannedRows { .. }
            | Self::Input { .. }
            | Self::Differs { .. }
            | Self::Conservation { .. }
            | Self::TooLarge { .. } => false,
        }
    }
}

/// Says whether the bytes may be what they should be, and only cannot be read or written at present.
fn is_out_of_reach(error: &alluvium_storage::Error) -> bool {
    use alluvium_storage::Error as Storage;
    let found = Storage::find_in(error).unwrap_or(error);
    if let Storage::Store { source, .. } = found {
        return Storage::find_in(source).is_none_or(|below| !below.is_corruption());
    }
    matches!(found, Storage::Io { .. } | Storage::Poisoned { .. })
}

/// A full disk may be wrapped in the store's own error.
fn is_full(error: &alluvium_storage::Error) -> bool {
    let found = if let alluvium_storage::Error::Store { source, .. } = error {
        alluvium_storage::Error::find_in(source)
    } else {
        Some(error)
    };
    matches!(found, Some(alluvium_storage::Error::Full { .. }))
}

impl From<alluvium_storage::Error> for Error {
    fn from(error: alluvium_storage::Error) -> Self {
        Self::Storage(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn kind_of(error: alluvium_storage::Error) -> ErrorKind {
        Error::from(error).kind()
    }

    #[test]
    fn a_bucket_that_cannot_be_written_is_not_a_damaged_one() {
        use alluvium_storage::{Error as Storage, Operation};
        let poisoned = || Storage::Poisoned { root: "root".into() };
        assert_eq!(kind_of(poisoned()), ErrorKind::Unavailable);
        let store = |source| Storage::Store {
            bucket: "local".to_owned(),
            key: "k".to_owned(),
            operation: Operation::Put,
            source,
        };
        assert_eq!(kind_of(store(poisoned().into())), ErrorKind::Unavailable);
        let denied = object_store::Error::PermissionDenied {
            path: "k".to_owned(),
            source: Box::new(io::Error::other("no")),
        };
        assert_eq!(kind_of(store(denied)), ErrorKind::Unavailable);
        let damaged = || Storage::FileHash { bucket: "local".to_owned(), key: "k".to_owned() };
        assert_eq!(kind_of(damaged()), ErrorKind::Corrupt);
        assert_eq!(kind_of(store(damaged().into())), ErrorKind::Corrupt);
        let other = Storage::Conflict { bucket: "local".to_owned(), key: "k".to_owned() };
        assert_eq!(kind_of(other), ErrorKind::Corrupt);
    }
}
