//! Rows per second of replicated appends.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::turn;
use crate::alluvium::{self, Append};
use crate::args::Args;
use crate::closed_loop::{self, Work};
use crate::contest::{Better, Case, Contender, SYNCED, Sample, Section};
use crate::rows;

const NAME: &str = "readings";
/// Rows of a batch, and clients.
const SHAPES: [(usize, usize); 3] = [(1_000, 1), (1_000, 16), (100_000, 1)];
/// Bytes of the file that the limit writes again and again.
const RECYCLED_BYTES: usize = 64 << 20;

pub(super) async fn run(args: &Args, scratch: &Path) -> Result<Section> {
    let case = |(rows, clients): (usize, usize)| Case {
        name: format!("{rows} rows, {clients} {}", if clients == 1 { "client" } else { "clients" }),
        better: Better::Higher,
        contenders: vec![
            Contender::new("Alluvium", SYNCED, None),
            Contender::new("limit: bare Arrow IPC, one node", "yes, on one disk", Some(0.5)),
        ],
    };
    let mut cases: Vec<Case> = SHAPES.map(case).into();
    for round in 1..=args.rounds {
        for (case, (rows, clients)) in cases.iter_mut().zip(SHAPES) {
            let what = |who| format!("{rows} rows, {clients} clients, {who}, round {round}");
            let ours = turn(scratch, what("Alluvium"), |directory| {
                replicated(args, directory, rows, clients)
            });
            case.contenders[0].take(ours.await);
            let limit =
                turn(scratch, what("limit"), |directory| bare(args, directory, rows, clients));
            case.contenders[1].take(limit.await);
        }
    }
    Ok(Section {
        title: "rows: replicated appends in batches",
        note: "Readings of four columns (two integers, a float, a short text), encoded before the run. The limit is \
               what one node without replication could do at best: each client writes the Arrow streams into a \
               recycled file of its own and syncs it."
            .to_owned(),
        figure: "rows/s",
        extras: &["p50 us", "p99 us"],
        cases,
    })
}

async fn replicated(
    args: &Args,
    directory: PathBuf,
    rows: usize,
    clients: usize,
) -> Result<Sample> {
    let mut cluster = alluvium::Cluster::start(&args.binary, &directory, &[]).await?;
    let leader = cluster.leader().await?;
    cluster.register(NAME, &rows::READING).await?;
    let appends = [Append { name: NAME, streams: rows::readings(rows)? }];
    let works = cluster.appends(leader, clients, (&appends, true)).await?;
    closed_loop::run(works, args.millis).await?.sample(rows as f64)
}

async fn bare(args: &Args, directory: PathBuf, rows: usize, clients: usize) -> Result<Sample> {
    let bytes: Arc<[u8]> = rows::readings(rows)?.concat().into();
    let mut works = Vec::new();
    for client in 0..clients {
        works.push(recycled(&directory.join(format!("recycled-{client}")), &bytes)?);
    }
    closed_loop::run(works, args.millis).await?.sample(rows as f64)
}

/// Returns a writer of a file that is written and synced beforehand. It blocks its thread: there is nothing else to do.
fn recycled(path: &Path, bytes: &Arc<[u8]>) -> Result<Work> {
    let file = File::create(path).context("make a file")?;
    let length = RECYCLED_BYTES.max(2 * bytes.len());
    file.write_all_at(&vec![0; length], 0).context("fill a file")?;
    file.sync_all().context("sync a file")?;
    let (file, bytes, mut offset) = (Arc::new(file), Arc::clone(bytes), 0_usize);
    Ok(Box::new(move || {
        if length < offset + bytes.len() {
            offset = 0;
        }
        let at = offset as u64;
        offset += bytes.len();
        let (file, bytes) = (Arc::clone(&file), Arc::clone(&bytes));
        Box::pin(async move {
            file.write_all_at(&bytes, at)?;
            Ok(file.sync_data()?)
        })
    }))
}
