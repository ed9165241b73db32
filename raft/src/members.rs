//! Changing who belongs to the cluster, and who leads it. Only the leader does.
//!
//! A node joins as a learner, which has no vote, and is promoted when it has caught up. openraft goes through a joint
//! configuration, so that no two disjoint quorums exist at any step. It must not decide who joins. Invariant: an id
//! stands for one address; another address under a member's id is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::Instant as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, RaftMetrics};
use tokio::sync::SemaphorePermit;

use alluvium_types::LogIndex;

use crate::encoding::decode_kept_membership;
use crate::error::{Error, Fault, MembershipFault};
use crate::limits;
use crate::node::{RaftNode, not_leader};
use crate::type_config::{Address, Membership, TypeConfig};

/// How far a member is, as its leader knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The member.
    pub node: u64,
    /// Entries of the leader's log that it is not known to have.
    pub behind: u64,
    /// How long ago it answered last; nothing when it never did.
    pub silent_for: Option<Duration>,
}

type ChangeError = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

impl RaftNode {
    /// Returns the newest membership that this node knows of, committed or not.
    #[must_use]
    pub fn membership(&self) -> Membership {
        self.metrics().membership_config.membership().clone()
    }

    /// Adds a node that listens and does not vote, under an id that no node ever had; returns the id. Adding it again
    /// under its address changes nothing as long as it has not answered; afterwards it is refused, because what it
    /// acknowledged could be missing in another directory.
    ///
    /// Without an id the next free one is taken.
    ///
    /// # Errors
    /// [`Error::Membership`] when the id has another address, or the cluster is full; as [`RaftNode::propose`].
    pub async fn add_learner(&self, node: Option<u64>, address: &str) -> Result<u64, Error> {
        if limits::ADDRESS_BYTES_MAX < address.len() {
            return Err(Error::Config { reason: "the peer address is too long" });
        }
        self.check_leads()?;
        let membership = self.membership();
        let ids_used = self.ids_used(&membership)?;
        let owner = membership.nodes().find(|(_, known)| known.peer == address).map(|(id, _)| *id);
        let node = match (node, owner) {
            // Its answer was lost: it has acknowledged nothing yet that could be missed.
            (wanted, Some(owner))
                if wanted.is_none_or(|wanted| wanted == owner) && self.is_unheard(owner) =>
            {
                return Ok(owner);
            }
            (_, Some(node)) => {
                return Err(refused(MembershipFault::Taken { node, address: address.to_owned() }));
            }
            (Some(node), None) => node,
            (None, None) => ids_used + 1,
        };
        if let Some(known) = membership.get_node(&node) {
            let address = known.peer.clone();
            return Err(refused(MembershipFault::Taken { node, address }));
        }
        if node <= ids_used {
            return Err(refused(MembershipFault::Used { node, next: ids_used + 1 }));
        }
        if limits::NODES_MAX <= membership.nodes().count() {
            return Err(refused(MembershipFault::Full));
        }
        let address = Address { peer: address.to_owned() };
        let _turn = self.turn()?;
        let added = self.unless_failed(self.raft.add_learner(node, address, false)).await;
        let added = added.map_err(|_fault| Error::Ambiguous)?;
        added.map(|_| node).map_err(|error| self.change_error(error))
    }

    /// Says whether a member is a learner that has never answered this leader: whoever comes under its id need not have
    /// what it acknowledged, for that is nothing. A voter's acknowledgements are never given to another directory.
    fn is_unheard(&self, node: u64) -> bool {
        let metrics = self.metrics();
        let is_learner = metrics.membership_config.membership().learner_ids().any(|id| id == node);
        let replicated = metrics.replication.as_ref().and_then(|nodes| nodes.get(&node));
        is_learner && replicated.is_none_or(Option::is_none)
    }

    /// Returns the highest id that a node has or ever had.
    fn ids_used(&self, newest: &Membership) -> Result<u64, Error> {
        let kept = decode_kept_membership(&self.store.raft().membership)
            .map_err(|source| self.poison(Fault::StoredMembership { source }))?;
        Ok(newest.nodes().map(|(id, _)| *id).fold(kept.ids_used, u64::max))
    }

