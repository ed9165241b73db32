//! What can go wrong in consensus, and what each means for the caller.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use alluvium_state_machine::{SnapshotError, StoreError, ViewError};
use alluvium_types::LogIndex;

/// A node that leads: where to send the request instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// Its id.
    pub node: u64,
    /// Its peer address.
    pub address: String,
}

/// An error of a Raft node.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another node leads. Nothing was proposed: ask it.
    #[error("node {} leads, not this one", .hint.node)]
    NotLeader {
        /// The leader.
        hint: LeaderHint,
    },
    /// No leader is known, or no quorum answers. Nothing was proposed: try again.
    #[error("no leader with a quorum is known")]
    Unavailable,
    /// The proposal may have taken effect, or may yet. Retry with the same session and sequence.
    #[error("the proposal's outcome is unknown")]
    Ambiguous,
    /// A fault of this node's disk or state is final. Nothing was proposed: stop the process.
    #[error("this node stopped on a fault")]
    Poisoned {
        /// The fault.
        #[source]
        fault: Arc<Fault>,
    },
    /// This node's state differs from that of the others, so it answers nothing from it. Nothing was proposed: ask
    /// another node.
    #[error("this node is in quarantine: its state differs from that of the other replicas")]
    Quarantined,
    /// The node was shut down. Nothing was proposed.
    #[error("this node was shut down")]
    Shutdown,
    /// The entry is no command: only Raft itself writes the other kinds.
    #[error("only commands may be proposed")]
    NotACommand,
    /// The log does not hold this index: it is purged, or not yet written.
    #[error("the log does not hold index {index}")]
    NotInLog {
        /// The index.
        index: LogIndex,
    },
    /// The log could not be read. Another node may have the entry.
    #[error("read the log")]
    ReadLog {
        /// Why.
        #[source]
        source: alluvium_wal::Error,
    },
    /// An entry in the log is not one that this program reads.
    #[error("read entry {index}")]
    ReadEntry {
        /// The entry.
        index: LogIndex,
        /// Why.
        #[source]
        source: EntryFault,
    },
    /// The snapshot that has an entry which the log purged could not be read. Another node may have the entry.
    #[error("read entry {index} of snapshot {path}", path = .path.display())]
    ReadSnapshot {
        /// The entry.
        index: LogIndex,
        /// The snapshot; its file may have been replaced since.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The node belongs to a cluster already, and not alone.
    #[error("this node is a member of another cluster than one of itself")]
    OtherMembership,
    /// The membership cannot be changed like that. Nothing was proposed.
    #[error(transparent)]
    Membership {
        /// Why.
        fault: MembershipFault,
    },
    /// The disk of the leader has no room. Nothing was proposed.
    #[error("the leader refuses: {reason}")]
    LeaderFull {
        /// What it said.
        reason: Box<str>,
    },
    /// The leader cannot take the command now. Nothing was proposed: try again later.
    #[error("the leader refuses for now: {reason}")]
    LeaderBusy {
        /// What it said.
        reason: Box<str>,
    },
    /// The cluster removed this node. Nothing was proposed: ask a member.
    #[error("node {node} is no member of the cluster")]
    Removed {
        /// This node.
        node: u64,
    },
    /// A message that no node sends which follows the protocol. It changed nothing.
    #[error("a message of a peer is refused: {fault}")]
    Message {
        /// Why.
        fault: MessageFault,
    },
    /// A snapshot could not be received. Nothing was installed.
    #[error("a snapshot was not received")]
    Receive {
        /// Why.
        #[source]
        fault: Arc<Fault>,
    },
    /// The configuration cannot work.
    #[error("illegal configuration: {reason}")]
    Config {
        /// What is wrong.
        reason: &'static str,
    },
}

