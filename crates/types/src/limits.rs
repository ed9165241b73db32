//! Every limit that the log or its users can meet, with the relations between them asserted.

/// One kibibyte.
pub const KIB: u32 = 1024;
/// One mebibyte.
pub const MIB: u32 = 1024 * KIB;

/// Bytes of one log entry, frame included. Larger appends become several entries.
pub const ENTRY_BYTES_MAX: u32 = 8 * MIB;
/// Bytes of an entry's body (Arrow IPC rows or a key block).
pub const BODY_BYTES_MAX: u32 = ENTRY_BYTES_MAX - 256 * KIB;
/// Bytes of an entry's header: names, schema, statistics.
pub const HEADER_BYTES_MAX: u32 = 192 * KIB;
/// Rows of one batch in an entry.
pub const BATCH_ROWS_MAX: u32 = 1_048_576;
/// Entries that one staged append or tombstone may consist of.
pub const UPLOAD_PARTS_MAX: u32 = 256;
/// Milliseconds of log time after which an upload that was never committed is forgotten.
pub const UPLOAD_TTL_MS: u64 = 10 * 60 * 1_000;
/// Uploads open at once.
pub const UPLOADS_MAX: u32 = 256;

/// Characters of a dataset name.
pub const NAME_CHARS_MAX: usize = 128;
/// Characters of a column name.
pub const COLUMN_NAME_BYTES_MAX: usize = 256;
/// Columns of a dataset, nested ones counted.
pub const COLUMNS_MAX: usize = 2_000;
/// Levels of nesting of a column's type.
pub const NESTING_MAX: usize = 8;
/// Key columns of a dataset.
pub const KEY_COLUMNS_MAX: usize = 16;
/// Bytes of one encoded key.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Keys in one key block.
pub const KEYS_PER_BLOCK_MAX: u32 = 1_048_576;
/// Characters of the actor's name on a command.
pub const ACTOR_BYTES_MAX: usize = 256;

/// Sequence numbers a session remembers.
pub const SESSION_WINDOW: u64 = 1_024;
/// Sessions open at once; the least recently active is closed first.
pub const SESSIONS_MAX: u64 = 65_536;
/// The longest a session may be idle, in milliseconds of log time.
pub const SESSION_TTL_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;
/// The default idle time of a session.
pub const SESSION_TTL_MS_DEFAULT: u64 = 24 * 60 * 60 * 1_000;
/// How finely the last activity of sessions is told apart when the longest idle is sought, in milliseconds.
pub const SESSION_ACTIVITY_STEP_MS: u64 = 1_000;
/// Sessions that one entry may close as expired, so that no entry grows without bound.
pub const SESSIONS_EXPIRED_PER_ENTRY_MAX: usize = 64;

/// Unsealed bytes of a dataset at which apply cuts a file.
pub const SEAL_BYTES: u64 = 64 * 1024 * 1024;
/// The most that a dataset may ask for: a file of them stays below the limit of a file.
pub const SEAL_BYTES_MAX: u64 = 1536 * 1024 * 1024;
/// Unsealed rows of a dataset at which apply cuts a file.
pub const SEAL_ROWS: u64 = 4 * 1024 * 1024;
/// Unsealed deltas of a dataset at which apply cuts a file.
pub const SEAL_DELTAS: u64 = 8_192;
/// Input files of one compaction.
pub const COMPACT_INPUTS_MAX: usize = 1_024;
/// Rows of the output of one compaction.
pub const COMPACT_ROWS_MAX: u64 = 64 * 1024 * 1024;
/// Metadata versions that one expire entry may prune.
pub const EXPIRE_VERSIONS_MAX: usize = 65_536;
/// Files that one swept entry may name.
pub const SWEPT_FILES_MAX: usize = 4_096;
/// Bytes of one data-file block that is hashed on its own.
pub const FILE_BLOCK_BYTES: u32 = 256 * KIB;
/// Bytes of a data file: its block hashes must fit an entry's header.
pub const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

const _: () = assert!(HEADER_BYTES_MAX + BODY_BYTES_MAX < ENTRY_BYTES_MAX);
const _: () = assert!(FILE_BYTES_MAX / (FILE_BLOCK_BYTES as u64) * 16 < HEADER_BYTES_MAX as u64);
