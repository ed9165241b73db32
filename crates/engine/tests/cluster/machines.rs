//! Three whole nodes of one process, whose network and buckets a test can hold up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use alluvium_engine::{
    Caller, Config, Error, Machine, Node, PeerConfig, RealMachine, RegisterOptions, Security,
    SqlOptions, Written,
};
use alluvium_stdx::{Clock, Prng};
use alluvium_storage::{Bucket, BucketKind, DurableLocal, Step};
use alluvium_types::{ErrorKind, LogIndex, Sequence, SessionId};
use alluvium_wal::Storage;
use arrow::array::{AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A machine whose bucket waits before it gives a file its name, as long as its gate is shut.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    // Taken by the test and by threads that write files; held for a look, or given up while one waits.
    is_shut: Arc<(Mutex<bool>, Condvar)>,
    /// Files that wait or have passed.
    asked: Arc<Mutex<u64>>,
}

impl Gate {
    pub(crate) fn shut(&self) {
        *self.is_shut.0.lock().expect("no panic") = true;
    }

    pub(crate) fn open(&self) {
        *self.is_shut.0.lock().expect("no panic") = false;
        self.is_shut.1.notify_all();
    }

    pub(crate) fn asked(&self) -> u64 {
        *self.asked.lock().expect("no panic")
    }

    fn pass(&self, step: Step) -> std::io::Result<()> {
        if step == Step::Publish {
            *self.asked.lock().expect("no panic") += 1;
            let shut = self.is_shut.0.lock().expect("no panic");
            drop(self.is_shut.1.wait_while(shut, |shut| *shut).expect("no panic"));
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Gated {
    real: RealMachine,
    gate: Gate,
}

impl Machine for Gated {
    fn clock(&self) -> Arc<dyn Clock> {
        self.real.clock()
    }

    fn prng(&self) -> Prng {
        self.real.prng()
    }

    fn log_storage(&self, directory: &Path) -> std::io::Result<Arc<dyn Storage>> {
        self.real.log_storage(directory)
    }

    fn bucket(&self, name: &str, root: &Path) -> Result<Bucket, Error> {
        let gate = self.gate.clone();
        let store = DurableLocal::open_with_hook(root, Arc::new(move |step| gate.pass(step)))?;
        Ok(Bucket::over(name, Arc::new(store), BucketKind::PerNode))
    }
}

/// The way to a node, as others know it, which a test can cut.
#[derive(Debug)]
pub(crate) struct Way {
    front: SocketAddr,
    cut: watch::Sender<bool>,
}

#[expect(clippy::disallowed_methods, reason = "a network of the test")]
impl Way {
    async fn to(back: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback()).await.expect("a port is free");
        let front = listener.local_addr().expect("has one");
        let cut = watch::Sender::new(false);
        let seen = cut.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, back, seen.clone()));
            }
        });
        Self { front, cut }
    }

    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.cut.send_replace(false);
    }
}

#[expect(clippy::disallowed_methods, reason = "a network of the test")]
async fn forward(mut client: TcpStream, back: SocketAddr, mut cut: watch::Receiver<bool>) {
    if *cut.borrow() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(back).await else { return };
    tokio::select! {
        copied = tokio::io::copy_bidirectional(&mut client, &mut server) => drop(copied),
        _ = cut.wait_for(|cut| *cut) => {}
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Returns a port that is free now: a node keeps its address over a restart.
fn free_address() -> SocketAddr {
    #[expect(clippy::disallowed_methods, reason = "only the number is wanted")]
    let taken = std::net::TcpListener::bind(loopback()).expect("a port is free");
    taken.local_addr().expect("has one")
}

/// What of a node outlives its process.
pub(crate) struct Member {
    dir: tempfile::TempDir,
    listen: SocketAddr,
    pub(crate) way: Way,
    pub(crate) gate: Gate,
    log: LogBytes,
}

/// Bytes of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogBytes {
    /// At half of which it is shortened.
    pub(crate) max: u64,
    /// Of a segment: no entry of the test may be larger.
    pub(crate) segment: u64,
}

impl LogBytes {
    const LONG: Self = Self { max: 1024 * 1024 * 1024, segment: 16 * 1024 * 1024 };
    pub(crate) const SHORT: Self = Self { max: 4 * 1024 * 1024, segment: 1024 * 1024 };
}

impl Member {
    async fn new(log: LogBytes) -> Self {
        let listen = free_address();
        let dir = tempfile::tempdir().expect("temporary directory");
        Self { dir, listen, way: Way::to(listen).await, gate: Gate::default(), log }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    async fn open(&self, join: &[String]) -> Node {
        let mut config = Config::single(self.path());
        config.segment_bytes = self.log.segment;
        config.log_bytes_max = self.log.max;
        config.machine = Arc::new(Gated { real: RealMachine::default(), gate: self.gate.clone() });
        config.peer = Some(PeerConfig {
            listen: self.listen,
            advertise: Some(self.way.front.to_string()),
            security: Security::Open,
            insecure: false,
            join: join.to_vec(),
            found: false,
            learner: false,
        });
        Node::open(config).await.expect("opens")
    }

    /// The data files of the member, by name, with their bytes.
    pub(crate) fn data_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let (root, mut found) = (self.path().join("buckets"), BTreeMap::new());
        let mut dirs = vec![root.clone()];
        while let Some(next) = dirs.pop() {
            for entry in std::fs::read_dir(&next).expect("lists") {
                let path = entry.expect("lists").path();
                if path.is_dir() {
                    dirs.push(path);
                } else if path.extension().is_some_and(|extension| extension == "parquet") {
                    let name = path.strip_prefix(&root).expect("below it").to_path_buf();
                    // Deleted since the directory was listed, perhaps.
                    if let Ok(bytes) = std::fs::read(&path) {
                        found.insert(name, bytes);
                    }
                }
            }
        }
        found
    }
}

/// Three voters; the first one leads.
pub(crate) struct Three {
    pub(crate) members: Vec<Member>,
    pub(crate) nodes: Vec<Node>,
}

impl Three {
    /// With a log that is as long as it may be.
    pub(crate) async fn start() -> Self {
        Self::with_log(LogBytes::LONG).await
    }

    pub(crate) async fn with_log(log: LogBytes) -> Self {
        let (mut members, mut nodes, mut join) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let member = Member::new(log).await;
            nodes.push(member.open(&join).await);
            join = vec![member.way.front.to_string()];
            members.push(member);
        }
        until("all have a vote", || async {
            let votes = |node: &Node| node.members().iter().filter(|member| member.votes).count();
            nodes.iter().all(|node| votes(node) == 3)
        })
        .await;
        Self { members, nodes }
    }

    /// Stops a node and starts it again.
    pub(crate) async fn restart(&mut self, place: usize) {
        let node = self.nodes.remove(place);
        node.shutdown().await.expect("stops");
        self.nodes.insert(place, self.members[place].open(&[]).await);
    }

    pub(crate) async fn stop(self) {
        for node in self.nodes {
            node.shutdown().await.expect("stops");
        }
        drop(self.members);
    }

    /// Every node answers the same, and has the same state at the same index.
    pub(crate) async fn check_same(&self, count: i64, sum: i64) {
        for node in &self.nodes {
            let found = insist(async || totals(node, SqlOptions::default()).await).await;
            assert_eq!((found.0, found.1), (count, sum), "node {}", node.node_id());
        }
        let mut states = Vec::new();
        until("all have applied the same", async || {
            states.clear();
            for node in &self.nodes {
                let status = node.status().await.expect("status");
                states.push((status.applied, status.digest));
            }
            states.iter().all(|state| state.0 == states[0].0)
        })
        .await;
        assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
    }
}

pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..6_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

pub(crate) fn schema() -> SchemaRef {
    let key = Field::new("id", DataType::Utf8, false);
    Arc::new(Schema::new(vec![key, Field::new("n", DataType::Int64, true)]))
}

pub(crate) fn rows(numbers: std::ops::Range<i64>) -> RecordBatch {
    wide_rows(numbers, 0)
}

/// Rows whose keys have so many bytes more.
pub(crate) fn wide_rows(numbers: std::ops::Range<i64>, bytes: usize) -> RecordBatch {
    let wide = "w".repeat(bytes);
    let ids: StringArray =
        numbers.clone().map(|number| Some(format!("id-{number}-{wide}"))).collect();
    let values: Int64Array = numbers.map(Some).collect();
    RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(values)]).expect("fits")
}

pub(crate) fn caller() -> Caller {
    Caller::named("test")
}

pub(crate) async fn register(node: &Node) {
    let options = RegisterOptions::keyed(&["id"]);
    insist(async || node.register(&caller(), "t", schema(), options.clone()).await).await;
}

/// Somebody whose calls are numbered, so that each takes effect once however often it is made.
pub(crate) struct Numbered {
    actor: String,
    session: SessionId,
    sequence: u64,
}

impl Numbered {
    pub(crate) async fn open(node: &Node, actor: &str) -> Self {
        let session = insist(async || node.open_session(actor, None).await).await;
        Self { actor: actor.to_owned(), session, sequence: 0 }
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// Returns who makes the next call.
    pub(crate) fn next(&mut self) -> Caller {
        self.sequence += 1;
        let session = Some((self.session, Sequence(self.sequence)));
        Caller { session, ..Caller::named(self.actor.clone()) }
    }

    /// Appends rows, once.
    pub(crate) async fn append(&mut self, node: &Node, batch: &RecordBatch) -> Written {
        let caller = self.next();
        insist(async || node.append(&caller, "t", vec![batch.clone()]).await).await
    }
}

/// Calls again while there is no leader, or no room in the log: only what is numbered or can be said twice.
pub(crate) async fn insist<T>(mut call: impl AsyncFnMut() -> Result<T, Error>) -> T {
    for _ in 0..1_000 {
        match call().await {
            Err(error) if is_passing(&error) => tokio::time::sleep(Duration::from_millis(20)).await,
            done => return done.expect("no error that would pass"),
        }
    }
    panic!("there is never a leader");
}

pub(crate) fn is_passing(error: &Error) -> bool {
    [ErrorKind::Unavailable, ErrorKind::DeadlineExceeded].contains(&error.kind())
}

/// Count and sum of all rows, and the index of the answer.
pub(crate) async fn totals(
    node: &Node,
    options: SqlOptions,
) -> Result<(i64, i64, LogIndex), Error> {
    let answer = node.sql("SELECT count(*), coalesce(sum(n), 0) FROM t", options).await?;
    let index = answer.index();
    let batches = answer.collect().await?;
    let number = |column: usize| batches[0].column(column).as_primitive::<Int64Type>().value(0);
    Ok((number(0), number(1), index))
}
