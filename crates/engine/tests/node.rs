//! A node as the one who embeds it sees it: retries, remains of a lost log, scrubs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alluvium_engine::{
    Caller, Config, Error, Machine, Node, RealMachine, RegisterOptions, SqlOptions, TombstoneKeys,
};
use alluvium_stdx::{Clock, Prng, durable};
use alluvium_storage::{Bucket, BucketKind, DurableLocal, FaultRates, FaultStore};
use alluvium_types::{ErrorKind, LogIndex, Sequence};
use alluvium_wal::Storage;
use alluvium_wal::sim::SimDisk;
use arrow::array::{AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use futures::StreamExt as _;

fn schema() -> SchemaRef {
    let key = Field::new("key", DataType::Utf8, false);
    Arc::new(Schema::new(vec![key, Field::new("value", DataType::Int64, true)]))
}

fn batch(rows: &[(&str, i64)]) -> RecordBatch {
    let keys = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
    let values = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_new(schema(), vec![keys, values]).expect("two columns")
}

fn config(dir: &Path) -> Config {
    Config { segment_bytes: 4 * 1024 * 1024, ..Config::single(dir) }
}

/// Opens a node with a dataset `t` that has three rows.
async fn lake(dir: &Path) -> Node {
    let node = Node::open(config(dir)).await.expect("opens");
    let caller = Caller::named("test");
    node.register(&caller, "t", schema(), RegisterOptions::keyed(&["key"])).await.expect("new");
    node.append(&caller, "t", vec![batch(&[("a", 1), ("b", 2), ("c", 3)])]).await.expect("fits");
    node
}

async fn numbered(node: &Node) -> Caller {
    let session = node.open_session("test", None).await.expect("opens");
    Caller { session: Some((session, Sequence(1))), ..Caller::named("test") }
}

async fn count(node: &Node) -> i64 {
    let text = "SELECT count(*) FROM t";
    let answer = node.sql(text, SqlOptions::default()).await.expect("plans");
    let answer = answer.collect().await.expect("answers");
    answer[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m40_commands_that_read_before_they_write_are_answered_once() {
    let root = tempfile::tempdir().expect("temporary directory");
    let node = lake(root.path()).await;
    let caller = numbered(&node).await;
    let predicate = || TombstoneKeys::Predicate("value > 1".to_owned());
    let first = node.tombstone(&caller, "t", predicate()).await.expect("hides");
    assert_eq!(first.count, 2);
    // A row that matches too, but was not there the first time.
    node.append(&Caller::named("test"), "t", vec![batch(&[("d", 4)])]).await.expect("fits");
    assert_eq!(node.tombstone(&caller, "t", predicate()).await.expect("again"), first);
    assert_eq!(count(&node).await, 2);
    let other = TombstoneKeys::Predicate("value > 3".to_owned());
    let error = node.tombstone(&caller, "t", other).await.expect_err("the number is used");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");

    let caller = numbered(&node).await;
    let first = node.expire(&caller, "t", None).await.expect("expires");
    let again = node.expire(&caller, "t", None).await.expect("again");
    assert_eq!(again.index, first.index);

    let caller = numbered(&node).await;
    let first = node.drop_dataset(&caller, "t").await.expect("drops");
    assert_eq!(node.drop_dataset(&caller, "t").await.expect("again"), first);
    node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m40_a_number_is_answered_by_its_first_answer_whatever_came_between() {
    let root = tempfile::tempdir().expect("temporary directory");
    let node = lake(root.path()).await;
    let named = Caller::named("test");
    node.seal(&named, "t").await.expect("seals");
    node.append(&named, "t", vec![batch(&[("d", 4)])]).await.expect("fits");
    let caller = numbered(&node).await;
    let first = node.compact(&caller, "t").await.expect("compacts");
    assert_eq!((first.rows_in, first.rows_out, first.files_in), (4, 4, 2));
    // Other inputs than the first time.
    node.append(&named, "t", vec![batch(&[("e", 5)])]).await.expect("fits");
    node.seal(&named, "t").await.expect("seals");
    let again = node.compact(&caller, "t").await.expect("answered again");
    assert!(first.rows_in <= again.rows_in, "{again:?}");

    let caller = numbered(&node).await;
    let rows = || vec![batch(&[("f", 6)])];
    let first = node.append(&caller, "t", rows()).await.expect("fits");
    let rename = |column: &str, to: &str| {
        let (column, to) = (column.to_owned(), to.to_owned());
        vec![alluvium_types::SchemaChange::Rename { column, to }]
    };
    node.evolve(&named, "t", rename("value", "worth")).await.expect("renames");
    assert_eq!(node.append(&caller, "t", rows()).await.expect("answered again"), first);
    let error = node.append(&caller, "t", vec![batch(&[("g", 7)])]).await.expect_err("others");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert_eq!(count(&node).await, 6);
    node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_no_segment_holds_is_refused_and_the_node_goes_on() {
    let root = tempfile::tempdir().expect("temporary directory");
    let small = Config { segment_bytes: 1024 * 1024, ..Config::single(root.path()) };
    let node = Node::open(small).await.expect("opens");
    let caller = Caller::named("test");
    node.register(&caller, "t", schema(), RegisterOptions::keyed(&["key"])).await.expect("new");
    let long = "x".repeat(2 * 1024 * 1024);
    let error = node.append(&caller, "t", vec![batch(&[(&long, 1)])]).await.expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    node.append(&caller, "t", vec![batch(&[("a", 1)])]).await.expect("goes on");
    assert_eq!(count(&node).await, 1);
    node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_named_while_anything_that_it_made_is_there() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let node = lake(&dir).await;
    node.seal(&Caller::named("test"), "t").await.expect("seals");
    node.shutdown().await.expect("stops");
    std::fs::remove_dir_all(dir.join("wal")).expect("the log's disk is not mounted");
    for part in ["meta", "snapshots", "buckets"] {
        let error = Node::open(config(&dir)).await.expect_err("remains are there");
        assert!(matches!(&error, Error::LogMissing { .. }), "{part}: {error}");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        std::fs::remove_dir_all(dir.join("wal")).expect("it was made to look into");
        let remains = std::fs::remove_dir_all(dir.join(part));
        assert!(remains.is_ok() || part == "snapshots", "{part}: {remains:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_finds_damage_that_nobody_asked_for() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let node = lake(&dir).await;
    node.seal(&Caller::named("test"), "t").await.expect("seals");
    node.shutdown().await.expect("stops");
    let often = Config { scrub_every: Duration::from_millis(20), ..config(&dir) };
    let node = Node::open(often).await.expect("opens");
    wait(&node, |passes, damage| passes > 0 && damage.is_empty()).await;
    let file = data_file(&dir.join("buckets")).expect("it was sealed");
    let mut bytes = std::fs::read(&file).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    durable::write(&file, &bytes).expect("writable");
    wait(&node, |_, damage| damage.iter().any(|what| what.starts_with("t: data file"))).await;
    node.shutdown().await.expect("stops");
}

async fn wait(node: &Node, is_it: impl Fn(u64, &[String]) -> bool) {
    for _ in 0..1_000 {
        let status = node.status().await.expect("status");
        if is_it(status.scrubs, &status.damage) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not come: {:?}", node.status().await.expect("status"));
}

fn data_files(dir: &Path) -> usize {
    let entries =
        std::fs::read_dir(dir).expect("lists").map(|entry| entry.expect("an entry").path());
    let count = |path: std::path::PathBuf| match path.is_dir() {
        true => data_files(&path),
        false => usize::from(path.extension().is_some_and(|end| end == "parquet")),
    };
    entries.map(count).sum()
}

fn data_file(dir: &Path) -> Option<std::path::PathBuf> {
    std::fs::read_dir(dir).ok()?.find_map(|entry| {
        let path = entry.ok()?.path();
        let is_data = path.extension().is_some_and(|end| end == "parquet");
        if is_data { Some(path) } else { data_file(&path) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_could_never_be_written_are_refused_when_they_are_asked_for() {
    let root = tempfile::tempdir().expect("temporary directory");
    let node = Node::open(config(root.path())).await.expect("opens");
    let refuse = async |options: RegisterOptions| {
        let refused = node.register(&Caller::named("test"), "t", schema(), options).await;
        let error = refused.expect_err("it could never be sealed");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    };
    let mut options = RegisterOptions::keyed(&[]);
    options.options.recipe.row_group_rows = 1;
    refuse(options).await;
    let mut options = RegisterOptions::keyed(&[]);
    options.options.seal_bytes = u64::MAX;
    refuse(options).await;
    assert_eq!(node.datasets(None).await.expect("lists").1.len(), 0);
    assert!(node.applied() > LogIndex(0));
    node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_was_found_damaged_in_use_is_built_anew_at_the_next_start() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let node = lake(&dir).await;
    node.seal(&Caller::named("test"), "t").await.expect("seals");
    node.shutdown().await.expect("stops");
    durable::write(&dir.join("meta.suspect"), b"")
        .expect("left by the process that met the damage");
    let node = Node::open(config(&dir)).await.expect("opens");
    assert_eq!(count(&node).await, 3);
    let report = node.verify().await.expect("looks");
    assert_eq!((report.damage, report.files), (vec![], 1));
    assert!(dir.join("meta.damaged.0").is_dir(), "the old one is kept to be looked at");
    assert!(!dir.join("meta.suspect").exists());
    node.shutdown().await.expect("stops");
}

/// A machine whose log is on a simulated disk and whose bucket fails now and then, both from a seed.
#[derive(Debug)]
struct Shaky {
    real: RealMachine,
    seed: u64,
    disk: SimDisk,
    rates: FaultRates,
}

impl Machine for Shaky {
    fn clock(&self) -> Arc<dyn Clock> {
        self.real.clock()
    }

    fn prng(&self) -> Prng {
        Prng::from_seed(self.seed)
    }

    fn log_storage(&self, _directory: &Path) -> std::io::Result<Arc<dyn Storage>> {
        Ok(Arc::new(self.disk.clone()))
    }

    fn bucket(&self, name: &str, root: &Path) -> Result<Bucket, Error> {
        let store = FaultStore::new(Arc::new(DurableLocal::open(root)?), self.seed, self.rates);
        Ok(Bucket::over(name, Arc::new(store), BucketKind::PerNode))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_power_cuts_of_a_simulated_disk() {
    for seed in 0..8 {
        let root = tempfile::tempdir().expect("temporary directory");
        let disk = SimDisk::new(seed);
        let rates = FaultRates::default();
        let machine = Shaky { real: RealMachine::default(), seed, disk: disk.clone(), rates };
        let config = Config { machine: Arc::new(machine), ..config(root.path()) };
        let mut node = Node::open(config.clone()).await.expect("opens");
        let caller = Caller::named("test");
        let options = RegisterOptions::keyed(&["key"]);
        node.register(&caller, "t", schema(), options).await.expect("new");
        for rows in 1..=6 {
            let key = format!("{seed}-{rows}");
            node.append(&caller, "t", vec![batch(&[(&key, rows)])]).await.expect("fits");
            if rows % 3 == 0 {
                node.seal(&caller, "t").await.expect("seals");
            }
            node.shutdown().await.expect("stops");
            // What the log did not sync is gone, in any order; what it acknowledged was synced.
            disk.crash();
            node = Node::open(config.clone()).await.expect("recovers");
            assert_eq!(count(&node).await, rows, "seed {seed}");
        }
        let report = node.verify().await.expect("looks");
        assert_eq!(report.damage, Vec::<String>::new(), "seed {seed}");
        node.shutdown().await.expect("stops");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_on_a_bad_day_delays_and_refuses_and_never_answers_wrongly() {
    let root = tempfile::tempdir().expect("temporary directory");
    let (disk, rates) = (SimDisk::new(7), FaultRates::BAD_DAY);
    let machine = Shaky { real: RealMachine::default(), seed: 7, disk, rates };
    let config = Config { machine: Arc::new(machine), ..config(root.path()) };
    let node = Node::open(config).await.expect("opens");
    let caller = Caller::named("test");
    node.register(&caller, "t", schema(), RegisterOptions::keyed(&["key"])).await.expect("new");
    let mut refused = 0;
    for rows in 1..=20 {
        let key = format!("key-{rows}");
        node.append(&caller, "t", vec![batch(&[(&key, rows)])]).await.expect("needs no bucket");
        // A failure is told, and the file is made in the background all the same.
        refused += u32::from(node.seal(&caller, "t").await.is_err());
        refused += u32::from(rows % 7 == 0 && node.compact(&caller, "t").await.is_err());
        let answer = match node.sql("SELECT count(*) FROM t", SqlOptions::default()).await {
            Ok(stream) => stream.collect().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(batches) => {
                let found = batches[0].column(0).as_primitive::<Int64Type>().value(0);
                assert_eq!(found, rows, "an answer is right or is none");
            }
            Err(error) => {
                let kind = error.kind();
                let is_told = matches!(kind, ErrorKind::Corrupt | ErrorKind::Unavailable);
                assert!(is_told, "{kind:?}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "no fault was met");
    node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_holds_nothing_after_its_deadline() {
    let root = tempfile::tempdir().expect("temporary directory");
    let node = lake(root.path()).await;
    let caller = Caller::named("test");
    node.seal(&caller, "t").await.expect("seals");
    // Long enough to be planned on a busy machine.
    let options = SqlOptions { timeout: Some(Duration::from_secs(2)), ..SqlOptions::default() };
    let mut unread = node.sql("SELECT * FROM t", options).await.expect("plans");
    node.tombstone(&caller, "t", TombstoneKeys::Texts(vec![vec!["a".to_owned()]]))
        .await
        .expect("hides");
    node.compact(&caller, "t").await.expect("compacts");
    node.expire(&caller, "t", None).await.expect("expires");
    // The old file is deleted when the unread answer lets go of it, at its deadline.
    for _ in 0..1_000 {
        if data_files(&root.path().join("buckets")) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(data_files(&root.path().join("buckets")), 1);
    let late = unread.next().await.expect("an error").expect_err("its time is over");
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded, "{late}");
    node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_slice_of_a_large_batch_is_one_entry() {
    let root = tempfile::tempdir().expect("temporary directory");
    let node = lake(root.path()).await;
    let keys: Vec<String> = (0..400_000).map(|number| format!("key-{number}")).collect();
    let rows: Vec<(&str, i64)> = keys.iter().map(|key| (key.as_str(), 1)).collect();
    let large = batch(&rows);
    let before = node.status().await.expect("status").applied;
    let written = node.append(&Caller::named("test"), "t", vec![large.slice(7, 2)]).await;
    assert_eq!(written.expect("appends").index, before.next());
    node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stops_while_an_answer_is_held_unread() {
    let root = tempfile::tempdir().expect("temporary directory");
    let node = lake(root.path()).await;
    let mut unread = node.sql("SELECT * FROM t", SqlOptions::default()).await.expect("plans");
    // Not after the answer's time limit of minutes, which would end this test first.
    node.shutdown().await.expect("stops");
    let over = unread.next().await.expect("an error").expect_err("the node has stopped");
    assert_eq!(over.kind(), ErrorKind::Unavailable, "{over}");
    let again = Node::open(config(root.path())).await;
    drop(unread);
    again.expect("the directory is free").shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_moved_a_floor_answers_for_that_floor_only() {
    let root = tempfile::tempdir().expect("temporary directory");
    let node = lake(root.path()).await;
    let caller = numbered(&node).await;
    let floor = Some(LogIndex(2));
    let first = node.expire(&caller, "t", floor).await.expect("expires");
    assert_eq!(node.expire(&caller, "t", floor).await.expect("again").index, first.index);
    let other = node.expire(&caller, "t", Some(LogIndex(3))).await.expect_err("the number is used");
    assert_eq!(other.kind(), ErrorKind::InvalidArgument, "{other}");
    node.shutdown().await.expect("stops");
}
