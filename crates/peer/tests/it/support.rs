//! A cluster of nodes with logs on simulated disks, states in memory, and real connections.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alluvium_peer::{Identity, NoHost, PeerCalls, PeerServer, Peers, Security};
use alluvium_proto::peer::v1::peer_client::PeerClient;
use alluvium_raft::{Error, RaftConfig, RaftNode, Timings};
use alluvium_state_machine::{Effect, MemoryStore, MetaStore, StateDigest};
use alluvium_types::{Command, Entry, Envelope, LogIndex, OpenSession, Outcome, Response};
use alluvium_wal::sim::SimDisk;
use alluvium_wal::{Options, Owner, Wal, WalService};
use tokio::sync::{mpsc, oneshot};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

pub(crate) const CLUSTER: u128 = 0xa11u128;

/// What of a node outlives its process.
pub(crate) struct Machine {
    pub(crate) node: u64,
    disk: SimDisk,
    pub(crate) store: Arc<MemoryStore>,
    dir: tempfile::TempDir,
    address: SocketAddr,
    pub(crate) security: Security,
}

/// A node that runs.
pub(crate) struct Running {
    pub(crate) node: RaftNode,
    pub(crate) calls: PeerCalls,
    pub(crate) address: SocketAddr,
    _effects: mpsc::Receiver<Vec<Effect>>,
    service: WalService,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Machine {
    pub(crate) fn new(node: u64, security: Security) -> Self {
        // A port of its own, so that the node has one address before and after a restart.
        let taken = PeerServer::bind(loopback(0), Security::Open, false).expect("a port is free");
        let address = taken.address();
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Arc::new(MemoryStore::new());
        Self { node, disk: SimDisk::new(node), store, dir, address, security }
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { cluster: CLUSTER, node: self.node }
    }

    pub(crate) fn snapshots(&self) -> std::path::PathBuf {
        self.dir.path().join("snapshots")
    }

    pub(crate) async fn start(&self) -> Running {
        let mut options = Options::new(Owner { cluster: CLUSTER, node: self.node });
        options.segment_bytes = 1024 * 1024;
        let (wal, _recovery) = Wal::open(Arc::new(self.disk.clone()), options).expect("opens");
        let (wal, service) = WalService::start(wal).expect("its threads start");
        let peers = Peers::new(self.identity(), self.security.clone());
        let calls = PeerCalls::new(peers.clone());
        let (sender, effects) = mpsc::channel(1_024);
        let store: Arc<dyn MetaStore> = Arc::<MemoryStore>::clone(&self.store);
        let config = config(self.node, &self.address.to_string(), &self.snapshots());
        let server = PeerServer::bind(self.address, self.security.clone(), false).expect("binds");
        let node = RaftNode::start_with_peers(config, wal, store, sender, peers.clone());
        let node = node.await.expect("starts");
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async move { drop(stopped.await) };
        let (own, address) = (self.identity(), server.address());
        let serving = server.run(own, node.clone(), Arc::new(NoHost), peers, until);
        let served = async move { serving.await.expect("serves") };
        #[expect(clippy::disallowed_methods, reason = "a server beside the test")]
        let served = tokio::spawn(served);
        Running { node, calls, address, _effects: effects, service, stop, served }
    }
}

impl Running {
    /// Ends the node as a process ends: its peers see its connections close.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.served.await.expect("the server ends");
        self.node.shutdown().await.expect("stops");
        drop(self.node);
        self.service.shutdown().expect("the log closes");
    }

    pub(crate) fn digest(&self) -> (LogIndex, StateDigest) {
        let applied = *self.node.applied().borrow();
        (applied.index, applied.digest)
    }

    pub(crate) async fn propose(&self, actor: &str) -> Result<Response, Error> {
        self.node.propose(command(actor)).await
    }
}

pub(crate) fn config(node: u64, address: &str, snapshots: &Path) -> RaftConfig {
    RaftConfig {
        cluster_id: CLUSTER,
        node_id: node,
        address: address.to_owned(),
        snapshots_dir: snapshots.to_path_buf(),
        timings: Timings { heartbeat_ms: 150, election_min_ms: 600, election_max_ms: 1_200 },
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

pub(crate) fn assert_opened(response: &Response) {
    assert!(matches!(response.outcome, Outcome::SessionOpened { .. }), "{response:?}");
}

/// Starts a cluster of voters 1 to `count`; the first leads.
pub(crate) async fn cluster(machines: &[Machine]) -> Vec<Running> {
    let mut running = Vec::new();
    for machine in machines {
        running.push(machine.start().await);
    }
    let first = &running[0].node;
    first.initialize_single().await.expect("a cluster of one");
    first.wait_ready().await.expect("ready");
    for (machine, peer) in machines.iter().zip(&running).skip(1) {
        let address = peer.address.to_string();
        first.add_learner(Some(machine.node), &address).await.expect("joins");
    }
    let others: Vec<u64> = machines[1..].iter().map(|machine| machine.node).collect();
    promote(first, &others).await;
    running
}

/// Gives nodes a vote as soon as they have caught up.
pub(crate) async fn promote(leader: &RaftNode, nodes: &[u64]) {
    if nodes.is_empty() {
        return;
    }
    until("they have caught up", || {
        let progress = leader.progress().expect("it leads");
        let has_caught_up =
            |node| progress.iter().any(|other| other.node == node && other.behind < 2);
        nodes.iter().all(|node| has_caught_up(*node))
    })
    .await;
    leader.promote(nodes).await.expect("promotes");
}

/// Waits for what must come; a generous limit, so that a busy machine is no failure.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

/// Waits until all have applied an entry; returns their one state.
pub(crate) async fn converged(running: &[Running], index: LogIndex) -> (LogIndex, StateDigest) {
    until("all have applied it, and nothing differs", || {
        let states: Vec<_> = running.iter().map(Running::digest).collect();
        states.iter().all(|state| index <= state.0 && state.0 == states[0].0)
    })
    .await;
    let state = running[0].digest();
    for other in running {
        assert_eq!(other.digest(), state, "two replicas at one index have one digest");
    }
    state
}

/// Waits until one of them leads; returns which.
pub(crate) async fn leader(running: &[Running]) -> usize {
    let mut found = None;
    until("a leader", || {
        found = running.iter().position(|other| {
            let status = other.node.status();
            status.leader == Some(status.node)
        });
        found.is_some()
    })
    .await;
    found.expect("was waited for")
}

/// A client that says of itself what a test wants.
pub(crate) type Raw = PeerClient<InterceptedService<Channel, Claim>>;

#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) cluster: u128,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Interceptor for Claim {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        let values = [
            ("alluvium-protocol", alluvium_peer::PROTOCOL.to_string()),
            ("alluvium-cluster", format!("{:032x}", self.cluster)),
            ("alluvium-from", self.from.to_string()),
            ("alluvium-to", self.to.to_string()),
        ];
        for (key, value) in values {
            metadata.insert(key, value.parse().expect("digits"));
        }
        Ok(request)
    }
}

pub(crate) fn raw(endpoint: &Endpoint, claim: Claim) -> Raw {
    PeerClient::with_interceptor(endpoint.connect_lazy(), claim)
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("an address")
}
