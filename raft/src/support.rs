//! A machine for tests: a WAL disk, a snapshot directory and a store that outlive the node.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::mpsc;

use alluvium_state_machine::{Effect, MemoryStore, MetaStore};
use alluvium_types::{Command, Entry, Envelope, LogIndex, OpenSession, Response};
use alluvium_wal::sim::SimDisk;
use alluvium_wal::{Options, Owner, Wal, WalHandle, WalService};

use crate::{Error, RaftConfig, RaftNode, Timings};

/// What a node stands on.
pub(crate) struct Machine {
    pub(crate) disk: SimDisk,
    pub(crate) dir: TempDir,
    pub(crate) store: Arc<MemoryStore>,
}

/// A node that runs on a machine.
pub(crate) struct Running {
    pub(crate) node: RaftNode,
    /// Held, so that hints find a reader.
    pub(crate) _effects: mpsc::Receiver<Vec<Effect>>,
    pub(crate) _service: WalService,
}

pub(crate) const OWNER: Owner = Owner { cluster: 7, node: 1 };

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        Self { disk: SimDisk::new(seed), dir, store: Arc::new(MemoryStore::new()) }
    }

    pub(crate) fn snapshots_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("snapshots")
    }

    /// Starts the node and waits until it serves.
    pub(crate) async fn start(&self) -> Running {
        let running = self.start_unready().await.expect("starts");
        running.node.initialize_single().await.expect("a cluster of one");
        running.node.wait_ready().await.expect("ready");
        running
    }

    pub(crate) async fn start_unready(&self) -> Result<Running, Error> {
        let (wal, service) = open_wal(&self.disk);
        let config = config(&self.snapshots_dir());
        let (sender, effects) = mpsc::channel(1_024);
        let store: Arc<dyn MetaStore> = Arc::<MemoryStore>::clone(&self.store);
        let node = RaftNode::start(config, wal, store, sender).await?;
        Ok(Running { node, _effects: effects, _service: service })
    }

    /// Cuts the power: unsynced bytes of the WAL and the store's unflushed state are gone.
    pub(crate) async fn crash(&self, running: Running) {
        self.disk.crash();
        drop(running.node.raft.shutdown().await);
        drop(running);
        self.disk.crash();
        self.store.lose_unflushed();
    }
}

pub(crate) fn open_wal(disk: &SimDisk) -> (WalHandle, WalService) {
    let (wal, _recovery) = Wal::open(Arc::new(disk.clone()), options()).expect("the log opens");
    WalService::start(wal).expect("its threads start")
}

/// Small segments: the simulated disk holds every prepared byte in memory.
pub(crate) fn options() -> Options {
    let mut options = Options::new(OWNER);
    options.segment_bytes = 1024 * 1024;
    options
}

pub(crate) fn config(snapshots_dir: &Path) -> RaftConfig {
    RaftConfig {
        cluster_id: OWNER.cluster,
        node_id: OWNER.node,
        address: String::new(),
        snapshots_dir: snapshots_dir.to_path_buf(),
        timings: Timings { heartbeat_ms: 50, election_min_ms: 150, election_max_ms: 300 },
        purge_margin: 2,
        is_quarantined: false,
    }
}

/// Returns a command that says who sent it.
pub(crate) fn command(actor: &str) -> Entry {
    let envelope = Envelope {
        session: None,
        actor: actor.to_owned(),
        proposed_at_ms: 1,
        expected_index: None,
        command: Command::OpenSession(OpenSession { ttl_ms: 60_000 }),
    };
    Entry::command(&envelope, b"").expect("a small command")
}

/// Proposes `count` commands, one after the other.
pub(crate) async fn propose(node: &RaftNode, count: u64) -> Vec<Response> {
    let mut responses = Vec::new();
    for number in 0..count {
        let entry = command(&format!("actor-{number}"));
        responses.push(node.propose(entry).await.expect("acknowledged"));
    }
    responses
}

pub(crate) fn applied_index(store: &dyn MetaStore) -> LogIndex {
    store.raft().applied.map_or(LogIndex(0), |applied| applied.index)
}
