//! Who belongs to the cluster, who votes and who leads: what a node says of it, and how it is changed.
//!
//! It must not change anything by itself: the leader does, through the log. Invariant: a leader that ends hands over only to a
//! voter that answers.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_peer::Change;
use alluvium_raft::{Error as RaftError, LeaderHint, Progress, Role};

use alluvium_types::LogIndex;

use crate::Error;
use crate::node::Node;

/// A follower that was silent for longer gets a snapshot when it comes back, if the log is purged meanwhile.
const FED_MAX: Duration = Duration::from_secs(10);
/// Between two tries of a node to take its place in the cluster.
const PLACE_AGAIN: Duration = Duration::from_millis(200);
/// How long a change that the leader took may take to show here.
const PLACE_SHOWS: Duration = Duration::from_secs(1);
/// A member that was silent for longer is not handed the leadership: it may be dead.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// How long a leader that stops waits until a voter has answered it, in nanoseconds.
const FIRST_ANSWER_MAX_NS: u64 = 500_000_000;
/// Between two looks at who has answered.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a leader that stops tries to hand over.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// A member of the cluster, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: u64,
    /// Its peer address.
    pub address: String,
    /// Whether it votes.
    pub votes: bool,
    /// Whether it leads.
    pub leads: bool,
    /// Entries that the leader does not know it to have; nothing when that is not known here.
    pub behind: Option<u64>,
    /// How long ago it answered the leader last; nothing when that is not known here, or it never did.
    pub silent_for: Option<Duration>,
}

