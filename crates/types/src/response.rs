//! What apply answers. A rejected command is an answer, not an error: every replica gives the same.

use bincode::{Decode, Encode};

use crate::{
    CommandKind, DataType, DatasetKey, DatasetName, Error, FileId, LogIndex, SchemaVersion,
    Sequence, SessionId, UploadId,
};

/// The answer to one entry, and the index that a reader needs to see its effect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Response {
    /// The entry's index. A retry gets the index of the first try.
    pub index: LogIndex,
    /// What happened.
    pub outcome: Outcome,
}

/// What an entry did.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// A session was opened.
    SessionOpened {
        /// Its id.
        session: SessionId,
    },
    /// A dataset is registered.
    Registered {
        /// Its identity.
        dataset: DatasetKey,
        /// Its current schema.
        schema_version: SchemaVersion,
        /// Whether it was there before.
        existing: bool,
    },
    /// A dataset has a new schema.
    Evolved {
        /// The new schema's number.
        schema_version: SchemaVersion,
    },
    /// A part waits for its command.
    Staged {
        /// Its upload.
        upload: UploadId,
        /// Its number.
        part: u32,
    },
    /// Rows were added.
    Appended {
        /// How many.
        rows: u64,
    },
    /// Rows were added, and older ones with their keys hidden.
    Upserted {
        /// How many were added.
        rows: u64,
    },
    /// Keys are hidden below this index.
    Tombstoned {
        /// How many distinct keys.
        keys: u64,
    },
    /// Deltas were cut.
    Sealed {
        /// The planned file; none when there was nothing to cut.
        file: Option<FileId>,
        /// Rows it will have.
        rows: u64,
    },
    /// A compaction was planned.
    CompactionPlanned {
        /// Its output.
        file: FileId,
    },
    /// A file was attested.
    Attested {
        /// The file.
        file: FileId,
    },
    /// The floor moved.
    Expired {
        /// The floor now.
        floor: LogIndex,
        /// Metadata versions pruned by this entry.
        versions_pruned: u64,
        /// Whether another expire would prune more.
        more: bool,
    },
    /// Files are known to be gone.
    Swept {
        /// How many.
        files: u64,
    },
    /// The dataset ended.
    Dropped,
    /// The command changed nothing.
    Rejected(Rejection),
    /// Every replica noted or compared its digest.
    Checked,
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Rejection {
    /// The session is not open: it expired, or never was.
    #[error(
        "session {session} is not open; whether earlier commands of it took effect cannot be told any more"
    )]
    SessionExpired {
        /// The session.
        session: SessionId,
    },
    /// A sequence number was reused for another command.
    #[error("sequence {sequence} of session {session} was used for another command")]
    SequenceConflict {
        /// The session.
        session: SessionId,
        /// The number.
        sequence: Sequence,
    },
    /// A sequence number too far back to be remembered.
    #[error(
        "sequence {sequence} of session {session} is older than the {window} that are remembered"
    )]
    SequenceTooOld {
        /// The session.
        session: SessionId,
        /// The number.
        sequence: Sequence,
        /// How many are remembered.
        window: u64,
    },
    /// The dataset does not exist in this life.
    #[error("dataset {dataset} does not exist")]
    DatasetNotFound {
        /// The dataset.
        dataset: DatasetKey,
    },
    /// The name is taken by a dataset with another schema or other options.
    #[error(
        "dataset \"{name}\" exists with another schema or other options; evolve it, or choose another name"
    )]
    SchemaConflict {
        /// The name.
        name: DatasetName,
        /// The dataset that has it.
        dataset: DatasetKey,
    },
    /// The dataset changed since the caller read it.
    #[error("the dataset last changed at index {actual}, not at {expected}")]
    ExpectedIndex {
        /// What the caller expected.
        expected: LogIndex,
        /// What is true.
        actual: LogIndex,
    },
    /// The rows have another schema than the dataset has now.
    #[error("the rows have schema {found}, the dataset has {current}", found = .found.0, current = .current.0)]
    SchemaVersion {
        /// The rows' schema.
        found: SchemaVersion,
        /// The dataset's schema.
        current: SchemaVersion,
    },
    /// A name, schema, key or block that is not legal.
    #[error("illegal {command} command: {reason}", command = .command.name())]
    Illegal {
        /// The command.
        command: CommandKind,
        /// What is wrong, in words made by [`Error`].
        reason: String,
    },
    /// A command that needs keys, on a dataset without.
    #[error("the dataset has no key columns, so no row of it can be named")]
    Keyless,
    /// An append without rows.
    #[error("there is no row in it")]
    NoRows,
    /// A column that evolve names and the schema does not have.
    #[error("column {column:?} does not exist")]
    ColumnNotFound {
        /// The column.
        column: String,
    },
    /// A change that would lose or change values.
    #[error("column {column:?} of type {from} cannot become {to}: some values would not fit")]
    NotWider {
        /// The column.
        column: String,
        /// Its type.
        from: DataType,
        /// The type asked for.
        to: DataType,
    },
    /// An added column that older rows could not have.
    #[error("column {column:?} must be nullable: rows that are there already have no value for it")]
    AddedNotNullable {
        /// The column.
        column: String,
    },
    /// A key column cannot be dropped.
    #[error("column {column:?} is part of the key")]
    KeyColumn {
        /// The column.
        column: String,
    },
    /// A part or command for an upload that is not as it says.
    #[error("upload {upload}: {reason}")]
    Upload {
        /// The upload.
        upload: UploadId,
        /// What is wrong.
        reason: UploadFault,
    },
    /// Too many uploads at once.
    #[error("{limit} uploads are open already")]
    TooManyUploads {
        /// The limit.
        limit: u32,
    },
    /// A file that a command names and that is not as it says.
    #[error("file {file}: {reason}")]
    File {
        /// The file.
        file: FileId,
        /// What is wrong.
        reason: FileFault,
    },
    /// A compaction of nothing.
    #[error("there is nothing to compact")]
    NothingToCompact,
    /// A compaction with too many inputs or rows, or inputs out of order.
    #[error("a compaction takes at most {files_max} files in ascending order and {rows_max} rows")]
    CompactionTooLarge {
        /// The limit of files.
        files_max: u64,
        /// The limit of rows.
        rows_max: u64,
    },
    /// An index that the log has not reached, or a floor that moves back.
    #[error("index {index} is out of range: it must be between {low} and {high}")]
    IndexOutOfRange {
        /// The index given.
        index: LogIndex,
        /// The lowest possible.
        low: LogIndex,
        /// The highest possible.
        high: LogIndex,
    },
    /// A dataset's rows are not accounted for.
    #[error("conservation failed: {rows_in} rows in, {rows_hidden} hidden, {rows_out} out")]
    Conservation {
        /// Rows of the inputs.
        rows_in: u64,
        /// Rows that tombstones hid.
        rows_hidden: u64,
        /// Rows of the output.
        rows_out: u64,
    },
}

