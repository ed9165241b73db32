//! Commands: what a log entry asks of the state machine.
//!
//! A command carries every value that apply needs. Rows and keys travel in the entry's body, beside the
//! header that these types encode to, so that Arrow bytes are never copied through a codec.

use bincode::{Decode, Encode};

use crate::{
    DatasetKey, DatasetName, DatasetOptions, FieldId, FileId, LogIndex, Schema, SchemaChange,
    SchemaVersion, Sequence, SessionId, UploadId,
};

/// A command with who asked, when, and under which conditions.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Envelope {
    /// The session and number that make a retry return the first result.
    pub session: Option<SessionRef>,
    /// Who asked; at most 256 bytes.
    pub actor: String,
    /// The leader's wall clock when it proposed. The state machine's time is the maximum seen.
    pub proposed_at_ms: u64,
    /// If given, the dataset must last have changed at this index (zero: it must not exist).
    pub expected_index: Option<LogIndex>,
    /// What to do.
    pub command: Command,
}

/// A numbered command of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SessionRef {
    /// The session.
    pub id: SessionId,
    /// The number; each new command has a higher one.
    pub sequence: Sequence,
}

/// What a log entry does.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Opens a session.
    OpenSession(OpenSession),
    /// Names a dataset and its schema.
    Register(Register),
    /// Changes a dataset's columns.
    Evolve(Evolve),
    /// Carries one part of an append, upsert or tombstone too large for one entry.
    Stage(Stage),
    /// Adds rows.
    Append(Append),
    /// Adds rows and hides older rows with the same keys.
    Upsert(Upsert),
    /// Hides rows with given keys and a lower index.
    Tombstone(Tombstone),
    /// Cuts all unsealed deltas into a data file now.
    Seal(Seal),
    /// Rewrites data files without their hidden rows.
    Compact(Compact),
    /// Records what a planned data file became.
    Attest(Attest),
    /// Moves the retention floor.
    Expire(Expire),
    /// Records that files were deleted from their bucket.
    Swept(Swept),
    /// Ends a dataset.
    Drop(Drop),
    /// Has all replicas compare their states.
    Checkpoint(Checkpoint),
}

/// The kinds of commands, for logs, metrics and `system.log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[expect(missing_docs, reason = "each is the command of the same name")]
pub enum CommandKind {
    OpenSession,
    Register,
    Evolve,
    Stage,
    Append,
    Upsert,
    Tombstone,
    Seal,
    Compact,
    Attest,
    Expire,
    Swept,
    Drop,
    Checkpoint,
}

impl Command {
    /// Returns the command's kind.
    #[must_use]
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::OpenSession(_) => CommandKind::OpenSession,
            Self::Register(_) => CommandKind::Register,
            Self::Evolve(_) => CommandKind::Evolve,
            Self::Stage(_) => CommandKind::Stage,
            Self::Append(_) => CommandKind::Append,
            Self::Upsert(_) => CommandKind::Upsert,
            Self::Tombstone(_) => CommandKind::Tombstone,
            Self::Seal(_) => CommandKind::Seal,
            Self::Compact(_) => CommandKind::Compact,
            Self::Attest(_) => CommandKind::Attest,
            Self::Expire(_) => CommandKind::Expire,
            Self::Swept(_) => CommandKind::Swept,
            Self::Drop(_) => CommandKind::Drop,
            Self::Checkpoint(_) => CommandKind::Checkpoint,
        }
    }

    /// Returns the dataset that the command names by identity, if it does.
    #[must_use]
    pub fn dataset(&self) -> Option<DatasetKey> {
        match self {
            Self::OpenSession(_) | Self::Register(_) | Self::Checkpoint(_) => None,
            Self::Evolve(command) => Some(command.dataset),
            Self::Stage(command) => Some(command.dataset),
            Self::Append(command) => Some(command.dataset),
            Self::Upsert(command) => Some(command.dataset),
            Self::Tombstone(command) => Some(command.dataset),
            Self::Seal(command) => Some(command.dataset),
            Self::Compact(command) => Some(command.dataset),
            Self::Attest(command) => Some(command.dataset),
            Self::Expire(command) => Some(command.dataset),
            Self::Swept(command) => Some(command.dataset),
            Self::Drop(command) => Some(command.dataset),
        }
    }
}