    /// Says where a member is reached from now on.
    ///
    /// # Errors
    /// [`Error::Membership`] when the node is unknown or another has the address; as [`RaftNode::propose`].
    pub async fn set_address(&self, node: u64, address: &str) -> Result<(), Error> {
        if limits::ADDRESS_BYTES_MAX < address.len() {
            return Err(Error::Config { reason: "the peer address is too long" });
        }
        let membership = self.membership();
        match membership.nodes().find(|(_, known)| known.peer == address) {
            Some((&owner, _)) if owner == node => return Ok(()),
            Some((&owner, _)) => {
                let address = address.to_owned();
                return Err(refused(MembershipFault::Taken { node: owner, address }));
            }
            None => {}
        }
        if membership.get_node(&node).is_none() {
            return Err(refused(MembershipFault::Unknown { node }));
        }
        let address = Address { peer: address.to_owned() };
        self.change(ChangeMembers::SetNodes([(node, address)].into())).await
    }

    /// Gives learners a vote, once they have caught up.
    ///
    /// # Errors
    /// [`Error::Membership`] when a node is unknown or lags; as [`RaftNode::propose`].
    pub async fn promote(&self, nodes: &[u64]) -> Result<(), Error> {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        for &node in nodes {
            if membership.get_node(&node).is_none() {
                return Err(refused(MembershipFault::Unknown { node }));
            }
            let behind = behind(&metrics, node);
            // A node that does not lead has no figures; openraft says then who does.
            if metrics.replication.is_some() && limits::PROMOTE_LAG_MAX < behind {
                return Err(refused(MembershipFault::Lags { node, behind }));
            }
        }
        let nodes: BTreeSet<u64> = nodes.iter().copied().collect();
        self.change(ChangeMembers::AddVoterIds(nodes)).await
    }

    /// Removes nodes, dead or alive. The last voter stays.
    ///
    /// # Errors
    /// [`Error::Membership`] when a node is unknown or no voter would be left; as [`RaftNode::propose`].
    pub async fn remove(&self, nodes: &[u64]) -> Result<(), Error> {
        let membership = self.membership();
        if let Some(&node) = nodes.iter().find(|node| membership.get_node(node).is_none()) {
            return Err(refused(MembershipFault::Unknown { node }));
        }
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        if voters.iter().all(|voter| nodes.contains(voter)) {
            return Err(refused(MembershipFault::LastVoter));
        }
        let (voters, learners): (BTreeSet<u64>, BTreeSet<u64>) =
            nodes.iter().partition(|node| voters.contains(node));
        let is_split = !voters.is_empty() && !learners.is_empty();
        if !voters.is_empty() {
            self.change(ChangeMembers::RemoveVoters(voters)).await?;
        }
        if learners.is_empty() {
            return Ok(());
        }
        match self.change(ChangeMembers::RemoveNodes(learners)).await {
            // The voters are gone by then.
            Err(Error::NotLeader { .. } | Error::Unavailable) if is_split => Err(Error::Ambiguous),
            removed => removed,
        }
    }

    /// Ends a change of voters that was cut off between its two steps, because whoever made it went away: until then a
    /// majority of the old voters and one of the new ones decide together. Nothing happens where there is none, where
    /// this node does not lead, and while a change is being made.
    ///
    /// # Errors
    /// As [`RaftNode::propose`].
    pub async fn settle_voters(&self) -> Result<(), Error> {
        let is_between = 1 < self.membership().get_joint_config().len();
        if !is_between || self.check_leads().is_err() {
            return Ok(());
        }
        match self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await {
            Err(Error::Membership { fault: MembershipFault::InProgress }) => Ok(()),
            settled => settled,
        }
    }

    /// Hands the leadership to another voter, and waits until it leads.
    ///
    /// # Errors
    /// [`Error::NotLeader`]; [`Error::Membership`] when the node has no vote; [`Error::Ambiguous`] when it did not
    /// take over in time: this node or another one leads on, or it does so later.
    pub async fn transfer_leader(&self, to: u64, within: Duration) -> Result<(), Error> {
        self.check_leads()?;
        if !self.membership().voter_ids().any(|voter| voter == to) {
            return Err(refused(MembershipFault::NoVote { node: to }));
        }
        if to == self.metrics().id {
            // openraft would take no writes until its lease is renewed, to hand over to nobody.
            return Ok(());
        }
        let triggered = self.raft.trigger().transfer_leader(to).await;
        triggered.map_err(|fatal| self.stopped_error(&fatal))?;
        let leads = move |metrics: &RaftMetrics<TypeConfig>| metrics.current_leader == Some(to);
        let wait = self.raft.wait(Some(within));
        let waited = self.unless_failed(wait.metrics(leads, "the leadership moved")).await?;
        // It may yet take over.
        waited.map(drop).map_err(|_in_time| Error::Ambiguous)
    }

