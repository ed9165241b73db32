//! Between openraft's messages and the protocol's.
//!
//! It must not judge a message beyond its form: the raft crate does. Invariant: what was converted there and back is
//! the same.

use alluvium_proto::peer::v1 as wire;
use alluvium_raft::{Frame, LogId, RaftEntry, TypeConfig, Vote};
use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderIdExt as _;

type LeaderId = <TypeConfig as openraft::RaftTypeConfig>::LeaderId;

/// Why a message is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it lacks {field}")]
    Missing { field: &'static str },
    #[error("entry {index} cannot be read: {reason}")]
    Entry { index: u64, reason: String },
}

pub(crate) fn position(id: &LogId) -> wire::Position {
    let leader = id.leader_id;
    wire::Position { term: leader.term, leader: leader.node_id, index: id.index }
}

pub(crate) fn log_id(position: &wire::Position) -> LogId {
    LogId::new(LeaderId::new_committed(position.term, position.leader), position.index)
}

pub(crate) fn ballot(vote: &Vote) -> wire::Ballot {
    let leader = vote.leader_id();
    wire::Ballot { term: leader.term, node: leader.node_id, granted: vote.is_committed() }
}

pub(crate) fn vote(ballot: Option<wire::Ballot>) -> Result<Vote, Malformed> {
    let ballot = ballot.ok_or(Malformed::Missing { field: "a vote" })?;
    Ok(match ballot.granted {
        true => Vote::new_committed(ballot.term, ballot.node),
        false => Vote::new(ballot.term, ballot.node),
    })
}

pub(crate) fn append_to_wire(request: AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    let entry = |entry: RaftEntry| wire::Entry {
        position: Some(position(&entry.log_id)),
        frame: entry.payload.entry().as_bytes().clone(),
    };
    wire::AppendRequest {
        vote: Some(ballot(&request.vote)),
        previous: request.prev_log_id.as_ref().map(position),
        entries: request.entries.into_iter().map(entry).collect(),
        committed: request.leader_commit.as_ref().map(position),
    }
}

pub(crate) fn append_of_wire(
    request: wire::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: vote(request.vote)?,
        prev_log_id: request.previous.as_ref().map(log_id),
        entries: request.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        leader_commit: request.committed.as_ref().map(log_id),
    })
}

fn entry(entry: wire::Entry) -> Result<RaftEntry, Malformed> {
    let position = entry.position.ok_or(Malformed::Missing { field: "an entry's position" })?;
    let unreadable = |error: alluvium_raft::EntryFault| Malformed::Entry {
        index: position.index,
        reason: error.to_string(),
    };
    let payload = Frame::parse(entry.frame).map_err(unreadable)?;
    Ok(RaftEntry { log_id: log_id(&position), payload })
}

pub(crate) fn reply_to_wire(result: &StreamAppendResult<TypeConfig>) -> wire::AppendReply {
    use wire::append_reply::Outcome;
    let outcome = match result {
        Ok(last) => Outcome::Synced(wire::Synced { last: last.as_ref().map(position) }),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(position(at)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(ballot(vote)),
    };
    wire::AppendReply { outcome: Some(outcome) }
}

pub(crate) fn reply_of_wire(
    reply: wire::AppendReply,
) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    use wire::append_reply::Outcome;
    let outcome = reply.outcome.ok_or(Malformed::Missing { field: "an outcome" })?;
    Ok(match outcome {
        Outcome::Synced(synced) => Ok(synced.last.as_ref().map(log_id)),
        Outcome::Conflict(at) => Err(StreamAppendError::Conflict(log_id(&at))),
        Outcome::HigherVote(higher) => Err(StreamAppendError::HigherVote(vote(Some(higher))?)),
    })
}

pub(crate) fn vote_to_wire(request: &VoteRequest<TypeConfig>) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(ballot(&request.vote)),
        last: request.last_log_id.as_ref().map(position),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_of_wire(
    request: wire::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let last = request.last.as_ref().map(log_id);
    let mut asked = VoteRequest::new(vote(request.vote)?, last);
    asked.leadership_transfer = request.leadership_transfer;
    Ok(asked)
}

