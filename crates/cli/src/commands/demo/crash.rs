//! A writer that is killed in the middle of an append, and what is there afterwards.
//!
//! It must not ask the writer to stop: SIGKILL gives it no chance to tidy up. Invariant: what the writer
//! printed before it died was acknowledged by the log, and nothing was under way that it did not print.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use alluvium_engine::{Caller, Node, RegisterOptions};
use alluvium_types::{LogIndex, Sequence};
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::story::Story;
use crate::backend::{Backend, open_node};
use crate::config::Settings;
use crate::failure::Failure;
use crate::terminal::grouped;

const DATASET: &str = "crash";
/// Appends that are acknowledged before the one that is cut off.
const APPENDS: i64 = 25;
/// Rows of each of them.
const ROWS: i64 = 500;
/// Rows that the last append adds at a time.
const PART_ROWS: i64 = 64 * 1024;
/// Parts after which some of them must be in the log.
const PARTS_MAX: u64 = 64;
/// After this time a writer that nobody killed ends by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a writer said before it died.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    acknowledged: Vec<i64>,
    middle: Option<Middle>,
}

/// Where the writer was in the middle of its last append.
#[derive(Debug, PartialEq, Eq)]
struct Middle {
    /// Rows of the unfinished append that are in the log.
    rows: u64,
    /// The newest index of the log, and the state's digest there.
    index: u64,
    digest: String,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("append", DataType::Int64, false),
        Field::new("row", DataType::Int64, false),
    ]))
}

fn rows_of(append: i64, rows: i64) -> Result<RecordBatch, Failure> {
    let columns: [Arc<Int64Array>; 2] = [
        Arc::new(Int64Array::from_iter_values((0..rows).map(|_| append))),
        Arc::new(Int64Array::from_iter_values(0..rows)),
    ];
    Ok(RecordBatch::try_new(schema(), columns.map(|column| column as _).to_vec())?)
}

/// The writer: prints each append when it is acknowledged, then where it is in the middle of the last one,
/// and waits there to be killed.
pub(crate) async fn write_until_killed(settings: &Settings) -> Result<(), Failure> {
    let directory = super::directory_of(settings)?;
    let node = open_node(&directory, settings).await?;
    let named = Caller::named("demo-writer");
    node.register(&named, DATASET, schema(), RegisterOptions::keyed(&[])).await?;
    let session = node.open_session(&named.actor, None).await?;
    for (append, sequence) in (0..APPENDS).zip(1..) {
        let caller = Caller { session: Some((session, Sequence(sequence))), ..named.clone() };
        node.append(&caller, DATASET, vec![rows_of(append, ROWS)?]).await?;
        tell(&format!("acknowledged {append}"))?;
    }
    stop_in_the_middle(&node, named).await?;
    Ok(node.shutdown().await?)
}

/// Adds rows to an append until the log has some of them, and never ends it.
async fn stop_in_the_middle(node: &Node, caller: Caller) -> Result<(), Failure> {
    let before = node.applied();
    let mut appender = node.appender(caller, DATASET, false);
    let mut rows = 0;
    for _ in 0..PARTS_MAX {
        let part = rows_of(APPENDS, PART_ROWS)?;
        rows += part.num_rows();
        appender.push(part).await?;
        let status = node.status().await?;
        let LogIndex(index) = status.applied;
        if before < status.applied {
            tell(&format!("middle {rows} {index} {}", status.digest))?;
            tokio::time::sleep(PATIENCE).await;
            return Ok(());
        }
    }
    Err(Failure::check("an append of many parts left nothing in the log before its end"))
}

fn tell(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let told = writeln!(out, "{line}").and_then(|()| out.flush());
    told.map_err(|error| Failure::io("tell the demonstration", &error))
}

