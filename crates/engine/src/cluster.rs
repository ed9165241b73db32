//! Being one of several: the peer port, joining, forwarding to the leader, changing the membership.
//!
//! Every call works on every node: what only the leader may do is sent to it, and this node waits until it has applied
//! the answer. It must not decide who leads. Invariant: a directory that joined a cluster never founds one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_peer::{
    Change, Host, Identity as PeerIdentity, PeerCalls, PeerServer, Peers, Security,
};
use alluvium_raft::{Error as RaftError, LeaderHint, Progress, Role};
use alluvium_stdx::Clock;
use alluvium_types::{Entry, LogIndex, Response};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path as ObjectPath;

use crate::dir::{DataDir, Identity, NewIdentity};
use crate::jobs::Jobs;
use crate::node::Node;
use crate::opening::Buckets;
use crate::pressure::Pressure;
use crate::{Config, Error};

/// The id of the node that founds a cluster, when nobody says.
const FIRST_NODE: u64 = 1;
/// How long a call waits for a cluster that has no leader just now.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a node may take to apply what its leader has answered.
const APPLY_MAX: Duration = Duration::from_secs(30);
/// Between two tries of a call that found no leader.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Between two tries of a node to take its place in the cluster.
const PLACE_AGAIN: Duration = Duration::from_millis(200);
/// How long a change that the leader took may take to show here.
const PLACE_SHOWS: Duration = Duration::from_secs(1);
/// A member that was silent for longer is not handed the leadership: it may be dead.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// How long a leader that stops tries to hand over.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// How a node takes part in a cluster.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// The peer port; port 0 takes any.
    pub listen: SocketAddr,
    /// Where peers reach this node, when that is not where it listens.
    pub advertise: Option<String>,
    /// What proves to each other who they are.
    pub security: Security,
    /// Listen where other machines can reach it, although nobody is checked.
    pub insecure: bool,
    /// Peer addresses of members, any of them: a new directory joins their cluster. Without one it founds a cluster.
    pub join: Vec<String>,
    /// Found a cluster with a new directory that has a certificate. Without it such a node joins or is refused: the
    /// certificate says of which cluster it is, and that may be there already.
    pub found: bool,
    /// Listen only: no vote is asked for.
    pub learner: bool,
}

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

/// A bound peer port and the address that peers are told.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) server: PeerServer,
    pub(crate) address: String,
    security: Security,
}

impl Port {
    pub(crate) fn bind(config: &PeerConfig) -> Result<Self, Error> {
        let security = config.security.clone();
        let server = PeerServer::bind(config.listen, security.clone(), config.insecure)?;
        let bound = server.address();
        let address = match &config.advertise {
            Some(address) => address.clone(),
            None if bound.ip().is_unspecified() => {
                return Err(Error::NoAddress { listen: bound });
            }
            None => bound.to_string(),
        };
        Ok(Self { server, address, security })
    }

    pub(crate) fn peers(&self, own: Identity) -> Peers {
        Peers::new(peer_identity(own), self.security.clone())
    }
}

pub(crate) fn peer_identity(own: Identity) -> PeerIdentity {
    PeerIdentity { cluster: own.cluster_id, node: own.node_id }
}

