//! Answering other nodes.
//!
//! It must not trust the form of a message, nor decide what it means. Invariant: every refusal names its reason.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_proto::peer::v1 as wire;
use alluvium_proto::peer::v1::peer_server::Peer;
use alluvium_raft::{
    AppliedState, Error as RaftError, MembershipFault, RaftNode, TypeConfig, check_append,
};
use alluvium_state_machine::StateDigest;
use alluvium_types::{Entry, LogIndex};
use bytes::Bytes;
use futures::future::{BoxFuture, Shared};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use openraft::raft::{AppendEntriesRequest, TransferLeaderError, VoteRequest};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status, Streaming};

use crate::convert;
use crate::error::with_causes;
use crate::identity::Sender;
use crate::receive::Receiver;
use crate::{Host, NotAdmitted, Peers, limits, send};

/// The peer service of a node.
pub(crate) struct Service {
    node: RaftNode,
    receiver: Receiver,
    host: Arc<dyn Host>,
    peers: Peers,
    /// Bytes of forwarded commands that are under way.
    room: Semaphore,
    shutdown: Shutdown,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Service({:?})", self.node)
    }
}

/// Ends when the node is told to stop.
pub(crate) type Shutdown = Shared<BoxFuture<'static, ()>>;

impl Service {
    pub(crate) fn new(
        node: RaftNode,
        host: Arc<dyn Host>,
        peers: Peers,
        shutdown: Shutdown,
    ) -> Self {
        let room = Semaphore::new(limits::FORWARDED_BYTES_MAX as usize);
        Self { receiver: Receiver::new(node.clone()), node, host, peers, room, shutdown }
    }

    /// Waits until there is room for a forwarded command.
    async fn reserve(&self, bytes: usize) -> SemaphorePermit<'_> {
        let limit = limits::FORWARDED_BYTES_MAX;
        let bytes = u32::try_from(bytes).unwrap_or(limit).min(limit);
        self.room.acquire_many(bytes).await.expect("the semaphore is never closed")
    }

    /// Refuses a node that was removed, so that it hears of it. A node that follows may not know a newcomer yet.
    fn not_a_member(&self, from: u64) -> Option<wire::Refusal> {
        let status = self.node.status();
        if status.leader != Some(status.node) || self.node.membership().get_node(&from).is_some() {
            return None;
        }
        Some(refusal(&RaftError::Removed { node: from }))
    }

    async fn change(&self, change: wire::change_request::Change) -> Result<u64, RaftError> {
        use wire::change_request::Change;
        match change {
            Change::Promote(nodes) => self.node.promote(&nodes.ids).await.map(|()| 0),
            Change::Remove(nodes) => self.node.remove(&nodes.ids).await.map(|()| 0),
            Change::TransferTo(to) => {
                self.node.transfer_leader(to, limits::TRANSFER_MAX).await.map(|()| 0)
            }
            Change::AddLearner(newcomer) => {
                let node = Some(newcomer.node).filter(|node| *node != 0);
                self.node.add_learner(node, &newcomer.address).await
            }
            Change::SetAddress(member) => {
                self.node.set_address(member.node, &member.address).await?;
                // openraft keeps the link that it has: it finds the new way there.
                self.peers.moved(member.node, member.address);
                Ok(0)
            }
        }
    }
}

/// A message that says nothing, or what no node says.
pub(crate) fn malformed(reason: &dyn Display) -> Status {
    Status::invalid_argument(format!("a message is refused: {reason}"))
}

/// What this node cannot do, by its cause.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is no fault of the message")]
pub(crate) fn refused(error: &alluvium_raft::Error) -> Status {
    use alluvium_raft::Error as Raft;
    let reason = with_causes(error.to_string(), error);
    match error {
        Raft::Message { .. } => Status::invalid_argument(reason),
        Raft::Receive { .. } => Status::data_loss(reason),
        _ => Status::unavailable(reason),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "nothing was proposed for any other reason")]
