//! What a failed try says: whether it left something behind, and whether to try again.
//!
//! One table, made to agree with `docs/ERRORS.md`; a test compares them. It must not look at texts. Invariant: what the
//! table does not know is in doubt, never definite.

use std::time::Duration;

use alluvium_types::ErrorKind;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

/// The domain of every `ErrorInfo` that a server makes.
pub const DOMAIN: &str = "alluvium";

/// Keys of an `ErrorInfo`'s metadata. A server that does not send one is believed less, never more.
pub mod key {
    /// What the caller can do, in words.
    pub const HINT: &str = "hint";
    /// The id of the node that leads.
    pub const LEADER: &str = "leader";
    /// The URL of that node's client port.
    pub const LEADER_URL: &str = "leader-url";
    /// Why, where a reason has several meanings: [`super::cause`].
    pub const CAUSE: &str = "cause";
    /// What the try left behind, where the server knows better than the reason says: [`super::effect`].
    pub const EFFECT: &str = "effect";
}

/// Values of [`key::CAUSE`].
pub mod cause {
    /// The session is not open: it expired, or never was.
    pub const SESSION_EXPIRED: &str = "session-expired";
    /// The sequence is older than those that the session remembers.
    pub const SEQUENCE_TOO_OLD: &str = "sequence-too-old";
    /// An index that cannot be read.
    pub const INDEX: &str = "index";
}

/// Values of [`key::EFFECT`].
pub mod effect {
    /// Nothing was proposed, and nothing will be.
    pub const NONE: &str = "none";
    /// The log refused the command under its number: every later try is answered in the same way.
    pub const SETTLED: &str = "settled";
}

/// What a try left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing, and nothing will come of it. Says nothing about earlier tries.
    None,
    /// The answer to the command's number is known to be a refusal, earlier tries included.
    Settled,
    /// It may have taken effect, or may yet.
    Unknown,
    /// The session of the command is over. This try left nothing; of earlier ones nobody can tell any more.
    SessionOver,
}

/// Whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// The same call will fail in the same way.
    No,
    /// Another node may do better; each is asked once.
    OtherNode,
    /// The same call may succeed, on any node.
    Later,
}

/// What a failed try says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What it left behind.
    pub effect: Effect,
    /// Whether to try again.
    pub again: Again,
}

/// Every kind of error: its reason in `ErrorInfo`, and its gRPC status.
pub const REASONS: [(ErrorKind, &str, Code); 12] = [
    (ErrorKind::InvalidArgument, "INVALID_ARGUMENT", Code::InvalidArgument),
    (ErrorKind::NotFound, "NOT_FOUND", Code::NotFound),
    (ErrorKind::Conflict, "CONFLICT", Code::FailedPrecondition),
    (ErrorKind::Precondition, "PRECONDITION", Code::FailedPrecondition),
    (ErrorKind::PermissionDenied, "PERMISSION_DENIED", Code::PermissionDenied),
    (ErrorKind::ResourceExhausted, "LIMIT", Code::ResourceExhausted),
    (ErrorKind::Unavailable, "UNAVAILABLE", Code::Unavailable),
    (ErrorKind::DeadlineExceeded, "DEADLINE", Code::DeadlineExceeded),
    (ErrorKind::StorageFull, "STORAGE_FULL", Code::ResourceExhausted),
    (ErrorKind::Corrupt, "CORRUPT", Code::DataLoss),
    (ErrorKind::OutOfRange, "OUT_OF_RANGE", Code::OutOfRange),
    (ErrorKind::Internal, "INTERNAL", Code::Internal),
];

/// Returns what an error of a kind says when a server tells it and adds nothing.
#[must_use]
pub fn of_kind(kind: ErrorKind) -> Verdict {
    let (effect, again) = match kind {
        ErrorKind::InvalidArgument
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Precondition
        | ErrorKind::PermissionDenied
        | ErrorKind::ResourceExhausted
        | ErrorKind::StorageFull => (Effect::None, Again::No),
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => (Effect::Unknown, Again::Later),
        // Damage is one node's. The page does not say that nothing happened.
        ErrorKind::Corrupt => (Effect::Unknown, Again::OtherNode),
        // Of a numbered command it is the session's end; nothing else of a write is out of range.
        ErrorKind::OutOfRange => (Effect::SessionOver, Again::No),
        ErrorKind::Internal => (Effect::Unknown, Again::No),
    };
    Verdict { effect, again }
}

/// Who says that a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// A server, with a reason of ours.
    Server,
    /// The connection, which broke; the request may have arrived.
    Connection,
    /// Nobody took the connection, so nobody has the request.
    Nobody,
    /// The time limit passed.
    Time,
    /// Something between, or a server that is none of ours.
    Stranger,
}