pub(crate) fn answer_to_wire(answer: &VoteResponse<TypeConfig>) -> wire::VoteReply {
    wire::VoteReply {
        vote: Some(ballot(&answer.vote)),
        granted: answer.vote_granted,
        last: answer.last_log_id.as_ref().map(position),
    }
}

pub(crate) fn answer_of_wire(
    reply: wire::VoteReply,
) -> Result<VoteResponse<TypeConfig>, Malformed> {
    let last = reply.last.as_ref().map(log_id);
    Ok(VoteResponse::new(vote(reply.vote)?, last, reply.granted))
}

pub(crate) fn transfer_to_wire(
    request: &TransferLeaderRequest<TypeConfig>,
) -> wire::TransferRequest {
    wire::TransferRequest {
        from: Some(ballot(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(position),
    }
}

pub(crate) fn transfer_of_wire(
    request: wire::TransferRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    let last = request.last.as_ref().map(log_id);
    Ok(TransferLeaderRequest::new(vote(request.from)?, request.to, last))
}

/// Encodes a response of the state machine.
pub(crate) fn response_to_wire(response: &alluvium_types::Response) -> Bytes {
    let encoded = alluvium_types::codec::encode(response);
    Bytes::from(encoded.expect("a response that was stored can be encoded"))
}

#[cfg(test)]
mod tests {
    use alluvium_types::Entry;
    use openraft::entry::RaftPayload as _;

    use super::*;

    fn id(term: u64, node: u64, index: u64) -> LogId {
        LogId::new(LeaderId::new_committed(term, node), index)
    }

    #[test]
    fn messages_are_the_same_after_the_way_there_and_back() {
        let entry = RaftEntry { log_id: id(3, 1, 8), payload: Frame::blank() };
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(3, 1),
            prev_log_id: Some(id(2, 2, 7)),
            entries: vec![entry],
            leader_commit: Some(id(2, 2, 6)),
        };
        let back = append_of_wire(append_to_wire(request.clone())).expect("whole");
        assert_eq!((back.vote, back.prev_log_id), (request.vote, request.prev_log_id));
        assert_eq!((back.entries, back.leader_commit), (request.entries, request.leader_commit));
        for result in [
            Ok(None),
            Ok(Some(id(3, 1, 8))),
            Err(StreamAppendError::Conflict(id(2, 2, 7))),
            Err(StreamAppendError::HigherVote(Vote::new(9, 3))),
        ] {
            assert_eq!(reply_of_wire(reply_to_wire(&result)), Ok(result));
        }
        let mut asked = VoteRequest::new(Vote::new(4, 2), Some(id(3, 1, 8)));
        asked.leadership_transfer = true;
        assert_eq!(vote_of_wire(vote_to_wire(&asked)), Ok(asked));
        let answer = VoteResponse::new(Vote::new(4, 2), None, true);
        assert_eq!(answer_of_wire(answer_to_wire(&answer)), Ok(answer));
        let transfer = TransferLeaderRequest::new(Vote::new_committed(3, 1), 2, None);
        assert_eq!(transfer_of_wire(transfer_to_wire(&transfer)), Ok(transfer));
    }

    #[test]
    fn messages_that_lack_something_or_carry_a_damaged_frame_are_refused() {
        let missing = |field| Err(Malformed::Missing { field });
        assert_eq!(vote(None), missing("a vote"));
        let reply = wire::AppendReply { outcome: None };
        assert_eq!(reply_of_wire(reply).map(drop), missing("an outcome").map(|_: Vote| ()));
        let good = Entry::blank().as_bytes().clone();
        let at = Some(position(&id(1, 1, 5)));
        for place in 0..good.len() {
            let mut bytes = good.to_vec();
            bytes[place] ^= 1;
            let damaged = wire::Entry { position: at, frame: bytes.into() };
            let refused = entry(damaged).expect_err("one bit is wrong");
            assert!(matches!(refused, Malformed::Entry { index: 5, .. }), "byte {place}");
        }
        let unnumbered = wire::Entry { position: None, frame: good };
        let field = "an entry's position";
        assert_eq!(entry(unnumbered).expect_err("no position"), Malformed::Missing { field });
    }
}
