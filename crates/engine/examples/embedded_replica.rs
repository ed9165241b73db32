//! A program with a replica of a lake inside: it joins a running cluster and asks its own copy.
//!
//! ```sh
//! alluvium serve --data-dir lake --listen 127.0.0.1:7171 --peer 127.0.0.1:7172
//! cargo run -p alluvium-engine --example embedded_replica -- inside 127.0.0.1:7182 127.0.0.1:7172 learner
//! ```
//!
//! Its arguments are a directory, its own peer address, a member's peer address, and `learner` for a node without a vote.
//! It does what the lines of its input say, one after the other, and answers each with a line:
//!
//! - `append SENSOR VALUE`: adds a row, at whichever node leads.
//! - `sum INDEX`: asks its own copy as soon as that has applied the index; nobody else is asked.
//! - `read SECONDS`: asks its own copy again and again, whatever it applies meanwhile.
//! - `status`: says who it is.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alluvium_engine::{
    Caller, Config, Error, Node, PeerConfig, RegisterOptions, Security, SqlOptions,
};
use alluvium_types::LogIndex;
use arrow::array::{AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::Instant;

/// Whatever goes wrong in an example is told and ends it.
type Failure = Box<dyn std::error::Error>;

fn schema() -> SchemaRef {
    let sensor = Field::new("sensor", DataType::Utf8, false);
    Arc::new(Schema::new(vec![sensor, Field::new("value", DataType::Int64, false)]))
}

/// Opens the node in this process. A directory that is not new belongs to its cluster already, and joins nothing.
async fn open(mut arguments: impl Iterator<Item = String>) -> Result<Node, Failure> {
    let mut next = || arguments.next().ok_or("usage: DIRECTORY PEER MEMBER [learner]");
    let (directory, listen, member) = (next()?, next()?, next()?);
    let listen: SocketAddr = listen.parse()?;
    let peer = PeerConfig {
        listen,
        advertise: None,
        security: Security::Open,
        insecure: false,
        join: vec![member],
        found: false,
        learner: arguments.next().is_some_and(|role| role == "learner"),
    };
    Ok(Node::open(Config { peer: Some(peer), ..Config::single(directory) }).await?)
}

async fn append(node: &Node, sensor: &str, value: i64) -> Result<LogIndex, Failure> {
    let columns = vec![
        Arc::new(StringArray::from(vec![sensor])) as _,
        Arc::new(Int64Array::from(vec![value])) as _,
    ];
    let batch = RecordBatch::try_new(schema(), columns)?;
    Ok(node.append(&Caller::named("embedded"), "readings", vec![batch]).await?.index)
}

/// Asks this process's own copy; returns the index of the answer, the number of rows, and their sum.
async fn sum(node: &Node, at_least: LogIndex) -> Result<(LogIndex, i64, i64), Error> {
    let options = SqlOptions { local: true, at_least: Some(at_least), ..SqlOptions::default() };
    let text = "SELECT count(*), coalesce(sum(value), 0) FROM readings";
    let answer = node.sql(text, options).await?;
    let index = answer.index();
    let batches = answer.collect().await?;
    let number = |column: usize| batches[0].column(column).as_primitive::<Int64Type>().value(0);
    Ok((index, number(0), number(1)))
}

/// Asks again and again; says how often, how long the slowest answer took, and how far the copy went meanwhile.
async fn read(node: &Node, seconds: u64) -> Result<String, Failure> {
    let began = Instant::now();
    let (first, _, _) = sum(node, LogIndex(0)).await?;
    let (mut count, mut slowest, mut last) = (1_u64, Duration::ZERO, first);
    while began.elapsed() < Duration::from_secs(seconds) {
        let asked = Instant::now();
        (last, _, _) = sum(node, last).await?;
        slowest = slowest.max(asked.elapsed());
        count += 1;
    }
    Ok(format!("reads={count} slowest_ms={} first={first} last={last}", slowest.as_millis()))
}

async fn obey(node: &Node, line: &str) -> Result<String, Failure> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["append", sensor, value] => {
            let index = append(node, sensor, value.parse()?).await?;
            Ok(format!("index={index}"))
        }
        ["sum", index] => {
            let (index, rows, sum) = sum(node, LogIndex(index.parse()?)).await?;
            Ok(format!("index={index} rows={rows} sum={sum}"))
        }
        ["read", seconds] => read(node, seconds.parse()?).await,
        ["status"] => {
            let status = node.status().await?;
            let own = status.members.iter().find(|member| member.node == status.node_id);
            let votes = own.is_some_and(|own| own.votes);
            let applied = status.applied;
            Ok(format!("node={} votes={votes} applied={applied}", status.node_id))
        }
        _ => Err(format!("what is {line:?}?").into()),
    }
}

fn say(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Failure::from)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let node = open(std::env::args().skip(1)).await?;
    // Again it is the same dataset, whoever registered it first.
    let options = RegisterOptions::keyed(&[]);
    node.register(&Caller::named("embedded"), "readings", schema(), options).await?;
    say(&format!("ready node={}", node.node_id()))?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match obey(&node, &line).await {
            Ok(answer) => say(&answer)?,
            // A call that failed is no reason to end: the cluster may have no leader just now.
            Err(failure) => say(&format!("failed: {failure}"))?,
        }
    }
    node.shutdown().await?;
    Ok(())
}
