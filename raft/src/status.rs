//! What a node says of itself.
//!
//! It must not decide anything. Invariant: a status is one consistent look at openraft's metrics.

use std::sync::Arc;

use openraft::{RaftMetrics, ServerState};

use alluvium_types::{LogIndex, Term};

use crate::error::Fault;
use crate::type_config::{LogId, TypeConfig};

/// What a node does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It only listens.
    Learner,
    /// It follows a leader.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
    /// It is shut down.
    Stopped,
}

/// How a node stands.
#[derive(Debug, Clone)]
pub struct Status {
    /// This node.
    pub node: u64,
    /// Its term.
    pub term: Term,
    /// What it does.
    pub role: Role,
    /// Who leads, if known.
    pub leader: Option<u64>,
    /// Who votes.
    pub voters: Vec<u64>,
    /// Who only listens.
    pub learners: Vec<u64>,
    /// The last entry in its log.
    pub last: LogIndex,
    /// The last entry that it knows to be committed.
    pub committed: LogIndex,
    /// The last applied entry.
    pub applied: LogIndex,
    /// The last entry in its snapshot, if it has one.
    pub snapshot: Option<LogIndex>,
    /// The last purged entry, if there is one.
    pub purged: Option<LogIndex>,
    /// Why it stopped, if it did.
    pub fault: Option<Arc<Fault>>,
}

/// What the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// The first entry; nothing when there is none.
    pub first: Option<LogIndex>,
    /// The last entry; nothing when there is none.
    pub last: Option<LogIndex>,
    /// The last entry that is known to be committed.
    pub committed: LogIndex,
}

impl Status {
    pub(crate) fn new(metrics: &RaftMetrics<TypeConfig>, fault: Option<Arc<Fault>>) -> Self {
        let membership = metrics.membership_config.membership();
        Self {
            node: metrics.id,
            term: Term(metrics.current_term),
            role: role_of(metrics.state),
            leader: metrics.current_leader,
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            last: LogIndex(metrics.last_log_index.unwrap_or(0)),
            committed: committed(metrics),
            applied: index_of(metrics.last_applied.as_ref()).unwrap_or(LogIndex(0)),
            snapshot: index_of(metrics.snapshot.as_ref()),
            purged: index_of(metrics.purged.as_ref()),
            fault,
        }
    }
}

pub(crate) fn committed(metrics: &RaftMetrics<TypeConfig>) -> LogIndex {
    index_of(metrics.local_committed.as_ref()).unwrap_or(LogIndex(0))
}

fn index_of(id: Option<&LogId>) -> Option<LogIndex> {
    id.map(|id| LogIndex(id.index))
}

fn role_of(state: ServerState) -> Role {
    match state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    }
}
