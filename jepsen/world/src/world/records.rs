//! What the world reports, as plain values.

use std::path::PathBuf;
use std::time::Duration;

use super::NodeId;

/// A node that was replaced by the operator's procedure because it named damage or lost its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Where.
    pub node: NodeId,
    /// The id that was removed, and the new one.
    pub old_member: u64,
    /// See above.
    pub new_member: u64,
    /// What the node said that made it necessary.
    pub because: String,
    /// Whether a fault of this world damaged its disk. If none did, the product did, and the run fails.
    pub explained: bool,
}

/// How the cluster came together again.
#[derive(Debug, Clone)]
pub struct Convergence {
    /// How long it took.
    pub took: Duration,
    /// Nodes that had to be started by the harness because they had ended by themselves.
    pub restarted: Vec<NodeId>,
    /// Nodes that had to be replaced.
    pub replaced: Vec<Replaced>,
    /// The index that every member has applied.
    pub applied: u64,
}

/// The state of a node in one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Whose.
    pub node: NodeId,
    /// After which entry.
    pub applied: u64,
    /// The digest, in hexadecimal.
    pub digest: String,
    /// Failures of background jobs that the node reports.
    pub job_errors: Vec<String>,
    /// Damage that the node reports.
    pub damage: Vec<String>,
}

/// What an offline verification of a node's directory found.
#[derive(Debug, Clone)]
pub struct Scrub {
    /// Whose directory.
    pub node: NodeId,
    /// Whether `verify` succeeded.
    pub is_clean: bool,
    /// What is damaged; with a failure of the command itself, what it said.
    pub damage: Vec<String>,
    /// What the next opening would do of its own accord.
    pub notices: Vec<String>,
    /// Damage that an installed fault did to this directory and nobody repaired since: expected.
    pub explained: bool,
}

/// A line of a node's log at WARN or ERROR.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// Whose.
    pub node: NodeId,
    /// In which file, and its line from 1.
    pub file: PathBuf,
    /// See above.
    pub line: usize,
    /// The line.
    pub text: String,
}

/// Something that happened in the world, for the timeline.
#[derive(Debug, Clone)]
pub struct Happening {
    /// When, by the clock of the configuration.
    pub at_ns: u64,
    /// To whom; nothing when it is about the cluster.
    pub node: Option<NodeId>,
    /// What.
    pub what: String,
}
