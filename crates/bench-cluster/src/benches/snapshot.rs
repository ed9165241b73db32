//! How fast a new node takes over the state of the others.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use alluvium_stdx::{Clock as _, SystemClock};
use anyhow::{Context as _, Result};
use tokio::time::Instant;

use super::turn;
use crate::alluvium::{Append, Cluster};
use crate::args::Args;
use crate::closed_loop::Work;
use crate::connect::until;
use crate::contest::{Better, Case, Contender, SYNCED, Sample, Section};
use crate::{limits, rows};

const NAME: &str = "commands";
const VALUE_BYTES: usize = 64 * 1024;
/// Rows of one append: one MiB of them.
const ROWS: usize = 16;
/// A log so short that a new node cannot be served from it.
const OPTIONS: [&str; 4] = ["--log-bytes", "64MiB", "--segment-bytes", "8MiB"];
const COPY_BUFFER_BYTES: usize = 1 << 20;

pub(super) async fn run(args: &Args, scratch: &Path) -> Result<Section> {
    let mut installs = Contender::new("Alluvium", SYNCED, None);
    let mut copies = Contender::new("limit: file copy and fsync", "yes, on one disk", Some(0.6));
    for round in 1..=args.rounds {
        let what = format!("snapshot install and file copy, round {round}");
        match turn(scratch, what, |directory| both(args, directory)).await {
            Ok((install, copy)) => {
                installs.take(Ok(install));
                copies.take(Ok(copy));
            }
            Err(error) => installs.take(Err(error)),
        }
    }
    Ok(Section {
        title: "snapshot: a new node takes over",
        note: format!(
            "A node joins three whose logs begin behind the first {} MiB of rows: it takes a snapshot and fetches the \
             data files, checks both, and syncs them. The time is from the start of its process until it has applied \
             everything committed and has every file; the bytes are those of its directory without its log. The limit \
             copies the same files, with a sync of each. Both read from a warm page cache.",
            args.snapshot_mib
        ),
        figure: "MB/s",
        extras: &["MB", "s"],
        cases: vec![Case {
            name: format!("{} MiB of rows", args.snapshot_mib),
            better: Better::Higher,
            contenders: vec![installs, copies],
        }],
    })
}

async fn both(args: &Args, directory: PathBuf) -> Result<(Sample, Sample)> {
    let mut cluster = Cluster::start(&args.binary, &directory, &OPTIONS).await?;
    let leader = cluster.leader().await?;
    cluster.register(NAME, &rows::VALUE).await?;
    fill(&cluster, leader, args.snapshot_mib).await?;
    purged(&cluster, leader).await?;
    let clock = SystemClock::new();
    let newcomer = cluster.add().await?;
    cluster.catch_up(leader, newcomer).await?;
    let elapsed_ns = clock.monotonic_ns();
    anyhow::ensure!(
        cluster.errors(leader).contains("send a snapshot"),
        "the node was served from the log, and nothing was measured"
    );
    let files = files(cluster.node_directory(newcomer))?;
    let bytes = files.iter().map(|(_, bytes)| bytes).sum::<u64>();
    let install = sample(bytes, elapsed_ns);
    let begin_ns = clock.monotonic_ns();
    copy(&files, &directory.join("copy"))?;
    Ok((install, sample(bytes, clock.monotonic_ns() - begin_ns)))
}

fn sample(bytes: u64, elapsed_ns: u64) -> Sample {
    let (megabytes, seconds) = (bytes as f64 / 1e6, elapsed_ns as f64 / 1e9);
    Sample { value: megabytes / seconds, extras: vec![megabytes, seconds] }
}

/// Appends random bytes, no two rows alike: no encoding makes fewer of them.
async fn fill(cluster: &Cluster, leader: usize, mebibytes: u64) -> Result<()> {
    let count = usize::try_from(mebibytes)? * ROWS;
    let mut appends = Vec::new();
    for values in rows::values(VALUE_BYTES, count).chunks(ROWS) {
        appends.push(Append { name: NAME, streams: vec![rows::of_values(values)?] });
    }
    let mut works = cluster.appends(leader, 1, (&appends, true)).await?;
    for _ in &appends {
        patiently(&mut works[0]).await?;
    }
    Ok(())
}

/// Appends, again and again while the node asks for time to put rows into files.
async fn patiently(work: &mut Work) -> Result<()> {
    let end = Instant::now() + limits::READY_MAX;
    loop {
        match work().await {
            Err(_refused) if Instant::now() < end => tokio::time::sleep(limits::LOOK).await,
            outcome => return outcome,
        }
    }
}

/// Waits until the leader's log begins behind what it began with, and all files are made.
async fn purged(cluster: &Cluster, leader: usize) -> Result<()> {
    until("the log is purged", || async move {
        let status = cluster.status(leader).await?;
        let is_done = 1 < status.log_first && status.jobs == 0 && status.snapshot.is_some();
        Ok(is_done.then_some(()))
    })
    .await
}

/// Returns the files of a node with their sizes, without those of its log, which is preallocated.
fn files(directory: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        let entries = std::fs::read_dir(&directory);
        for entry in entries.with_context(|| format!("list {}", directory.display()))? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "wal") {
                open.push(path);
            } else if let Ok(metadata) = path.metadata()
                && metadata.is_file()
            {
                found.push((path, metadata.len()));
            }
        }
    }
    Ok(found)
}

fn copy(files: &[(PathBuf, u64)], to: &Path) -> Result<()> {
    std::fs::create_dir(to).context("make a directory")?;
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    for (number, (path, _)) in files.iter().enumerate() {
        let mut from = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut copy = File::create(to.join(number.to_string())).context("make a file")?;
        loop {
            let read = from.read(&mut buffer).context("read a file")?;
            if read == 0 {
                break;
            }
            copy.write_all(&buffer[..read]).context("write a file")?;
        }
        copy.sync_all().context("sync a file")?;
    }
    Ok(())
}
