//! The clients' thread: it does what the runner says, phase by phase, and hands over what was recorded.
//!
//! It must not know the world. Invariant: one phase at a time; a phase that the clients cannot end is bounded by
//! their deadlines.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use alluvium_checker::History;
use alluvium_stdx::{SystemClock, spawn};
use anyhow::Context as _;
use futures::future::join_all;

use crate::client::{Address, Lake};
use crate::limits;
use crate::recorder::{Ending, Recorder, Trace};
use crate::stage::{Client, Sharing, Stage};
use crate::witness::Witness;
use crate::workloads::sessions::Misuse;
use crate::workloads::table::{Asked, Changed};
use crate::workloads::{self, Shared, Workload, lists, sessions};

/// What the clients are to be.
#[derive(Debug, Clone)]
pub(crate) struct Casting {
    pub(crate) addresses: Vec<Address>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) clients: usize,
    /// Operations a second of all clients, at most.
    pub(crate) rate: u64,
    pub(crate) seed: u64,
    /// Where the files of datasets go.
    pub(crate) sharing: Sharing,
    pub(crate) clock: Arc<SystemClock>,
}

/// A phase.
#[derive(Debug, Clone)]
enum Scene {
    /// Work until told otherwise.
    Play,
    /// Each workload must get a write through each of these nodes within a time.
    Prove(Duration, Vec<u64>),
    /// Read everything through each of these nodes.
    Sweep(Vec<u64>),
    /// Ask the log what it has, and complete the answers that wait for it.
    Resolve(Vec<u64>),
}

/// What a phase came to: what went wrong in it, for people.
pub(crate) type Reviews = Vec<String>;

/// Everything that was recorded.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) histories: Vec<(String, Result<History, alluvium_checker::Error>)>,
    pub(crate) traces: Vec<Trace>,
    pub(crate) changes: Vec<Changed>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) accepted: Vec<Misuse>,
    pub(crate) refused: u64,
    pub(crate) witness: Option<Witness>,
    /// Increments whose counter cannot be read any more.
    pub(crate) unresolved: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Troupe {
    scenes: SyncSender<Scene>,
    reviews: Receiver<anyhow::Result<Reviews>>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Record>>,
}

impl Troupe {
    pub(crate) fn gather(casting: Casting) -> anyhow::Result<Self> {
        let (scenes, incoming) = sync_channel(1);
        let (outgoing, reviews) = sync_channel(1);
        let is_over = Arc::<AtomicBool>::default();
        let flag = Arc::clone(&is_over);
        let perform = move || perform(casting, flag, &incoming, &outgoing);
        let thread = spawn::thread("clients", perform).context("start the clients' thread")?;
        Ok(Self { scenes, reviews, is_over, thread })
    }

    fn begin(&self, scene: Scene) -> anyhow::Result<()> {
        self.scenes.send(scene).ok().context("the clients' thread is gone")
    }

    fn end(&self) -> anyhow::Result<Reviews> {
        self.reviews.recv().context("the clients' thread is gone")?
    }

    pub(crate) fn play(&self) -> anyhow::Result<()> {
        self.is_over.store(false, Ordering::SeqCst);
        self.begin(Scene::Play)
    }

    pub(crate) fn stop(&self) -> anyhow::Result<Reviews> {
        self.is_over.store(true, Ordering::SeqCst);
        self.end()
    }

    pub(crate) fn prove(&self, limit: Duration, nodes: Vec<u64>) -> anyhow::Result<Reviews> {
        self.begin(Scene::Prove(limit, nodes))?;
        self.end()
    }

    pub(crate) fn sweep(&self, nodes: Vec<u64>) -> anyhow::Result<Reviews> {
        self.begin(Scene::Sweep(nodes))?;
        self.end()
    }

    /// Reads the logs of all nodes that answer, and says which of `nodes` do not.
    pub(crate) fn resolve(&self, nodes: Vec<u64>) -> anyhow::Result<Reviews> {
        self.begin(Scene::Resolve(nodes))?;
        self.end()
    }

    /// Ends the clients and returns what they recorded.
    pub(crate) fn dismiss(self) -> anyhow::Result<Record> {
        self.is_over.store(true, Ordering::SeqCst);
        drop(self.scenes);
        self.thread.join().map_err(|_panic| anyhow::anyhow!("the clients' thread panicked"))?
    }
}