/// Why the membership is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipFault {
    /// The id belongs to another node.
    #[error("node id {node} is taken: it belongs to the node at {address}")]
    Taken {
        /// The id.
        node: u64,
        /// The address of its owner.
        address: String,
    },
    /// A node had the id that is gone.
    #[error("node id {node} was used before: the next free one is {next}")]
    Used {
        /// The id.
        node: u64,
        /// The next free id.
        next: u64,
    },
    /// No node has the id.
    #[error("node {node} is no member of the cluster")]
    Unknown {
        /// The id.
        node: u64,
    },
    /// A learner has not caught up yet.
    #[error("node {node} is {behind} entries behind: promote it when it has caught up")]
    Lags {
        /// The node.
        node: u64,
        /// Entries that it lacks.
        behind: u64,
    },
    /// The leader would never reach the node.
    #[error("the leader cannot reach a node at {address}: {reason}")]
    Unreachable {
        /// Where it said that it is.
        address: String,
        /// Why not.
        reason: Box<str>,
    },
    /// Only a voter can lead.
    #[error("node {node} has no vote, so it cannot lead")]
    NoVote {
        /// The node.
        node: u64,
    },
    /// A cluster without a voter could decide nothing.
    #[error("no voter would be left")]
    LastVoter,
    /// The cluster has as many nodes as one can have.
    #[error("the cluster has {max} nodes, which is the most", max = crate::limits::NODES_MAX)]
    Full,
    /// Another change is under way.
    #[error("another change of the membership is under way")]
    InProgress,
    /// openraft refuses the change.
    #[error("{reason}")]
    Refused {
        /// What it said.
        reason: Box<str>,
    },
}

/// What is wrong with a message of a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageFault {
    /// Entries come from a node that no quorum made leader.
    #[error("entries come from a node that does not say it leads")]
    NoLeader,
    /// A node asks for a vote that it says it has.
    #[error("a vote is asked for that was granted already")]
    NoCandidate,
    /// Entries that do not follow each other.
    #[error("entry {index} does not follow the one before it")]
    OutOfOrder {
        /// The entry.
        index: LogIndex,
    },
    /// An entry of a leader that the sender's vote does not know yet.
    #[error("entry {index} is of a newer leader than the sender's vote")]
    BeyondVote {
        /// The entry.
        index: LogIndex,
    },
    /// A membership that does not decode.
    #[error("its membership does not decode")]
    Membership,
}

/// A fault of this node that ends it. The log and its peers are right; this copy cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The WAL failed.
    #[error("the log failed")]
    Log(#[source] alluvium_wal::Error),
    /// An entry in the log cannot be read or understood. It is never skipped.
    #[error("entry {index} cannot be read")]
    Entry {
        /// Its index.
        index: LogIndex,
        /// Why.
        #[source]
        source: EntryFault,
    },
    /// A slot of the WAL does not decode.
    #[error("the {slot} in the log cannot be read")]
    Slot {
        /// Which.
        slot: &'static str,
        /// Why.
        #[source]
        source: EntryFault,
    },
    /// An entry could not be applied.
    #[error("a batch that starts at entry {index} cannot be applied")]
    Apply {
        /// The first entry of the batch.
        index: LogIndex,
        /// Why.
        #[source]
        source: ViewError,
    },
    /// An invariant did not hold while a batch was applied: a bug, and the entries to look at.
    #[error("applying a batch that starts at entry {index} panicked")]
    ApplyPanicked {
        /// The first entry of the batch.
        index: LogIndex,
    },
    /// A command stands where the cluster's first membership belongs.
    #[error("entry 0 holds a command, not the cluster's first membership")]
    CommandAtZero,
    /// The store of metadata failed.
    #[error("the metadata store failed")]
    Store(#[source] StoreError),
    /// The membership in the store does not decode.
    #[error("the membership in the metadata store cannot be read")]
    StoredMembership {
        /// Why.
        #[source]
        source: EntryFault,
    },
    /// The membership in a snapshot does not decode.
    #[error("the membership in snapshot {path} cannot be read", path = .path.display())]
    Membership {
        /// The snapshot.
        path: PathBuf,
        /// Why.
        #[source]
        source: EntryFault,
    },
    /// A snapshot file could not be written or read.
    #[error("snapshot file {path}", path = .path.display())]
    SnapshotFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A snapshot file is not whole, or does not carry the entries that its state refers to.
    #[error("the snapshot cannot be believed")]
    Snapshot {
        /// Why.
        #[from]
        source: SnapshotFault,
    },
    /// A snapshot was not written: the state refers to an entry that neither the log nor the snapshot before has, or
    /// that cannot be read. Reinstall from a peer.
    #[error("the state refers to entry {index}, which its snapshot must carry")]
    Uncarried {
        /// The entry.
        index: LogIndex,
        /// Why it cannot be had.
        #[source]
        source: Box<Error>,
    },
    /// A snapshot does not end where it was said to.
    #[error("snapshot {path} ends at another entry than announced", path = .path.display())]
    SnapshotMismatch {
        /// The file.
        path: PathBuf,
    },
    /// The state lacks entries that the log no longer has, and no snapshot has them. Reinstall from a peer.
    #[error(
        "the state ends at {applied}, the log begins behind {purged}, and no snapshot bridges them"
    )]
    HistoryMissing {
        /// The last entry in the state.
        applied: LogIndex,
        /// The last entry that the log purged.
        purged: LogIndex,
    },
    /// The state is ahead of the log, and no snapshot explains it: the log lost entries that it acknowledged.
    #[error("the log ends at {end}, but the state at {applied}: the log lost entries")]
    LogBehindState {
        /// The last entry of the log.
        end: LogIndex,
        /// The last entry in the state.
        applied: LogIndex,
    },
    /// Log and state have different entries at one index.
    #[error("log and state hold different entries at {index}")]
    HistoryConflict {
        /// The index.
        index: LogIndex,
    },
    /// A thread could not be started.
    #[error("start thread {name}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread panicked: an invariant did not hold.
    #[error("thread {name} panicked")]
    ThreadPanicked {
        /// Its name.
        name: &'static str,
    },
    /// openraft stopped: an invariant of its own did not hold.
    #[error("consensus stopped: {reason}")]
    Consensus {
        /// What it said.
        reason: Box<str>,
    },
}

