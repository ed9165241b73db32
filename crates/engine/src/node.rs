//! A node: the parts, how they are put together, and how they end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_materialize::LogSource;
use alluvium_metastore::RocksStore;
use alluvium_query::QueryEngine;
use alluvium_raft::RaftNode;
use alluvium_state_machine::{Effect, MetaStore, View};
use alluvium_stdx::{Clock, Prng, Spawner};
use alluvium_storage::Bucket;
use alluvium_types::LogIndex;
use alluvium_wal::{Reader, WalService};
use futures::FutureExt;
use tokio::sync::{mpsc, watch};

use crate::agreement::Digests;
use crate::buckets::{Buckets, attested_in_shared};
use crate::cluster::{Cluster, PeerHost, Port, Reports};
use crate::dir::DataDir;
use crate::jobs::{self, Jobs};
use crate::leases::{Lease, Leases};
use crate::log::NodeLog;
use crate::maintain;
use crate::opening::{
    self, OpenLog, PURGE_MARGIN, Start, is_metadata_damage, open_query, open_store, raft_config,
};
use crate::pressure::Pressure;
use crate::replica::Replica;
use crate::scrub::{self, Scrub};
use crate::tasks::{Tasks, blocking};
use crate::{Config, Error};

/// Between two tries of a node to learn how far it must catch up.
const CATCH_UP_AGAIN: Duration = Duration::from_millis(200);
/// Effects that may wait for the job task; more are dropped, because the state lists every job anyway.
const EFFECTS_MAX: usize = 1_024;

/// A replicated lakehouse node in this process. Clones are handles to the same node.
#[derive(Debug, Clone)]
pub struct Node {
    parts: Arc<Parts>,
    /// Held by callers, not by the node's own tasks: these end when the last caller is gone.
    _owner: Option<Arc<Owner>>,
}

/// Stops the node's tasks when dropped.
#[derive(Debug)]
struct Owner {
    shutdown: watch::Sender<bool>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shutdown.send_replace(true);
    }
}

/// What a node is made of. Invariant: the directory's lock is held until the log and store are closed,
/// because fields are dropped in order and `dir` is the last.
#[derive(Debug)]
struct Parts {
    config: Config,
    raft: RaftNode,
    store: Arc<RocksStore>,
    query: QueryEngine,
    buckets: Buckets,
    jobs: Arc<Jobs>,
    /// None when the node is alone.
    cluster: Option<Cluster>,
    replica: Replica,
    leases: Leases,
    pressure: Arc<Pressure>,
    scrub: Scrub,
    log_reader: Reader,
    tasks: Tasks,
    upload_ids: Mutex<Prng>,
    clock: Arc<dyn Clock>,
    shutdown: watch::Sender<bool>,
    /// Whether the node asks to be opened anew.
    reopen: watch::Sender<bool>,
    // Why the node is in quarantine; set once, read by status.
    quarantine: Mutex<Option<String>>,
    /// Whether everything that was acknowledged before this start is applied.
    caught_up: watch::Sender<bool>,
    /// Taken by shutdown, which must hear how the last write went.
    log: Mutex<Option<WalService>>,
    dir: DataDir,
}