pub(crate) fn refusal(error: &alluvium_raft::Error) -> wire::Refusal {
    use alluvium_raft::Error as Raft;
    use wire::refusal::Reason;
    let mut refusal = wire::Refusal { detail: error.to_string(), ..wire::Refusal::default() };
    let reason = match error {
        Raft::NotLeader { hint } => {
            (refusal.leader, refusal.leader_address) = (hint.node, hint.address.clone());
            Reason::NotLeader
        }
        Raft::Ambiguous => Reason::Ambiguous,
        Raft::Poisoned { .. } | Raft::Shutdown => Reason::Stopped,
        Raft::NotACommand => Reason::NotACommand,
        // It ends soon: the same call is as good then.
        Raft::Membership { fault: MembershipFault::InProgress } => Reason::Unavailable,
        Raft::Membership { fault: MembershipFault::Unknown { node } } => {
            refusal.node = *node;
            Reason::UnknownNode
        }
        Raft::Membership { fault: MembershipFault::Lags { node, behind } } => {
            (refusal.node, refusal.behind) = (*node, *behind);
            Reason::Lags
        }
        Raft::Membership { .. } => Reason::Membership,
        Raft::Removed { node } => {
            refusal.node = *node;
            Reason::Removed
        }
        Raft::LeaderFull { reason } => {
            refusal.detail = reason.to_string();
            Reason::Full
        }
        Raft::LeaderBusy { reason } => {
            refusal.detail = reason.to_string();
            Reason::NotNow
        }
        _ => Reason::Unavailable,
    };
    refusal.set_reason(reason);
    refusal
}

/// Says why a forwarded command is not proposed.
fn not_admitted(why: NotAdmitted) -> wire::Refusal {
    refusal(&match why {
        NotAdmitted::Busy => RaftError::Unavailable,
        NotAdmitted::NotACommand => RaftError::NotACommand,
        NotAdmitted::Full(reason) => RaftError::LeaderFull { reason: reason.into_boxed_str() },
        NotAdmitted::NotNow(reason) => RaftError::LeaderBusy { reason: reason.into_boxed_str() },
    })
}

/// Who made a call; the gate saw to it.
fn sender<T>(request: &Request<T>) -> u64 {
    let sender = request.extensions().get::<Sender>();
    sender.expect("no call comes in but through the gate").0
}

/// Why a stream of requests ended early. Written by the half that reads, taken by the half that answers.
type Refused = Arc<Mutex<Option<Status>>>;

/// Checks the requests of a stream; the first that is refused ends it, and says why in `why`.
fn checked(
    requests: Streaming<wire::AppendRequest>,
    from: u64,
    why: Refused,
) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static {
    stream::unfold(Some(requests), move |requests| {
        let why = Arc::clone(&why);
        async move {
            let mut requests = requests?;
            match next_checked(&mut requests, from).await {
                Ok(request) => request.map(|request| (request, Some(requests))),
                Err(status) => {
                    tracing::warn!(from, %status, "a stream of entries is refused");
                    *why.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                    None
                }
            }
        }
    })
}

async fn next_checked(
    requests: &mut Streaming<wire::AppendRequest>,
    from: u64,
) -> Result<Option<AppendEntriesRequest<TypeConfig>>, Status> {
    let Some(request) = requests.message().await? else { return Ok(None) };
    let request = convert::append_of_wire(request).map_err(|error| malformed(&error))?;
    if request.vote.leader_id().node_id != from {
        return Err(malformed(&"entries of one leader that another node sends"));
    }
    check_append(&request).map_err(|error| refused(&error))?;
    Ok(Some(request))
}

fn asked_for_itself(vote: &alluvium_raft::Vote, from: u64) -> Result<(), Status> {
    match vote.leader_id().node_id == from {
        true => Ok(()),
        false => Err(malformed(&"a vote that is asked for another node")),
    }
}

