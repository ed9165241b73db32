//! Being one of several: the peer port, joining, forwarding to the leader, changing the membership.
//!
//! Every call works on every node: what only the leader may do is sent to it, and this node waits until it has applied
//! the answer. It must not decide who leads. Invariant: a directory that joined a cluster never founds one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_peer::{
    FileParts, Host, Identity as PeerIdentity, NotAdmitted, PeerCalls, PeerServer, Peers, Security,
};
use alluvium_raft::{AppliedState, Error as RaftError, LeaderHint, Leadership};
use alluvium_stdx::Clock;
use alluvium_storage::Bucket;
use alluvium_types::{Entry, ErrorKind, LogIndex, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use object_store::path::Path as ObjectPath;

use crate::agreement::Digests;
use crate::buckets::Buckets;
use crate::dir::{Claim, Identity, NewIdentity};
use crate::jobs::Jobs;
use crate::membership::Member;
use crate::node::Node;
use crate::pressure::{Pressure, carries_rows};
use crate::{Config, Error};

/// The id of the node that founds a cluster, when nobody says.
const FIRST_NODE: u64 = 1;
/// How long a call waits for a cluster that has no leader just now.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a leader is asked whether a quorum still answers it, while a call waits for that.
const QUORUM_LOOK: Duration = Duration::from_millis(500);
/// How long a node may take to apply what its leader has answered.
const APPLY_MAX: Duration = Duration::from_secs(30);
/// Between two tries of a call that found no leader.
const TRY_AGAIN: Duration = Duration::from_millis(50);

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
    claim: &Claim,
) -> Result<(Option<u64>, NewIdentity), Error> {
    let Some((peer, port)) = config.peer.as_ref().zip(port) else {
        let node_id = config.node_id.unwrap_or(FIRST_NODE);
        return Ok((config.node_id, NewIdentity { node_id, cluster_id: None, joined: false }));
    };
    let certified = peer.security.identity()?;
    let wanted = certified.map(|own| own.node).or(config.node_id);
    if let Some(known) = claim.identity()? {
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
            // It answered for its cluster: the next address would only hide why.
            Err(error @ alluvium_peer::Error::NotLetIn { .. }) => return Err(error.into()),
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
    pub(crate) digests: Arc<Digests>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Host for PeerHost {
    fn admit(&self, entry: Entry) -> Result<Entry, NotAdmitted> {
        let mut envelope = entry.envelope().map_err(|_no| NotAdmitted::NotACommand)?;
        let kind = envelope.command.kind();
        self.pressure.check(kind).map_err(|error| {
            match error.kind() == ErrorKind::StorageFull {
                true => NotAdmitted::Full(error.to_string()),
                false => NotAdmitted::NotNow(error.to_string()),
            }
        })?;
        if carries_rows(kind) && self.pressure.is_behind() {
            return Err(NotAdmitted::Busy);
        }
        // One clock stamps: another node's that is ahead would end everybody's sessions.
        envelope.proposed_at_ms = self.clock.wall_ms();
        Entry::command(&envelope, &entry.body()).map_err(|_no| NotAdmitted::NotACommand)
    }

    fn reported(&self, node: u64, swept: LogIndex) {
        self.reports.told(node, swept);
        self.jobs.wake();
    }

    fn compared(&self, node: u64, checkpoint: AppliedState) {
        self.digests.tell(node, checkpoint);
    }

    fn open_file<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        part: u64,
    ) -> BoxFuture<'a, Result<Option<FileParts>, String>> {
        let (bucket, key) = (self.buckets.get(bucket), ObjectPath::parse(key));
        async move {
            let bucket = bucket.map_err(|error| error.to_string())?;
            let key = key.map_err(|error| error.to_string())?;
            let found = bucket.head(&key).await.map_err(|error| error.to_string())?;
            Ok(found.map(|found| parts_of(bucket, key, found.size, part)))
        }
        .boxed()
    }
}

/// Reads an object from its first byte to its last, a part at a time.
fn parts_of(bucket: Bucket, key: ObjectPath, size: u64, part: u64) -> FileParts {
    assert!(0 < part, "parts without bytes would never end");
    let starts = stream::iter((0..size.div_ceil(part)).map(move |nth| nth * part));
    let read = move |start: u64| {
        let (bucket, key) = (bucket.clone(), key.clone());
        let range = start..size.min(start + part);
        async move { bucket.get_part(&key, range).await.map_err(|error| error.to_string()) }
    };
    starts.then(read).boxed()
}

/// What a member of a cluster has beside a node that is alone.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) calls: PeerCalls,
    pub(crate) reports: Arc<Reports>,
    pub(crate) digests: Arc<Digests>,
    /// When a read index was asked for that is applied here, in nanoseconds of the monotonic clock; zero before.
    pub(crate) confirmed: AtomicU64,
}

