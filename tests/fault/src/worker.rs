//! The process under test: it runs the workload of a seed and says what was acknowledged.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use alluvium_engine::{Caller, Config, Error, Node, RegisterOptions, SqlOptions, TombstoneKeys};
use alluvium_types::LogIndex;
use anyhow::{Context as _, Result, bail};
use arrow::array::{AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use crate::model::{KEYED, Model, Operation, PLAIN, operations};
use crate::shim::{Fault, Shim};

/// How long a node may take to say that it stopped, once a write failed.
const STOPPED_WITHIN: Duration = Duration::from_secs(2);

/// How a worker ended.
#[derive(Debug)]
pub struct Ended {
    /// Operations that were acknowledged, from the first on.
    pub acknowledged: usize,
    /// Errors that it printed.
    pub errors: Vec<String>,
    /// The file whose sync the shim failed, and how many operations were acknowledged before that.
    pub failed_sync: Option<(PathBuf, usize)>,
    /// The exit status.
    pub status: ExitStatus,
}

impl Ended {
    /// Whether the shim's signal ended it.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }
}

/// Runs a worker process on `dir` to its end.
///
/// # Errors
/// When it cannot be started.
pub fn run_worker(
    program: &str,
    dir: &Path,
    work: (u64, usize),
    fault: Option<&Fault>,
) -> Result<Ended> {
    let mut command = Command::new(program);
    command.arg(dir).arg(work.0.to_string()).arg(work.1.to_string());
    run(command, dir, fault)
}

/// Runs a worker process that appends to a short log, from the batch `from` on: see [`append_and_purge`].
///
/// # Errors
/// When it cannot be started.
pub fn run_retention(
    program: &str,
    dir: &Path,
    (from, count): (usize, usize),
    fault: Option<&Fault>,
) -> Result<Ended> {
    let mut command = Command::new(program);
    command.arg(dir).arg(from.to_string()).arg(count.to_string()).arg("retention");
    run(command, dir, fault)
}

fn run(mut command: Command, dir: &Path, fault: Option<&Fault>) -> Result<Ended> {
    if let Some(fault) = fault {
        Shim::build()?.apply(&mut command, fault, dir);
    }
    command.stdout(Stdio::piped());
    let mut child = command.spawn().context("start the worker")?;
    let output = child.stdout.take().context("its output is piped")?;
    let (mut acknowledged, mut errors, mut failed_sync) = (0, Vec::new(), None);
    for line in BufReader::new(output).lines() {
        match line?.split_once(' ') {
            Some(("ack", number)) => acknowledged = number.parse::<usize>()? + 1,
            Some(("error", text)) => errors.push(text.to_owned()),
            Some(("failed", path)) => failed_sync = Some((PathBuf::from(path), acknowledged)),
            _ => {}
        }
    }
    Ok(Ended { acknowledged, errors, failed_sync, status: child.wait()? })
}

/// Runs the workload in this process, printing each acknowledgement as it comes.
///
/// After an error it goes on only if the node stopped: then every further operation must be refused, and what
/// is not says so by its acknowledgement.
///
/// # Errors
/// The first error that is not a refusal the workload expects.
pub async fn work(dir: &Path, seed: u64, count: usize) -> Result<()> {
    let node = open(dir).await?;
    register(&node).await?;
    let operations = operations(seed, count);
    for (number, operation) in operations.iter().enumerate() {
        if let Err(error) = perform(&node, operation).await {
            // Said now: what is tried of a node that stopped may end this process.
            say(&format!("error {error:#}"));
            try_the_rest(&node, &operations, number + 1).await;
            // Ended in order: a process that exits beside open threads of the store may abort. What was wrong is
            // said above.
            drop(node.shutdown().await);
            bail!("operation {number} failed");
        }
        say(&format!("ack {number}"));
    }
    node.shutdown().await?;
    Ok(())
}

/// Tries the operations from `next` on when the node has stopped by itself.
async fn try_the_rest(node: &Node, operations: &[Operation], next: usize) {
    let stopped = tokio::time::timeout(STOPPED_WITHIN, node.stopped()).await;
    if !matches!(stopped, Ok(Some(_))) {
        return;
    }
    for (number, operation) in operations.iter().enumerate().skip(next) {
        match perform(node, operation).await {
            Ok(()) => say(&format!("ack {number}")),
            Err(error) => say(&format!("error {error:#}")),
        }
    }
}

/// Appends `count` batches to the keyless dataset of a node with a short log; in their middle it waits until the
/// log was purged.
///
/// # Errors
/// The first error, and a log that is not purged in time.
pub async fn append_and_purge(dir: &Path, from: usize, count: usize) -> Result<()> {
    let node = open_short(dir).await?;
    register(&node).await?;
    let first = node.status().await?.log.0;
    for number in from..from + count {
        if number == from + count / 2 {
            wait_purged(&node, first).await?;
        }
        perform(&node, &short_batch(number)).await?;
        say(&format!("ack {number}"));
    }
    node.shutdown().await?;
    Ok(())
}

/// Rows of one append to a short log.
pub const SHORT_ROWS: i64 = 64;

/// Returns the append of that number to a short log.
#[must_use]
pub fn short_batch(number: usize) -> Operation {
    let first = i64::try_from(number).expect("small") * SHORT_ROWS;
    Operation::Append { first, rows: SHORT_ROWS }
}

/// Waits until the log begins above `first`.
///
/// # Errors
/// When it still does not after a minute.
pub async fn wait_purged(node: &Node, first: LogIndex) -> Result<()> {
    let purged = async {
        while node.status().await?.log.0 <= first {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), purged).await;
    waited.context("the log is not purged")?
}

/// Opens a node whose log is so short that a few hundred appends are purged from it.
///
/// # Errors
/// As [`Node::open`].
pub async fn open_short(dir: &Path) -> Result<Node, Error> {
    let (segment_bytes, log_bytes_max) = (64 * 1024, 512 * 1024);
    Node::open(Config { segment_bytes, log_bytes_max, ..Config::single(dir) }).await
}

/// Prints a line that the parent has even if this process dies at the next instruction.
pub fn say(line: &str) {
    use std::io::Write as _;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).expect("the parent reads the pipe");
}