/// Finds out who a node is: by its directory, by its certificate, or by asking to join.
pub(crate) async fn identify(
    config: &Config,
    port: Option<&Port>,
) -> Result<(Option<u64>, NewIdentity), Error> {
    let Some((peer, port)) = config.peer.as_ref().zip(port) else {
        let node_id = config.node_id.unwrap_or(FIRST_NODE);
        return Ok((config.node_id, NewIdentity { node_id, cluster_id: None, joined: false }));
    };
    let certified = peer.security.identity()?;
    let wanted = certified.map(|own| own.node).or(config.node_id);
    if let Some(known) = DataDir::identity_of(&config.data_dir)? {
        if certified.is_some_and(|own| own != peer_identity(known)) {
            return Err(Error::OtherCertificate { path: config.data_dir.clone() });
        }
        let (node_id, cluster_id) = (known.node_id, Some(known.cluster_id));
        return Ok((wanted, NewIdentity { node_id, cluster_id, joined: known.joined }));
    }
    if peer.join.is_empty() && certified.is_some() && !peer.found {
        return Err(Error::NotFounded { path: config.data_dir.clone() });
    }
    if peer.join.is_empty() {
        let cluster_id = certified.map(|own| own.cluster);
        let node_id = wanted.unwrap_or(FIRST_NODE);
        return Ok((wanted, NewIdentity { node_id, cluster_id, joined: false }));
    }
    let mut refused = None;
    for member in &peer.join {
        match alluvium_peer::join(member, &peer.security, wanted, &port.address).await {
            Ok(PeerIdentity { cluster, node }) => {
                let (node_id, cluster_id) = (node, Some(cluster));
                return Ok((wanted, NewIdentity { node_id, cluster_id, joined: true }));
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.expect("at least one member was asked").into())
}

/// What other nodes have deleted, as they told.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    // Written by calls of peers, read by the job task; held for a map operation only.
    swept: Mutex<BTreeMap<u64, LogIndex>>,
}

impl Reports {
    fn told(&self, node: u64, swept: LogIndex) {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner).insert(node, swept);
    }

    fn of(&self, node: u64) -> Option<LogIndex> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner).get(&node).copied()
    }
}

/// What peers ask of this node.
pub(crate) struct PeerHost {
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) buckets: Buckets,
    pub(crate) reports: Arc<Reports>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Host for PeerHost {
    fn admit(&self, entry: Entry) -> Result<Entry, String> {
        let mut envelope = entry.envelope().map_err(|error| error.to_string())?;
        self.pressure.check(envelope.command.kind()).map_err(|error| error.to_string())?;
        // One clock stamps: another node's that is ahead would end everybody's sessions.
        envelope.proposed_at_ms = self.clock.wall_ms();
        Entry::command(&envelope, &entry.body()).map_err(|error| error.to_string())
    }

    fn reported(&self, node: u64, swept: LogIndex) {
        self.reports.told(node, swept);
        self.jobs.wake();
    }

    fn read_file(&self, bucket: &str, key: &str) -> BoxFuture<'_, Result<Option<Bytes>, String>> {
        let (bucket, key) = (self.buckets.get(bucket), ObjectPath::parse(key));
        async move {
            let bucket = bucket.map_err(|error| error.to_string())?;
            let key = key.map_err(|error| error.to_string())?;
            bucket.get(&key).await.map_err(|error| error.to_string())
        }
        .boxed()
    }
}

/// What a member of a cluster has beside a node that is alone.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) calls: PeerCalls,
    pub(crate) reports: Arc<Reports>,
}

impl Node {
    /// Proposes an entry here or at the leader, and waits until it is applied here.
    pub(crate) async fn commit(&self, entry: Entry) -> Result<Response, Error> {
        let Some(cluster) = self.cluster() else { return Ok(self.raft().propose(entry).await?) };
        let calls = cluster.calls.clone();
        // Boxed: every write would carry it otherwise, also on a node that is alone.
        let response = Box::pin(self.at_leader(|leader| {
            let (calls, entry, raft) = (calls.clone(), entry.clone(), self.raft().clone());
            async move {
                match leader {
                    None => raft.propose(entry).await,
                    Some(leader) => calls.propose(&leader, &entry).await,
                }
            }
        }))
        .await?;
        self.applied_in_time(response.index).await?;
        Ok(response)
    }

    /// Returns an index at which a read sees every acknowledged write; its entries are applied here.
    pub(crate) async fn linearizable(&self) -> Result<LogIndex, Error> {
        let Some(cluster) = self.cluster() else { return Ok(self.raft().read_index().await?) };
        let calls = cluster.calls.clone();
        let index = Box::pin(self.at_leader(|leader| {
            let (calls, raft) = (calls.clone(), self.raft().clone());
            async move {
                match leader {
                    None => raft.read_index().await,
                    Some(leader) => calls.read_index(&leader).await,
                }
            }
        }))
        .await?;
        self.applied_in_time(index).await?;
        Ok(index)
    }

