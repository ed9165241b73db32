//! Calls of a node that does not lead on the one that does.
//!
//! It must not look for the leader. Invariant: a proposal whose answer was lost is told as ambiguous, never as failed.

use std::sync::{Arc, Mutex, PoisonError};

use alluvium_proto::peer::v1 as wire;
use alluvium_raft::{Error, LeaderHint};
use alluvium_types::{Entry, LogIndex, Response, codec};
use tonic::{Code, Status};

use crate::limits;
use crate::network::{Peers, Wire};

/// Forwards calls to the leader. Clones share the connection.
#[derive(Debug, Clone)]
pub struct PeerCalls {
    peers: Peers,
    // The last leader and the way to it; held for a look only.
    leader: Arc<Mutex<Option<(LeaderHint, Wire)>>>,
}

impl PeerCalls {
    /// Makes the calls of a node.
    #[must_use]
    pub fn new(peers: Peers) -> Self {
        Self { peers, leader: Arc::default() }
    }

    /// Proposes a command at the leader.
    ///
    /// # Errors
    /// As [`alluvium_raft::RaftNode::propose`] there; [`Error::Ambiguous`] when the answer is lost.
    pub async fn propose(&self, leader: &LeaderHint, entry: &Entry) -> Result<Response, Error> {
        use wire::propose_reply::Outcome;
        let mut wire = self.wire(leader)?;
        let request = wire::ProposeRequest { frame: entry.as_bytes().clone() };
        let answered = tokio::time::timeout(limits::FORWARD_MAX, wire.propose(request)).await;
        let answered = answered.map_err(|_elapsed| Error::Ambiguous)?;
        let reply = answered.map_err(|status| match was_never_sent(&status) {
            true => Error::Unavailable,
            false => Error::Ambiguous,
        })?;
        match reply.into_inner().outcome {
            // It took effect, whatever the answer was.
            Some(Outcome::Response(bytes)) => {
                codec::decode(&bytes).map_err(|_malformed| Error::Ambiguous)
            }
            Some(Outcome::Refusal(refusal)) => Err(error_of(refusal)),
            None => Err(Error::Ambiguous),
        }
    }

    /// Asks the leader for an index at which a read sees every acknowledged write.
    ///
    /// # Errors
    /// As [`alluvium_raft::RaftNode::read_index`] there; [`Error::Unavailable`] when it does not answer.
    pub async fn read_index(&self, leader: &LeaderHint) -> Result<LogIndex, Error> {
        use wire::read_index_reply::Outcome;
        let mut wire = self.wire(leader)?;
        let asked = wire.read_index(wire::ReadIndexRequest {});
        let answered = tokio::time::timeout(limits::FORWARD_MAX, asked).await;
        let reply = answered.map_err(|_elapsed| Error::Unavailable)?;
        match reply.map_err(|_status| Error::Unavailable)?.into_inner().outcome {
            Some(Outcome::Index(index)) => Ok(LogIndex(index)),
            Some(Outcome::Refusal(refusal)) => Err(error_of(refusal)),
            None => Err(Error::Unavailable),
        }
    }

    fn wire(&self, leader: &LeaderHint) -> Result<Wire, Error> {
        let mut known = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((hint, wire)) = known.as_ref()
            && hint == leader
        {
            return Ok(wire.clone());
        }
        let wire = self.peers.connect(leader.node, &leader.address);
        let wire = wire.map_err(|reason| {
            tracing::warn!(node = leader.node, reason, "the leader cannot be called");
            Error::Unavailable
        })?;
        *known = Some((leader.clone(), wire.clone()));
        Ok(wire)
    }
}

/// Says whether a call certainly did not reach the other node's log.
#[expect(clippy::wildcard_enum_match_arm, reason = "any other code may come from behind the log")]
fn was_never_sent(status: &Status) -> bool {
    match status.code() {
        // The gate or the form of the message.
        Code::PermissionDenied | Code::InvalidArgument | Code::Unauthenticated => true,
        // No connection was made: the transport says so by its cause.
        Code::Unavailable => {
            let causes = std::iter::successors(std::error::Error::source(status), |e| e.source());
            { causes }.any(|cause| cause.to_string().contains("connect"))
        }
        _ => false,
    }
}

fn error_of(refusal: wire::Refusal) -> Error {
    use wire::refusal::Reason;
    match refusal.reason() {
        Reason::NotLeader => {
            let hint = LeaderHint { node: refusal.leader, address: refusal.leader_address };
            Error::NotLeader { hint }
        }
        Reason::NotACommand => Error::NotACommand,
        Reason::Unavailable | Reason::Stopped => Error::Unavailable,
        Reason::Ambiguous | Reason::Unspecified => Error::Ambiguous,
    }
}
