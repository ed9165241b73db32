//! A writer that is killed in the middle of its work, and what is there afterwards.
//!
//! It must not ask the writer to stop: SIGKILL gives it no chance to tidy up. Invariant: what the writer
//! printed before it died was acknowledged by the log.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use alluvium_engine::{Caller, RegisterOptions};
use alluvium_types::Sequence;
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::story::Story;
use crate::backend::{Backend, open_node};
use crate::config::Settings;
use crate::failure::Failure;

const DATASET: &str = "crash";
/// Rows of one append.
const ROWS: i64 = 500;
/// Acknowledgements after which the writer is killed.
const KILL_AFTER: usize = 25;
/// Appends after which a writer that nobody killed ends by itself.
const APPENDS_MAX: i64 = 100_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("append", DataType::Int64, false),
        Field::new("row", DataType::Int64, false),
    ]))
}

/// The writer: appends without end and prints the number of each append when it is acknowledged.
pub(crate) async fn write_until_killed(settings: &Settings) -> Result<(), Failure> {
    let directory = super::directory_of(settings)?;
    let node = open_node(&directory, settings).await?;
    let named = Caller::named("demo-writer");
    node.register(&named, DATASET, schema(), RegisterOptions::keyed(&[])).await?;
    let session = node.open_session(&named.actor, None).await?;
    for (append, sequence) in (0..APPENDS_MAX).zip(1..) {
        let columns: [Arc<Int64Array>; 2] = [
            Arc::new(Int64Array::from_value(append, usize::try_from(ROWS).expect("small"))),
            Arc::new(Int64Array::from_iter_values(0..ROWS)),
        ];
        let columns = columns.map(|column| column as _).to_vec();
        let batch = RecordBatch::try_new(schema(), columns)?;
        let caller = Caller { session: Some((session, Sequence(sequence))), ..named.clone() };
        node.append(&caller, DATASET, vec![batch]).await?;
        let mut out = io::stdout().lock();
        let printed = writeln!(out, "{append}").and_then(|()| out.flush());
        // Nobody listens any more: the demonstration is over.
        if printed.is_err() {
            break;
        }
    }
    Ok(node.shutdown().await?)
}

/// Starts the writer and kills it after some acknowledgements; returns all that it printed.
pub(super) fn kill_a_writer(story: &mut Story, directory: &Path) -> Result<Vec<i64>, Failure> {
    let program = std::env::current_exe().map_err(|e| Failure::io("find this program", &e))?;
    let mut command = Command::new(program);
    command.arg("demo-writer").arg("--data-dir").arg(directory).stdout(Stdio::piped());
    let mut writer = command.spawn().map_err(|error| Failure::io("start a writer", &error))?;
    let printed = read_and_kill(&mut writer);
    // Whatever happened above, no child is left behind.
    drop(writer.kill());
    writer.wait().map_err(|error| Failure::io("wait for the writer", &error))?;
    let acknowledged = printed?;
    story.step(
        "crash",
        &format!(
            "a second process appended {ROWS} rows at a time and was killed with SIGKILL; it had \
             printed {} acknowledgements",
            acknowledged.len()
        ),
    )?;
    let is_killed = KILL_AFTER <= acknowledged.len();
    story.check(is_killed, "it was killed while it wrote, after it had acknowledged")?;
    Ok(acknowledged)
}

fn read_and_kill(writer: &mut Child) -> Result<Vec<i64>, Failure> {
    let output = writer.stdout.take().expect("its output was asked for");
    let mut acknowledged = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| Failure::io("listen to the writer", &error))?;
        match line.parse() {
            Ok(append) => acknowledged.push(append),
            // The kill may cut the last line: what was not printed whole does not count.
            Err(_) => break,
        }
        if acknowledged.len() == KILL_AFTER {
            writer.kill().map_err(|error| Failure::io("kill the writer", &error))?;
        }
    }
    Ok(acknowledged)
}

/// Checks that every acknowledged append is there and none is there by half.
pub(super) async fn check_survivors(
    story: &mut Story,
    backend: &Backend,
    acknowledged: &[i64],
) -> Result<(), Failure> {
    story.step("recover", "opened again: the log and the metadata alone say what is there")?;
    let found = appends(backend).await?;
    let is_there = |append: &&i64| found.contains_key(append);
    let there = acknowledged.iter().filter(is_there).count();
    let text = format!("{there} of {} acknowledged appends are there", acknowledged.len());
    story.check(there == acknowledged.len(), &text)?;
    let whole = (ROWS, ROWS * (ROWS - 1) / 2);
    let halves = found.values().filter(|found| **found != whole).count();
    let extra = found.len() - there;
    let text = format!(
        "{halves} appends are there by half ({extra} whole ones were not yet acknowledged when it died)"
    );
    // The writer waits for each answer, so one append at most was under way.
    story.check(halves == 0 && extra <= 1, &text)
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
