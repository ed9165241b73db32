//! What other nodes ask of this one.
//!
//! Every message is checked here before openraft sees it, because openraft panics on what no node that follows the
//! protocol sends. It must not know how messages travel. Invariant: no message, however it was made, ends this node.

use std::path::PathBuf;

use futures::{Stream, StreamExt, stream};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;

use alluvium_types::LogIndex;

use crate::encoding::{decode_kept_membership, decode_membership, encode_membership};
use crate::error::{Error, MessageFault};
use crate::node::RaftNode;
use crate::snapshots::{SnapshotFile, verify};
use crate::thread::on_thread;
use crate::type_config::{LogId, SnapshotMeta, TypeConfig, Vote};

/// A snapshot that was received whole, with what its sender said of it.
#[derive(Debug, Clone)]
pub struct ReceivedSnapshot {
    /// The leader's vote.
    pub vote: Vote,
    /// The last entry in it.
    pub last: LogId,
    /// The encoded membership at that entry: what the snapshot holds must be the same.
    pub membership: Vec<u8>,
    /// Where it lies, as [`RaftNode::receiving_path`] said.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// Returns the encoded membership of a snapshot that is sent.
#[must_use]
pub fn encode_membership_of(meta: &SnapshotMeta) -> Vec<u8> {
    encode_membership(meta.last_membership.membership())
}

impl RaftNode {
    /// Takes entries from a leader; answers in their order, each when its entries are synced. The stream ends with
    /// the first error, conflict or higher vote.
    pub fn append_stream<S>(
        &self,
        requests: S,
    ) -> impl Stream<Item = Result<StreamAppendResult<TypeConfig>, Error>> + Send + 'static
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
    {
        let (node, ended) = (self.clone(), self.clone());
        let answers = self.raft.stream_append(requests);
        let answers = answers.map(move |answer| answer.map_err(|fatal| node.stopped_error(&fatal)));
        // openraft ends the stream without a word when it is stopped: a leader would ask again and again.
        let stopped = stream::once(async move { ended.check_running().err() });
        answers.chain(stopped.filter_map(|error| async move { error.map(Err) }))
    }

    /// Votes, or says why not.
    ///
    /// # Errors
    /// [`Error::Message`], [`Error::Poisoned`], [`Error::Shutdown`].
    pub async fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        check_vote(&request)?;
        self.check_running()?;
        self.check_trusted()?;
        let answered = self.unless_failed(self.raft.vote(request)).await?;
        answered.map_err(|_fatal| self.why_stopped())
    }

    /// Says whether it would vote; changes nothing.
    ///
    /// # Errors
    /// As [`RaftNode::vote`].
    pub async fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        check_vote(&request)?;
        self.check_running()?;
        self.check_trusted()?;
        let answered = self.unless_failed(self.raft.pre_vote(request)).await?;
        answered.map_err(|_fatal| self.why_stopped())
    }

    /// Takes the leadership over, when its log allows.
    ///
    /// # Errors
    /// As [`RaftNode::vote`].
    pub async fn take_over(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Error> {
        self.check_running()?;
        self.check_trusted()?;
        let answered = self.unless_failed(self.raft.handle_transfer_leader(request)).await?;
        answered.map_err(|fatal| self.stopped_error(&fatal))
    }

    /// Returns where a snapshot of that name is received. What was received of another one is removed.
    ///
    /// # Errors
    /// [`Error::Receive`].
    pub async fn receiving_path(&self, name: &str) -> Result<PathBuf, Error> {
        let (snapshots, name) = (self.snapshots.clone(), name.to_owned());
        let path = on_thread("snapshot-receive", move || snapshots.receiving(&name)).await;
        path.map_err(|fault| Error::Receive { fault: fault.into() })
    }

    /// Installs a snapshot that was received whole: its rows are checked against its digest first. Returns this
    /// node's vote, which is higher than the sender's when the snapshot was refused.
    ///
    /// # Errors
    /// [`Error::Receive`] when the file is not what was announced; [`Error::Poisoned`] when it could not be put in
    /// place; [`Error::Shutdown`].
    pub async fn install(&self, received: ReceivedSnapshot) -> Result<Vote, Error> {
        let ReceivedSnapshot { vote, last, membership, path, bytes } = received;
        self.check_running()?;
        let checked = path.clone();
        let found = on_thread("snapshot-check", move || verify(&checked)).await;
        let found = found.map_err(|fault| Error::Receive { fault: fault.into() })?;
        let announced = Some(crate::encoding::applied_of(&last));
        let kept = decode_kept_membership(&found.membership)
            .map_err(|_invalid| Error::Message { fault: MessageFault::Membership })?;
        let membership = decode_membership(&membership)
            .map_err(|_invalid| Error::Message { fault: MessageFault::Membership })?;
        if found.applied != announced || *kept.stored.membership() != membership {
            let fault = crate::error::Fault::SnapshotMismatch { path };
            return Err(Error::Receive { fault: fault.into() });
        }
        if vote.leader_id() < &last.leader_id || !vote.is_committed() {
            return Err(Error::Message {
                fault: MessageFault::BeyondVote { index: LogIndex(last.index) },
            });
        }
        let meta = SnapshotMeta { last_log_id: Some(last), last_membership: kept.stored };
        let snapshot = SnapshotFile { path, bytes, digest: found.digest };
        let snapshot = Snapshot { meta, snapshot };
        let installed = self.raft.install_full_snapshot(vote, snapshot);
        let installed = self.unless_failed(installed).await?;
        installed.map(|answer| answer.vote).map_err(|fatal| self.stopped_error(&fatal))
    }
}

/// Checks what a leader says of itself and its entries.
///
/// # Errors
/// [`Error::Message`] for what no leader sends.
pub fn check_append(request: &AppendEntriesRequest<TypeConfig>) -> Result<(), Error> {
    let refuse = |fault| Err(Error::Message { fault });
    if !request.vote.is_committed() {
        return refuse(MessageFault::NoLeader);
    }
    let leader = request.vote.leader_id();
    let mut before = request.prev_log_id;
    for entry in &request.entries {
        let id = entry.log_id;
        let next = before.map_or(0, |before| before.index.saturating_add(1));
        let is_in_order =
            id.index == next && before.is_none_or(|before| before.leader_id <= id.leader_id);
        if !is_in_order {
            return refuse(MessageFault::OutOfOrder { index: LogIndex(id.index) });
        }
        before = Some(id);
    }
    let newest = before.into_iter().chain(request.leader_commit);
    match { newest }.find(|id| leader < &id.leader_id) {
        Some(id) => refuse(MessageFault::BeyondVote { index: LogIndex(id.index) }),
        None => Ok(()),
    }
}

fn check_vote(request: &VoteRequest<TypeConfig>) -> Result<(), Error> {
    let refuse = |fault| Err(Error::Message { fault });
    if request.vote.is_committed() {
        return refuse(MessageFault::NoCandidate);
    }
    match request.last_log_id {
        Some(last) if request.vote.leader_id() < &last.leader_id => {
            refuse(MessageFault::BeyondVote { index: LogIndex(last.index) })
        }
        Some(_) | None => Ok(()),
    }
}