    /// Waits until this node has applied what the leader answered. A node that is cut off or was removed never does.
    async fn applied_in_time(&self, index: LogIndex) -> Result<(), Error> {
        match tokio::time::timeout(APPLY_MAX, self.raft().wait_applied(index)).await {
            Ok(applied) => Ok(applied?),
            Err(_elapsed) => Err(Error::NotReached { index, applied: self.applied() }),
        }
    }

    /// Makes a call here, or at the leader when this node does not lead. While nothing was proposed and no leader is
    /// known it is tried again, up to a limit.
    async fn at_leader<T, F>(&self, call: impl Fn(Option<LeaderHint>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, RaftError>>,
    {
        let patience = u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX);
        let mut stopping = self.stopping();
        let until = self.clock().monotonic_ns().saturating_add(patience);
        let mut leader = None;
        loop {
            // Without a quorum openraft never answers: a node that stops does not wait for one.
            let answered = tokio::select! {
                answered = call(leader.take()) => answered,
                _ = stopping.wait_for(|stopping| *stopping) => Err(RaftError::Ambiguous),
            };
            match answered {
                Err(RaftError::NotLeader { hint }) if hint.node != self.node_id() => {
                    leader = Some(hint);
                }
                Err(RaftError::NotLeader { .. } | RaftError::Unavailable) => {}
                outcome => return Ok(outcome?),
            }
            if until <= self.clock().monotonic_ns() || self.is_stopping() {
                return Err(RaftError::Unavailable.into());
            }
            if leader.is_none() {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }

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
        if self.cluster().is_none() || !self.leads() {
            return;
        }
        let own = self.node_id();
        if !self.members().iter().any(|member| member.node == own && member.votes) {
            // It was removed: the others have elected another leader, or do so now.
            return;
        }
        let answers = |other: &Member| other.silent_for.is_some_and(|silent| silent < SILENT_MAX);
        let others = self.members().into_iter().filter(|other| other.votes && other.node != own);
        let Some(next) = { others }.filter(answers).min_by_key(|other| other.behind) else {
            return;
        };
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

    /// Returns the index up to which every other member has deleted what the state gave up; none while one has not
    /// told.
    pub(crate) fn swept_everywhere(&self) -> Option<LogIndex> {
        let Some(cluster) = self.cluster() else { return Some(LogIndex::MAX) };
        let own = self.node_id();
        let others = self.members().into_iter().filter(|member| member.node != own);
        { others }.try_fold(LogIndex::MAX, |lowest, other| {
            cluster.reports.of(other.node).map(|told| lowest.min(told))
        })
    }

    /// Tells the leader up to which index this node has deleted what the state gave up.
    pub(crate) async fn report_swept(&self, swept: LogIndex) {
        let Some(cluster) = self.cluster() else { return };
        let leader = self.members().into_iter().find(|member| member.leads);
        let Some(leader) = leader.filter(|leader| leader.node != self.node_id()) else { return };
        let hint = LeaderHint { node: leader.node, address: leader.address };
        if let Err(error) = cluster.calls.report(&hint, swept).await {
            tracing::debug!(error = crate::jobs::error_chain(&error), "the leader did not hear");
        }
    }

    /// Reads an object of another member, the leader first; nothing when none has it.
    pub(crate) async fn read_elsewhere(&self, bucket: &str, key: &ObjectPath) -> Option<Bytes> {
        let cluster = self.cluster()?;
        let own = self.node_id();
        let mut others: Vec<Member> =
            self.members().into_iter().filter(|member| member.node != own).collect();
        others.sort_by_key(|member| !member.leads);
        for other in others {
            let hint = LeaderHint { node: other.node, address: other.address };
            match cluster.calls.read_file(&hint, bucket, key.as_ref()).await {
                Ok(Some(bytes)) => return Some(bytes),
                Ok(None) => {}
                Err(error) => {
                    let error = crate::jobs::error_chain(&error);
                    tracing::debug!(node = hint.node, error, "a file was not read from a peer");
                }
            }
        }
        None
    }
}
