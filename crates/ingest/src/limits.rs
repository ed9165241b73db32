//! How much of a file is in memory at once.

/// Rows of a batch.
pub const BATCH_ROWS: usize = 8_192;
/// Bytes of text after which a batch ends early.
pub const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of one line or CSV record. A larger one could not become a row: an entry holds 8 MiB.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a file from which types are inferred.
pub const SAMPLE_BYTES: usize = 1024 * 1024;

const _: () = assert!(BATCH_BYTES <= RECORD_BYTES_MAX && SAMPLE_BYTES <= RECORD_BYTES_MAX);