impl Node {
    /// Opens the node that lives in the configured directory, making the directory when it is new.
    ///
    /// A node that is alone has applied everything that was ever acknowledged when this returns. A member of a cluster
    /// need not have a leader yet: what needs one waits for it, and reads that do not are answered from what it has.
    ///
    /// # Errors
    /// A directory that is locked, foreign, newer or damaged; each is named. A cluster that does not let the node in.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let port = config.peer.as_ref().map(Port::bind).transpose()?;
        let (dir, quarantine) = Box::pin(opening::enter(&config, port.as_ref())).await?;
        let log = OpenLog::open(&config, &dir)?;
        let store = Arc::new(open_store(&dir)?);
        if log.is_empty()? {
            dir.refuse_remains(store.raft().applied.is_some())?;
        }
        // Buckets are claimed before anything is proposed: once the log has an entry, a bucket without its
        // marker is a wrong or emptied disk.
        let fresh = log.is_empty()? && store.raft().applied.is_none();
        let buckets = Buckets::open(&config, &dir, store.as_ref(), fresh).await?;
        let replica = Replica::opened(attested_in_shared(store.as_ref())?);
        let (effects, effects_receiver) = mpsc::channel(EFFECTS_MAX);
        let (jobs, pressure) = (Arc::new(Jobs::new()), Arc::new(Pressure::new(&config)));
        let (tasks, (shutdown, _)) = (Tasks::new(), watch::channel(false));
        let start = Start {
            config: raft_config(&dir, port.as_ref(), quarantine.is_some()),
            log: log.handle.clone(),
            store: Arc::clone(&store) as _,
            effects,
        };
        let is_alone = port.is_none();
        let (raft, cluster) = match port {
            // Alone it would found a cluster of its own, if its log were empty.
            None if dir.identity().joined => {
                return Err(Error::Member { path: config.data_dir.clone() });
            }
            None => (start.alone().await?, None),
            Some(port) => {
                let (jobs, reports) = (Arc::clone(&jobs), Arc::new(Reports::default()));
                let (pressure, buckets) = (Arc::clone(&pressure), buckets.clone());
                let clock = config.machine.clock();
                let digests = Arc::default();
                let host = PeerHost { pressure, buckets, reports, digests, jobs, clock };
                let (raft, cluster) =
                    start.member(port, dir.identity(), host, &tasks, &shutdown).await?;
                (raft, Some(cluster))
            }
        };
        let query = open_query(&config, &dir, &store, &raft, &buckets)?;
        let (prng, clock) = (config.machine.prng(), config.machine.clock());
        let parts = Parts {
            config,
            raft,
            store,
            query,
            buckets,
            jobs,
            cluster,
            replica,
            leases: Leases::default(),
            pressure,
            scrub: Scrub::default(),
            log_reader: log.handle.reader().clone(),
            tasks,
            upload_ids: Mutex::new(prng),
            clock,
            shutdown: shutdown.clone(),
            reopen: watch::Sender::new(false),
            quarantine: Mutex::new(quarantine),
            caught_up: watch::Sender::new(is_alone),
            log: Mutex::new(Some(log.service)),
            dir,
        };
        let node = Self { parts: Arc::new(parts), _owner: None };
        maintain::measure(&node)?;
        node.start_tasks(effects_receiver);
        Ok(Self { _owner: Some(Arc::new(Owner { shutdown })), ..node })
    }

    fn start_tasks(&self, mut effects: mpsc::Receiver<Vec<Effect>>) {
        let spawner = &self.parts.tasks;
        let jobs = Arc::clone(&self.parts.jobs);
        let mut shutdown = self.parts.shutdown.subscribe();
        let forward = async move {
            // Ends by the signal: the sender lives as long as consensus, which ends after the tasks.
            while let Some(_effects) = tokio::select! {
                effects = effects.recv() => effects,
                _ = shutdown.wait_for(|shutdown| *shutdown) => None,
            } {
                jobs.wake();
            }
        };
        spawner.task("effects", forward.boxed());
        spawner
            .background("jobs", jobs::run(self.clone(), self.parts.shutdown.subscribe()).boxed());
        spawner
            .background("scrub", scrub::run(self.clone(), self.parts.shutdown.subscribe()).boxed());
        spawner.task("watch", self.clone().watch().boxed());
        if let Some(peer) = self.config().peer.as_ref() {
            spawner.task("compare", self.clone().compare_replicas().boxed());
            spawner.task("digests", self.clone().tell_digests().boxed());
            spawner.task("divergence", self.clone().watch_divergence().boxed());
            spawner.task("ready", self.clone().become_ready().boxed());
            spawner.task("place", self.clone().take_place(peer.learner).boxed());
        }
        let maintenance = maintain::run(self.clone(), self.parts.shutdown.subscribe());
        spawner.task("maintenance", maintenance.boxed());
    }

    /// Waits until a leader is known and everything that was acknowledged before this start is applied.
    async fn become_ready(self) {
        let mut shutdown = self.parts.shutdown.subscribe();
        let caught_up = async {
            self.parts.raft.wait_ready().await?;
            while let Err(error) = self.linearizable().await {
                tracing::debug!(error = jobs::error_chain(&error), "the node has not caught up");
                tokio::time::sleep(CATCH_UP_AGAIN).await;
            }
            Ok::<(), Error>(())
        };
        tokio::select! {
            ready = caught_up => match ready {
                Ok(()) => {
                    tracing::info!(applied = %self.applied(), "the node is ready");
                    self.parts.caught_up.send_replace(true);
                }
                Err(error) => {
                    tracing::debug!(error = jobs::error_chain(&error), "the node is not ready");
                }
            },
            _ = shutdown.wait_for(|shutdown| *shutdown) => {}
        }
    }

    /// Says whether this node has applied everything that was acknowledged before it started.
    pub(crate) fn has_caught_up(&self) -> bool {
        *self.parts.caught_up.borrow()
    }

    /// Waits until this node has applied everything that was acknowledged before it started, or is told to stop.
    pub(crate) async fn until_caught_up(&self) {
        let (mut caught_up, mut shutdown) = (self.parts.caught_up.subscribe(), self.stopping());
        tokio::select! {
            _ = caught_up.wait_for(|caught_up| *caught_up) => {}
            _ = shutdown.wait_for(|shutdown| *shutdown) => {}
        }
    }

    /// Waits for a fault that ends the node, and leaves word when the metadata is at fault.
    async fn watch(self) {
        let mut shutdown = self.parts.shutdown.subscribe();
        let fault = tokio::select! {
            fault = self.parts.raft.stopped() => fault,
            _ = shutdown.wait_for(|shutdown| *shutdown) => None,
        };
        let Some(fault) = fault.filter(|fault| is_metadata_damage(fault)) else { return };
        tracing::error!(cause = jobs::error_chain(fault.as_ref()), "the metadata is damaged");
        if let Err(error) = self.parts.dir.suspect_metadata() {
            tracing::error!(error = jobs::error_chain(&error), "the next start will meet it again");
        }
    }

    /// Stops the node: running jobs end, the metadata is flushed, the log is closed.
    ///
    /// # Errors
    /// When the last flush fails; the log still has everything.
    pub async fn shutdown(self) -> Result<(), Error> {
        self.hand_over().await;
        self.parts.shutdown.send_replace(true);
        self.parts.tasks.join().await;
        let stopped = self.parts.raft.shutdown().await;
        let log = self.parts.log.lock().unwrap_or_else(PoisonError::into_inner).take();
        let closed = match log {
            Some(log) => blocking(move || log.shutdown()).await,
            None => Ok(()),
        };
        stopped?;
        Ok(closed?)
    }

    /// Returns how long a statement may run when its caller gives no limit.
    #[must_use]
    pub fn statement_timeout(&self) -> Duration {
        self.parts.config.statement_timeout
    }

    /// Waits until the node stops by itself, and says why; after [`Node::shutdown`] it returns nothing.
    ///
    /// A node whose log or metadata failed acknowledges nothing any more: end the process and open the
    /// directory anew.
    pub async fn stopped(&self) -> Option<Error> {
        tokio::select! {
            fault = self.parts.raft.stopped() => {
                Some(Error::Raft(alluvium_raft::Error::Poisoned { fault: fault? }))
            }
            task = self.parts.tasks.one_failed() => Some(Error::TaskFailed { task }),
            () = self.reopening() => Some(Error::Reopen),
        }
    }

    async fn reopening(&self) {
        let mut reopen = self.parts.reopen.subscribe();
        // The sender lives as long as `self`, so the wait ends with a wish only.
        drop(reopen.wait_for(|reopen| *reopen).await);
    }

    pub(crate) fn ask_to_reopen(&self) {
        self.parts.reopen.send_replace(true);
    }

    pub(crate) fn note_quarantine(&self, why: String) {
        *self.parts.quarantine.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Says why this node is in quarantine, if it is: its state differs from that of the others, and it answers nothing.
    #[must_use]
    pub fn quarantine(&self) -> Option<String> {
        self.parts.quarantine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refuses to answer from a state that is not to be believed.
    pub(crate) fn check_trusted(&self) -> Result<(), Error> {
        match self.parts.raft.is_quarantined() {
            true => Err(alluvium_raft::Error::Quarantined.into()),
            false => Ok(()),
        }
    }

    pub(crate) fn dir(&self) -> &DataDir {
        &self.parts.dir
    }

    /// Returns what the members said of their states.
    ///
    /// # Panics
    /// On a node that is alone.
    pub(crate) fn digests(&self) -> &Digests {
        &self.cluster().expect("only members compare").digests
    }

    pub(crate) fn config(&self) -> &Config {
        &self.parts.config
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.parts.clock.as_ref()
    }

    pub(crate) fn raft(&self) -> &RaftNode {
        &self.parts.raft
    }

    pub(crate) fn store(&self) -> &Arc<RocksStore> {
        &self.parts.store
    }

    pub(crate) fn view(&self) -> &dyn View {
        self.parts.store.as_ref()
    }

    pub(crate) fn query(&self) -> &QueryEngine {
        &self.parts.query
    }

    pub(crate) fn jobs(&self) -> &Arc<Jobs> {
        &self.parts.jobs
    }

    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.parts.cluster.as_ref()
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.parts.replica
    }

    /// Returns this node's id.
    #[must_use]
    pub fn node_id(&self) -> u64 {
        self.parts.dir.identity().node_id
    }

    /// Returns where peers reach this node; nothing when it is alone.
    #[must_use]
    pub fn peer_address(&self) -> Option<&str> {
        self.parts.cluster.as_ref().map(|_| self.parts.raft.address())
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.parts.leases
    }

    pub(crate) fn lease(&self, index: LogIndex) -> Lease {
        self.parts.leases.take(index, Arc::clone(&self.parts.jobs))
    }

    pub(crate) fn pressure(&self) -> &Pressure {
        &self.parts.pressure
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.parts.tasks
    }

    pub(crate) fn scrub(&self) -> &Scrub {
        &self.parts.scrub
    }

    pub(crate) fn snapshots_dir(&self) -> PathBuf {
        self.parts.dir.snapshots()
    }

    pub(crate) fn log_reader(&self) -> &Reader {
        &self.parts.log_reader
    }

    /// Returns what becomes true when the node is told to stop.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.parts.shutdown.subscribe()
    }

    /// Returns a handle for the node's own work, which does not keep it open.
    pub(crate) fn without_owner(&self) -> Self {
        Self { parts: Arc::clone(&self.parts), _owner: None }
    }

    /// Says whether the node was told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.parts.shutdown.borrow()
    }

    pub(crate) fn failed_task(&self) -> Option<&'static str> {
        self.parts.tasks.failed()
    }

    pub(crate) fn cluster_id(&self) -> u128 {
        self.parts.dir.identity().cluster_id
    }

    /// Draws an id for an upload that no retry must find again.
    pub(crate) fn draw_id(&self) -> u128 {
        let mut prng = self.parts.upload_ids.lock().unwrap_or_else(PoisonError::into_inner);
        (u128::from(prng.next_u64()) << 64) | u128::from(prng.next_u64())
    }

    /// Returns how many entries a purge leaves behind the snapshot.
    pub(crate) fn purge_margin() -> u64 {
        PURGE_MARGIN
    }

    /// Returns the bytes that the log's files take, and the same with the newest segment at the length that segments have
    /// now: it has its full length before it holds anything, and may be from a time of longer ones.
    pub(crate) fn log_bytes(&self) -> std::io::Result<(u64, u64)> {
        if !self.parts.dir.wal().exists() {
            // The machine keeps its log elsewhere.
            return Ok((0, 0));
        }
        let (mut all, mut segments) = (0, BTreeMap::new());
        for file in std::fs::read_dir(self.parts.dir.wal())? {
            let file = file?;
            let bytes = match file.metadata() {
                Ok(metadata) => metadata.len(),
                // A segment was purged since the directory was read.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
            all += bytes;
            let name = file.file_name().to_string_lossy().into_owned();
            if name.starts_with(alluvium_wal::SEGMENT_PREFIX) {
                segments.insert(name, bytes);
            }
        }
        let newest = segments.pop_last().map_or(0, |(_, bytes)| bytes);
        Ok((all, all - newest.saturating_sub(self.config().segment_bytes)))
    }

    /// Returns the newest index applied on this node.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.parts.raft.applied().borrow().index
    }

    /// Returns the log as jobs read it.
    pub(crate) fn log_source(&self) -> Arc<dyn LogSource> {
        Arc::new(NodeLog::new(self.parts.raft.clone()))
    }

    /// Returns the metadata as jobs read it.
    pub(crate) fn shared_view(&self) -> Arc<dyn View + Send + Sync> {
        Arc::clone(&self.parts.store) as _
    }

    pub(crate) fn buckets(&self) -> &Buckets {
        &self.parts.buckets
    }

    /// Returns the bucket of that name.
    pub(crate) fn bucket(&self, name: &str) -> Result<Bucket, Error> {
        self.parts.buckets.get(name)
    }
}
