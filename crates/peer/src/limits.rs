//! Every limit of the network between nodes, by name.

use std::time::Duration;

use alluvium_types::limits::ENTRY_BYTES_MAX;

/// Bytes of one message: an append holds what the log reads at once, or one entry that is larger.
pub const MESSAGE_BYTES_MAX: usize = 2 * ENTRY_BYTES_MAX as usize;
/// Bytes of one part of a snapshot.
pub const PART_BYTES: usize = 1024 * 1024;
/// Bytes of a data file that is read from a peer.
pub const FILE_BYTES_MAX: u64 = alluvium_types::limits::FILE_BYTES_MAX;
/// Bytes of a snapshot that its receiver takes.
pub const SNAPSHOT_BYTES_MAX: u64 = 1 << 40;

/// Until a connection stands.
pub const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Until the other side has shown who it is.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Connections of peers at one time.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Until whoever connected has made a call.
pub const OPENING_MAX: Duration = Duration::from_secs(5);
/// Until a follower answers an append: a slow disk is no reason to send everything again.
pub const REPLY_MAX: Duration = Duration::from_secs(10);
/// Until a forwarded call is answered.
pub const FORWARD_MAX: Duration = Duration::from_secs(30);
/// Between two tries of a newcomer.
pub const JOIN_AGAIN: Duration = Duration::from_millis(200);
/// Until a voter has taken the leadership over.
pub const TRANSFER_MAX: Duration = Duration::from_secs(10);
/// Until the next part of a snapshot arrives.
pub const PART_MAX: Duration = Duration::from_secs(30);
/// Until a snapshot that was sent whole is installed.
pub const INSTALL_MAX: Duration = Duration::from_secs(30 * 60);
/// Between two signs of life on an idle connection, and until it counts as dead.
pub const KEEPALIVE: Duration = Duration::from_secs(2);

/// For open calls to end when a node stops.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Bytes of forwarded commands that a leader proposes at one time; more wait.
pub const FORWARDED_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Calls that one connection may have open.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// Bytes that may be on their way on one stream: a few batches of entries.
pub const WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The first wait before an unreachable node is tried again; each later one is twice as long.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait before an unreachable node is tried again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

const _: () = assert!(alluvium_raft::limits::READ_BYTES_MAX < MESSAGE_BYTES_MAX as u64);
const _: () = assert!(PART_BYTES < MESSAGE_BYTES_MAX);
const _: () = assert!(ENTRY_BYTES_MAX < FORWARDED_BYTES_MAX);
