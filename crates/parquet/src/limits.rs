//! Every bound of this crate, named once. Those that shape bytes belong to writer version 1 for ever.

/// Rows handed to the encoder at once; fixes where pages may end.
pub const CHUNK_ROWS: usize = 16 * 1024;
/// Rows between two checks whether a page is full.
pub const WRITE_BATCH_ROWS: usize = 1024;
/// Bytes after which a data page is cut.
pub const PAGE_BYTES: usize = 1024 * 1024;
/// Rows after which a data page is cut: what a row selection can skip.
pub const PAGE_ROWS: usize = 20_000;
/// Bytes of dictionary after which a column chunk falls back to its plain encoding.
pub const DICTIONARY_BYTES: usize = 1024 * 1024;
/// A column with more than one new value in so many rows is tried without a dictionary.
pub const DICTIONARY_SHARE: usize = 10;
/// Fewest rows of a row group.
pub const ROW_GROUP_ROWS_MIN: u32 = 1024;
/// Most rows of a row group.
pub const ROW_GROUP_ROWS_MAX: u32 = 16 * 1024 * 1024;
/// Bytes kept of a text or binary bound.
pub const STAT_BYTES_MAX: usize = 64;
/// Rows of a batch that a reader returns.
pub const READ_BATCH_ROWS: usize = 8 * 1024;
/// Deepest nesting of a column's type.
pub const NESTING_MAX: usize = 16;

const _: () = assert!(CHUNK_ROWS >= ROW_GROUP_ROWS_MIN as usize);
const _: () = assert!(ROW_GROUP_ROWS_MIN < ROW_GROUP_ROWS_MAX);
