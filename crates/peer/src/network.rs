//! Asking other nodes: openraft's network on gRPC.
//!
//! Each client has a connection of its own, so that a heartbeat never waits behind entries or a snapshot. It must not
//! retry: openraft does, after the waits that [`backoff`] gives. Invariant: no call waits for ever.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_proto::peer::v1 as wire;
use alluvium_proto::peer::v1::peer_client::PeerClient;
use alluvium_raft::{Address, SnapshotFile, TypeConfig, Vote};
use futures::future::{BoxFuture, Either, select};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{AnyError, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::convert::{self, Malformed};
use crate::identity::{Identity, Stamp};
use crate::security::Security;
use crate::{limits, send};

pub(crate) type Wire = PeerClient<InterceptedService<Channel, Stamp>>;

/// Makes clients of other nodes.
#[derive(Debug, Clone)]
pub struct Peers {
    own: Identity,
    security: Security,
    // Members that moved since the links to them were made; looked up when a call is made.
    moved: Arc<Mutex<BTreeMap<u64, String>>>,
}

impl Peers {
    /// Makes the network of a node.
    #[must_use]
    pub fn new(own: Identity, security: Security) -> Self {
        Self { own, security, moved: Arc::default() }
    }

    /// Says where a member is reached from now on, by links that are there already.
    pub(crate) fn moved(&self, node: u64, address: String) {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).insert(node, address);
    }

    fn moved_to(&self, node: u64) -> Option<String> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    pub(crate) fn connect(&self, target: u64, address: &str) -> Result<Wire, String> {
        let scheme = if self.security.is_mutual() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"));
        let mut endpoint = endpoint
            .map_err(|error| format!("{address:?} is no address: {error}"))?
            .connect_timeout(limits::CONNECT_MAX)
            .tcp_nodelay(true)
            .initial_stream_window_size(limits::WINDOW_BYTES)
            .initial_connection_window_size(limits::WINDOW_BYTES)
            .http2_keep_alive_interval(limits::KEEPALIVE)
            .keep_alive_timeout(limits::KEEPALIVE)
            .keep_alive_while_idle(true);
        if let Some(tls) = self.security.of_client(Identity { node: target, ..self.own }) {
            let illegal = |error| format!("the certificates cannot be used: {error}");
            endpoint = endpoint.tls_config(tls).map_err(illegal)?;
        }
        let stamp = Stamp::new(self.own, target);
        let client = PeerClient::with_interceptor(endpoint.connect_lazy(), stamp);
        Ok(client
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX))
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = PeerLink;

    async fn new_client(&mut self, target: u64, node: &Address) -> PeerLink {
        let wire = self.connect(target, &node.peer);
        if let Err(reason) = &wire {
            tracing::warn!(node = target, reason, "a peer cannot be called");
        }
        // What the membership says now is newer than any move before it.
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).remove(&target);
        PeerLink { peers: self.clone(), target, address: node.peer.clone(), wire }
    }
}

/// The way to one other node.
#[derive(Debug)]
pub struct PeerLink {
    peers: Peers,
    target: u64,
    address: String,
    /// Or why there is no way.
    wire: Result<Wire, String>,
}

/// How long an unreachable node is left alone, again and again.
fn backoff() -> impl Iterator<Item = Duration> + Send + 'static {
    let next = |last: &Duration| Some(last.saturating_mul(2).min(limits::BACKOFF_MAX));
    std::iter::successors(Some(limits::BACKOFF_MIN), next)
}

fn unreachable(reason: &(impl std::error::Error + 'static)) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(reason))
}

fn malformed(reason: &Malformed) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(reason))
}

/// A node that answers with an error is as good as away: openraft waits before it asks again.
#[expect(clippy::wildcard_enum_match_arm, reason = "most codes say that it is no use at once")]
pub(crate) fn failed(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        Code::DataLoss | Code::Aborted => RPCError::Network(NetworkError::new(status)),
        _ => unreachable(status),
    }
}

