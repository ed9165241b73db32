//! What can go wrong with a call on a node, and what the caller can do about it.

use std::io;
use std::path::PathBuf;

use alluvium_state_machine::{StoreError, ViewError};
use alluvium_types::{ErrorKind, FileId, LogIndex, Rejection};

mod kinds;

pub(crate) use kinds::raft_kind;
use kinds::{invalid_kind, is_full, peer_kind, storage_kind, store_kind, wal_kind};

/// An error of a node. [`Error::kind`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state machine refused the command; nothing changed.
    #[error("{0}")]
    Rejected(Rejection),
    /// A name, schema, key or entry is not legal.
    #[error(transparent)]
    Invalid(#[from] alluvium_types::Error),
    /// Rows are not what the dataset takes.
    #[error(transparent)]
    Rows(#[from] alluvium_rows::Error),
    /// A query failed.
    #[error(transparent)]
    Query(#[from] alluvium_query::Error),
    /// Consensus could not take the command.
    #[error(transparent)]
    Raft(#[from] alluvium_raft::Error),
    /// A data file is not on this node: it has not made or read it yet, or lost it. Other members have it.
    #[error("dataset {dataset}: data file {file} is not on this node yet")]
    FileNotHere {
        /// The dataset's name.
        dataset: String,
        /// The file.
        file: u64,
    },
    /// The node is not in quarantine: its state is that of the others, as far as anyone knows.
    #[error("this node is not in quarantine: there is nothing to reinstall")]
    NotInQuarantine,
    /// The node shall be opened anew: it takes the state of another one then.
    #[error("this node asks to be opened anew, to take the state of another one")]
    Reopen,
    /// The state of another node could not be had.
    #[error("this node was not given the state of another one: {reason}")]
    Reinstall {
        /// Why, from the member that was asked last.
        reason: String,
    },
    /// A data file could not be written, read or verified.
    #[error(transparent)]
    Materialize(#[from] alluvium_materialize::Error),
    /// A bucket could not be used.
    #[error(transparent)]
    Storage(Box<alluvium_storage::Error>),
    /// The log could not be opened.
    #[error(transparent)]
    Wal(#[from] alluvium_wal::Error),
    /// The metadata store could not be opened or used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metadata could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// No dataset has that name.
    #[error("dataset {name:?} does not exist")]
    DatasetNotFound {
        /// The name.
        name: String,
        /// A name that is like it.
        similar: Option<String>,
    },
    /// A bucket that this node does not have.
    #[error("bucket {name:?} does not exist")]
    BucketNotFound {
        /// The name.
        name: String,
    },
    /// Another file of the dataset is missing here, so what may be made of it waits.
    #[error("data file {file} waits for another one that is missing on this node")]
    InputsMissing {
        /// The file.
        file: FileId,
    },
    /// A name that a shared bucket cannot have.
    #[error("a shared bucket cannot be named {name:?}")]
    BucketName {
        /// The name.
        name: String,
    },
    /// An index that is not applied here, or no longer readable.
    #[error("index {index} cannot be read: the readable range is {low} to {high}")]
    IndexOutOfRange {
        /// The index asked for.
        index: LogIndex,
        /// The lowest readable.
        low: LogIndex,
        /// The highest readable.
        high: LogIndex,
    },
    /// An index that was waited for was not applied in time.
    #[error("index {index} was not applied in time, the newest is {applied}")]
    NotReached {
        /// The index asked for.
        index: LogIndex,
        /// The newest.
        applied: LogIndex,
    },
    /// More than one atomic append, upsert or tombstone may hold.
    #[error("{what} is too large: {value}, the limit is {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large it is.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A file could not be made; it is tried again in the background.
    #[error("data file {file} could not be made: {reason}")]
    JobFailed {
        /// The file.
        file: FileId,
        /// Why, of the last try.
        reason: String,
        /// The kind of that.
        kind: ErrorKind,
    },
    /// A compaction was given up; its inputs stay as they are.
    #[error("the compaction into data file {file} was given up: {reason}")]
    CompactionAbandoned {
        /// The file that was not made.
        file: FileId,
        /// Why.
        reason: String,
        /// The kind of that.
        kind: ErrorKind,
    },
    /// The log holds too much that is not in files yet.
    #[error("the log holds {bytes} bytes that are in no data file yet, the limit is {limit}")]
    Backlog {
        /// Bytes of log.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The disk has too little space left to accept rows.
    #[error("{available} bytes are free at {path}, writes need {needed}")]
    DiskFull {
        /// The data directory.
        path: PathBuf,
        /// Bytes free.
        available: u64,
        /// Bytes that must be free.
        needed: u64,
    },
    /// How much space the disk has left cannot be told, so nothing more is put on it.
    #[error("the free space at {path} cannot be measured")]
    Unmeasured {
        /// The data directory.
        path: PathBuf,
    },
    /// The answer of a dataset's precondition kept changing while a predicate was resolved.
    #[error("the dataset changed {tries} times while the predicate was resolved")]
    Contended {
        /// How often it was tried.
        tries: u32,
    },
    /// A task of the node died; the node must be restarted.
    #[error("the node's task {task:?} failed; restart the node")]
    TaskFailed {
        /// The task.
        task: &'static str,
    },
    /// Another process has the directory open.
    #[error("data directory {path} is in use by another process")]
    DirectoryLocked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to another node.
    #[error("data directory {path} belongs to node {found}, not to node {expected}")]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        found: u64,
        /// Who opened it.
        expected: u64,
    },
    /// A newer program wrote the directory.
    #[error("data directory {path} has format {found}, this program reads up to {supported}")]
    NewerDirectory {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// The newest format this program reads.
        supported: u16,
    },
    /// The directory holds something else.
    #[error("{path} is not a data directory and not empty: it holds {found:?}")]
    NotADataDirectory {
        /// The directory.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// The log is empty or gone, and what it made is still there.
    #[error(
        "the log in {path} is missing or empty, but {remains} is there: is a disk not mounted?"
    )]
    LogMissing {
        /// Where the log should be.
        path: PathBuf,
        /// Something that the log made.
        remains: PathBuf,
    },
    /// Objects that nothing refers to cannot be deleted; it is tried again in the background.
    #[error("data files that nothing refers to cannot be deleted: {reason}")]
    SweepFailed {
        /// Why, of the last try.
        reason: String,
        /// The kind of that.
        kind: ErrorKind,
    },
    /// The identity file is damaged.
    #[error("the identity file {path} is damaged")]
    DamagedIdentity {
        /// The file.
        path: PathBuf,
    },
    /// The network between nodes could not be set up, or the node was not let in.
    #[error(transparent)]
    Peer(#[from] alluvium_peer::Error),
    /// Nobody could reach a node that listens everywhere and does not say where that is.
    #[error("peers cannot reach {listen}: say by which address they can")]
    NoAddress {
        /// Where it listens.
        listen: std::net::SocketAddr,
    },
    /// The certificate is another node's, or another cluster's, than the directory.
    #[error("the certificate is not of the node that data directory {path} belongs to")]
    OtherCertificate {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is a member's, and was opened as if it were alone.
    #[error("data directory {path} is one of several nodes of a cluster: it needs a peer port")]
    Member {
        /// The directory.
        path: PathBuf,
    },
    /// A new directory with a certificate neither joins its cluster nor was told to found it.
    #[error(
        "data directory {path} is new: it must join the cluster of its certificate, or found it"
    )]
    NotFounded {
        /// The directory.
        path: PathBuf,
    },
    /// The node has no peer port, so its cluster cannot have other members.
    #[error("this node has no peer port: its cluster cannot have other members")]
    NoPeerPort,
    /// A file that was made here is not the one that the log attests: this replica differs.
    #[error(
        "data file {file} is not the one that the log attests: this node differs from the others"
    )]
    Diverged {
        /// The file.
        file: FileId,
    },
    /// Log, snapshots and metadata of a directory do not fit together, or an entry cannot be applied.
    #[error("{fault}")]
    Unfit {
        /// What does not fit.
        #[source]
        fault: Box<alluvium_raft::Fault>,
    },
    /// The temporary directory of a verification cannot be used.
    #[error("the temporary directory {path} cannot be used")]
    ScratchUnusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be read or written.
    #[error("data directory {path} cannot be used")]
    DirectoryUnusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<alluvium_storage::Error> for Error {
    fn from(error: alluvium_storage::Error) -> Self {
        Self::Storage(Box::new(error))
    }
}

impl Error {
    pub(crate) fn is_marker_missing(&self) -> bool {
        let Self::Storage(error) = self else { return false };
        matches!(error.as_ref(), alluvium_storage::Error::MarkerMissing { .. })
    }

    /// Returns the kind by which every protocol reports it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Rejected(rejection) => rejection.kind(),
            Self::Invalid(error) => invalid_kind(error),
            Self::Rows(error) => error.kind(),
            Self::Query(error) => error.kind(),
            Self::Raft(error) => raft_kind(error),
            Self::Materialize(error) => error.kind(),
            Self::Storage(error) => storage_kind(error),
            Self::Wal(error) => wal_kind(error),
            Self::Store(error) => store_kind(error),
            Self::DatasetNotFound { .. } | Self::BucketNotFound { .. } => ErrorKind::NotFound,
            Self::IndexOutOfRange { .. } => ErrorKind::OutOfRange,
            Self::View(error) => error.kind(),
            Self::NotInQuarantine | Self::BucketName { .. } => ErrorKind::InvalidArgument,
            Self::Reopen
            | Self::Reinstall { .. }
            | Self::FileNotHere { .. }
            | Self::InputsMissing { .. } => ErrorKind::Unavailable,
            Self::NotReached { .. } => ErrorKind::DeadlineExceeded,
            Self::TooLarge { .. } => ErrorKind::ResourceExhausted,
            Self::JobFailed { kind, .. }
            | Self::CompactionAbandoned { kind, .. }
            | Self::SweepFailed { kind, .. } => *kind,
            Self::Backlog { .. }
            | Self::Contended { .. }
            | Self::Unmeasured { .. }
            | Self::ScratchUnusable { .. } => ErrorKind::Unavailable,
            Self::DiskFull { .. } => ErrorKind::StorageFull,
            Self::DirectoryUnusable { source, .. } if is_full(source) => ErrorKind::StorageFull,
            Self::TaskFailed { .. } => ErrorKind::Internal,
            Self::DirectoryLocked { .. } => ErrorKind::Unavailable,
            Self::ForeignDirectory { .. }
            | Self::NewerDirectory { .. }
            | Self::NotADataDirectory { .. }
            | Self::DirectoryUnusable { .. } => ErrorKind::InvalidArgument,
            Self::Peer(error) => peer_kind(error),
            Self::NoAddress { .. }
            | Self::OtherCertificate { .. }
            | Self::Member { .. }
            | Self::NotFounded { .. }
            | Self::NoPeerPort => ErrorKind::InvalidArgument,
            Self::Diverged { .. }
            | Self::DamagedIdentity { .. }
            | Self::LogMissing { .. }
            | Self::Unfit { .. } => ErrorKind::Corrupt,
        }
    }

    /// Says whether the call ended before anything was proposed, for want of a leader that takes it: nothing of it will ever take effect.
    #[must_use]
    pub fn is_before_the_log(&self) -> bool {
        use alluvium_raft::Error as Raft;
        matches!(
            self,
            Self::Raft(
                Raft::NotLeader { .. }
                    | Raft::Unavailable
                    | Raft::LeaderBusy { .. }
                    | Raft::Removed { .. }
            )
        )
    }

    /// Returns the error of a later entry of a call whose first one is committed: that nothing was proposed is no longer
    /// so.
    pub(crate) fn after_an_entry(self) -> Self {
        match self.is_before_the_log() {
            true => Self::Raft(alluvium_raft::Error::Ambiguous),
            false => self,
        }
    }

    /// Returns what the caller can do, where that is not plain from the message.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "most messages need no hint")]
    pub fn hint(&self) -> Option<String> {
        if let Self::DatasetNotFound { similar: Some(similar), .. } = self {
            return Some(format!("a dataset named {similar:?} exists"));
        }
        if let Self::Rejected(Rejection::SchemaConflict { name, .. }) = self {
            return Some(format!("compare with `alluvium dataset show {name}`"));
        }
        let fixed = match self {
            Self::Rejected(Rejection::ExpectedIndex { .. }) => {
                "read the dataset again, then decide"
            }
            Self::BucketNotFound { .. } => {
                "every member must be started with --bucket NAME=s3://BUCKET[/PREFIX]"
            }
            Self::BucketName { .. } => {
                "up to 63 small letters, digits and dashes; `local` is each member's own"
            }
            Self::DirectoryLocked { .. } => {
                "a running server has it: connect to that server, or stop it first"
            }
            Self::NotFounded { .. } => {
                "say --join HOST:PORT; `alluvium cluster init` makes the first node of a new cluster"
            }
            Self::Member { .. } | Self::Raft(alluvium_raft::Error::OtherMembership) => {
                "serve it with --peer ADDRESS, and connect to that server"
            }
            Self::Backlog { .. } => "look at the job errors of `alluvium status`; rows are safe",
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}
