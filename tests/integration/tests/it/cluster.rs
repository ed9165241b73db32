//! Whole nodes that make a cluster in one process: rows go in anywhere, and every node has the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alluvium_engine::{
    Caller, Config, Error, Node, PeerConfig, RegisterOptions, Security, SqlOptions, TombstoneKeys,
};
use alluvium_types::{ErrorKind, LogIndex};
use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

mod neighbours;

struct Machine {
    dir: tempfile::TempDir,
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

impl Machine {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("temporary directory") }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    fn config(&self, listen: SocketAddr, join: &[&str]) -> Config {
        let mut config = Config::single(self.path());
        config.segment_bytes = 1024 * 1024;
        config.log_bytes_max = 4 * 1024 * 1024;
        config.peer = Some(PeerConfig {
            listen,
            advertise: None,
            security: Security::Open,
            insecure: false,
            join: join.iter().map(|address| (*address).to_owned()).collect(),
            found: false,
            learner: false,
        });
        config
    }
}

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    for _ in 0..3_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

/// Three voters, each on an address that it keeps.
pub(crate) struct Three {
    machines: Vec<Machine>,
    addresses: Vec<SocketAddr>,
    /// The nodes that run, in the order of their ids.
    pub(crate) nodes: Vec<Node>,
    /// How each node is opened again.
    pub(crate) tuned: Vec<Config>,
}

impl Three {
    pub(crate) async fn start() -> Self {
        Self::start_with(|config| config).await
    }

    /// Starts three whose configuration is changed so.
    pub(crate) async fn start_with(tune: impl Fn(Config) -> Config) -> Self {
        let machines: Vec<Machine> = (0..3).map(|_| Machine::new()).collect();
        let addresses: Vec<SocketAddr> = (0..3).map(|_| free_address()).collect();
        let first = Node::open(tune(machines[0].config(addresses[0], &[]))).await.expect("founds");
        let by_first = addresses[0].to_string();
        let config = machines[1].config(addresses[1], &["127.0.0.1:1", &by_first]);
        let second =
            Node::open(tune(config)).await.expect("joins by the second address that is given");
        // By a member that does not lead.
        let by_second = addresses[1].to_string();
        let third = machines[2].config(addresses[2], &[&by_second]);
        let third = Node::open(tune(third)).await.expect("joins");
        let nodes = vec![first, second, third];
        assert_eq!(nodes.iter().map(Node::node_id).collect::<Vec<_>>(), [1, 2, 3]);
        all_vote(&nodes, 3).await;
        let tuned = machines.iter().zip(&addresses);
        let tuned = tuned.map(|(machine, address)| tune(machine.config(*address, &[]))).collect();
        Self { machines, addresses, nodes, tuned }
    }

    /// Returns the directory of a node by its place, from zero.
    pub(crate) fn path(&self, place: usize) -> PathBuf {
        self.machines[place].path()
    }

    /// Stops a node that runs. Those behind it move up: open it again before the next is closed, unless that is lower.
    pub(crate) async fn close(&mut self, place: usize) {
        self.nodes.remove(place).shutdown().await.expect("stops");
    }

    /// Opens a node that was closed.
    pub(crate) async fn open(&mut self, place: usize) {
        let node = Node::open(self.tuned[place].clone()).await.expect("opens again");
        self.nodes.insert(place.min(self.nodes.len()), node);
    }

    pub(crate) async fn stop(self) {
        for node in self.nodes {
            node.shutdown().await.expect("stops");
        }
        drop(self.machines);
    }
}

async fn all_vote(nodes: &[Node], count: usize) {
    until("all have a vote", || async {
        let votes = |node: &Node| node.members().iter().filter(|member| member.votes).count();
        nodes.iter().all(|node| votes(node) == count)
    })
    .await;
}

pub(crate) fn schema() -> Arc<Schema> {
    let key = Field::new("id", DataType::Utf8, false);
    Arc::new(Schema::new(vec![key, Field::new("n", DataType::Int64, true)]))
}