impl CommandKind {
    /// Returns the kind's name in lower case, as `system.log` shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenSession => "open_session",
            Self::Register => "register",
            Self::Evolve => "evolve",
            Self::Stage => "stage",
            Self::Append => "append",
            Self::Upsert => "upsert",
            Self::Tombstone => "tombstone",
            Self::Seal => "seal",
            Self::Compact => "compact",
            Self::Attest => "attest",
            Self::Expire => "expire",
            Self::Swept => "swept",
            Self::Drop => "drop",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// Opens a session whose id is this entry's index.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct OpenSession {
    /// Milliseconds of log time without a command after which the session ends.
    pub ttl_ms: u64,
}

/// Registers a dataset. The same name with the same schema and options is the same dataset.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Register {
    /// Its name.
    pub name: DatasetName,
    /// Its columns and key.
    pub schema: Schema,
    /// The bucket that holds its files.
    pub bucket: String,
    /// How it is kept.
    pub options: DatasetOptions,
}

/// Changes a dataset's columns, all steps or none.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Evolve {
    /// The dataset.
    pub dataset: DatasetKey,
    /// The steps, in order.
    pub changes: Vec<SchemaChange>,
}

/// One part of a large append, upsert or tombstone. Invisible until its command names the upload.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Stage {
    /// The dataset.
    pub dataset: DatasetKey,
    /// The upload it belongs to.
    pub upload: UploadId,
    /// Its number, from zero, without gaps.
    pub part: u32,
    /// What the entry's body holds.
    pub content: StageContent,
}

/// The body of a stage entry. The parts of one upload have one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum StageContent {
    /// Arrow rows for an append.
    Rows {
        /// The schema they have.
        schema_version: SchemaVersion,
        /// How many.
        rows: u32,
    },
    /// Arrow rows for an upsert, then at the next multiple of 64 bytes their key block.
    KeyedRows {
        /// The schema they have.
        schema_version: SchemaVersion,
        /// How many.
        rows: u32,
        /// Bytes of the Arrow part, before padding.
        rows_bytes: u32,
    },
    /// A key block for a tombstone. Keys ascend from part to part.
    Keys,
}

/// Where an append's rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum RowSource {
    /// In this entry's body.
    Inline {
        /// How many.
        rows: u32,
        /// Bytes of the Arrow part, before padding.
        rows_bytes: u32,
    },
    /// In the parts of an upload, which become visible together at this entry's index.
    Staged {
        /// The upload.
        upload: UploadId,
        /// How many parts it has.
        parts: u32,
        /// XXH3-128 over the bodies of its parts, in order: tells a retry from another content under the
        /// same session and sequence.
        content_hash: u128,
    },
}

/// Adds rows to a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Append {
    /// The dataset.
    pub dataset: DatasetKey,
    /// The schema that the rows have.
    pub schema_version: SchemaVersion,
    /// The rows.
    pub source: RowSource,
}

/// Adds rows to a keyed dataset and hides older rows with the same keys, at the same index.
///
/// An inline body is the Arrow rows, then at the next multiple of 64 bytes the key block, one key a row.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Upsert {
    /// The dataset.
    pub dataset: DatasetKey,
    /// The schema that the rows have.
    pub schema_version: SchemaVersion,
    /// The rows and their keys.
    pub source: RowSource,
}

/// Hides the rows of a keyed dataset that have one of the keys and a lower index.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Tombstone {
    /// The dataset.
    pub dataset: DatasetKey,
    /// Where the keys are.
    pub source: TombstoneSource,
    /// The predicate that the proposer resolved to these keys, for the record.
    pub predicate: Option<String>,
}

/// Where a tombstone's keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum TombstoneSource {
    /// A key block in this entry's body.
    Inline,
    /// Key blocks in the parts of an upload.
    Staged {
        /// The upload.
        upload: UploadId,
        /// How many parts it has.
        parts: u32,
        /// XXH3-128 over the bodies of its parts, in order: tells a retry from another content under the
        /// same session and sequence.
        content_hash: u128,
    },
}

