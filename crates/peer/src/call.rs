//! Calls of a node that does not lead on the one that does.
//!
//! It must not look for the leader. Invariant: a proposal whose answer was lost is told as ambiguous, never as failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_proto::peer::v1 as wire;
use alluvium_raft::{AppliedState, Error, LeaderHint, MembershipFault, Progress};
use alluvium_types::{Entry, LogIndex, Response, codec};
use bytes::{Bytes, BytesMut};
use tonic::{Code, Status};

use crate::limits;
use crate::network::{Peers, Wire};

/// A change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Gives learners a vote.
    Promote(Vec<u64>),
    /// Removes nodes.
    Remove(Vec<u64>),
    /// Hands the leadership to a voter.
    TransferTo(u64),
    /// Adds a node that listens.
    AddLearner {
        /// Its id; nothing for the next free one.
        node: Option<u64>,
        /// Its peer address.
        address: String,
    },
    /// Says where a member is reached from now on.
    SetAddress {
        /// Its id.
        node: u64,
        /// Its new peer address.
        address: String,
    },
}

impl Change {
    fn into_wire(self) -> wire::change_request::Change {
        use wire::change_request::Change as Wire;
        match self {
            Self::Promote(ids) => Wire::Promote(wire::Nodes { ids }),
            Self::Remove(ids) => Wire::Remove(wire::Nodes { ids }),
            Self::TransferTo(node) => Wire::TransferTo(node),
            Self::AddLearner { node, address } => {
                Wire::AddLearner(wire::Newcomer { node: node.unwrap_or(0), address })
            }
            Self::SetAddress { node, address } => {
                Wire::SetAddress(wire::Newcomer { node, address })
            }
        }
    }
}

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

    /// Changes the membership at the leader; returns the node that was added, if one was.
    ///
    /// # Errors
    /// As the calls of [`alluvium_raft::RaftNode`]; [`Error::Ambiguous`] when the answer is lost.
    pub async fn change(&self, leader: &LeaderHint, change: Change) -> Result<u64, Error> {
        use wire::change_reply::Outcome;
        let mut wire = self.wire(leader)?;
        let request = wire::ChangeRequest { change: Some(change.into_wire()) };
        let answered = tokio::time::timeout(limits::FORWARD_MAX, wire.change(request)).await;
        let answered = answered.map_err(|_elapsed| Error::Ambiguous)?;
        let reply = answered.map_err(|status| match was_never_sent(&status) {
            true => Error::Unavailable,
            false => Error::Ambiguous,
        })?;
        match reply.into_inner().outcome {
            Some(Outcome::Node(node)) => Ok(node),
            Some(Outcome::Refusal(refusal)) => Err(error_of(refusal)),
            None => Err(Error::Ambiguous),
        }
    }

    /// Asks the leader how far each member is.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not answer.
    pub async fn progress(&self, leader: &LeaderHint) -> Result<Vec<Progress>, Error> {
        let mut wire = self.wire(leader)?;
        let asked = wire.progress(wire::ProgressRequest {});
        let answered = tokio::time::timeout(limits::CONNECT_MAX, asked).await;
        let reply = answered.map_err(|_elapsed| Error::Unavailable)?;
        let members = reply.map_err(|_status| Error::Unavailable)?.into_inner().members;
        let member = |member: wire::MemberProgress| Progress {
            node: member.node,
            behind: member.behind,
            silent_for: member.silent_ms.map(Duration::from_millis),
        };
        Ok(members.into_iter().map(member).collect())
    }

    /// Tells the leader what this node has deleted.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not hear; tell it again.
    pub async fn report(&self, leader: &LeaderHint, swept: LogIndex) -> Result<(), Error> {
        let mut wire = self.wire(leader)?;
        let report = wire::ReportRequest { swept: Some(swept.0), checkpoint: None };
        told(wire.report(report)).await
    }

    /// Tells the leader what digest this node's state had at a checkpoint.
    ///
    /// # Errors
    /// As [`PeerCalls::report`].
    pub async fn compare(
        &self,
        leader: &LeaderHint,
        checkpoint: AppliedState,
    ) -> Result<(), Error> {
        let mut wire = self.wire(leader)?;
        let digest = checkpoint.digest.to_bytes().to_vec().into();
        let checkpoint = Some(wire::Checkpoint { index: checkpoint.index.0, digest });
        told(wire.report(wire::ReportRequest { swept: None, checkpoint })).await
    }

    /// Reads a data file of a member; nothing when that one does not have it. The caller checks its hash.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not answer, or sends more than a file can have.
    pub async fn read_file(
        &self,
        member: &LeaderHint,
        bucket: &str,
        key: &str,
    ) -> Result<Option<Bytes>, Error> {
        let wire = self.peers.connect(member.node, &member.address);
        let mut wire = wire.map_err(|_reason| Error::Unavailable)?;
        let request = wire::ReadFileRequest { key: key.to_owned(), bucket: bucket.to_owned() };
        let opened = tokio::time::timeout(limits::FORWARD_MAX, wire.read_file(request)).await;
        let mut parts = match opened.map_err(|_elapsed| Error::Unavailable)? {
            Ok(parts) => parts.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(_status) => return Err(Error::Unavailable),
        };
        let mut bytes = BytesMut::new();
        loop {
            let part = tokio::time::timeout(limits::PART_MAX, parts.message()).await;
            let part = part.map_err(|_elapsed| Error::Unavailable)?;
            match part.map_err(|_status| Error::Unavailable)? {
                Some(part) => bytes.extend_from_slice(&part.content),
                None => return Ok(Some(bytes.freeze())),
            }
            if limits::FILE_BYTES_MAX < bytes.len() as u64 {
                return Err(Error::Unavailable);
            }
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

async fn told<T>(told: impl Future<Output = Result<T, Status>>) -> Result<(), Error> {
    let told = tokio::time::timeout(limits::FORWARD_MAX, told).await;
    let told = told.map_err(|_elapsed| Error::Unavailable)?;
    told.map(drop).map_err(|_status| Error::Unavailable)
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
            { causes }.any(|cause| cause.is::<tonic::ConnectError>())
        }
        _ => false,
    }
}