impl Node {
    /// Proposes an entry here or at the leader, and waits until it is applied here.
    pub(crate) async fn commit(&self, entry: Entry) -> Result<Response, Error> {
        self.check_trusted()?;
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

    /// Returns the leadership under which a caller may propose what it makes of the state that is applied here; none while
    /// the quorum is silent, so that what cannot be committed is told before it is proposed.
    pub(crate) fn leadership(&self) -> Option<Leadership> {
        let is_silent = self.raft().quorum_silent_for().is_some_and(|time| QUORUM_LOOK < time);
        if is_silent { None } else { self.raft().leadership() }
    }

    /// Proposes an entry here, made from what was read here under a leadership; nothing when that is over: nothing was
    /// proposed then.
    pub(crate) async fn commit_under(
        &self,
        leadership: Leadership,
        entry: Entry,
    ) -> Result<Option<Response>, Error> {
        self.check_trusted()?;
        let proposed = self.raft().propose_under(&leadership, entry);
        let proposed = match self.cluster() {
            None => proposed.await,
            Some(_) => Box::pin(self.unless_hopeless(proposed, true)).await,
        };
        match proposed {
            Err(RaftError::NotLeader { .. } | RaftError::Unavailable) => Ok(None),
            outcome => Ok(Some(outcome?)),
        }
    }

    /// Returns an index at which a read sees every acknowledged write; its entries are applied here.
    pub(crate) async fn linearizable(&self) -> Result<LogIndex, Error> {
        self.check_trusted()?;
        let Some(cluster) = self.cluster() else { return Ok(self.raft().read_index().await?) };
        #[cfg(feature = "plant-stale-local-read")]
        if alluvium_stdx::plant::is_awake("stale-local-read") {
            return Ok(self.applied());
        }
        // What is acknowledged before now is in the answer.
        let asked_at = self.clock().monotonic_ns();
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
        cluster.confirmed.fetch_max(asked_at, Ordering::SeqCst);
        Ok(index)
    }

    /// Says whether this node has everything that was acknowledged until `max_stale` ago.
    pub(crate) fn is_fresh(&self, max_stale: Duration) -> bool {
        // A node that is alone decides, so it has everything.
        let Some(cluster) = self.cluster() else { return true };
        let confirmed = cluster.confirmed.load(Ordering::SeqCst);
        let age = self.clock().monotonic_ns().saturating_sub(confirmed);
        0 < confirmed && u128::from(age) <= max_stale.as_nanos()
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
    pub(crate) async fn at_leader<T, F>(
        &self,
        call: impl Fn(Option<LeaderHint>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, RaftError>>,
    {
        let patience = u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX);
        let until = self.clock().monotonic_ns().saturating_add(patience);
        let mut leader = None;
        loop {
            let is_here = leader.is_none();
            match self.unless_hopeless(Box::pin(call(leader.take())), is_here).await {
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

    /// Waits for consensus, here or elsewhere. Without a quorum openraft never answers: nobody waits for one longer than
    /// for a leader, and a node that stops does not wait at all.
    async fn unless_hopeless<T>(
        &self,
        call: impl Future<Output = Result<T, RaftError>>,
        is_here: bool,
    ) -> Result<T, RaftError> {
        let mut stopping = self.stopping();
        tokio::select! {
            answered = call => answered,
            () = self.quorum_is_lost(), if is_here => Err(RaftError::Ambiguous),
            _ = stopping.wait_for(|stopping| *stopping) => Err(RaftError::Ambiguous),
        }
    }

    /// Ends when this node leads and no quorum has answered it for a while, at two looks one after the other: a node
    /// that was paused hears of it first.
    async fn quorum_is_lost(&self) {
        let mut silent = 0;
        while silent < 2 {
            tokio::time::sleep(QUORUM_LOOK).await;
            let is_silent = self.raft().quorum_silent_for().is_some_and(|time| PATIENCE < time);
            silent = if is_silent { silent + 1 } else { 0 };
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

#[cfg(test)]
mod tests {
    use alluvium_storage::BucketKind;
    use futures::TryStreamExt;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_file_for_a_peer_is_read_part_by_part() {
        let bucket = Bucket::over("b", Arc::new(InMemory::new()), BucketKind::PerNode);
        let key = ObjectPath::from("a/b");
        for size in [0, 1, 4, 5, 8, 11] {
            let bytes = Bytes::from_iter(0..size);
            bucket.put_new(&key, bytes.clone()).await.expect("a new object");
            let parts = parts_of(bucket.clone(), key.clone(), u64::from(size), 4);
            let parts: Vec<Bytes> = parts.try_collect().await.expect("whole");
            assert!(parts.iter().all(|part| part.len() <= 4), "{size}: {parts:?}");
            assert_eq!(parts.concat(), bytes, "{size}");
            bucket.delete(&key).await.expect("deleted");
        }
        bucket.put_new(&key, Bytes::from_static(b"12345678")).await.expect("a new object");
        let mut parts = parts_of(bucket.clone(), key.clone(), 8, 4);
        assert_eq!(parts.try_next().await.expect("the first"), Some(Bytes::from_static(b"1234")));
        bucket.delete(&key).await.expect("deleted");
        parts.try_next().await.expect_err("the second was not read before it was asked for");
    }
}