impl Node {
    /// Says whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.raft().status().role == Role::Leader
    }

    /// Returns the members of the cluster, as this node knows them.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.members_with(self.raft().progress().unwrap_or_default())
    }

    /// Returns the members of the cluster, and how far each is, as the leader knows. When it does not answer, it is as
    /// [`Node::members`].
    pub async fn members_as_led(&self) -> Vec<Member> {
        let known = self.members();
        let leader = known.iter().find(|member| member.leads && member.node != self.node_id());
        let (Some(leader), Some(cluster)) = (leader, self.cluster()) else { return known };
        let hint = LeaderHint { node: leader.node, address: leader.address.clone() };
        match cluster.calls.progress(&hint).await {
            Ok(progress) => self.members_with(progress),
            Err(_silent) => known,
        }
    }

    fn members_with(&self, progress: Vec<Progress>) -> Vec<Member> {
        let (membership, status) = (self.raft().membership(), self.raft().status());
        let progress: BTreeMap<u64, Progress> =
            progress.into_iter().map(|progress| (progress.node, progress)).collect();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let member = |(&node, address): (&u64, &alluvium_raft::Address)| Member {
            node,
            address: address.peer.clone(),
            votes: voters.contains(&node),
            leads: status.leader == Some(node),
            behind: progress.get(&node).map(|progress| progress.behind),
            silent_for: progress.get(&node).and_then(|progress| progress.silent_for),
        };
        membership.nodes().map(member).collect()
    }

    /// Adds a node that listens; returns its id.
    ///
    /// # Errors
    /// When the id or the address is another node's; when no leader takes the change.
    pub async fn add_learner(&self, node: Option<u64>, address: &str) -> Result<u64, Error> {
        let address = address.to_owned();
        self.change(Change::AddLearner { node, address }).await
    }

    /// Gives learners that have caught up a vote.
    ///
    /// # Errors
    /// When one is unknown or lags; when no leader takes the change.
    pub async fn promote(&self, nodes: &[u64]) -> Result<(), Error> {
        self.change(Change::Promote(nodes.to_vec())).await.map(drop)
    }

    /// Removes nodes from the cluster, dead or alive.
    ///
    /// # Errors
    /// When one is unknown or no voter would be left; when no leader takes the change.
    pub async fn remove(&self, nodes: &[u64]) -> Result<(), Error> {
        self.change(Change::Remove(nodes.to_vec())).await.map(drop)
    }

    /// Hands the leadership to a voter.
    ///
    /// # Errors
    /// When it has no vote, or did not take over in time.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), Error> {
        self.change(Change::TransferTo(to)).await.map(drop)
    }

    async fn change(&self, change: Change) -> Result<u64, Error> {
        let cluster = self.cluster().ok_or(Error::NoPeerPort)?;
        let calls = cluster.calls.clone();
        self.at_leader(|leader| {
            let (calls, raft, change) = (calls.clone(), self.raft().clone(), change.clone());
            async move {
                match (leader, change) {
                    (Some(leader), change) => calls.change(&leader, change).await,
                    (None, Change::Promote(nodes)) => raft.promote(&nodes).await.map(|()| 0),
                    (None, Change::Remove(nodes)) => raft.remove(&nodes).await.map(|()| 0),
                    (None, Change::TransferTo(to)) => {
                        raft.transfer_leader(to, HAND_OVER_MAX).await.map(|()| 0)
                    }
                    (None, Change::AddLearner { node, address }) => {
                        raft.add_learner(node, &address).await
                    }
                    (None, Change::SetAddress { node, address }) => {
                        raft.set_address(node, &address).await.map(|()| 0)
                    }
                }
            }
        })
        .await
    }

    /// Returns how far the slowest follower is that answered within some seconds; nothing on a node that does not lead.
    pub(crate) fn slowest_follower(&self, last: LogIndex) -> Option<LogIndex> {
        let answers =
            |follower: &Progress| follower.silent_for.is_some_and(|silent| silent < FED_MAX);
        let followers = self.raft().progress()?.into_iter().filter(answers);
        let behind = followers.map(|follower| follower.behind).max()?;
        Some(LogIndex(last.0.saturating_sub(behind)))
    }

    /// Sees to it that the cluster knows this node's address, and that the node has a vote if it wants one.
    pub(crate) async fn take_place(self, learner: bool) {
        let own = self.node_id();
        while !self.is_stopping() {
            let member = self.members().into_iter().find(|member| member.node == own);
            let address = self.raft().address();
            let taken = match member {
                Some(member) if member.address != address => {
                    let address = address.to_owned();
                    self.change(Change::SetAddress { node: own, address }).await.map(drop)
                }
                Some(member) if learner || member.votes => return,
                // Before it has the files, their only copies may lie with those whose place it takes.
                // Nor while it does not see a bucket that holds files: it could write none there.
                Some(_) if !self.has_all_files() || !self.has_all_buckets().unwrap_or(false) => {
                    Err(Error::Raft(RaftError::Unavailable))
                }
                Some(_) => self.promote(&[own]).await,
                // The membership that has this node in it has not come yet.
                None => Err(Error::Raft(RaftError::Unavailable)),
            };
            let again = match taken {
                // It shows here when the entry comes.
                Ok(()) => PLACE_SHOWS,
                Err(error) => {
                    let error = crate::jobs::error_chain(&error);
                    tracing::debug!(error, "this node has not its place in the cluster yet");
                    PLACE_AGAIN
                }
            };
            let mut stopping = self.stopping();
            tokio::select! {
                () = tokio::time::sleep(again) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    /// Hands the leadership to the voter that lacks least, so that nobody waits for an election.
    pub(crate) async fn hand_over(&self) {
        let has_failed = self.raft().status().fault.is_some();
        if self.cluster().is_none() || !self.leads() || has_failed {
            // A node that stopped on a fault must end at once, and can hand over nothing.
            return;
        }
        let own = self.node_id();
        if !self.members().iter().any(|member| member.node == own && member.votes) {
            // It was removed: the others have elected another leader, or do so now.
            return;
        }
        let Some(next) = self.heir().await else { return };
        match self.raft().transfer_leader(next.node, HAND_OVER_MAX).await {
            Ok(()) => tracing::info!(to = next.node, "the leadership is handed over"),
            Err(error) => {
                tracing::warn!(
                    error = crate::jobs::error_chain(&error),
                    "nobody took the leadership over: an election follows"
                );
            }
        }
    }

    /// Returns the voter that answers and lacks least. One that leads since just now has heard of nobody yet, and waits
    /// for the first answer, within the time that a dead voter would be silent.
    async fn heir(&self) -> Option<Member> {
        let own = self.node_id();
        let until = self.clock().monotonic_ns().saturating_add(FIRST_ANSWER_MAX_NS);
        loop {
            let answers =
                |other: &Member| other.silent_for.is_some_and(|silent| silent < SILENT_MAX);
            let others =
                self.members().into_iter().filter(|other| other.votes && other.node != own);
            let next = { others }.filter(answers).min_by_key(|other| other.behind);
            if next.is_some() || until <= self.clock().monotonic_ns() || !self.leads() {
                return next;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
