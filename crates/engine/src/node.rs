//! A node: the parts, how they are put together, and how they end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_materialize::LogSource;
use alluvium_metastore::{OpenOptions, RocksStore};
use alluvium_query::{BucketSource, QueryConfig, QueryEngine, Sources};
use alluvium_raft::{Fault, RaftConfig, RaftNode, Timings};
use alluvium_state_machine::{Effect, MetaStore, StoreError, View};
use alluvium_stdx::{Clock, Prng, Spawner, durable};
use alluvium_storage::{Bucket, BucketIdentity, Opening};
use alluvium_types::LogIndex;
use alluvium_wal::{Options, Reader, StreamId, Wal, WalHandle, WalService};
use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::dir::{DataDir, Identity};
use crate::jobs::{self, Jobs};
use crate::leases::{Lease, Leases};
use crate::log::NodeLog;
use crate::maintain;
use crate::pressure::Pressure;
use crate::scrub::{self, Scrub};
use crate::tasks::{QueryThreads, Tasks, blocking};
use crate::{Config, DEFAULT_BUCKET, Error};

/// Entries that a purge leaves behind the snapshot, because a purge that runs into a queued apply is a known
/// hazard of the consensus library. Few: entries may be large, and what stays counts against the log's limit.
const PURGE_MARGIN: u64 = 64;
/// Effects that may wait for the job task; more are dropped, because the state lists every job anyway.
const EFFECTS_MAX: usize = 1_024;

/// Bytes of resolved tombstones that queries share: half of them hold an index of about a million keys.
const TOMBSTONE_CACHE_BYTES: usize = 256 * 1024 * 1024;

/// Bytes of unsealed rows that queries share decoded.
const DELTA_CACHE_BYTES: usize = 64 * 1024 * 1024;

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
    leases: Leases,
    pressure: Pressure,
    scrub: Scrub,
    log_reader: Reader,
    tasks: Tasks,
    upload_ids: Mutex<Prng>,
    clock: Arc<dyn Clock>,
    shutdown: watch::Sender<bool>,
    /// Taken by shutdown, which must hear how the last write went.
    log: Mutex<Option<WalService>>,
    dir: DataDir,
}

/// The log's handle for everyone and the owner of its threads.
struct OpenLog {
    handle: WalHandle,
    service: WalService,
}

/// The buckets of this node by name.
#[derive(Debug, Clone)]
pub(crate) struct Buckets {
    by_name: Arc<BTreeMap<String, Bucket>>,
}

impl Node {
    /// Opens the node that lives in the configured directory, making the directory when it is new.
    ///
    /// When it returns, everything that was ever acknowledged is applied and readable.
    ///
    /// # Errors
    /// A directory that is locked, foreign, newer or damaged; each is named.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let dir = DataDir::open(&config.data_dir, config.node_id, config.machine.as_ref())?;
        let log = OpenLog::open(&config, &dir)?;
        let store = Arc::new(open_store(&dir)?);
        if log.is_empty()? {
            dir.refuse_remains(store.raft().applied.is_some())?;
        }
        // Buckets are claimed before anything is proposed: once the log has an entry, a bucket without its
        // marker is a wrong or emptied disk.
        let fresh = log.is_empty()? && store.raft().applied.is_none();
        let buckets = open_buckets(&config, &dir, fresh).await?;
        let (effects, effects_receiver) = mpsc::channel(EFFECTS_MAX);
        let metadata: Arc<dyn MetaStore> = Arc::clone(&store) as _;
        let raft_config = raft_config(&dir);
        let raft = RaftNode::start(raft_config, log.handle.clone(), metadata, effects).await?;
        raft.initialize_single().await?;
        raft.wait_ready().await?;
        let query = open_query(&config, &dir, &store, &raft, &buckets)?;
        let (shutdown, _) = watch::channel(false);
        let (prng, clock) = (config.machine.prng(), config.machine.clock());
        let parts = Parts {
            config,
            raft,
            store,
            query,
            buckets,
            jobs: Arc::new(Jobs::new()),
            leases: Leases::default(),
            pressure: Pressure::new(),
            scrub: Scrub::default(),
            log_reader: log.handle.reader().clone(),
            tasks: Tasks::new(),
            upload_ids: Mutex::new(prng),
            clock,
            shutdown: shutdown.clone(),
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
        let maintenance = maintain::run(self.clone(), self.parts.shutdown.subscribe());
        spawner.task("maintenance", maintenance.boxed());
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
        }
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

    /// Returns the bytes that the log's files take.
    pub(crate) fn log_bytes(&self) -> std::io::Result<u64> {
        let mut bytes = 0;
        if !self.parts.dir.wal().exists() {
            // The machine keeps its log elsewhere.
            return Ok(bytes);
        }
        for file in std::fs::read_dir(self.parts.dir.wal())? {
            bytes += match file?.metadata() {
                Ok(metadata) => metadata.len(),
                // A segment was purged since the directory was read.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
        }
        Ok(bytes)
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

    /// Returns the bucket of that name.
    pub(crate) fn bucket(&self, name: &str) -> Result<Bucket, Error> {
        self.parts.buckets.get(name)
    }
}

impl Buckets {
    pub(crate) fn get(&self, name: &str) -> Result<Bucket, Error> {
        let found = self.by_name.get(name).cloned();
        found.ok_or_else(|| Error::BucketNotFound { name: name.to_owned() })
    }
}

impl OpenLog {
    fn open(config: &Config, dir: &DataDir) -> Result<Self, Error> {
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

    fn is_empty(&self) -> Result<bool, Error> {
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
fn open_store(dir: &DataDir) -> Result<RocksStore, Error> {
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
fn is_metadata_damage(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Apply { .. } | Fault::Store(StoreError::Corrupt { .. } | StoreError::View { .. })
    )
}

fn raft_config(dir: &DataDir) -> RaftConfig {
    RaftConfig {
        cluster_id: dir.identity().cluster_id,
        node_id: dir.identity().node_id,
        address: String::new(),
        snapshots_dir: dir.snapshots(),
        timings: Timings::LOCAL,
        purge_margin: PURGE_MARGIN,
    }
}

/// Returns what the marker of the node's bucket says.
pub(crate) fn bucket_identity(dir: &DataDir) -> BucketIdentity {
    let cluster = Uuid::from_u128(dir.identity().cluster_id);
    BucketIdentity { cluster, bucket: Uuid::new_v5(&cluster, DEFAULT_BUCKET.as_bytes()) }
}

async fn open_buckets(config: &Config, dir: &DataDir, fresh: bool) -> Result<Buckets, Error> {
    let root = dir.local_bucket();
    let opening = if fresh { Opening::Claim } else { Opening::Existing };
    if fresh {
        durable::create_dir_all(&root).map_err(|source| unusable(&root, source))?;
    }
    let bucket = config.machine.bucket(DEFAULT_BUCKET, &root)?;
    bucket.check_identity(&bucket_identity(dir), opening).await?;
    let by_name = BTreeMap::from([(DEFAULT_BUCKET.to_owned(), bucket)]);
    Ok(Buckets { by_name: Arc::new(by_name) })
}

impl BucketSource for Buckets {
    fn bucket(&self, name: &str) -> Option<Arc<Bucket>> {
        self.by_name.get(name).cloned().map(Arc::new)
    }
}

fn open_query(
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
