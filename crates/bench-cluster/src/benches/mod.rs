//! The benchmarks: what is asked of whom, in which order.
//!
//! Contenders run in turn within a round, each with a cluster of its own that is ended before the next one begins.
//! Invariant: the first contender of each case is Alluvium.

mod commits;
mod failover;
mod follower_reads;
mod replicated_rows;
mod snapshot;

use std::future::Future;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::args::Args;
use crate::contest::Section;
use alluvium_bench_kit::ui;

/// One benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Benchmark {
    /// Committed commands of 256 B and 64 KiB against etcd
    Commits,
    /// Rows appended in batches
    Rows,
    /// Write gap after kill -9 of the leader
    Failover,
    /// Reads that a follower answers
    Reads,
    /// A new node that takes a snapshot
    Snapshot,
}

impl Benchmark {
    pub(crate) const ALL: [Self; 5] =
        [Self::Commits, Self::Rows, Self::Failover, Self::Reads, Self::Snapshot];

    pub(crate) async fn run(self, args: &Args, scratch: &Path) -> Result<Vec<Section>> {
        let one = |section| vec![section];
        match self {
            Self::Commits => commits::run(args, scratch).await,
            Self::Rows => replicated_rows::run(args, scratch).await.map(one),
            Self::Failover => failover::run(args, scratch).await.map(one),
            Self::Reads => follower_reads::run(args, scratch).await.map(one),
            Self::Snapshot => snapshot::run(args, scratch).await.map(one),
        }
    }
}

/// Runs one turn of a contender in an empty directory, which is removed behind it.
async fn turn<T, F: Future<Output = Result<T>>>(
    scratch: &Path,
    what: String,
    work: impl FnOnce(std::path::PathBuf) -> F,
) -> Result<T> {
    ui::warn(&format!("    {what}"));
    let directory = tempfile::tempdir_in(scratch).context("make a directory")?;
    // Boxed: the future of a whole cluster is large.
    let outcome = Box::pin(work(directory.path().to_path_buf())).await;
    directory.close().context("remove what a cluster left")?;
    outcome
}