/// What is wrong with an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum UploadFault {
    /// No part of it is here.
    #[error("it is not open; it may have expired")]
    NotFound,
    /// A part is missing or repeated with other content.
    #[error("its parts do not follow each other")]
    PartOrder,
    /// Another number of parts than said.
    #[error("it has another number of parts")]
    PartCount,
    /// Parts of another kind, schema or dataset.
    #[error("its parts are of another kind, schema or dataset")]
    Mixed,
    /// More parts than one upload may have.
    #[error("it has too many parts")]
    TooManyParts,
    /// Keys that do not ascend from part to part.
    #[error("its keys do not ascend from part to part")]
    KeyOrder,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum FileFault {
    /// No such file.
    #[error("it does not exist")]
    NotFound,
    /// Not live: planned, or already replaced.
    #[error("it is not live")]
    NotLive,
    /// Already an input of another compaction.
    #[error("another compaction works on it")]
    Reserved,
    /// Not waiting for an attestation.
    #[error("it is not planned")]
    NotPlanned,
    /// Attested before with other bytes: two writers of one recipe differed.
    #[error("it was attested with other bytes")]
    Differs,
    /// A seal cannot be given up: its rows would never leave the log.
    #[error("a seal cannot be abandoned")]
    SealAbandoned,
    /// Not scheduled for deletion.
    #[error("it is not waiting to be swept")]
    NotSweepable,
}

/// The kinds of errors that every protocol maps (one table: `docs/ERRORS.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller must change the request.
    InvalidArgument,
    /// What it names does not exist.
    NotFound,
    /// It conflicts with what exists.
    Conflict,
    /// An expected index or version does not match: read again, then decide.
    Precondition,
    /// The caller may not do that.
    PermissionDenied,
    /// A limit was met; the message names it.
    ResourceExhausted,
    /// Later, with the same session and sequence.
    Unavailable,
    /// The deadline passed; whether it took effect is unknown.
    DeadlineExceeded,
    /// No space is left.
    StorageFull,
    /// Stored bytes are not what was written.
    Corrupt,
    /// Below the retention floor, or a lease ended.
    OutOfRange,
    /// A bug.
    Internal,
}

impl Rejection {
    /// Makes a rejection of an illegal command.
    #[must_use]
    pub fn illegal(command: CommandKind, error: &Error) -> Self {
        Self::Illegal { command, reason: error.to_string() }
    }

    /// Returns the kind by which protocols report it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::SessionExpired { .. } | Self::SequenceTooOld { .. } => ErrorKind::OutOfRange,
            Self::DatasetNotFound { .. } => ErrorKind::NotFound,
            Self::SchemaConflict { .. } => ErrorKind::Conflict,
            Self::ExpectedIndex { .. } | Self::SchemaVersion { .. } => ErrorKind::Precondition,
            Self::TooManyUploads { .. } => ErrorKind::ResourceExhausted,
            Self::Conservation { .. } => ErrorKind::Internal,
            Self::File { reason, .. } => reason.kind(),
            Self::SequenceConflict { .. }
            | Self::Illegal { .. }
            | Self::Keyless
            | Self::NoRows
            | Self::ColumnNotFound { .. }
            | Self::NotWider { .. }
            | Self::AddedNotNullable { .. }
            | Self::KeyColumn { .. }
            | Self::Upload { .. }
            | Self::NothingToCompact
            | Self::CompactionTooLarge { .. }
            | Self::IndexOutOfRange { .. } => ErrorKind::InvalidArgument,
        }
    }
}

impl FileFault {
    fn kind(self) -> ErrorKind {
        match self {
            Self::NotFound => ErrorKind::NotFound,
            Self::NotLive | Self::Reserved | Self::NotPlanned | Self::NotSweepable => {
                ErrorKind::Precondition
            }
            Self::Differs => ErrorKind::Corrupt,
            Self::SealAbandoned => ErrorKind::InvalidArgument,
        }
    }
}
