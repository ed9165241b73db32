//! What one client keeps, sends and waits for.

use std::time::Duration;

/// Nodes that one client knows, hints included.
pub const NODES_MAX: usize = 16;
/// How long a call may last when nobody says.
pub const LIMIT_DEFAULT: Duration = Duration::from_secs(60);
/// How long one node may take over a short call before another one is asked.
pub const TRY_LIMIT_DEFAULT: Duration = Duration::from_secs(15);
/// Tries of one call, whatever its limit.
pub const TRIES_MAX: u32 = 10_000;
/// The wait before the first repetition that must wait; each later one is twice as long.
pub const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait between two tries.
pub const WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a node whose connection broke is asked only when no other one is left.
pub const AVOID: Duration = Duration::from_secs(1);
/// How long the question who leads may take.
pub const ASK_LEADER_MAX: Duration = Duration::from_millis(500);

/// Bytes of one message of rows: below what a server takes, whatever the encoding adds.
pub const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of the largest message that a server takes.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes around the rows of a message, at most.
pub(crate) const ENVELOPE_BYTES: usize = 1024;
/// Bytes of one message of an answer.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Keys in one message of texts.
pub const KEYS_PER_MESSAGE: usize = 4_096;
/// Bytes of kept rows up to which an append is a short call.
pub(crate) const SHORT_APPEND_BYTES: usize = 8 * 1024 * 1024;

pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(3);
/// A connection that is silent for this long is asked whether it lives: a stopped process keeps its socket open.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(2);
/// How long it may take to say so.
pub(crate) const PING_MAX: Duration = Duration::from_secs(3);
/// What is waited beyond a limit for a server to say itself that it passed.
pub(crate) const GRACE: Duration = Duration::from_millis(500);
/// How long the end of a call is away when its limit is more than a clock holds.
pub(crate) const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const _: () = assert!(MESSAGE_BYTES + ENVELOPE_BYTES < MESSAGE_BYTES_MAX);
const _: () = assert!(FIRST_WAIT.as_millis() < WAIT_MAX.as_millis());