pub(crate) fn rows(numbers: std::ops::Range<i64>) -> RecordBatch {
    let ids: StringArray = numbers.clone().map(|number| Some(format!("id-{number}"))).collect();
    let values: Int64Array = numbers.map(Some).collect();
    RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(values)]).expect("fits")
}

pub(crate) fn caller() -> Caller {
    Caller::named("test")
}

pub(crate) async fn register(node: &Node) {
    let options = RegisterOptions::keyed(&["id"]);
    node.register(&caller(), "t", schema(), options).await.expect("registers");
}

/// Count and sum of all rows, and the index of the answer.
pub(crate) async fn totals(
    node: &Node,
    options: SqlOptions,
) -> Result<(i64, i64, LogIndex), Error> {
    let answer = node.sql("SELECT count(*), sum(n) FROM t", options).await?;
    let index = answer.index();
    let batches = answer.collect().await?;
    let number = |column: usize| batches[0].column(column).as_primitive::<Int64Type>().value(0);
    Ok((number(0), number(1), index))
}

/// Every node answers the same at the same index, and has the same state there.
pub(crate) async fn check_same(nodes: &[Node], count: i64, sum: i64) {
    for node in nodes {
        let found = totals(node, SqlOptions::default()).await.expect("answers");
        assert_eq!((found.0, found.1), (count, sum), "node {}", node.node_id());
    }
    let mut digests: BTreeMap<u64, String> = BTreeMap::new();
    until("all have applied the same", || {
        let nodes = nodes.to_vec();
        async move {
            let mut seen = Vec::new();
            for node in &nodes {
                let status = node.status().await.expect("status");
                seen.push((status.applied, status.digest));
            }
            seen.iter().all(|state| state.0 == seen[0].0)
        }
    })
    .await;
    for node in nodes {
        let status = node.status().await.expect("status");
        digests.entry(status.applied.0).or_insert_with(|| status.digest.clone());
        assert_eq!(digests[&status.applied.0], status.digest, "node {}", node.node_id());
    }
}