    /// Returns how long ago a quorum answered this node last, if it leads and needs others for one.
    #[must_use]
    pub fn quorum_silent_for(&self) -> Option<Duration> {
        self.look(|metrics| {
            let is_leader = metrics.current_leader == Some(metrics.id);
            let voters = metrics.membership_config.membership().voter_ids().count();
            let acked = metrics.last_quorum_acked.filter(|_| is_leader && 1 < voters);
            acked.map(|at| at.elapsed())
        })
    }

    /// Returns how far each member is, as this leader knows; nothing when this node does not lead.
    #[must_use]
    pub fn progress(&self) -> Option<Vec<Progress>> {
        let metrics = self.metrics();
        let heard = |node: u64| metrics.heartbeat.as_ref()?.get(&node).copied()?;
        let nodes = metrics.replication.as_ref()?.keys().copied();
        let progress = |node| Progress {
            node,
            behind: behind(&metrics, node),
            silent_for: heard(node).map(|at| at.elapsed()),
        };
        Some(nodes.map(progress).collect())
    }

    async fn change(&self, change: ChangeMembers<u64, Address>) -> Result<(), Error> {
        self.check_leads()?;
        let _turn = self.turn()?;
        let changed = self.unless_failed(self.raft.change_membership(change, false)).await;
        let changed = changed.map_err(|_fault| Error::Ambiguous)?;
        match changed.map_err(|error| self.change_error(error)) {
            // It may be the second of two steps that met another leader.
            Err(Error::NotLeader { .. } | Error::Unavailable) => Err(Error::Ambiguous),
            changed => changed.map(drop),
        }
    }

    /// One change at a time: openraft refuses another one too, and calls it an error in the log.
    fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        let turn = self.changing.try_acquire();
        turn.map_err(|_taken| refused(MembershipFault::InProgress))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other refusals are told in openraft's words"
    )]
    fn change_error(&self, error: ChangeError) -> Error {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => not_leader(forward),
            RaftError::APIError(ClientWriteError::ChangeMembershipError(refusal)) => {
                match refusal {
                    ChangeMembershipError::InProgress(_) => refused(MembershipFault::InProgress),
                    ChangeMembershipError::EmptyMembership(_) => {
                        refused(MembershipFault::LastVoter)
                    }
                    other => refused(MembershipFault::Refused {
                        reason: other.to_string().into_boxed_str(),
                    }),
                }
            }
            RaftError::APIError(
                ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::PreconditionFailed(_),
            )
            | RaftError::Fatal(_) => Error::Ambiguous,
        }
    }

    /// openraft refuses this too, and calls it an error in the log.
    fn check_leads(&self) -> Result<(), Error> {
        self.check_running()?;
        let metrics = self.metrics();
        match metrics.current_leader {
            Some(leader) if leader == metrics.id => Ok(()),
            Some(leader) => Err(self.led_by(leader)),
            None => Err(Error::Unavailable),
        }
    }

    fn led_by(&self, leader: u64) -> Error {
        match self.membership().get_node(&leader) {
            Some(address) => Error::NotLeader {
                hint: crate::error::LeaderHint { node: leader, address: address.peer.clone() },
            },
            None => Error::Unavailable,
        }
    }
}

fn refused(fault: MembershipFault) -> Error {
    Error::Membership { fault }
}

fn behind(metrics: &RaftMetrics<TypeConfig>, node: u64) -> u64 {
    let last = LogIndex(metrics.last_log_index.unwrap_or(0));
    let replicated = metrics.replication.as_ref().and_then(|nodes| nodes.get(&node));
    match replicated {
        Some(Some(matching)) => last.0.saturating_sub(matching.index),
        Some(None) | None => last.0.saturating_add(1),
    }
}
