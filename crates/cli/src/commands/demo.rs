//! `alluvium demo`: what Alluvium promises, shown on real flights, with every claim checked as it is made.
//!
//! It must not print a figure that it did not measure, or go on after a check failed. Invariant: it deletes
//! only a directory that an earlier demonstration made.

mod crash;
mod files;
mod story;

use std::path::{Path, PathBuf};

use alluvium_engine::{Caller, DEFAULT_BUCKET, Node, TombstoneKeys};
use alluvium_ingest::Source;
use alluvium_types::Schema;

use crate::args::Demo;
use crate::backend::{Backend, node_config, open_node};
use crate::config::{Place, Settings};
use crate::failure::Failure;
use crate::terminal::{grouped, rate};
use story::{Story, counted};

pub(super) use crash::write_until_killed;

/// The file by which a directory is known as a demonstration's.
const MARKER: &str = "alluvium-demo";
const DATASET: &str = "flights";
/// Airports that the first table shows.
const SHOWN: u32 = 5;

pub(super) async fn run(arguments: &Demo, settings: &Settings) -> Result<(), Failure> {
    let directory = directory_of(settings)?;
    let mut story = Story::start(settings.output);
    let node = open_empty(&directory, settings).await?;
    story.step("open", &format!("an empty node in {}", directory.display()))?;
    let backend = Backend::Embedded(node);
    let telling = tell_of_deletion(&mut story, &backend, &directory, &arguments.sample);
    let told = Box::pin(telling).await;
    backend.close().await?;
    told?;
    let writer = crash::kill_a_writer(&mut story, &directory)?;
    let backend = Backend::Embedded(open_node(&directory, settings).await?);
    let told = crash::check_survivors(&mut story, &backend, &writer).await;
    let before = backend.status().await;
    backend.close().await?;
    told?;
    let before = before?;
    let backend = Backend::Embedded(open_node(&directory, settings).await?);
    let told = compare_and_verify(&mut story, &backend, &before.digest).await;
    backend.close().await?;
    told?;
    let program = std::env::current_exe().map_err(|e| Failure::io("find this program", &e))?;
    story.end(&format!("{} sql --data-dir {}", story::word(&program), story::word(&directory)))
}

fn directory_of(settings: &Settings) -> Result<PathBuf, Failure> {
    match (&settings.place, &settings.data_dir) {
        (Place::Directory(directory), _) | (_, Some(directory)) => Ok(directory.clone()),
        (Place::Server(_) | Place::Unknown, None) => {
            Err(Failure::usage("the demonstration needs a directory")
                .with_hint("say --data-dir DIR"))
        }
    }
}

/// Opens a node in an empty directory; one that an earlier demonstration made is emptied first.
async fn open_empty(directory: &Path, settings: &Settings) -> Result<Node, Failure> {
    let what = format!("use {}", directory.display());
    let failed = |error: std::io::Error| Failure::io(&what, &error);
    if directory.join(MARKER).is_file() {
        // Opening it takes its lock: a demonstration that still runs must not lose its directory. One that cannot be opened
        // (it is damaged, or of another build) is of no more use.
        match Node::open(node_config(directory, settings)?).await {
            Ok(node) => node.shutdown().await?,
            Err(error @ alluvium_engine::Error::DirectoryLocked { .. }) => return Err(error.into()),
            Err(_useless) => {}
        }
        std::fs::remove_dir_all(directory).map_err(failed)?;
    }
    std::fs::create_dir_all(directory).map_err(failed)?;
    let is_empty = std::fs::read_dir(directory).map_err(failed)?.next().is_none();
    if !is_empty {
        let message =
            format!("{} is not empty and no earlier demonstration's", directory.display());
        return Err(Failure::usage(message).with_hint("name a directory that does not exist yet"));
    }
    let node = open_node(directory, settings).await?;
    std::fs::File::create(directory.join(MARKER)).map_err(failed)?;
    Ok(node)
}

/// The first half: rows in, rows out, and one airport gone from every file.
async fn tell_of_deletion(
    story: &mut Story,
    backend: &Backend,
    directory: &Path,
    sample: &Path,
) -> Result<(), Failure> {
    let caller = Caller::named("demo");
    let source = Source::at(sample);
    let schema = alluvium_ingest::infer_schema(&source, &["origin".to_owned()])?.schema;
    let registered = backend.register(&caller, DATASET, &schema, DEFAULT_BUCKET).await?;
    story.step(
        "register",
        &format!(
            "{DATASET}, {} columns, keyed by origin, at index {}",
            schema.fields.len(),
            registered.index
        ),
    )?;
    let rows = Box::pin(append(story, backend, &caller, &source, &schema)).await?;
    let counted = super::rows::count(backend, "SELECT count(*) FROM flights").await?;
    story.check(counted == rows, &format!("{} rows are counted", grouped(counted)))?;
    let top = format!(
        "SELECT origin, count(*) AS flights, round(avg(delay), 1) AS mean_delay FROM {DATASET} \
         GROUP BY origin ORDER BY flights DESC, origin LIMIT {SHOWN}"
    );
    let origin = story.table(backend, &top).await?;
    hide_and_erase(story, backend, directory, (&origin, rows)).await
}

