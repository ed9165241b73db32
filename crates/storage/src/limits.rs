//! Every bound of this crate, named once. Nothing here is configurable.

/// Bytes under one block hash: the least that a verified read fetches.
pub const BLOCK_BYTES: u32 = 256 * 1024;
/// Longest object key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest segment of an object key, in bytes.
pub const KEY_SEGMENT_BYTES_MAX: usize = 128;
/// Most segments in one object key.
pub const KEY_SEGMENTS_MAX: usize = 16;
/// Largest object put or read in one piece.
pub const OBJECT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Most tries of one background operation.
pub const RETRY_ATTEMPTS_MAX: u32 = 8;
/// Blocks that a streaming verified read holds at once.
pub const STREAM_BLOCKS: u64 = 16;
/// Most links followed when an error's sources are searched.
pub const ERROR_CHAIN_MAX: usize = 64;

const _: () = assert!(BLOCK_BYTES.is_power_of_two());
const _: () = assert!(KEY_SEGMENT_BYTES_MAX < KEY_BYTES_MAX);
const _: () = assert!(OBJECT_BYTES_MAX / BLOCK_BYTES as u64 <= u32::MAX as u64);