struct Backstage {
    stage: Stage,
    shared: Shared,
    casting: Casting,
    witness: Witness,
    /// Whether a node has shown all of its log at the end.
    is_witnessed: bool,
    unresolved: usize,
}

fn perform(
    casting: Casting,
    is_over: Arc<AtomicBool>,
    scenes: &Receiver<Scene>,
    reviews: &SyncSender<anyhow::Result<Reviews>>,
) -> anyhow::Result<Record> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let recorder = Recorder::new(Arc::clone(&casting.clock));
    let clients = u64::try_from(casting.clients).unwrap_or(1).max(1);
    let pace = Duration::from_micros(1_000_000 * clients / casting.rate.max(1));
    let mut stage = Stage::new(recorder, casting.addresses.clone(), pace);
    stage.is_over = is_over;
    stage.sharing = casting.sharing;
    let shared = Shared::default();
    let witness = Witness::default();
    let mut backstage =
        Backstage { stage, shared, casting, witness, is_witnessed: false, unresolved: 0 };
    while let Ok(scene) = scenes.recv() {
        // Nodes purge what is old: what they have is read before and after each phase, and while clients work.
        runtime.block_on(backstage.catch_up())?;
        let review = match scene {
            Scene::Play => runtime.block_on(backstage.play()),
            Scene::Prove(limit, nodes) => runtime.block_on(backstage.prove(limit, &nodes)),
            Scene::Sweep(nodes) => runtime.block_on(backstage.sweep(&nodes)),
            Scene::Resolve(nodes) => runtime.block_on(backstage.resolve(&nodes)),
        };
        runtime.block_on(backstage.catch_up())?;
        if reviews.send(review).is_err() {
            break;
        }
    }
    Ok(backstage.strike())
}

impl Backstage {
    async fn play(&mut self) -> anyhow::Result<Reviews> {
        let shares = workloads::shares(&self.casting.workloads, self.casting.clients);
        let clients = workloads::clients(&self.stage, &shares, self.casting.seed)?;
        let clients = clients.into_iter().map(|client| workloads::run(client, &self.shared));
        let is_over = || self.stage.is_over.load(Ordering::SeqCst);
        let follow = self.witness.follow(&self.stage, is_over);
        let (_, followed) = tokio::join!(join_all(clients), follow);
        followed.map(|()| Reviews::new())
    }

