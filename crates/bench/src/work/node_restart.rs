//! Opening a node whose log holds rows that no file has yet.
//!
//! Invariant: the process that filled the log ended without closing anything, as if it had been killed.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alluvium_engine::SqlOptions;
use alluvium_stdx::{Clock as _, SystemClock};
use alluvium_wal::segment::SegmentHeader;
use alluvium_wal::{FsStorage, Options, Owner, Wal};
use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;

use super::node::{DATASET, caller, copy_tree, flights, open, part, runtime, unsealed};
use crate::plan::MIB;
use crate::sample::{Params, Sample};

/// Rows of one append.
const ROWS: usize = 8_000;
/// Bytes of a segment's header.
const HEADER_BYTES: usize = 4096;
const _: () = assert!(HEADER_BYTES as u64 == alluvium_wal::limits::SEGMENT_HEADER_BYTES);
/// Writers that fill the log side by side.
const WRITERS: usize = 16;

pub(super) fn fill(params: &Params) -> Result<Sample> {
    let flights = flights(params)?;
    let runtime = runtime()?;
    let appends = usize::try_from(params.number("appends")?)?;
    let node = runtime.block_on(async {
        let node = open(&params.directory()?).await?;
        node.register(&caller(), DATASET, flights.schema(), unsealed(&[])).await?;
        let next = Arc::new(AtomicUsize::new(0));
        let mut writers = JoinSet::new();
        for _ in 0..WRITERS {
            let (node, flights, next) = (node.clone(), flights.clone(), Arc::clone(&next));
            #[expect(clippy::disallowed_methods, reason = "a benchmark is a program of its own")]
            writers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if appends <= number {
                        return anyhow::Ok(());
                    }
                    let batch = part(&flights, ROWS, number);
                    node.append(&caller(), DATASET, vec![batch]).await?;
                }
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended.context("a writer panicked")??;
        }
        anyhow::Ok(node)
    })?;
    let files = runtime.block_on(node.dataset(DATASET, None))?.files;
    ensure!(files == 0, "{files} files were cut: the rows are not unsealed");
    // Neither may run its destructor: a killed process closes nothing.
    std::mem::forget(node);
    std::mem::forget(runtime);
    Ok(Sample::of(0.0))
}

pub(super) fn open_node(params: &Params) -> Result<Sample> {
    let directory = copied(params)?;
    let clock = SystemClock::new();
    runtime()?.block_on(async {
        let begin = clock.monotonic_ns();
        let node = open(&directory).await?;
        let opened = clock.monotonic_ns() - begin;
        // Ready means that it answers: the rows are counted, outside the figure.
        let text = format!("SELECT count(*) FROM {DATASET}");
        let answer = node.sql(&text, SqlOptions::default()).await?.collect().await?;
        let answered = clock.monotonic_ns() - begin;
        ensure!(answer.iter().any(|batch| batch.num_rows() == 1), "no count came back");
        node.shutdown().await?;
        let sample = Sample::of(opened as f64 / 1e6);
        Ok(sample.and("answer", answered as f64 / 1e6))
    })
}

/// The limit: the log alone, without state, consensus or queries above it.
pub(super) fn open_log(params: &Params) -> Result<Sample> {
    let log = copied(params)?.join("wal");
    let mut options = Options::new(owner(&log)?);
    options.segment_bytes = 64 * MIB;
    let clock = SystemClock::new();
    let begin = clock.monotonic_ns();
    let (wal, _recovery) = Wal::open(Arc::new(FsStorage::open(&log)?), options)?;
    let elapsed = clock.monotonic_ns() - begin;
    wal.close()?;
    Ok(Sample::of(elapsed as f64 / 1e6))
}

fn copied(params: &Params) -> Result<PathBuf> {
    let directory = Path::new(params.text("scratch")?).join("node");
    copy_tree(&params.directory()?, &directory)?;
    Ok(directory)
}

/// Reads whose log it is from any of its segments.
fn owner(log: &Path) -> Result<Owner> {
    let files = std::fs::read_dir(log)?.collect::<Result<Vec<_>, _>>()?;
    let is_segment = |name: &str| name.starts_with("segment-");
    let segment = files.iter().find(|file| is_segment(&file.file_name().to_string_lossy()));
    let segment = segment.context("the log has a segment")?;
    let mut header = [0; HEADER_BYTES];
    File::open(segment.path())?.read_exact(&mut header)?;
    Ok(SegmentHeader::decode(&header)?.owner)
}