/// A failed try, read from its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) kind: ErrorKind,
    pub(crate) code: Code,
    pub(crate) speaker: Speaker,
    pub(crate) verdict: Verdict,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) cause: Option<String>,
    pub(crate) leader: Option<u64>,
    pub(crate) leader_url: Option<String>,
    pub(crate) retry_after: Option<Duration>,
}

/// Reads what a status tells.
pub(crate) fn read(status: &Status) -> Told {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN);
    let field = |name: &str| info.and_then(|info| info.metadata.get(name)).cloned();
    let known = info.and_then(|info| REASONS.iter().find(|row| row.1 == info.reason));
    let by_code = REASONS.iter().find(|row| row.2 == status.code());
    let speaker = if info.is_some() { Speaker::Server } else { speaker_of(status) };
    let kind = match speaker {
        Speaker::Connection | Speaker::Nobody => ErrorKind::Unavailable,
        Speaker::Time => ErrorKind::DeadlineExceeded,
        Speaker::Server | Speaker::Stranger => {
            known.or(by_code).map_or(ErrorKind::Internal, |row| row.0)
        }
    };
    let (cause, said) = (field(key::CAUSE), field(key::EFFECT));
    let verdict = judge(speaker, kind, status.code(), (cause.as_deref(), said.as_deref()));
    Told {
        kind,
        code: status.code(),
        speaker,
        verdict,
        message: message_of(status, speaker),
        hint: field(key::HINT),
        cause,
        leader: field(key::LEADER).and_then(|id| id.parse().ok()),
        leader_url: field(key::LEADER_URL),
        retry_after: details.retry_info().and_then(|info| info.retry_delay),
    }
}

/// Judges a failed try by who speaks, the kind, and what the server adds: `(cause, effect)`.
#[must_use]
pub fn judge(
    speaker: Speaker,
    kind: ErrorKind,
    code: Code,
    (cause, said): (Option<&str>, Option<&str>),
) -> Verdict {
    match speaker {
        Speaker::Server => refine(of_kind(kind), cause, said),
        Speaker::Nobody => Verdict { effect: Effect::None, again: Again::Later },
        Speaker::Connection | Speaker::Time => {
            Verdict { effect: Effect::Unknown, again: Again::Later }
        }
        // A server without this call, or a gate before it, has not run it. Nothing else is believed.
        Speaker::Stranger if matches!(code, Code::Unimplemented | Code::Unauthenticated) => {
            Verdict { effect: Effect::None, again: Again::No }
        }
        Speaker::Stranger => Verdict { effect: Effect::Unknown, again: Again::No },
    }
}

fn refine(plain: Verdict, cause: Option<&str>, said: Option<&str>) -> Verdict {
    let effect = match (plain.effect, cause, said) {
        (Effect::SessionOver, Some(cause::INDEX), _) => Effect::None,
        (Effect::SessionOver, _, _) => Effect::SessionOver,
        (_, _, Some(effect::NONE)) => Effect::None,
        // Only a refusal can settle a number.
        (Effect::None, _, Some(effect::SETTLED)) => Effect::Settled,
        (effect, _, _) => effect,
    };
    Verdict { effect, ..plain }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the codes that the transport makes")]
fn speaker_of(status: &Status) -> Speaker {
    if is_timeout(status) {
        return Speaker::Time;
    }
    if is_caused_by::<tonic::ConnectError>(status) {
        return Speaker::Nobody;
    }
    match status.code() {
        Code::Unknown | Code::Cancelled | Code::Internal | Code::Aborted | Code::Unavailable => {
            Speaker::Connection
        }
        Code::DeadlineExceeded => Speaker::Time,
        _ => Speaker::Stranger,
    }
}

/// Says whether the deadline of the call passed. Both ends watch it; what the other one says of it comes as a
/// cancellation with the words of the library, and without a cause.
fn is_timeout(status: &Status) -> bool {
    let is_told =
        status.code() == Code::Cancelled && status.message() == TimeoutExpired(()).to_string();
    is_told || is_caused_by::<TimeoutExpired>(status)
}

fn is_caused_by<E: std::error::Error + 'static>(status: &Status) -> bool {
    let first = std::error::Error::source(status);
    let mut causes = std::iter::successors(first, |error| error.source());
    causes.any(|cause| cause.is::<E>())
}

fn message_of(status: &Status, speaker: Speaker) -> String {
    match speaker {
        Speaker::Server | Speaker::Stranger => status.message().to_owned(),
        Speaker::Time => "the time limit passed before the server answered".to_owned(),
        Speaker::Connection | Speaker::Nobody => {
            format!("the connection failed: {}", causes_of(status))
        }
    }
}

fn causes_of(status: &Status) -> String {
    let mut text = String::new();
    let mut next = std::error::Error::source(status);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            let gap = if text.is_empty() { "" } else { ": " };
            text.push_str(gap);
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    if text.is_empty() { status.message().to_owned() } else { text }
}

#[cfg(test)]
mod tests;