/// The data files below a directory, by name, with their bytes.
pub(crate) fn data_files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.join("buckets")];
    while let Some(next) = dirs.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for entry in entries {
            let path = entry.expect("lists").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let name = path.strip_prefix(dir).expect("below it").to_path_buf();
                found.insert(name, std::fs::read(&path).expect("reads"));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_go_in_anywhere_and_every_node_has_the_same_rows_state_and_files() {
    let three = Three::start().await;
    let nodes = &three.nodes;
    let options = RegisterOptions::keyed(&["id"]);
    nodes[2].register(&caller(), "t", schema(), options).await.expect("registers at a follower");
    let (mut count, mut sum) = (0, 0);
    for (number, node) in nodes.iter().cycle().take(9).enumerate() {
        let first = i64::try_from(number).expect("small") * 100;
        let written = node.append(&caller(), "t", vec![rows(first..first + 100)]).await;
        let index = written.expect("acknowledged").index;
        (count, sum) = (count + 100, sum + (first..first + 100).sum::<i64>());
        // Acknowledged: seen by a linearizable read anywhere, and by a local one that waits for the index.
        for reader in nodes {
            let at_least =
                SqlOptions { local: true, at_least: Some(index), ..SqlOptions::default() };
            for options in [SqlOptions::default(), at_least] {
                let found = totals(reader, options).await.expect("answers");
                assert_eq!((found.0, found.1), (count, sum), "node {}", reader.node_id());
                assert!(index <= found.2);
            }
        }
    }
    nodes[1].seal(&caller(), "t").await.expect("seals from a follower");
    let keys = TombstoneKeys::Predicate("n < 50".to_owned());
    nodes[2].tombstone(&caller(), "t", keys).await.expect("hides from a follower");
    (count, sum) = (count - 50, sum - (0..50).sum::<i64>());
    check_same(nodes, count, sum).await;
    nodes[0].append(&caller(), "t", vec![rows(900..1_000)]).await.expect("acknowledged");
    (count, sum) = (count + 100, sum + (900..1_000).sum::<i64>());
    nodes[2].compact(&caller(), "t").await.expect("compacts from a follower");
    check_same(nodes, count, sum).await;
    nodes[1].expire(&caller(), "t", None).await.expect("expires");
    check_same(nodes, count, sum).await;
    until("the old files are gone everywhere, and the new one is the same", || async {
        let files: Vec<_> =
            three.machines.iter().map(|machine| data_files(&machine.path())).collect();
        files.iter().all(|files| files.len() == 1)
    })
    .await;
    let first = data_files(&three.machines[0].path());
    for machine in &three.machines {
        assert!(data_files(&machine.path()) == first, "byte for byte");
    }
    until("the state forgets what nobody has any more", || async {
        let waiting = nodes[0].sql("SELECT * FROM system.files", SqlOptions::default()).await;
        let waiting = waiting.expect("answers").collect().await.expect("answers");
        waiting.iter().map(RecordBatch::num_rows).sum::<usize>() == 1
    })
    .await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_hands_over_and_nobody_s_call_fails() {
    let mut three = Three::start().await;
    register(&three.nodes[0]).await;
    let writer = three.nodes[1].clone();
    let writing = async {
        let mut sum = 0;
        for number in 0..200 {
            let batch = vec![rows(number..number + 1)];
            writer.append(&caller(), "t", batch).await.expect("acknowledged");
            sum += number;
        }
        sum
    };
    let leading = three.nodes.remove(0);
    assert_eq!(leading.status().await.expect("status").leader, Some(1));
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        leading.shutdown().await.expect("stops");
    };
    let (sum, ()) = tokio::join!(writing, stopping);
    check_same(&three.nodes, 200, sum).await;
    let config = three.machines[0].config(three.addresses[0], &[]);
    three.nodes.push(Node::open(config).await.expect("comes back"));
    check_same(&three.nodes, 200, sum).await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_as_soon_as_it_leads_hands_over_all_the_same() {
    let mut three = Three::start().await;
    register(&three.nodes[0]).await;
    for _ in 0..5 {
        three.nodes[0].transfer_leader(3).await.expect("hands over");
        // It has led for a moment, and no voter has answered it yet.
        three.nodes.pop().expect("three").shutdown().await.expect("stops");
        let mut leads = Vec::new();
        for node in &three.nodes {
            leads.push(node.status().await.expect("status").leader == Some(node.node_id()));
        }
        assert!(leads.contains(&true), "nobody was handed the leadership: an election must follow");
        let config = three.machines[2].config(three.addresses[2], &[]);
        three.nodes.push(Node::open(config).await.expect("comes back"));
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_told_to_hand_over_to_itself_leads_on() {
    let three = Three::start().await;
    register(&three.nodes[0]).await;
    let before = three.nodes[0].status().await.expect("status");
    assert_eq!(before.leader, Some(1));
    for node in &three.nodes {
        node.transfer_leader(1).await.expect("it leads");
    }
    three.nodes[0].append(&caller(), "t", vec![rows(0..1)]).await.expect("acknowledged");
    let after = three.nodes[0].status().await.expect("status");
    assert_eq!((after.leader, after.term), (Some(1), before.term), "there was an election");
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_late_reads_files_from_its_peers_when_the_log_is_gone() {
    let mut three = Three::start().await;
    register(&three.nodes[0]).await;
    let (mut count, mut sum) = (0, 0);
    let gone = three.nodes.pop().expect("three");
    gone.shutdown().await.expect("stops");
    // More than the log may hold: it is sealed and purged on the way.
    for round in 0..200 {
        let numbers = round * 500..(round + 1) * 500;
        let mut written = three.nodes[0].append(&caller(), "t", vec![rows(numbers.clone())]).await;
        while let Err(Error::Backlog { .. }) = written {
            tokio::time::sleep(Duration::from_millis(50)).await;
            written = three.nodes[0].append(&caller(), "t", vec![rows(numbers.clone())]).await;
        }
        written.expect("acknowledged");
        (count, sum) = (count + 500, sum + numbers.sum::<i64>());
    }
    three.nodes[0].seal(&caller(), "t").await.expect("seals");
    until("the log is purged", || async {
        let status = three.nodes[0].status().await.expect("status");
        LogIndex(20) < status.log.0
    })
    .await;
    let config = three.machines[2].config(three.addresses[2], &[]);
    three.nodes.push(Node::open(config).await.expect("comes back"));
    check_same(&three.nodes, count, sum).await;
    let first = data_files(&three.machines[0].path());
    assert!(!first.is_empty());
    for machine in &three.machines {
        assert!(data_files(&machine.path()) == first, "byte for byte");
    }
    // What it installed is whole, also when nobody runs it.
    let third = three.nodes.pop().expect("three");
    third.shutdown().await.expect("stops");
    let config = three.machines[2].config(three.addresses[2], &[]);
    let report = alluvium_engine::verify_directory(&config).await.expect("looks");
    assert_eq!(report.damage, Vec::<String>::new());
    three.nodes.push(Node::open(config).await.expect("comes back"));
    check_same(&three.nodes, count, sum).await;
    // A disk is lost: its node is removed, and a new one takes its place under a new id.
    let lost = three.nodes.pop().expect("three");
    lost.shutdown().await.expect("stops");
    three.machines[2] = Machine::new();
    three.nodes[1].remove(&[3]).await.expect("removes");
    let by_second = three.addresses[1].to_string();
    let config = three.machines[2].config(three.addresses[2], &[&by_second]);
    let fourth = Node::open(config).await.expect("joins");
    assert_eq!(fourth.node_id(), 4, "an id never stands for two nodes");
    three.nodes.push(fourth);
    all_vote(&three.nodes, 3).await;
    check_same(&three.nodes, count, sum).await;
    assert!(data_files(&three.machines[2].path()) == first, "byte for byte");
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_grows_to_three_in_place_and_shrinks_back() {
    let machine = Machine::new();
    let mut config = machine.config(loopback(), &[]);
    config.peer = None;
    let single = Node::open(config).await.expect("opens");
    register(&single).await;
    single.append(&caller(), "t", vec![rows(0..10)]).await.expect("acknowledged");
    let alone = single.add_learner(None, "127.0.0.1:1").await.expect_err("it has no peer port");
    assert_eq!(alone.kind(), ErrorKind::InvalidArgument, "{alone}");
    single.shutdown().await.expect("stops");
    let first = Node::open(machine.config(free_address(), &[])).await.expect("opens");
    let address = first.peer_address().expect("has a port").to_owned();
    let others: Vec<Machine> = (0..2).map(|_| Machine::new()).collect();
    let mut nodes = vec![first];
    for other in &others {
        let config = other.config(free_address(), &[&address]);
        nodes.push(Node::open(config).await.expect("joins"));
    }
    all_vote(&nodes, 3).await;
    nodes[2].append(&caller(), "t", vec![rows(10..20)]).await.expect("acknowledged");
    check_same(&nodes, 20, (0..20).sum()).await;
    nodes[1].transfer_leader(1).await.expect("the first leads, or did");
    nodes[0].remove(&[2, 3]).await.expect("removes");
    until("it is alone", || async { nodes[0].members().len() == 1 }).await;
    nodes[0].append(&caller(), "t", vec![rows(20..30)]).await.expect("acknowledged");
    check_same(&nodes[..1], 30, (0..30).sum()).await;
    let log = nodes[0].log(Some(LogIndex(0)), 1_000).await.expect("reads");
    let said = log.into_iter().filter(|record| record.kind == "membership");
    let said: Vec<String> = said.map(|record| record.detail).collect();
    assert_eq!(said.last().map(String::as_str), Some("voters 1"), "{said:?}");
    for step in ["voters 1; learners 2", "voters 1, 2, 3", "voters 1, 2, 3 and 1"] {
        assert!(said.iter().any(|words| words == step), "{step}: {said:?}");
    }
    for node in nodes {
        node.shutdown().await.expect("stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_that_cannot_be_are_refused_in_words_and_leave_nothing_behind() {
    let founder = Machine::new();
    let first = Node::open(founder.config(free_address(), &[])).await.expect("founds");
    let address = first.peer_address().expect("has a port").to_owned();
    until("it leads", || async { first.status().await.expect("status").leader == Some(1) }).await;
    let refused = async |join: &str, node_id: Option<u64>| {
        let machine = Machine::new();
        let mut config = machine.config(free_address(), &[join]);
        config.node_id = node_id;
        let error = Node::open(config).await.expect_err("refused");
        assert!(!machine.path().join("node.alluvium").exists(), "no directory was made");
        error.to_string()
    };
    let nobody = refused("127.0.0.1:1", None).await;
    assert!(nobody.contains("cannot join the cluster at 127.0.0.1:1"), "{nobody}");
    let taken = refused(&address, Some(1)).await;
    assert!(taken.contains("node id 1 is taken"), "{taken}");
    let nonsense = refused("no address at all", None).await;
    assert!(nonsense.contains("is no address"), "{nonsense}");
    // A directory of another cluster stays what it is, whatever it is told to join.
    let other = Machine::new();
    let config = other.config(free_address(), &[&address]);
    let alone = Node::open(other.config(free_address(), &[])).await.expect("founds another one");
    let cluster = alone.status().await.expect("status").cluster_id;
    alone.shutdown().await.expect("stops");
    let still = Node::open(config).await.expect("opens");
    assert_eq!(still.status().await.expect("status").cluster_id, cluster);
    assert_eq!(first.members().len(), 1, "nobody joined");
    for node in [still, first] {
        node.shutdown().await.expect("stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_the_past_waits_for_no_file_that_another_dataset_gave_up() {
    let mut three = Three::start().await;
    register(&three.nodes[0]).await;
    three.nodes[0].append(&caller(), "t", vec![rows(0..10)]).await.expect("acknowledged");
    let options = RegisterOptions::keyed(&["id"]);
    three.nodes[0].register(&caller(), "other", schema(), options).await.expect("registers");
    three.nodes[0].append(&caller(), "other", vec![rows(0..10)]).await.expect("acknowledged");
    let then = three.nodes[0].seal(&caller(), "other").await.expect("seals").index;
    let keys = TombstoneKeys::Predicate("n < 5".to_owned());
    three.nodes[0].tombstone(&caller(), "other", keys).await.expect("hides");
    three.nodes[0].compact(&caller(), "other").await.expect("compacts");
    three.nodes[0].expire(&caller(), "other", None).await.expect("expires");
    // It knows nothing of its files when it starts.
    three.nodes.pop().expect("three").shutdown().await.expect("stops");
    let config = three.machines[2].config(three.addresses[2], &[]);
    three.nodes.push(Node::open(config).await.expect("comes back"));
    let past = SqlOptions {
        as_of: Some(then),
        timeout: Some(Duration::from_secs(60)),
        ..SqlOptions::default()
    };
    let found = totals(&three.nodes[2], past).await.expect("answers");
    assert_eq!((found.0, found.1), (10, (0..10).sum()));
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_moves_is_reached_and_one_that_was_removed_hears_of_it() {
    let mut three = Three::start().await;
    register(&three.nodes[0]).await;
    three.nodes.pop().expect("three").shutdown().await.expect("stops");
    three.addresses[2] = free_address();
    let config = three.machines[2].config(three.addresses[2], &[]);
    three.nodes.push(Node::open(config).await.expect("comes back"));
    let moved = three.addresses[2].to_string();
    until("all know its new address", || async {
        three.nodes.iter().all(|node| node.members().iter().any(|member| member.address == moved))
    })
    .await;
    let written = three.nodes[2].append(&caller(), "t", vec![rows(0..10)]).await;
    written.expect("acknowledged through the one that moved");
    check_same(&three.nodes, 10, (0..10).sum()).await;
    three.nodes[0].remove(&[3]).await.expect("removes");
    until("it is not told anything any more", || async { three.nodes[0].members().len() == 2 })
        .await;
    let refused = three.nodes[2].append(&caller(), "t", vec![rows(10..20)]).await;
    let refused = refused.expect_err("it is no member");
    assert!(refused.to_string().contains("node 3 is no member of the cluster"), "{refused}");
    check_same(&three.nodes[..2], 10, (0..10).sum()).await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_that_applies_the_past_keeps_no_file_that_was_given_up() {
    let founder = Machine::new();
    let first = Node::open(founder.config(free_address(), &[])).await.expect("founds");
    until("it leads", || async { first.status().await.expect("status").leader == Some(1) }).await;
    register(&first).await;
    for round in 0..4 {
        first.append(&caller(), "t", vec![rows(round * 10..round * 10 + 10)]).await.expect("fits");
        first.seal(&caller(), "t").await.expect("seals");
        let keys = TombstoneKeys::Predicate(format!("n = {}", round * 10));
        first.tombstone(&caller(), "t", keys).await.expect("hides");
        first.compact(&caller(), "t").await.expect("compacts");
        first.expire(&caller(), "t", None).await.expect("expires");
    }
    let address = first.peer_address().expect("has a port").to_owned();
    let other = Machine::new();
    let second = Node::open(other.config(free_address(), &[&address])).await.expect("joins");
    let nodes = vec![first, second];
    all_vote(&nodes, 2).await;
    check_same(&nodes, 36, (0..40).filter(|number| number % 10 != 0).sum()).await;
    let status = nodes[1].status().await.expect("status");
    assert_eq!(status.job_errors, Vec::<String>::new());
    let files = data_files(&founder.path());
    assert_eq!(files.len(), 1);
    assert!(data_files(&other.path()) == files, "the same files, and no other");
    for node in nodes {
        node.shutdown().await.expect("stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_lost_the_others_answers_local_reads_from_its_files() {
    let mut three = Three::start().await;
    register(&three.nodes[0]).await;
    three.nodes[0].append(&caller(), "t", vec![rows(0..10)]).await.expect("acknowledged");
    three.nodes[0].seal(&caller(), "t").await.expect("seals");
    three.nodes[0].append(&caller(), "t", vec![rows(10..20)]).await.expect("acknowledged");
    check_same(&three.nodes, 20, (0..20).sum()).await;
    for node in three.nodes.drain(..) {
        node.shutdown().await.expect("stops");
    }
    let config = three.machines[2].config(three.addresses[2], &[]);
    let lone = Node::open(config).await.expect("opens without the others");
    let timeout = Some(Duration::from_secs(60));
    let local = SqlOptions { local: true, timeout, ..SqlOptions::default() };
    let found = totals(&lone, local).await.expect("answers from what it has");
    assert_eq!((found.0, found.1), (20, (0..20).sum()));
    let newest = totals(&lone, SqlOptions { timeout, ..SqlOptions::default() }).await;
    assert_eq!(newest.expect_err("nobody confirms it").kind(), ErrorKind::Unavailable);
    let refused = lone.append(&caller(), "t", vec![rows(20..30)]).await;
    assert_eq!(refused.expect_err("no majority takes it").kind(), ErrorKind::Unavailable);
    lone.shutdown().await.expect("stops");
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_loses_the_others_says_soon_that_a_write_is_in_doubt_or_was_not_made() {
    let mut three = Three::start().await;
    register(&three.nodes[0]).await;
    three.nodes[0].append(&caller(), "t", vec![rows(0..10)]).await.expect("acknowledged");
    check_same(&three.nodes, 10, (0..10).sum()).await;
    let leader = three.nodes[0].status().await.expect("status").leader.expect("somebody leads");
    let place = three.nodes.iter().position(|node| node.node_id() == leader).expect("a member");
    let leading = three.nodes.remove(place);
    // One write meets the loss of its quorum wherever it is, others begin without one.
    let write = |from: i64| {
        let leading = leading.clone();
        async move {
            loop {
                let written = leading.append(&caller(), "t", vec![rows(from..from + 1)]).await;
                if let Err(error) = written {
                    return error;
                }
            }
        }
    };
    let writes = futures::future::join_all((0..4).map(|writer| write(1_000 * (writer + 1))));
    let others = async {
        for node in three.nodes.drain(..) {
            node.shutdown().await.expect("stops");
        }
    };
    let both = async { tokio::join!(writes, others).0 };
    let failed = tokio::time::timeout(Duration::from_secs(30), both).await.expect("none hangs");
    for error in failed {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    // What it concludes from a state that may be old is not said; nor is more put into a log that nobody else has.
    for name in ["t", "nowhere"] {
        let end = leading.status().await.expect("status").log.1;
        let error = leading.append(&caller(), name, vec![rows(0..1)]).await.expect_err("alone");
        assert!(error.kind() == ErrorKind::Unavailable && error.is_before_the_log(), "{error}");
        assert_eq!(leading.status().await.expect("status").log.1, end);
    }
    let local = SqlOptions { local: true, ..SqlOptions::default() };
    let found = totals(&leading, local).await.expect("local reads go on");
    assert!(10 <= found.0, "{found:?}");
    leading.shutdown().await.expect("stops");
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_lost_majority_a_cluster_is_made_of_what_one_member_has() {
    let mut three = Three::start().await;
    register(&three.nodes[0]).await;
    three.nodes[0].append(&caller(), "t", vec![rows(0..100)]).await.expect("appends");
    three.nodes[0].seal(&caller(), "t").await.expect("seals");
    let unsealed = three.nodes[0].append(&caller(), "t", vec![rows(100..150)]).await;
    let unsealed = unsealed.expect("appends").index;
    three.nodes[2].wait_applied(unsealed).await.expect("applies");
    let local = SqlOptions { local: true, ..SqlOptions::default() };
    let before = totals(&three.nodes[2], local).await.expect("answers");
    let digest = three.nodes[2].status().await.expect("status").digest;
    // The other two are gone for good.
    three.close(0).await;
    three.close(0).await;
    three.close(0).await;
    let to = three.path(2).with_extension("recovered");
    let old = three.tuned[2].clone();
    let looked = alluvium_engine::recover_directory(&old, None).await.expect("looks");
    assert_eq!((looked.cluster_id.as_str(), looked.files, looked.node_id), ("", 0, 3));
    assert!(!to.exists() && looked.damage.is_empty() && looked.missing.is_empty(), "{looked:?}");
    assert!(unsealed <= looked.index && looked.committed <= looked.index, "{looked:?}");
    let made = alluvium_engine::recover_directory(&old, Some(&to)).await.expect("makes");
    assert_eq!((made.index, made.term, made.files), (looked.index, looked.term, 1));
    let again = alluvium_engine::recover_directory(&old, Some(&to)).await.expect_err("it is there");
    assert_eq!(again.kind(), ErrorKind::InvalidArgument, "{again}");
    // A cluster of one, with everything; it grows as any other.
    let mut config = old.clone();
    config.data_dir = to;
    let node = Node::open(config.clone()).await.expect("opens");
    let found = totals(&node, SqlOptions::default()).await.expect("answers");
    assert_eq!((found.0, found.1), (before.0, before.1));
    let status = node.status().await.expect("status");
    assert_eq!(status.cluster_id, made.cluster_id);
    assert_ne!(digest, "", "the state was there");
    let past = SqlOptions { as_of: Some(before.2), ..SqlOptions::default() };
    assert_eq!(totals(&node, past).await.expect("the past too").0, before.0);
    node.append(&caller(), "t", vec![rows(150..160)]).await.expect("appends");
    let newcomer = Machine::new();
    let address = node.peer_address().expect("a member").to_owned();
    let joined = Node::open(newcomer.config(loopback(), &[&address])).await.expect("joins");
    let nodes = vec![node, joined];
    all_vote(&nodes, 2).await;
    check_same(&nodes, 160, (0..160).sum()).await;
    let report = nodes[0].verify().await.expect("verifies");
    assert_eq!(report.damage, Vec::<String>::new());
    for node in nodes {
        node.shutdown().await.expect("stops");
    }
}