/// Starts the writer and kills it in the middle of its last append; returns what it told.
pub(super) fn kill_a_writer(story: &mut Story, directory: &Path) -> Result<Told, Failure> {
    let program = std::env::current_exe().map_err(|e| Failure::io("find this program", &e))?;
    let mut command = Command::new(program);
    command.arg("demo-writer").arg("--data-dir").arg(directory).stdout(Stdio::piped());
    let mut writer = command.spawn().map_err(|error| Failure::io("start a writer", &error))?;
    let told = listen_and_kill(&mut writer);
    // Whatever happened above, no child is left behind.
    drop(writer.kill());
    let end = writer.wait().map_err(|error| Failure::io("wait for the writer", &error))?;
    let told = told?;
    let rows = told.middle.as_ref().map_or(0, |middle| middle.rows);
    story.step(
        "crash",
        &format!(
            "a second process made {} appends of {ROWS} rows and was killed in the middle of the next \
             one: {} of its rows were in the log",
            told.acknowledged.len(),
            grouped(rows)
        ),
    )?;
    story.check(end.signal() == Some(SIGKILL), "SIGKILL ended it, and nothing else")?;
    Ok(told)
}

const SIGKILL: i32 = 9;

fn listen_and_kill(writer: &mut Child) -> Result<Told, Failure> {
    let output = writer.stdout.take().expect("its output was asked for");
    let mut told = Told::default();
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| Failure::io("listen to the writer", &error))?;
        told.take(&line).ok_or_else(|| Failure::check(format!("the writer said {line:?}")))?;
        if told.middle.is_some() {
            writer.kill().map_err(|error| Failure::io("kill the writer", &error))?;
        }
    }
    Ok(told)
}

impl Told {
    /// Reads one line; none is not understood.
    fn take(&mut self, line: &str) -> Option<()> {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["acknowledged", append] => self.acknowledged.push(append.parse().ok()?),
            ["middle", rows, index, digest] => {
                let (rows, index) = (rows.parse().ok()?, index.parse().ok()?);
                self.middle = Some(Middle { rows, index, digest: (*digest).to_owned() });
            }
            _ => return None,
        }
        Some(())
    }
}

/// Checks that every acknowledged append is there, nothing of the unfinished one, and no other state.
pub(super) async fn check_survivors(
    story: &mut Story,
    backend: &Backend,
    told: &Told,
) -> Result<(), Failure> {
    story.step("recover", "opened again: the log and the metadata alone say what is there")?;
    let middle = told.middle.as_ref().ok_or_else(|| Failure::check("the writer told no state"))?;
    let status = backend.status().await?;
    let text = format!(
        "the state digest is {}, as the killed process had it at index {}; the log goes on to index {}, \
         because opening adds an entry, which changes no state",
        status.digest, middle.index, status.applied
    );
    story.check(status.digest == middle.digest && middle.index < status.applied, &text)?;
    let found = appends(backend).await?;
    let is_there = |append: &&i64| found.contains_key(append);
    let there = told.acknowledged.iter().filter(is_there).count();
    let text = format!("{there} of {} acknowledged appends are there", told.acknowledged.len());
    story.check(there == told.acknowledged.len(), &text)?;
    let whole = (ROWS, ROWS * (ROWS - 1) / 2);
    let halves = found.values().filter(|found| **found != whole).count();
    let text =
        format!("{halves} appends are there by half, and no row of the one that was cut off");
    story.check(halves == 0 && found.len() == there, &text)
}

/// Returns for each append that is there its rows and the sum of their numbers.
async fn appends(backend: &Backend) -> Result<BTreeMap<i64, (i64, i64)>, Failure> {
    let query = format!(
        "SELECT append, count(*) AS rows, sum(row) AS numbers FROM {DATASET} GROUP BY append"
    );
    let batches = backend.sql(&query, None).await?.collect().await?;
    let mut found = BTreeMap::new();
    for batch in &batches {
        let column = |position: usize| batch.column(position).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let numbers = (column(1).value(row), column(2).value(row));
            let twice = found.insert(column(0).value(row), numbers);
            assert!(twice.is_none(), "a group was answered twice");
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_writer_tells_is_read_and_nothing_else() {
        let mut told = Told::default();
        let lines = ["acknowledged 0", "acknowledged 1", "middle 65536 31 00ff"];
        assert!(lines.iter().all(|line| told.take(line).is_some()));
        let middle = Middle { rows: 65_536, index: 31, digest: "00ff".to_owned() };
        assert_eq!(told, Told { acknowledged: vec![0, 1], middle: Some(middle) });
        for bad in ["", "acknowledged", "acknowledged x", "middle 1 2", "panicked at"] {
            assert_eq!(told.take(bad), None, "{bad:?}");
        }
    }
}