/// Why a file is not a snapshot with the entries that its state refers to.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    /// It is no snapshot file, or its header is damaged.
    #[error("it is no snapshot file, or its header is damaged")]
    Header,
    /// A newer program wrote it.
    #[error("it has format {found}, this program reads up to {supported}")]
    NewerFormat {
        /// Its format.
        found: u16,
        /// The newest that this program reads.
        supported: u16,
    },
    /// It ends too early, or cannot be read.
    #[error("read it at offset {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Bytes are not what was written.
    #[error("what ends at offset {offset} is damaged: {reason}")]
    Damaged {
        /// Where.
        offset: u64,
        /// What was found.
        reason: &'static str,
    },
    /// What it carries is no entry.
    #[error("what it carries as entry {index} is none")]
    Entry {
        /// The entry.
        index: LogIndex,
        /// Why.
        #[source]
        source: EntryFault,
    },
    /// Rows of its state are missing.
    #[error("its state refers to entry {index}, which it does not carry")]
    Lacks {
        /// The entry.
        index: LogIndex,
    },
    /// It carries rows that are not of its state.
    #[error("it carries entry {index}, to which its state does not refer")]
    Surplus {
        /// The entry.
        index: LogIndex,
    },
}

impl Fault {
    /// Says whether it is a snapshot of a newer program: not damaged, and not for this one.
    #[expect(clippy::wildcard_enum_match_arm, reason = "two of many tell of a format")]
    pub(crate) fn is_newer_snapshot(&self) -> bool {
        match self {
            Self::Snapshot { source } => matches!(source, SnapshotFault::NewerFormat { .. }),
            Self::Store(StoreError::Snapshot { source }) => {
                matches!(source, SnapshotError::NewerFormat { .. })
            }
            _ => false,
        }
    }
}

/// Why bytes are not an entry, a vote or a membership.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// The frame is damaged or newer than this program.
    #[error(transparent)]
    Frame(#[from] alluvium_types::Error),
    /// The value was written by a newer program.
    #[error("it has version {found}, this program reads up to {supported}")]
    Version {
        /// The version found.
        found: u16,
        /// The newest that this program reads.
        supported: u16,
    },
    /// Its bytes in a snapshot changed since they were verified.
    #[error("its checksum in the snapshot does not match")]
    Checksum,
    /// The value ends before its version.
    #[error("it is too short for a version")]
    Short,
    /// A membership without a quorum, or with a voter that has no address.
    #[error("it names no quorum, or a voter without an address")]
    Membership,
}