async fn append(
    story: &mut Story,
    backend: &Backend,
    caller: &Caller,
    source: &Source,
    schema: &Schema,
) -> Result<u64, Failure> {
    let Backend::Embedded(node) = backend else { unreachable!("the demonstration opens a node") };
    let start = tokio::time::Instant::now();
    let (mut rows, mut appends) = (0, 0);
    for batch in alluvium_ingest::open(source, Some(schema))? {
        rows += node.append(caller, DATASET, vec![batch?]).await?.count;
        appends += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let speed = rate(rows, seconds);
    let text = format!(
        "{} rows in {appends} appends, each one fsynced before it was acknowledged, in {seconds:.2} s \
         ({speed})",
        grouped(rows)
    );
    story.step("append", &text)?;
    Ok(rows)
}

async fn hide_and_erase(
    story: &mut Story,
    backend: &Backend,
    directory: &Path,
    (origin, rows): (&str, u64),
) -> Result<(), Failure> {
    let caller = Caller::named("demo");
    let test = format!("origin = {}", super::rows::quoted(origin, '\''));
    let query = format!("SELECT count(*) FROM {DATASET} WHERE {test}");
    let gone = super::rows::count(backend, &query).await?;
    let keys = TombstoneKeys::Texts(vec![vec![origin.to_owned()]]);
    let hidden = backend.tombstone(&caller, DATASET, keys).await?;
    story.step("tombstone", &format!("origin {origin}: one key, at index {}", hidden.index))?;
    let left = super::rows::count(backend, &query).await?;
    story.check(left == 0 && 0 < gone, &format!("a query finds {left} of its {gone} flights"))?;
    let before = backend.sql(&query, Some(hidden.index - 1)).await?.collect().await?;
    let before = story::only_number(&before)?;
    let text = format!("as of index {}, one before, it finds {before}", hidden.index - 1);
    story.check(before == gone, &text)?;

    let sealed = backend.seal(&caller, DATASET).await?;
    let still = files::count(directory, "origin", origin)?;
    let text = format!("{} rows in {}", grouped(sealed.rows), counted(still.files, "data file"));
    story.step("seal", &text)?;
    let compacted = backend.compact(&caller, DATASET).await?;
    let text = format!(
        "{} rows in, {} hidden, {} out",
        grouped(compacted.rows_in),
        grouped(compacted.rows_hidden),
        grouped(compacted.rows_out)
    );
    story.step("compact", &text)?;
    let is_whole = compacted.rows_in == compacted.rows_hidden + compacted.rows_out;
    story.check(is_whole && compacted.rows_out == rows - gone, "no row was lost or made")?;
    let expired = backend.expire(&caller, DATASET, None).await?;
    story.step(
        "expire",
        &format!("what is below index {} cannot be read any more", expired.index),
    )?;
    let found = files::count(directory, "origin", origin)?;
    let text = format!(
        "each data file read on its own, without the node: {}, {} rows, {} from {origin}",
        counted(found.files, "file"),
        grouped(found.rows),
        found.matching
    );
    story.check(found.matching == 0 && found.rows == rows - gone, &text)?;
    story.step(
        "log",
        "its segments still hold the rows as they were appended, until the node purges them",
    )
}

/// The end: what was closed cleanly opens to the same state, and every byte is what it should be.
async fn compare_and_verify(
    story: &mut Story,
    backend: &Backend,
    before: &str,
) -> Result<(), Failure> {
    let after = backend.status().await?;
    story.step("restart", "a clean stop and a start")?;
    story.check(after.digest == before, &format!("the state digest is the same: {before}"))?;
    let report = backend.verify().await?;
    let text = format!(
        "{} log entries, {} and {} rows were read and checked, {} are damaged",
        grouped(report.entries),
        counted(report.files, "data file"),
        grouped(report.rows),
        report.damage.len()
    );
    story.step("verify", &text)?;
    let is_same = report.digest_kept == report.digest_recomputed;
    story.check(is_same && report.damage.is_empty(), "the recomputed digest is the kept one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::LogFormat;
    use crate::output::Format;

    fn settings(directory: &Path) -> Settings {
        Settings {
            place: Place::Directory(directory.to_path_buf()),
            data_dir: Some(directory.to_path_buf()),
            listen: None,
            output: Format::Table,
            query_memory: None,
            statement_timeout: None,
            buckets: std::collections::BTreeMap::new(),
            log_level: None,
            log_format: LogFormat::Text,
            actor: "test".to_owned(),
        }
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a file that is damaged on purpose")]
    async fn an_earlier_demonstration_makes_room_unless_it_runs_and_nothing_else_does() {
        let above = tempfile::tempdir().expect("a directory");
        let directory = above.path().join("demo");
        let settings = settings(&directory);
        let first = open_empty(&directory, &settings).await.expect("a new one");
        open_empty(&directory, &settings).await.expect_err("it runs");
        assert!(directory.join(MARKER).is_file());
        first.shutdown().await.expect("stops");
        // As one of a build whose directories this one does not read.
        std::fs::write(directory.join("node.alluvium"), b"of another build").expect("writes");
        let second = open_empty(&directory, &settings).await.expect("it is of no more use");
        second.shutdown().await.expect("stops");
        std::fs::remove_file(directory.join(MARKER)).expect("there");
        open_empty(&directory, &settings).await.expect_err("somebody's data");
    }
}
