//! What the tables hold. Every record is encoded by `types::codec` and covered by the state digest.

use bincode::{Decode, Encode};

use alluvium_types::{
    Attested, DatasetKey, DatasetName, DatasetOptions, FileId, LogIndex, NodeId, Response,
    SchemaVersion, Sequence, StageContent,
};

/// A client session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SessionRecord {
    /// Idle milliseconds of log time after which it ends.
    pub ttl_ms: u64,
    /// Log time of its last command.
    pub active_at_ms: u64,
    /// The highest sequence seen. Results exist for the last `SESSION_WINDOW` numbers up to it.
    pub sequence_max: Sequence,
}

/// The remembered result of one command of a session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ResultRecord {
    /// XXH3-128 over the encoded command and the entry's body: tells a retry from a reuse.
    pub payload_hash: u128,
    /// What was answered.
    pub response: Response,
}

/// An upload whose command has not come yet.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UploadRecord {
    /// The dataset it is for.
    pub dataset: DatasetKey,
    /// The kind of its parts: the first part's content.
    pub content: StageContent,
    /// Parts so far.
    pub parts: u32,
    /// Rows or keys so far.
    pub items: u64,
    /// Bytes of bodies so far.
    pub bytes: u64,
    /// Bytes of key blocks so far.
    pub key_bytes: u64,
    /// The highest key so far; the next part's keys are above it.
    pub last_key: Vec<u8>,
    /// Index of its first part; the log must be kept from there.
    pub first_index: LogIndex,
    /// Log time of its last part.
    pub active_at_ms: u64,
}

/// One part of an upload. Its key block, if it has one, is in [`crate::Table::UploadKeys`]: a block
/// is larger than a record may be.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UploadPartRecord {
    /// The entry that holds its rows.
    pub index: LogIndex,
    /// XXH3-128 of command and body: tells a retry from a conflict.
    pub payload_hash: u128,
    /// Rows, or keys.
    pub items: u32,
    /// Bytes of Arrow in the entry's body.
    pub rows_bytes: u32,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct NameRecord {
    /// The dataset, live or dropped.
    pub dataset: DatasetKey,
    /// Whether it is live. A dropped name keeps its record, so that its past can be read.
    pub live: bool,
}

/// A dataset's catalog entry. It changes with register, evolve, expire and drop only.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DatasetRecord {
    /// Its identity.
    pub dataset: DatasetKey,
    /// Its name.
    pub name: DatasetName,
    /// The fingerprint of the schema and options it was registered with.
    pub fingerprint: u128,
    /// Its current schema.
    pub schema_version: SchemaVersion,
    /// The next column id; ids are never reused.
    pub next_field: u32,
    /// The bucket of its files.
    pub bucket: String,
    /// How it is kept.
    pub options: DatasetOptions,
    /// When it was registered, in log time.
    pub registered_at_ms: u64,
    /// Reads below this index are refused.
    pub floor: LogIndex,
    /// Whether it was dropped.
    pub dropped: bool,
}

/// What changes with every append. Kept apart, so that an append rewrites a few bytes only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct DatasetCounters {
    /// The index of the last command that changed the dataset: what `expected_index` is compared
    /// with.
    pub changed_at: LogIndex,
    /// Rows of deltas that no planned file covers.
    pub unsealed_rows: u64,
    /// Arrow bytes of them.
    pub unsealed_bytes: u64,
    /// How many they are.
    pub unsealed_deltas: u64,
    /// The visible index of the first of them; zero when there is none.
    pub unsealed_first: LogIndex,
    /// The visible index of the last of them; zero when there is none.
    pub unsealed_last: LogIndex,
    /// Rows ever appended or upserted.
    pub rows_added: u64,
    /// Keys ever named by tombstones and upserts.
    pub keys_hidden: u64,
}

/// Rows that are read from the log. Deleted when the file that covers them is attested.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeltaRecord {
    /// Its schema.
    pub schema_version: SchemaVersion,
    /// How many rows.
    pub rows: u64,
    /// Arrow bytes.
    pub bytes: u64,
    /// The entries that hold the rows, in order; each with its rows and Arrow bytes.
    pub entries: Vec<DeltaEntry>,
}

/// One entry of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct DeltaEntry {
    /// The entry.
    pub index: LogIndex,
    /// Rows in it.
    pub rows: u32,
    /// Bytes of Arrow at the start of its body.
    pub rows_bytes: u32,
}

/// A data file, from plan to sweep.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FileRecord {
    /// Its id: the index of the entry that planned it.
    pub file: FileId,
    /// Zero for a seal; one more than the highest input for a compaction.
    pub generation: u32,
    /// The schema of its rows.
    pub schema_version: SchemaVersion,
    /// The rows it must hold.
    pub content: FileContent,
    /// Rows planned to be in it: exact for a seal, the sum of the inputs for a compaction.
    pub rows_planned: u64,
    /// Tombstones at or below this index are folded in: none of their rows is in it.
    pub folded_to: LogIndex,
    /// Where it stands.
    pub state: FileState,
    /// The compaction that is rewriting it, if any.
    pub reserved_by: Option<FileId>,
}

/// Which rows a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FileContent {
    /// The deltas with visible index from `first` to `last`.
    Seal {
        /// The first delta.
        first: LogIndex,
        /// The last delta.
        last: LogIndex,
    },
    /// The rows of other files that tombstones up to the cutoff do not hide.
    Compaction {
        /// The inputs, ascending.
        inputs: Vec<FileId>,
        /// The highest tombstone that is folded.
        cutoff: LogIndex,
    },
}

/// Where a file stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FileState {
    /// It must be written; readers use what it is made from.
    Planned,
    /// Readers use it.
    Live(Box<Attested>),
    /// A later file replaced it; reads as of earlier indexes use it.
    Replaced {
        /// What it holds.
        attested: Box<Attested>,
        /// The index since which readers use its replacement.
        since: LogIndex,
    },
}

/// An object that must be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SweepRecord {
    /// Its file's generation: part of the object's name.
    pub generation: u32,
    /// The bucket.
    pub bucket: String,
    /// The index since which nothing refers to it.
    pub since: LogIndex,
}

/// What consensus keeps beside the tables. Not part of the digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct RaftRecord {
    /// The last applied entry.
    pub applied: Option<AppliedEntry>,
    /// The membership as the raft crate encodes it.
    pub membership: Vec<u8>,
}

/// The identity of a log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct AppliedEntry {
    /// Its term.
    pub term: u64,
    /// The node that led that term.
    pub leader: NodeId,
    /// Its index.
    pub index: LogIndex,
}

impl FileRecord {
    /// Returns what was attested, unless the file is only planned.
    #[must_use]
    pub fn attested(&self) -> Option<&Attested> {
        match &self.state {
            FileState::Planned => None,
            FileState::Live(attested) | FileState::Replaced { attested, .. } => Some(attested),
        }
    }

    /// Says whether readers at the record's index use the file.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.state, FileState::Live(_))
    }
}