fn vote_asked(request: Request<wire::VoteRequest>) -> Result<VoteRequest<TypeConfig>, Status> {
    let from = sender(&request);
    let asked = convert::vote_of_wire(request.into_inner());
    let asked = asked.map_err(|error| malformed(&error))?;
    asked_for_itself(&asked.vote, from)?;
    Ok(asked)
}

#[tonic::async_trait]
impl Peer for Service {
    type AppendStream = BoxStream<'static, Result<wire::AppendReply, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let from = sender(&request);
        let why = Refused::default();
        let requests = checked(request.into_inner(), from, Arc::clone(&why));
        // A stream of entries lives as long as its leader does: it must not outlive this node.
        let requests = requests.take_until(self.shutdown.clone());
        let answers = self.node.append_stream(requests).map(|answer| match answer {
            Ok(result) => Ok(convert::reply_to_wire(&result)),
            Err(error) => Err(refused(&error)),
        });
        let refused = stream::once(async move {
            why.lock().unwrap_or_else(PoisonError::into_inner).take().map(Err)
        });
        let answers = answers.chain(refused.filter_map(|refused| async move { refused }));
        Ok(Response::new(answers.boxed()))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteReply>, Status> {
        let answer = self.node.vote(vote_asked(request)?).await.map_err(|error| refused(&error))?;
        Ok(Response::new(convert::answer_to_wire(&answer)))
    }

