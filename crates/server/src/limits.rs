//! What one call may send, take and last.

use std::time::Duration;

use alluvium_rows::StreamLimits;

/// Bytes of one message from a client: an Arrow stream must hold any row that an entry can hold.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of rows in one message to a client.
pub const RESPONSE_CHUNK_BYTES: usize = 1024 * 1024;
/// Keys as text in one message.
pub const TEXT_KEYS_MAX: usize = 65_536;
/// Bytes of keys that one tombstone may send.
pub const TOMBSTONE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Log records in one answer.
pub const LOG_RECORDS_MAX: u32 = 10_000;
/// Connections of clients at one time. Each costs about 40 KiB as long as nothing is asked on it.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Bytes that begin HTTP/2: the preface and the head of the first frame.
pub const OPENING_BYTES: usize = 24 + 9;
/// Until a client has sent these.
pub const OPENING_MAX: Duration = Duration::from_secs(5);
/// Between two signs of life on a connection, and until it counts as dead.
pub const KEEPALIVE: Duration = Duration::from_secs(20);
/// Calls that one connection may have open.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// How long a call may last when the client says nothing.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(600);
/// The longest deadline that a client may ask for.
pub const DEADLINE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long open calls may go on after the server was told to stop.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// What one Arrow stream of a client may become in memory.
pub(crate) const STREAM_LIMITS: StreamLimits =
    StreamLimits { memory_bytes: 256 * 1024 * 1024, rows: 4 * 1024 * 1024, batches: 4_096 };

const _: () = assert!(alluvium_types::limits::ENTRY_BYTES_MAX as usize <= REQUEST_BYTES_MAX);
