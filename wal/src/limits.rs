//! Every limit of the log, by name. What has no limit here does not grow.
//!
//! Changing a limit must not change what an existing log means: sizes that decide how bytes are
//! read are stored in the segment header.

/// One kibibyte.
pub const KIB: u64 = 1024;
/// One mebibyte.
pub const MIB: u64 = 1024 * KIB;

/// Bytes of a segment unless [`Options`](crate::Options) says otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 * MIB;
/// The smallest segment: small enough for tests that rotate at every few records.
pub const SEGMENT_BYTES_MIN: u64 = 16 * KIB;
/// The largest segment: an offset in it fits 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * MIB;
/// Bytes of the segment header, at the start of the file.
pub const SEGMENT_HEADER_BYTES: u64 = 4 * KIB;

/// Bytes of a record header. A multiple of [`ALIGNMENT`], so that the payload behind it is aligned
/// too.
pub const RECORD_HEADER_BYTES: u64 = 128;
/// Records start and payloads start at multiples of this: what Arrow wants of a buffer.
pub const ALIGNMENT: u64 = 64;
/// The largest payload of one record.
pub const PAYLOAD_BYTES_MAX: u64 = 32 * MIB;
/// The largest value of one slot.
pub const SLOT_BYTES_MAX: u64 = 4 * KIB;
/// Slots of one stream.
pub const SLOTS_MAX: u16 = 8;
/// Streams of one log: each costs a record in every new segment.
pub const STREAMS_MAX: u64 = 1024;
/// Operations of one append.
pub const OPERATIONS_MAX: u64 = 65_536;

/// Bytes that one vectored write gathers at most, unless a single append is larger.
pub const BATCH_BYTES_MAX: u64 = 8 * MIB;
/// Payloads up to this size are copied beside their header: cheaper than an I/O vector of their
/// own.
pub const COPY_BYTES_MAX: u64 = 4 * KIB;

/// Bytes that wait for the writer at most, unless a single append is larger.
pub const QUEUE_BYTES_MAX: u64 = 64 * MIB;
/// Appends that wait for the writer at most.
pub const QUEUE_APPENDS_MAX: u64 = 16_384;
/// Bytes of recent payloads kept in memory unless [`Options`](crate::Options) says otherwise.
pub const CACHE_BYTES_DEFAULT: u64 = 32 * MIB;
/// Prepared segments that wait for use.
pub const SPARES_MAX: u64 = 3;
/// Idle time after which the watermark is written.
pub const WATERMARK_IDLE_MS: u64 = 10;
/// Bytes of one watermark slot; the file holds two.
pub const WATERMARK_SLOT_BYTES: u64 = 4 * KIB;
/// Bytes that recovery reads at once.
pub const SCAN_BYTES: u64 = MIB;

const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(ALIGNMENT));
const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(ALIGNMENT));
const _: () = assert!(SEGMENT_BYTES_MIN >= 2 * SEGMENT_HEADER_BYTES);
const _: () = assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64);
const _: () = assert!(PAYLOAD_BYTES_MAX <= SEGMENT_BYTES_DEFAULT / 2);
const _: () = assert!(SLOT_BYTES_MAX <= SEGMENT_BYTES_MIN / 4);
const _: () = assert!(BATCH_BYTES_MAX <= QUEUE_BYTES_MAX);
const _: () = assert!(SCAN_BYTES.is_multiple_of(ALIGNMENT));