impl PeerLink {
    fn wire(&mut self) -> Result<Wire, RPCError<TypeConfig>> {
        if let Some(address) = self.peers.moved_to(self.target).filter(|to| *to != self.address) {
            self.wire = self.peers.connect(self.target, &address);
            self.address = address;
        }
        self.wire.clone().map_err(|reason| unreachable(&AnyError::error(reason)))
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> RPCError<TypeConfig> {
        RPCError::Timeout(Timeout { action, id: self.peers.own.node, target: self.target, timeout })
    }

    async fn within<T>(
        &self,
        action: RPCTypes,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, RPCError<TypeConfig>> {
        match tokio::time::timeout(limit, call).await {
            Ok(answered) => {
                answered.map(tonic::Response::into_inner).map_err(|status| failed(&status))
            }
            Err(_elapsed) => Err(self.timeout(action, limit)),
        }
    }

    async fn send_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut wire = self.wire()?;
        let offer = send::offer(Some(&vote), &snapshot);
        let action = RPCTypes::InstallSnapshot;
        let offered = wire.offer_snapshot(offer.clone());
        let have = self.within(action, limits::PART_MAX, offered).await?.have;
        tracing::info!(node = self.target, bytes = offer.bytes, have, "send a snapshot");
        let parts = send::Parts::open(&snapshot.snapshot.path, offer, have).await;
        let parts = parts.map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        let installed = wire.send_snapshot(parts.into_stream());
        let installed = self.within(action, limits::INSTALL_MAX, installed).await?;
        let vote = convert::vote(installed.vote).map_err(|reason| malformed(&reason))?;
        Ok(SnapshotResponse::new(vote))
    }
}

/// Answers of a follower, each within its time as long as something was asked.
struct Replies {
    inner: tonic::Streaming<wire::AppendReply>,
    asked: Arc<AtomicU64>,
    answered: u64,
    late: RPCError<TypeConfig>,
}

impl Replies {
    async fn next(
        &mut self,
    ) -> Option<Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> {
        loop {
            match tokio::time::timeout(limits::REPLY_MAX, self.inner.message()).await {
                Ok(Ok(Some(reply))) => {
                    self.answered += 1;
                    return Some(
                        convert::reply_of_wire(reply).map_err(|reason| malformed(&reason)),
                    );
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => return Some(Err(failed(&status))),
                // Nothing was asked: a quiet cluster.
                Err(_elapsed) if self.asked.load(Ordering::SeqCst) <= self.answered => {}
                Err(_elapsed) => return Some(Err(self.late.clone())),
            }
        }
    }
}

impl RaftNetworkV2<TypeConfig> for PeerLink {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut replies = self.stream_append(stream::iter([request]), option).await?;
        match replies.next().await {
            Some(Ok(Ok(_))) => Ok(AppendEntriesResponse::Success),
            Some(Ok(Err(StreamAppendError::Conflict(_)))) => Ok(AppendEntriesResponse::Conflict),
            Some(Ok(Err(StreamAppendError::HigherVote(vote)))) => {
                Ok(AppendEntriesResponse::HigherVote(vote))
            }
            Some(Err(error)) => Err(error),
            None => Err(malformed(&Malformed::Missing { field: "an answer" })),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut requests: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let mut wire = self.wire()?;
            // openraft rests in the first request after a failure: a call that is opened before it asks a dead node
            // without end.
            let Some(first) = requests.next().await else { return Ok(stream::empty().boxed()) };
            let requests = stream::iter([first]).chain(requests);
            let asked = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&asked);
            #[cfg(feature = "plant-commit-without-quorum")]
            let (requests, claims) = crate::planted::claimed(requests);
            let requests = requests.map(move |request| {
                counted.fetch_add(1, Ordering::SeqCst);
                convert::append_to_wire(request)
            });
            let opened = wire.append(requests);
            let action = RPCTypes::AppendEntries;
            let inner = self.within(action, limits::CONNECT_MAX, opened).await?;
            let late = self.timeout(action, limits::REPLY_MAX);
            let replies = Replies { inner, asked, answered: 0, late };
            let replies = stream::unfold(Some(replies), |replies| async move {
                let mut replies = replies?;
                let reply = replies.next().await?;
                let goes_on = matches!(reply, Ok(Ok(_)));
                Some((reply, goes_on.then_some(replies)))
            });
            #[cfg(feature = "plant-commit-without-quorum")]
            let replies = crate::planted::with_claims(replies.boxed(), claims);
            Ok(replies.boxed())
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut wire = self.wire()?;
        let asked = wire.vote(convert::vote_to_wire(&request));
        let reply = self.within(RPCTypes::Vote, option.soft_ttl(), asked).await?;
        convert::answer_of_wire(reply).map_err(|reason| malformed(&reason))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut wire = self.wire()?;
        let asked = wire.pre_vote(convert::vote_to_wire(&request));
        let reply = self.within(RPCTypes::Vote, option.soft_ttl(), asked).await?;
        convert::answer_of_wire(reply).map_err(|reason| malformed(&reason))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let (cancel, sending) =
            (std::pin::pin!(cancel), std::pin::pin!(self.send_snapshot(vote, snapshot)));
        match select(cancel, sending).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((sent, _)) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut wire = self.wire()?;
        let told = wire.transfer_leader(convert::transfer_to_wire(&request));
        let reply = self.within(RPCTypes::TransferLeader, option.soft_ttl(), told).await?;
        Ok(match reply.refused {
            None => Ok(()),
            Some(refused) => {
                let actual = convert::vote(Some(refused)).map_err(|reason| malformed(&reason))?;
                Err(TransferLeaderError::VoteChanged { expected: *request.from_leader(), actual })
            }
        })
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(backoff()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit_and_never_end() {
        let waits: Vec<u128> = backoff().take(8).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(backoff().nth(10_000), Some(limits::BACKOFF_MAX));
    }
}
