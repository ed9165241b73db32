//! The parts of a node, opened in their order: log, metadata, buckets, consensus, queries.
//!
//! It must not keep a part: the node does. Invariant: what is damaged is named, and only what can be built anew from the
//! log is set aside.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use alluvium_metastore::{OpenOptions, RocksStore};
use alluvium_peer::{Host, PeerCalls, Peers};
use alluvium_query::{QueryConfig, QueryEngine, Sources};
use alluvium_raft::{EffectSender, Fault, RaftConfig, RaftNode, Timings};
use alluvium_state_machine::{MetaStore, StoreError};
use alluvium_stdx::{Spawner, durable};
use alluvium_wal::{Options, StreamId, Wal, WalHandle, WalService};
use futures::FutureExt;
use tokio::sync::watch;

use crate::buckets::Buckets;
use crate::cluster::{self, Cluster, PeerHost, Port};
use crate::dir::{Claim, DataDir, Identity};
use crate::jobs;
use crate::log::NodeLog;
use crate::reinstall;
use crate::tasks::{QueryThreads, Tasks};
use crate::{Config, Error};

/// Entries that a purge leaves behind the snapshot, because a purge that runs into a queued apply is a known
/// hazard of the consensus library. Few: entries may be large, and what stays counts against the log's limit.
pub(crate) const PURGE_MARGIN: u64 = 64;
/// Bytes of resolved tombstones that queries share: half of them hold an index of about a million keys.
const TOMBSTONE_CACHE_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of unsealed rows that queries share decoded.
const DELTA_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The log's handle for everyone and the owner of its threads.
pub(crate) struct OpenLog {
    pub(crate) handle: WalHandle,
    pub(crate) service: WalService,
}

/// What consensus is started on.
pub(crate) struct Start {
    pub(crate) config: RaftConfig,
    pub(crate) log: WalHandle,
    pub(crate) store: Arc<dyn MetaStore>,
    pub(crate) effects: EffectSender,
}

impl Start {
    /// Starts a node that has no peers, and waits until it has applied all that was acknowledged.
    pub(crate) async fn alone(self) -> Result<RaftNode, Error> {
        let raft = RaftNode::start(self.config, self.log, self.store, self.effects).await?;
        raft.initialize_single().await?;
        raft.wait_ready().await?;
        Ok(raft)
    }

    /// Starts a member of a cluster, and answers its peers. One that founds the cluster is its first voter.
    pub(crate) async fn member(
        self,
        port: Port,
        own: Identity,
        host: PeerHost,
        tasks: &Tasks,
        shutdown: &watch::Sender<bool>,
    ) -> Result<(RaftNode, Cluster), Error> {
        let peers = port.peers(own);
        let calls = PeerCalls::new(peers.clone());
        let Self { config, log, store, effects } = self;
        let raft = RaftNode::start_with_peers(config, log, store, effects, peers.clone()).await?;
        let (reports, digests) = (Arc::clone(&host.reports), Arc::clone(&host.digests));
        serve_peers(tasks, (port, peers), own, &raft, host, shutdown.subscribe());
        if !own.joined
            && let Err(error) = raft.initialize_if_new().await
        {
            shutdown.send_replace(true);
            return Err(error.into());
        }
        Ok((raft, Cluster { calls, reports, digests, confirmed: AtomicU64::new(0) }))
    }
}

/// Opens the directory of a node, and gives it the state of another one if that was asked for. Says why the node is in
/// quarantine, if it is.
pub(crate) async fn enter(
    config: &Config,
    port: Option<&Port>,
) -> Result<(DataDir, Option<String>), Error> {
    let claim = Claim::take(&config.data_dir)?;
    let (expected, new) = cluster::identify(config, port, &claim).await?;
    let dir = claim.open(expected, new, config.machine.as_ref())?;
    let peers = port.map(|port| port.peers(dir.identity()));
    reinstall::run_if_wanted(&dir, peers.as_ref()).await?;
    let quarantine = dir.quarantined()?;
    match quarantine.is_some() && port.is_none() {
        // Nobody would ever tell it otherwise.
        true => Err(alluvium_raft::Error::Quarantined.into()),
        false => Ok((dir, quarantine)),
    }
}

impl OpenLog {
    pub(crate) fn open(config: &Config, dir: &DataDir) -> Result<Self, Error> {
        let storage = config.machine.log_storage(&dir.wal());
        let storage = storage.map_err(|source| unusable(&dir.wal(), source))?;
        let options = log_options(dir.identity(), config.segment_bytes);
        let (wal, recovery) = Wal::open(storage, options)?;
        for notice in recovery.notices {
            tracing::warn!(%notice, "found while opening the log");
        }
        let (handle, service) = WalService::start(wal)?;
        Ok(Self { handle, service })
    }