    fn client(&self, workload: Workload, number: u64) -> anyhow::Result<Client<'_>> {
        Client::new(&self.stage, workload, self.casting.seed ^ (number << 32))
    }

    /// Each workload makes calls through each node until one succeeds there.
    async fn prove(&mut self, limit: Duration, nodes: &[u64]) -> anyhow::Result<Reviews> {
        // The log is short and these write to it: it is followed meanwhile, or what is purged is never seen.
        let mut witness = std::mem::take(&mut self.witness);
        let is_proved = Cell::new(false);
        let proofs = async {
            let mut all = Vec::new();
            for at in self.places_of(nodes) {
                for workload in &self.casting.workloads {
                    all.push(self.prove_one(*workload, at, limit));
                }
            }
            let found = join_all(all).await;
            is_proved.set(true);
            found
        };
        let follow = witness.follow(&self.stage, || is_proved.get());
        let (found, followed) = tokio::join!(proofs, follow);
        self.witness = witness;
        followed?;
        let found: anyhow::Result<Vec<Reviews>> = found.into_iter().collect();
        Ok(found?.concat())
    }

    /// Returns where nodes are among the addresses.
    fn places_of(&self, nodes: &[u64]) -> Vec<usize> {
        let is_asked = |at: &usize| nodes.contains(&self.casting.addresses[*at].node.0);
        (0..self.casting.addresses.len()).filter(is_asked).collect()
    }

    async fn prove_one(
        &self,
        workload: Workload,
        at: usize,
        limit: Duration,
    ) -> anyhow::Result<Reviews> {
        let mut client = self.client(workload, 7 + u64::try_from(at).unwrap_or(0))?;
        client.bind(at);
        let node = self.casting.addresses[at].node.0;
        let end_ns = self.stage.recorder.now_ns() + nanos(limit);
        let is_done = |trace: &Trace, since: u64| {
            let is_own =
                trace.workload == workload && trace.node == node && trace.begin_ns >= since;
            is_own && trace.is_write && trace.ending == Ending::Ok
        };
        let since = self.stage.recorder.now_ns();
        while self.stage.recorder.now_ns() < end_ns {
            workloads::step(&mut client, &self.shared).await;
            client.rest().await;
            if self.stage.recorder.traces().iter().rev().take(200).any(|t| is_done(t, since)) {
                return Ok(Reviews::new());
            }
        }
        let name = workload.name();
        let limit = limit.as_secs();
        Ok(vec![format!("{name}: no write succeeds through node {node} in {limit} s of health")])
    }

    /// Reads each book through each node, a few tries each.
    async fn sweep(&self, nodes: &[u64]) -> anyhow::Result<Reviews> {
        let mut all = Vec::new();
        for at in self.places_of(nodes) {
            for workload in &self.casting.workloads {
                all.push(self.sweep_one(*workload, at));
            }
        }
        let found: anyhow::Result<Vec<Reviews>> = join_all(all).await.into_iter().collect();
        Ok(found?.concat())
    }

    async fn sweep_one(&self, workload: Workload, at: usize) -> anyhow::Result<Reviews> {
        let mut client = self.client(workload, 100 + u64::try_from(at).unwrap_or(0))?;
        client.bind(at);
        let node = self.casting.addresses[at].node.0;
        let mut missing = Reviews::new();
        let mut books = self.stage.recorder.books(workload.name());
        books.retain(|book| !book.starts_with("w4travel") && !book.starts_with("w6misuse"));
        if books.is_empty() {
            books.push(workload.name().to_owned());
        }
        for book in books {
            let mut ending = Ending::Info;
            for _ in 0..limits::SWEEP_TRIES {
                ending = workloads::read_book(&mut client, &self.shared, &book).await;
                if ending == Ending::Ok {
                    break;
                }
                tokio::time::sleep(limits::SWEEP_PAUSE).await;
            }
            if ending != Ending::Ok {
                missing.push(format!("{book}: node {node} cannot be read"));
            }
        }
        Ok(missing)
    }

    /// Reads what is new in the log, from the first node that answers.
    async fn catch_up(&mut self) -> anyhow::Result<()> {
        for address in &self.casting.addresses {
            let lake = Lake::new(address, limits::CALL_DEADLINE)?;
            if matches!(self.witness.read_on(&lake, false).await, Ok(true)) {
                break;
            }
        }
        Ok(())
    }

    async fn resolve(&mut self, nodes: &[u64]) -> anyhow::Result<Reviews> {
        let mut why = Vec::new();
        self.is_witnessed = false;
        for address in &self.casting.addresses {
            let lake = Lake::new(address, limits::PATIENT_DEADLINE)?;
            let (node, is_member) = (address.node.0, nodes.contains(&address.node.0));
            match self.witness.read_all(&lake).await {
                Ok(()) => self.is_witnessed = true,
                // What a member holds was never compared with the others then.
                Err(fault) if is_member => {
                    why.push(format!("the log of node {node} is not read: {}", fault.message));
                }
                Err(_removed) => {}
            }
        }
        if self.is_witnessed {
            lists::put_in_order(&self.stage.recorder, &self.witness.places());
        }
        let client = self.client(Workload::W6, 8)?;
        let unresolved = sessions::complete(&client, &self.stage.recorder).await;
        self.unresolved = unresolved;
        Ok(why)
    }

    fn strike(self) -> Record {
        let recorder = &self.stage.recorder;
        let books = recorder.books("");
        let histories = books.into_iter().map(|book| {
            let history = recorder.history(&book);
            (book, history)
        });
        Record {
            histories: histories.collect(),
            traces: recorder.traces(),
            changes: self.shared.table.changes.take(),
            asked: self.shared.table.asked.take(),
            accepted: self.shared.sessions.accepted.take(),
            refused: self.shared.sessions.refused.get(),
            witness: self.is_witnessed.then_some(self.witness),
            unresolved: self.unresolved,
        }
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
