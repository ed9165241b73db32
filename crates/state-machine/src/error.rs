//! What can go wrong with a store of metadata: local faults, never a reason to reject a command.

use std::io;
use std::path::PathBuf;

use crate::{StateDigest, ViewError};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A store failed. The node must stop using it; the log and the other replicas still have the
/// truth.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("open the metadata store at {path}", path = .path.display())]
    Open {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Source,
    },
    /// What it holds is not what was written. Rebuild it from a snapshot and the log.
    #[error("the metadata store is damaged at {path}", path = .path.display())]
    Corrupt {
        /// The file or directory.
        path: PathBuf,
        /// What was found.
        #[source]
        source: Source,
    },
    /// It was written by a newer program.
    #[error("the metadata store has format {found}, this program reads up to {supported}")]
    NewerFormat {
        /// Its format.
        found: u32,
        /// The newest this program reads.
        supported: u32,
    },
    /// A batch could not be written.
    #[error("commit to the metadata store at {path}", path = .path.display())]
    Commit {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Source,
    },
    /// What was applied could not be made durable. Never retried.
    #[error("flush the metadata store at {path}", path = .path.display())]
    Flush {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Source,
    },
    /// A file operation beside the store failed.
    #[error("change {path}", path = .path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its state could not be read.
    #[error("read the metadata store")]
    View {
        /// Why.
        #[from]
        source: ViewError,
    },
    /// A snapshot could not be written or read.
    #[error("metadata snapshot")]
    Snapshot {
        /// Why.
        #[from]
        source: SnapshotError,
    },
}

/// A snapshot stream is not whole, not intact, or could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The sink failed.
    #[error("write the snapshot")]
    Write {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The source failed, or ended too early.
    #[error("read chunk {chunk} of the snapshot")]
    Read {
        /// The chunk, from zero.
        chunk: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no snapshot, or its header is damaged.
    #[error("the snapshot's header is damaged")]
    Header,
    /// A newer program wrote it.
    #[error("the snapshot has format {found}, this program reads up to {supported}")]
    NewerFormat {
        /// Its format.
        found: u16,
        /// The newest this program reads.
        supported: u16,
    },
    /// A chunk is not what was written.
    #[error("chunk {chunk} of the snapshot is damaged: {reason}")]
    Chunk {
        /// The chunk, from zero.
        chunk: u64,
        /// What was found.
        reason: &'static str,
    },
    /// Its rows do not add up to the digest that it claims.
    #[error("the snapshot claims digest {claimed}, its rows have {found}")]
    Digest {
        /// In its footer.
        claimed: StateDigest,
        /// Of its rows.
        found: StateDigest,
    },
}
