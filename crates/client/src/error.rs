//! How a call fails: refused, not possible now, or in doubt. Never one taken for another.
//!
//! It must not lose a doubt. Invariant: only [`Error::Ambiguous`] leaves open whether a write took effect; after every
//! other error it did not.

use alluvium_types::{ErrorKind, Sequence, SessionId, SessionRef};

use crate::pending::Pending;
use crate::rows::BoxError;

/// What the last try of a call failed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind, by which every protocol reports it.
    pub kind: ErrorKind,
    /// What went wrong, with its causes.
    pub message: String,
    /// What the caller can do, where that is not plain from the message.
    pub hint: Option<String>,
    /// The URL of the node that was asked.
    pub url: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server refused the call. Nothing happened, and the same call will be refused again.
    #[error("{failure}")]
    Refused {
        /// Why.
        failure: Box<Failure>,
    },
    /// No node could answer in time. Nothing was changed; the same call may succeed later.
    #[error("{failure} (tried {tries} times)")]
    Unavailable {
        /// Why, of the last try.
        failure: Box<Failure>,
        /// Tries that were made.
        tries: u32,
    },
    /// Whether the write took effect is not known. Resume the pending command, or look before repeating it.
    #[error("whether it took effect is not known: {failure} (tried {tries} times)")]
    Ambiguous {
        /// The command's number; none for one that is not numbered.
        number: Option<SessionRef>,
        /// Why, of the last try.
        failure: Box<Failure>,
        /// Tries that were made.
        tries: u32,
        /// The command, to be sent again under its number. None when that cannot tell any more: the session is over,
        /// the command has no number, or its rows are gone.
        pending: Option<Box<Pending>>,
    },
    /// The rows could not be had. The append was cancelled and left nothing.
    #[error("the rows cannot be had: {source}")]
    Rows {
        /// What the source of the rows said.
        #[source]
        source: BoxError,
    },
    /// Rows or keys cannot be written as Arrow. Nothing was sent.
    #[error("the rows cannot be encoded")]
    Encode {
        /// Why.
        #[source]
        source: arrow::error::ArrowError,
    },
    /// A schema is not one of a dataset. Nothing was sent.
    #[error(transparent)]
    Schema(#[from] alluvium_rows::Error),
    /// A row that no message holds. Nothing was sent.
    #[error("a row has {bytes} bytes encoded, the limit of a message is {limit}")]
    RowTooLarge {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The session is over while the program holds commands of it. Nothing was sent: resume or drop them first.
    #[error("session {session} is over and {pending} of its commands are unresolved")]
    SessionOver {
        /// The session.
        session: SessionId,
        /// Commands that the program holds.
        pending: usize,
    },
    /// The program holds a command for so long that later ones would push its answer out of what the server remembers.
    /// Nothing was sent: resume or drop it first.
    #[error(
        "sequence {oldest} of session {session} is unresolved, and the window behind it is full"
    )]
    WindowFull {
        /// The session.
        session: SessionId,
        /// The oldest command that the program holds.
        oldest: Sequence,
    },
    /// All numbers stayed in use, or a session was not opened, until the end of the call. Nothing was sent.
    #[error("no number was free before the time limit")]
    NoNumber,
    /// An answer that is not one of the protocol. Of reads only.
    #[error("the answer of {url} is damaged: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// The node.
        url: String,
    },
    /// No URL of a node was given.
    #[error("a client needs the URL of a node")]
    NoEndpoint,
    /// A URL that is none.
    #[error("{url:?} is not the URL of a node")]
    Endpoint {
        /// What was given.
        url: String,
    },
    /// More nodes than a client keeps.
    #[error("a client knows at most {limit} nodes")]
    TooManyEndpoints {
        /// The limit.
        limit: usize,
    },
}

impl Error {
    /// Returns the kind by which every protocol reports it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { failure }
            | Self::Unavailable { failure, .. }
            | Self::Ambiguous { failure, .. } => failure.kind,
            Self::RowTooLarge { .. } | Self::WindowFull { .. } => ErrorKind::ResourceExhausted,
            Self::SessionOver { .. } => ErrorKind::OutOfRange,
            Self::NoNumber => ErrorKind::DeadlineExceeded,
            Self::Malformed { .. } => ErrorKind::Internal,
            Self::Schema(error) => error.kind(),
            Self::Rows { .. }
            | Self::Encode { .. }
            | Self::NoEndpoint
            | Self::Endpoint { .. }
            | Self::TooManyEndpoints { .. } => ErrorKind::InvalidArgument,
        }
    }

    /// Says whether the call may have taken effect. After any other error it did not.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Ambiguous { .. })
    }

    /// Returns what the caller can do, where that is not plain from the message.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { failure } | Self::Unavailable { failure, .. } => {
                failure.hint.as_deref()
            }
            Self::Ambiguous { pending: Some(_), .. } => {
                Some("resume the pending command: it takes effect once")
            }
            Self::Ambiguous { pending: None, .. } => {
                Some("look whether it took effect, then decide")
            }
            Self::SessionOver { .. } | Self::WindowFull { .. } => {
                Some("resume or drop the pending commands")
            }
            Self::Endpoint { .. } | Self::NoEndpoint => Some("for example http://127.0.0.1:7171"),
            Self::RowTooLarge { .. } => {
                Some("keep large values in files of their own, and their names in rows")
            }
            Self::Rows { .. }
            | Self::Encode { .. }
            | Self::Schema(_)
            | Self::NoNumber
            | Self::Malformed { .. }
            | Self::TooManyEndpoints { .. } => None,
        }
    }

    /// Returns the command that can be sent again under its number, if there is one.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "only one has a command")]
    pub fn into_pending(self) -> Option<Pending> {
        match self {
            Self::Ambiguous { pending, .. } => pending.map(|pending| *pending),
            _ => None,
        }
    }
}
