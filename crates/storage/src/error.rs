//! What can go wrong with a bucket, by operation and subject. Never holds a credential or file content.

use std::io;
use std::path::PathBuf;

use crate::limits::ERROR_CHAIN_MAX;
use crate::local_root::Step;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a bucket, a file in it, or the disk below.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each field is named in its variant's message")]
pub enum Error {
    /// The key does not follow the grammar; nothing was touched.
    #[error("object key {key:?} is refused: {fault}")]
    Key { key: String, fault: KeyFault },
    /// The address of a bucket is none.
    #[error("{url:?} is no address of a bucket: {reason}")]
    Url { url: String, reason: String },
    /// The disk or quota is full; nothing was published.
    #[error("no space left at {path} to {step}")]
    Full {
        step: Step,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file operation failed.
    #[error("cannot {step} at {path}")]
    Io {
        step: Step,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A directory sync failed before: this store takes no further write until it is opened again.
    #[error("bucket root {root} is poisoned by a failed directory sync")]
    Poisoned { root: PathBuf },
    /// A symbolic link stands where a directory or an object should.
    #[error("{path} is a symbolic link; a bucket follows none")]
    SymbolicLink { path: PathBuf },
    /// The key holds other bytes already; they were left as they are.
    #[error("bucket {bucket}: object {key} exists with other bytes")]
    Conflict { bucket: String, key: String },
    /// The bucket belongs to another cluster, or is another bucket of this one.
    #[error("bucket {bucket}: identity marker names another bucket or cluster")]
    WrongBucket { bucket: String },
    /// The bucket has no identity marker though it was used before.
    #[error("bucket {bucket}: identity marker is missing")]
    MarkerMissing { bucket: String },
    /// The identity marker cannot be read as one.
    #[error("bucket {bucket}: identity marker is damaged")]
    MarkerDamaged { bucket: String },
    /// No digest is known for the key, so its bytes cannot be believed.
    #[error("bucket {bucket}: object {key} is not registered for verified reads")]
    Unregistered { bucket: String, key: String },
    /// The object is not there although the log says it must be.
    #[error("bucket {bucket}: object {key} is missing")]
    Missing { bucket: String, key: String },
    /// A block's bytes do not match its hash.
    #[error("bucket {bucket}: object {key}, block {block} is damaged")]
    BlockDamaged { bucket: String, key: String, block: u64 },
    /// The object is shorter or longer than its digest says.
    #[error("bucket {bucket}: object {key} has {found} bytes, expected {expected}")]
    Length { bucket: String, key: String, expected: u64, found: u64 },
    /// Every block matches but the hash over the whole does not: the digest itself is damaged.
    #[error("bucket {bucket}: object {key} does not match its file hash")]
    FileHash { bucket: String, key: String },
    /// A digest whose parts contradict each other.
    #[error("a file digest of {blocks} blocks cannot cover {len_bytes} bytes")]
    DigestShape { len_bytes: u64, blocks: u64 },
    /// The store failed; what it did is unknown unless the operation is a read.
    #[error("bucket {bucket}: cannot {operation} {key}")]
    Store {
        bucket: String,
        key: String,
        operation: Operation,
        #[source]
        source: object_store::Error,
    },
    /// The operation kept failing until its tries were used up.
    #[error("gave up after {attempts} tries")]
    Exhausted {
        attempts: u32,
        #[source]
        last: Box<Error>,
    },
}

/// Why a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// No segment at all.
    #[error("it is empty")]
    Empty,
    /// More than `KEY_BYTES_MAX` bytes.
    #[error("it is too long")]
    TooLong,
    /// More than `KEY_SEGMENTS_MAX` segments.
    #[error("it has too many segments")]
    TooDeep,
    /// A segment is longer than `KEY_SEGMENT_BYTES_MAX`.
    #[error("a segment is too long")]
    SegmentTooLong,
    /// A segment starts or continues with a character outside the grammar.
    #[error("a segment is not of the form [a-z0-9_][a-z0-9_.-]*")]
    Grammar,
    /// The key is no data file's name.
    #[error("it is not the name of a data file")]
    NotADataFile,
}

/// What was asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Operation {
    /// Put a whole object.
    #[error("put")]
    Put,
    /// Read an object or a part of it.
    #[error("read")]
    Get,
    /// Ask whether and how large an object is.
    #[error("probe")]
    Head,
    /// Delete an object.
    #[error("delete")]
    Delete,
}

impl Error {
    /// Returns the first of this crate's errors among `error` and its sources.
    ///
    /// Readers wrap errors several times on the way to a query; the answer to the client depends on what
    /// lies at the bottom. `io::Error` hides its payload from `source()`, so it is opened explicitly.
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        for _ in 0..ERROR_CHAIN_MAX {
            let current = next?;
            if let Some(found) = current.downcast_ref::<Self>() {
                return Some(found);
            }
            next = match current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(payload) => Some(payload),
                None => current.source(),
            };
        }
        None
    }

    /// Returns true when the bytes stored are not the bytes that were attested: read another copy.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::BlockDamaged { .. }
                | Self::Length { .. }
                | Self::FileHash { .. }
        )
    }

    /// Returns true when the same call may succeed later without anybody acting.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store { source, .. } => match Self::find_in(source) {
                Some(inner) => inner.is_transient(),
                None => matches!(
                    source,
                    object_store::Error::Generic { .. } | object_store::Error::JoinError { .. }
                ),
            },
            Self::Key { .. }
            | Self::Url { .. }
            | Self::Full { .. }
            | Self::Io { .. }
            | Self::Poisoned { .. }
            | Self::SymbolicLink { .. }
            | Self::Conflict { .. }
            | Self::WrongBucket { .. }
            | Self::MarkerMissing { .. }
            | Self::MarkerDamaged { .. }
            | Self::Unregistered { .. }
            | Self::Missing { .. }
            | Self::BlockDamaged { .. }
            | Self::Length { .. }
            | Self::FileHash { .. }
            | Self::DigestShape { .. }
            | Self::Exhausted { .. } => false,
        }
    }
}

/// The name under which this crate's errors appear in `object_store`'s.
pub(crate) const STORE_NAME: &str = "alluvium";

impl From<Error> for object_store::Error {
    fn from(error: Error) -> Self {
        if let Error::Missing { key, .. } = &error {
            return Self::NotFound { path: key.clone(), source: Box::new(error) };
        }
        Self::Generic { store: STORE_NAME, source: Box::new(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged() -> Error {
        Error::BlockDamaged { bucket: "b".into(), key: "k".into(), block: 7 }
    }

    #[test]
    fn our_error_is_found_below_a_store_error_below_an_io_error() {
        let wrapped = io::Error::other(object_store::Error::from(damaged()));
        let found = Error::find_in(&wrapped).map(ToString::to_string);
        assert_eq!(found.as_deref(), Some("bucket b: object k, block 7 is damaged"));
    }

    #[test]
    fn a_chain_without_our_error_yields_none() {
        let wrapped = io::Error::other(io::Error::from_raw_os_error(5));
        assert!(Error::find_in(&wrapped).is_none());
    }

    #[test]
    fn damage_is_corruption_and_never_worth_a_retry() {
        assert!(damaged().is_corruption());
        let wrapped = Error::Store {
            bucket: "b".into(),
            key: "k".into(),
            operation: Operation::Get,
            source: damaged().into(),
        };
        assert!(!wrapped.is_transient());
    }
}