pub(crate) fn error_of(refusal: wire::Refusal) -> Error {
    use wire::refusal::Reason;
    match refusal.reason() {
        Reason::NotLeader => {
            let hint = LeaderHint { node: refusal.leader, address: refusal.leader_address };
            Error::NotLeader { hint }
        }
        Reason::NotACommand => Error::NotACommand,
        Reason::Full => Error::LeaderFull { reason: refusal.detail.into_boxed_str() },
        Reason::NotNow => Error::LeaderBusy { reason: refusal.detail.into_boxed_str() },
        Reason::Removed => Error::Removed { node: refusal.node },
        Reason::UnknownNode => {
            Error::Membership { fault: MembershipFault::Unknown { node: refusal.node } }
        }
        Reason::Lags => {
            let (node, behind) = (refusal.node, refusal.behind);
            Error::Membership { fault: MembershipFault::Lags { node, behind } }
        }
        Reason::Membership => {
            let reason = refusal.detail.into_boxed_str();
            Error::Membership { fault: MembershipFault::Refused { reason } }
        }
        Reason::Unavailable | Reason::Stopped => Error::Unavailable,
        Reason::Ambiguous | Reason::Unspecified => Error::Ambiguous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::refusal;

    #[test]
    fn a_refusal_is_the_same_error_at_the_node_that_asked() {
        let reason = || "80 bytes are free".into();
        let errors = [
            Error::NotLeader { hint: LeaderHint { node: 2, address: "127.0.0.1:9".to_owned() } },
            Error::Unavailable,
            Error::Ambiguous,
            Error::NotACommand,
            Error::LeaderFull { reason: reason() },
            Error::LeaderBusy { reason: reason() },
            Error::Removed { node: 3 },
            Error::Membership { fault: MembershipFault::Unknown { node: 4 } },
            Error::Membership { fault: MembershipFault::Lags { node: 4, behind: 17 } },
            Error::Membership { fault: MembershipFault::LastVoter },
        ];
        for error in errors {
            let found = error_of(refusal(&error));
            assert_eq!(found.to_string(), error.to_string());
            let (Error::Membership { fault: found }, Error::Membership { fault }) =
                (&found, &error)
            else {
                assert_eq!(std::mem::discriminant(&found), std::mem::discriminant(&error));
                continue;
            };
            // Faults that no caller tells apart come as words.
            let is_in_words = matches!(found, MembershipFault::Refused { .. });
            assert_eq!(!is_in_words, !matches!(fault, MembershipFault::LastVoter), "{fault}");
        }
    }
}