/// Opens the node of a workload: small segments, so that rotation and purge happen.
///
/// # Errors
/// As [`Node::open`].
pub async fn open(dir: &Path) -> Result<Node, Error> {
    Node::open(Config { segment_bytes: 4 * 1024 * 1024, ..Config::single(dir) }).await
}

/// Registers both datasets.
///
/// # Errors
/// As [`Node::register`].
pub async fn register(node: &Node) -> Result<(), Error> {
    let caller = Caller::named("worker");
    node.register(&caller, PLAIN, plain_schema(), RegisterOptions::keyed(&[])).await?;
    node.register(&caller, KEYED, keyed_schema(), RegisterOptions::keyed(&["key"])).await?;
    Ok(())
}

/// Performs one operation.
///
/// # Errors
/// As the node's methods.
pub async fn perform(node: &Node, operation: &Operation) -> Result<(), Error> {
    let caller = Caller::named("worker");
    match operation {
        Operation::Append { first, rows } => {
            let batch = plain_batch(*first..first + rows);
            node.append(&caller, PLAIN, vec![batch]).await.map(drop)
        }
        Operation::AppendKeyed(pairs) => {
            node.append(&caller, KEYED, vec![keyed_batch(pairs)]).await.map(drop)
        }
        Operation::Upsert(pairs) => {
            node.upsert(&caller, KEYED, vec![keyed_batch(pairs)]).await.map(drop)
        }
        Operation::Tombstone(keys) => {
            let keys = keys.iter().map(|key| vec![key.clone()]).collect();
            node.tombstone(&caller, KEYED, TombstoneKeys::Texts(keys)).await.map(drop)
        }
        Operation::Seal(name) => node.seal(&caller, name).await.map(drop),
        Operation::Compact(name) => node.compact(&caller, name).await.map(drop),
        Operation::Expire(name) => node.expire(&caller, name, None).await.map(drop),
    }
}

/// Reads what is visible, in order.
///
/// # Errors
/// As [`Node::sql`].
pub async fn visible(node: &Node) -> Result<Model, Error> {
    let query = |text: &'static str| node.sql(text, SqlOptions::default());
    let plain = query("SELECT value FROM plain ORDER BY value").await?.collect().await?;
    let keyed = query("SELECT key, value FROM keyed ORDER BY key, value").await?.collect().await?;
    let mut model = Model::default();
    for batch in plain {
        model.plain.extend(batch.column(0).as_primitive::<Int64Type>().values());
    }
    for batch in keyed {
        let keys = arrow::compute::cast(batch.column(0), &DataType::Utf8).expect("text is text");
        let values = batch.column(1).as_primitive::<Int64Type>();
        let keys = keys.as_string::<i32>().iter().flatten().map(str::to_owned);
        model.keyed.extend(keys.zip(values.values().iter().copied()));
    }
    Ok(model)
}

fn plain_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)]))
}

fn keyed_schema() -> SchemaRef {
    let key = Field::new("key", DataType::Utf8, false);
    Arc::new(Schema::new(vec![key, Field::new("value", DataType::Int64, false)]))
}

fn plain_batch(values: std::ops::Range<i64>) -> RecordBatch {
    let values = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_new(plain_schema(), vec![values]).expect("one column of its type")
}

fn keyed_batch(pairs: &[(String, i64)]) -> RecordBatch {
    let keys = Arc::new(StringArray::from_iter_values(pairs.iter().map(|pair| &pair.0)));
    let values = Arc::new(Int64Array::from_iter_values(pairs.iter().map(|pair| pair.1)));
    RecordBatch::try_new(keyed_schema(), vec![keys, values]).expect("columns of their types")
}