    pub(crate) fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.handle.state(StreamId(0))?.end().is_none())
    }
}

/// Returns how the log of a directory is opened.
pub(crate) fn log_options(identity: Identity, segment_bytes: u64) -> Options {
    let owner = alluvium_wal::Owner { cluster: identity.cluster_id, node: identity.node_id };
    let mut options = Options::new(owner);
    options.segment_bytes = segment_bytes;
    options
}

/// Opens the metadata. A damaged store is set aside and built anew: it is a cache of snapshot and log, and
/// where these two do not reach back far enough, consensus refuses to start.
pub(crate) fn open_store(dir: &DataDir) -> Result<RocksStore, Error> {
    let path = dir.metadata();
    let damage = match RocksStore::open(&path, OpenOptions::standard()) {
        Ok(_) if dir.is_suspect() => None,
        Err(StoreError::Corrupt { path, source }) => Some(StoreError::Corrupt { path, source }),
        opened => return Ok(opened?),
    };
    let cause =
        damage.as_ref().map_or("found while it was in use".to_owned(), |e| jobs::error_chain(e));
    let Some(aside) = dir.damaged_metadata() else {
        tracing::error!(cause, "the metadata store is damaged again, and was rebuilt often enough");
        return match damage {
            Some(damage) => Err(damage.into()),
            None => Ok(RocksStore::open(&path, OpenOptions::standard())?),
        };
    };
    tracing::warn!(
        cause,
        kept_at = %aside.display(),
        "the metadata store is damaged, it is rebuilt from snapshot and log"
    );
    durable::rename(&path, &aside).map_err(|source| unusable(&path, source))?;
    dir.trust_metadata()?;
    Ok(RocksStore::open(&path, OpenOptions::standard())?)
}

/// Says whether a node ended because its metadata cannot be believed.
pub(crate) fn is_metadata_damage(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Apply { .. } | Fault::Store(StoreError::Corrupt { .. } | StoreError::View { .. })
    )
}

/// Answers peers until the node is told to stop.
fn serve_peers(
    tasks: &Tasks,
    (port, peers): (Port, Peers),
    own: Identity,
    raft: &RaftNode,
    host: PeerHost,
    mut shutdown: watch::Receiver<bool>,
) {
    let stopping = async move { drop(shutdown.wait_for(|shutdown| *shutdown).await) };
    let host: Arc<dyn Host> = Arc::new(host);
    let own = cluster::peer_identity(own);
    let serving = port.server.run(own, raft.clone(), host, peers, stopping);
    let served = async move {
        if let Err(error) = serving.await {
            tracing::error!(error = jobs::error_chain(&error), "the peer port is closed");
        }
    };
    tasks.task("peer-port", served.boxed());
}

pub(crate) fn raft_config(dir: &DataDir, port: Option<&Port>, is_quarantined: bool) -> RaftConfig {
    RaftConfig {
        cluster_id: dir.identity().cluster_id,
        node_id: dir.identity().node_id,
        address: port.map(|port| port.address.clone()).unwrap_or_default(),
        snapshots_dir: dir.snapshots(),
        timings: Timings::LOCAL,
        purge_margin: PURGE_MARGIN,
        is_quarantined,
    }
}

pub(crate) fn open_query(
    config: &Config,
    dir: &DataDir,
    store: &Arc<RocksStore>,
    raft: &RaftNode,
    buckets: &Buckets,
) -> Result<QueryEngine, Error> {
    durable::create_dir_all(&dir.spill()).map_err(|source| unusable(&dir.spill(), source))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let query_config = QueryConfig {
        memory_bytes: config.query_memory_bytes,
        spill_dir: dir.spill(),
        target_partitions: threads,
        default_timeout_ms: u64::try_from(config.statement_timeout.as_millis()).unwrap_or(u64::MAX),
        tombstone_cache_bytes: TOMBSTONE_CACHE_BYTES,
        delta_cache_bytes: DELTA_CACHE_BYTES,
    };
    let log = Arc::new(NodeLog::new(raft.clone()));
    let sources = Sources {
        view: Arc::clone(store) as _,
        log: Arc::clone(&log) as _,
        buckets: Arc::new(buckets.clone()),
        system: log,
        clock: config.machine.clock(),
    };
    let query_threads =
        QueryThreads::start(threads).map_err(|source| unusable(&dir.spill(), source))?;
    Ok(QueryEngine::new(query_config, sources, Arc::new(query_threads))?)
}

fn unusable(path: &Path, source: std::io::Error) -> Error {
    Error::DirectoryUnusable { path: path.to_owned(), source }
}
