//! What a program asks of a client and of a call.
//!
//! It must not decide. Invariant: a call without options has a time limit all the same.

use std::sync::Arc;
use std::time::Duration;

use alluvium_types::LogIndex;

use crate::error::Failure;
use crate::limits;

/// What is told of repetitions.
pub type OnRetry = Arc<dyn Fn(&Retry<'_>) + Send + Sync>;

/// How a client calls.
#[derive(Clone)]
pub struct Options {
    /// Who calls, for the log; at most 256 bytes.
    pub actor: String,
    /// How long a call may last, all its tries together, when it does not say.
    pub limit: Duration,
    /// How long one node may take over a short call before another one is asked. Calls that move many rows or wait for
    /// files are given their whole limit.
    pub try_limit: Duration,
    /// Idle time after which the servers forget the session; none for theirs (one day).
    pub session_ttl: Option<Duration>,
    /// What spreads the waits; none draws it from the machine.
    pub seed: Option<u64>,
    /// Told before each repetition.
    pub on_retry: Option<OnRetry>,
}

impl Options {
    /// Returns the standard options of a program by this name.
    #[must_use]
    pub fn named(actor: impl Into<String>) -> Self {
        Self {
            actor: actor.into(),
            limit: limits::LIMIT_DEFAULT,
            try_limit: limits::TRY_LIMIT_DEFAULT,
            session_ttl: None,
            seed: None,
            on_retry: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { actor, limit, try_limit, session_ttl, seed, on_retry } = self;
        f.debug_struct("Options")
            .field("actor", actor)
            .field("limit", limit)
            .field("try_limit", try_limit)
            .field("session_ttl", session_ttl)
            .field("seed", seed)
            .field("on_retry", &on_retry.is_some())
            .finish()
    }
}

/// A repetition that is about to be made.
#[derive(Debug, Clone, Copy)]
pub struct Retry<'a> {
    /// The call's name in the protocol.
    pub call: &'static str,
    /// Tries that were made.
    pub tries: u32,
    /// Until the next one.
    pub wait: Duration,
    /// What the last one failed with.
    pub failure: &'a Failure,
}

/// How one write is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    /// How long it may last, all tries together; none for the client's limit.
    pub limit: Option<Duration>,
    /// The dataset must last have changed at this index (zero: it must not exist), or it is refused.
    pub expected_index: Option<LogIndex>,
}

/// Which state a query reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Level {
    /// Everything that was acknowledged to anybody before the call. Needs a quorum.
    #[default]
    Linearizable,
    /// At least everything that this client has seen or written. Any node, without a quorum.
    Seen,
    /// At least this index. Any node, without a quorum.
    AtLeast(LogIndex),
    /// Whatever the node that is asked has applied. It may be old, and older than an earlier answer.
    Local,
}

/// How one query is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueryOptions {
    /// Which state it reads.
    pub level: Level,
    /// Read as of this index instead of the newest.
    pub as_of: Option<LogIndex>,
    /// How long it may last, to its last row; none for the client's limit.
    pub limit: Option<Duration>,
    /// Bytes that it may hold in the server's memory; none for the server's limit.
    pub memory_bytes: Option<u64>,
    /// Rows after which the answer ends with an error.
    pub row_limit: Option<u64>,
}