/// Cuts the unsealed deltas of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Seal {
    /// The dataset.
    pub dataset: DatasetKey,
}

/// Plans one output file from exact inputs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Compact {
    /// The dataset.
    pub dataset: DatasetKey,
    /// The live files to rewrite, ascending.
    pub inputs: Vec<FileId>,
    /// Tombstones at or below this index are folded into the output.
    pub cutoff: LogIndex,
}

/// Says what a planned file became.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Attest {
    /// The dataset.
    pub dataset: DatasetKey,
    /// The planned file.
    pub file: FileId,
    /// What it became.
    pub outcome: AttestOutcome,
}

/// What a planned file became.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum AttestOutcome {
    /// It was written, read back and verified.
    Written(Box<Attested>),
    /// A compaction left no row: there is no file, and its inputs go.
    Empty {
        /// Rows that tombstones hid.
        rows_hidden: u64,
    },
    /// A compaction was given up; its inputs stay as they were.
    Abandoned {
        /// Why, for `system.log`.
        reason: String,
    },
}

/// What is known of a written file. Every other replica must write or find the same.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Attested {
    /// Hashes of its bytes.
    pub digest: FileDigest,
    /// Rows in it.
    pub rows: u64,
    /// Rows of its inputs that tombstones hid (compaction only).
    pub rows_hidden: u64,
    /// The wrapping sum of the hashes of its rows.
    pub row_hash_sum: u128,
    /// The lowest log index of a row.
    pub first_index: LogIndex,
    /// The highest log index of a row.
    pub last_index: LogIndex,
    /// Statistics of its top-level columns.
    pub stats: Vec<ColumnStats>,
}

/// Hashes of an object: of the whole, and of each block, so that any range can be verified when read.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FileDigest {
    /// The object's length.
    pub len_bytes: u64,
    /// BLAKE3 of the whole.
    pub blake3: [u8; 32],
    /// Bytes of a block; the last one may be shorter.
    pub block_bytes: u32,
    /// XXH3-128 of each block.
    pub blocks: Vec<u128>,
}

/// What is known of one column of a file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ColumnStats {
    /// The column.
    pub field: FieldId,
    /// Rows that are NULL.
    pub null_count: u64,
    /// No value is below it, if known.
    pub min: Option<StatValue>,
    /// No value is above it, if known.
    pub max: Option<StatValue>,
}

/// A bound of a column.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum StatValue {
    /// Of a boolean column.
    Bool(bool),
    /// Of a signed integer, date, time or timestamp column.
    Int(i64),
    /// Of an unsigned column.
    UInt(u64),
    /// The bits of a 64-bit float; never NaN.
    Float(u64),
    /// Of a text column, maybe shortened.
    Utf8(String),
    /// Of a binary column, maybe shortened.
    Binary(Vec<u8>),
    /// Of a decimal column, unscaled.
    Decimal(i128),
}

/// Moves a dataset's retention floor: no read below it is answered any more.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Expire {
    /// The dataset.
    pub dataset: DatasetKey,
    /// The new floor; not above the last applied index.
    pub floor: LogIndex,
}

/// Says that the objects of files no longer referenced are gone from their bucket.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Swept {
    /// The dataset.
    pub dataset: DatasetKey,
    /// The files.
    pub files: Vec<FileId>,
}

/// Ends a dataset and schedules its files for deletion.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Drop {
    /// The dataset.
    pub dataset: DatasetKey,
}

/// Has replicas compare their states. It changes no state itself.
///
/// A point and its verdict are two entries: digests are known only when the point is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Checkpoint {
    /// Every replica notes the digest of its state at this entry's index.
    Point,
    /// A majority of the voters had this digest at an earlier point; a replica that had another one has diverged.
    Agreed {
        /// The point.
        point: LogIndex,
        /// The digest.
        digest: [u8; 32],
    },
    /// The voters had different digests at an earlier point, and none was that of a majority: nobody can tell which is
    /// right.
    Disputed {
        /// The point.
        point: LogIndex,
    },
}
