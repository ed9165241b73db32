//! What can go wrong with the world itself. None of these says that the product is right or wrong.
//!
//! Must not be used for what a node did: that is an [`Observation`](crate::Observation), or a field of a result.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::mode::Mode;
use crate::world::NodeId;

/// Why the world could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine lacks a privilege or a program: the caller says SKIPPED.
    #[error("this machine cannot hold a world: {reason}")]
    Unavailable {
        /// What is missing, and how it is had.
        reason: String,
    },
    /// This world can never do that fault: the caller says SKIPPED.
    #[error("{mode} is not offered: {reason}")]
    NotOffered {
        /// The fault.
        mode: Mode,
        /// Why.
        reason: String,
    },
    /// The fault needs something that is not there now, such as a snapshot to damage: try again later.
    #[error("{mode} cannot be done now: {reason}")]
    NotNow {
        /// The fault.
        mode: Mode,
        /// What is missing.
        reason: String,
    },
    /// No fault has that name.
    #[error("no fault is called `{name}`")]
    NoSuchMode {
        /// What was asked for.
        name: String,
    },
    /// A call of the system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A program of the machine, or the product's command line, failed.
    #[error("`{line}` failed ({status}): {said}")]
    Command {
        /// The command line.
        line: String,
        /// How it ended.
        status: String,
        /// What it printed as its error.
        said: String,
    },
    /// A command did not end in time, and was killed.
    #[error("`{line}` did not end within {limit:?}")]
    CommandTimeout {
        /// The command line.
        line: String,
        /// How long it had.
        limit: Duration,
    },
    /// A command said something else than what was expected.
    #[error("`{line}` said what cannot be read: {said}")]
    Unreadable {
        /// The command line.
        line: String,
        /// What it printed.
        said: String,
    },
    /// The cluster did not get there in time. It is for the caller to say whether that is a fault of the product.
    #[error("not within {limit:?}: {what}; {state}")]
    TooLate {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was the case instead, node by node.
        state: String,
    },
    /// A node ended at its start, and says why.
    #[error("node {node} ended ({status}) while it started: {said}")]
    DidNotStart {
        /// The node.
        node: NodeId,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        said: String,
    },
    /// No node is known to lead.
    #[error("no node leads")]
    NoLeader,
    /// The world is not in the state that this needs.
    #[error("node {node} is {state}, and {what} needs it otherwise")]
    WrongState {
        /// The node.
        node: NodeId,
        /// What it is.
        state: &'static str,
        /// What was asked.
        what: &'static str,
    },
    /// A file that a node must have is not there.
    #[error("node {node} has no file that is {what}")]
    NoFile {
        /// The node.
        node: NodeId,
        /// What was looked for.
        what: &'static str,
    },
    /// A file is not what the harness knows.
    #[error("{} is not as expected: {what}", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl Error {
    /// Whether the caller says SKIPPED with this reason, and not UNKNOWN.
    #[must_use]
    pub const fn is_skip(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NotOffered { .. } | Self::NotNow { .. })
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