    async fn pre_vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteReply>, Status> {
        let answer =
            self.node.pre_vote(vote_asked(request)?).await.map_err(|error| refused(&error))?;
        Ok(Response::new(convert::answer_to_wire(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferRequest>,
    ) -> Result<Response<wire::TransferReply>, Status> {
        let from = sender(&request);
        let asked = convert::transfer_of_wire(request.into_inner());
        let asked = asked.map_err(|error| malformed(&error))?;
        asked_for_itself(asked.from_leader(), from)?;
        let taken = self.node.take_over(asked).await.map_err(|error| refused(&error))?;
        let refused = taken.err().map(|error| match error {
            TransferLeaderError::VoteChanged { actual, .. } => convert::ballot(&actual),
            TransferLeaderError::LogNotFlushed { .. } => wire::Ballot::default(),
        });
        Ok(Response::new(wire::TransferReply { refused }))
    }

    async fn offer_snapshot(
        &self,
        request: Request<wire::SnapshotOffer>,
    ) -> Result<Response<wire::SnapshotOffered>, Status> {
        let have = self.receiver.offered(request.into_inner()).await?;
        Ok(Response::new(wire::SnapshotOffered { have }))
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotPart>>,
    ) -> Result<Response<wire::SnapshotInstalled>, Status> {
        let vote = self.receiver.receive(request.into_inner()).await?;
        Ok(Response::new(wire::SnapshotInstalled { vote: Some(convert::ballot(&vote)) }))
    }

    async fn propose(
        &self,
        request: Request<wire::ProposeRequest>,
    ) -> Result<Response<wire::ProposeReply>, Status> {
        use wire::propose_reply::Outcome;
        if let Some(refusal) = self.not_a_member(sender(&request)) {
            let outcome = Some(Outcome::Refusal(refusal));
            return Ok(Response::new(wire::ProposeReply { outcome }));
        }
        let entry = Entry::parse(request.into_inner().frame);
        let entry = entry.map_err(|error| malformed(&error))?;
        let _room = self.reserve(entry.as_bytes().len()).await;
        let outcome = match self.host.admit(entry) {
            Err(why) => Outcome::Refusal(not_admitted(why)),
            Ok(entry) => match self.node.propose(entry).await {
                Ok(response) => Outcome::Response(convert::response_to_wire(&response)),
                Err(error) => Outcome::Refusal(refusal(&error)),
            },
        };
        Ok(Response::new(wire::ProposeReply { outcome: Some(outcome) }))
    }

    async fn read_index(
        &self,
        request: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexReply>, Status> {
        use wire::read_index_reply::Outcome;
        if let Some(refusal) = self.not_a_member(sender(&request)) {
            let outcome = Some(Outcome::Refusal(refusal));
            return Ok(Response::new(wire::ReadIndexReply { outcome }));
        }
        let outcome = match self.node.read_index().await {
            Ok(index) => Outcome::Index(index.0),
            Err(error) => Outcome::Refusal(refusal(&error)),
        };
        Ok(Response::new(wire::ReadIndexReply { outcome: Some(outcome) }))
    }

    async fn change(
        &self,
        request: Request<wire::ChangeRequest>,
    ) -> Result<Response<wire::ChangeReply>, Status> {
        use wire::change_reply::Outcome;
        let from = sender(&request);
        if let Some(refusal) = self.not_a_member(from) {
            let outcome = Some(Outcome::Refusal(refusal));
            return Ok(Response::new(wire::ChangeReply { outcome }));
        }
        let change = request.into_inner().change;
        let change = change.ok_or_else(|| malformed(&"a change of nothing"))?;
        tracing::info!(from, ?change, "the membership is to be changed");
        let outcome = match self.change(change).await {
            Ok(node) => Outcome::Node(node),
            Err(error) => Outcome::Refusal(refusal(&error)),
        };
        Ok(Response::new(wire::ChangeReply { outcome: Some(outcome) }))
    }

    async fn progress(
        &self,
        _request: Request<wire::ProgressRequest>,
    ) -> Result<Response<wire::ProgressReply>, Status> {
        let member = |member: alluvium_raft::Progress| wire::MemberProgress {
            node: member.node,
            behind: member.behind,
            silent_ms: member
                .silent_for
                .map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
        };
        let members = self.node.progress().unwrap_or_default();
        let members = members.into_iter().map(member).collect();
        Ok(Response::new(wire::ProgressReply { members }))
    }

    async fn report(
        &self,
        request: Request<wire::ReportRequest>,
    ) -> Result<Response<wire::ReportReply>, Status> {
        let from = sender(&request);
        let wire::ReportRequest { swept, checkpoint } = request.into_inner();
        if let Some(swept) = swept {
            self.host.reported(from, LogIndex(swept));
        }
        if let Some(wire::Checkpoint { index, digest }) = checkpoint {
            let digest = <[u8; 32]>::try_from(digest.as_ref());
            let digest = digest.map_err(|_length| malformed(&"a digest has 32 bytes"))?;
            let (index, digest) = (LogIndex(index), StateDigest::from_bytes(digest));
            self.host.compared(from, AppliedState { index, digest });
        }
        Ok(Response::new(wire::ReportReply {}))
    }

    type ReadSnapshotStream = BoxStream<'static, Result<wire::SnapshotPart, Status>>;

    async fn read_snapshot(
        &self,
        request: Request<wire::ReadSnapshotRequest>,
    ) -> Result<Response<Self::ReadSnapshotStream>, Status> {
        let from = sender(&request);
        let at_least = LogIndex(request.into_inner().at_least);
        let snapshot = self.node.new_snapshot(at_least).await.map_err(|error| refused(&error))?;
        let offer = send::offer(None, &snapshot);
        tracing::info!(node = from, bytes = offer.bytes, "a node asked for a snapshot");
        let parts = send::Parts::open(&snapshot.snapshot.path, offer, 0).await;
        let parts = parts.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(parts.into_stream().map(Ok).boxed()))
    }

    type ReadFileStream = BoxStream<'static, Result<wire::FilePart, Status>>;

    async fn read_file(
        &self,
        request: Request<wire::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let wire::ReadFileRequest { key, bucket } = request.into_inner();
        let found = self.host.open_file(&bucket, &key, limits::PART_BYTES as u64).await;
        let parts = found.map_err(Status::unavailable)?;
        let parts = parts.ok_or_else(|| Status::not_found("this node does not have the file"))?;
        let part = |part: Result<Bytes, String>| match part {
            Ok(content) => Ok(wire::FilePart { content }),
            Err(reason) => Err(Status::unavailable(reason)),
        };
        Ok(Response::new(parts.map(part).boxed()))
    }
}
