//! The types that openraft is made of here, in one place: a simulator's runtime replaces one line.
//!
//! It must not hold behavior. Invariant: an entry is the frame that the WAL holds, and nothing else.

use openraft::impls::leader_id_adv::LeaderId;
use openraft::type_config::alias;

use alluvium_types::Response;

use crate::frame::Frame;

/// The runtime that openraft's own tasks run on.
pub type Runtime = openraft::impls::TokioRuntime;

/// Where a node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Address {
    /// Host and port of its peer port.
    pub peer: String,
}

openraft::declare_raft_types!(
    /// openraft's type configuration. A reply is nothing for entries that hold no command.
    pub TypeConfig:
        D = Frame,
        R = Option<Response>,
        NodeId = u64,
        Node = Address,
        Term = u64,
        LeaderId = LeaderId<u64, u64>,
        Payload = Frame,
        AsyncRuntime = Runtime,
);

/// The identity of an entry: term, leader and index.
pub type LogId = alias::LogIdOf<TypeConfig>;
/// A vote, granted or asked for.
pub type Vote = alias::VoteOf<TypeConfig>;
/// An entry as openraft passes it around.
pub type RaftEntry = alias::EntryOf<TypeConfig>;
/// Voters and learners.
pub type Membership = openraft::Membership<u64, Address>;
/// A membership and the entry that set it.
pub(crate) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
/// What openraft knows of a snapshot.
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
