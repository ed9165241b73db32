//! How long nobody can write after the leader was killed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alluvium_stdx::{Clock as _, SystemClock};
use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::turn;
use crate::alluvium::{self, Append};
use crate::args::Args;
use crate::closed_loop::Work;
use crate::contest::{Better, Case, Contender, SYNCED, Sample, Section};
use crate::{etcd, limits, rows};
use alluvium_bench_kit::stats::percentile;

const NAME: &str = "commands";
const BYTES: usize = 256;
/// The gap that is allowed at our own timers.
const GOAL_MS: f64 = 1_000.0;

/// What the probers and the one who kills say to each other.
#[derive(Debug)]
struct Watch {
    clock: SystemClock,
    /// Only calls that began after it count; the far future while nobody was killed.
    killed_ns: AtomicU64,
    /// When the first of them was answered.
    answered_ns: AtomicU64,
    is_over: AtomicBool,
}

impl Watch {
    fn new() -> Arc<Self> {
        let never = || AtomicU64::new(u64::MAX);
        let (killed_ns, answered_ns) = (never(), never());
        let is_over = AtomicBool::new(false);
        Arc::new(Self { clock: SystemClock::new(), killed_ns, answered_ns, is_over })
    }

    /// Kills, and returns for how many nanoseconds nobody could write.
    async fn gap(&self, kill: impl FnOnce() -> Result<()>) -> Result<u64> {
        let before = self.clock.monotonic_ns();
        kill()?;
        self.answered_ns.store(u64::MAX, Ordering::SeqCst);
        self.killed_ns.store(self.clock.monotonic_ns(), Ordering::SeqCst);
        let answered = async {
            loop {
                match self.answered_ns.load(Ordering::SeqCst) {
                    u64::MAX => sleep(limits::PROBE_PAUSE).await,
                    answered => return answered,
                }
            }
        };
        let answered = timeout(limits::GAP_MAX, answered).await;
        self.killed_ns.store(u64::MAX, Ordering::SeqCst);
        Ok(answered.context("nobody could write any more")? - before)
    }

    async fn probe(self: Arc<Self>, mut work: Work) {
        while !self.is_over.load(Ordering::SeqCst) {
            let began = self.clock.monotonic_ns();
            if let Ok(Ok(())) = timeout(limits::PROBE_MAX, work()).await
                && self.killed_ns.load(Ordering::SeqCst) <= began
            {
                self.answered_ns.fetch_min(self.clock.monotonic_ns(), Ordering::SeqCst);
            }
            sleep(limits::PROBE_PAUSE).await;
        }
    }
}

/// Starts the probers; they end with the set.
fn start(watch: &Arc<Watch>, works: Vec<Work>) -> JoinSet<()> {
    let mut probers = JoinSet::new();
    for work in works {
        #[expect(clippy::disallowed_methods, reason = "a benchmark is a program of its own")]
        probers.spawn(Arc::clone(watch).probe(work));
    }
    probers
}

pub(super) async fn run(args: &Args, scratch: &Path) -> Result<Section> {
    let (mut ours, mut theirs) = (Ok(Vec::new()), Ok(Vec::new()));
    for round in 0..args.rounds {
        // As many in each round as in the others, or one less.
        let kills = (args.kills + round) / args.rounds;
        let what = |who| format!("{kills} kills, {who}, round {}", round + 1);
        if let Ok(gaps) = &mut ours {
            let more =
                turn(scratch, what("Alluvium"), |directory| alluvium_turn(args, directory, kills));
            match more.await {
                Ok(more) => gaps.extend(more),
                Err(error) => ours = Err(error),
            }
        }
        if let Ok(gaps) = &mut theirs {
            match turn(scratch, what("etcd"), |directory| etcd_turn(directory, kills)).await {
                Ok(more) => gaps.extend(more),
                Err(error) => theirs = Err(error),
            }
        }
    }
    Ok(section(args.kills, &ours, &theirs))
}

fn section(kills: u64, ours: &Result<Vec<u64>>, theirs: &Result<Vec<u64>>) -> Section {
    let case = |name: &str, per_mille| {
        let contender = |name, gaps: &Result<Vec<u64>>, goal| {
            let mut contender = Contender::new(name, SYNCED, goal);
            contender.take(sample(gaps, per_mille));
            contender
        };
        let contenders =
            vec![contender("Alluvium", ours, None), contender("etcd", theirs, Some(1.0))];
        let name = format!("{name} of {kills} kills");
        Case { name, better: Better::Lower, contenders }
    };
    let mut cases = vec![case("median", 500), case("99th percentile", 990)];
    let mut limit = Contender::new("limit: one second", "", Some(1.0));
    limit.take(Ok(Sample { value: GOAL_MS, extras: Vec::new() }));
    cases[1].contenders.push(limit);
    Section {
        title: "failover: the write gap after kill -9 of the leader",
        note: format!(
            "From the kill until the first answer to a write that began after it, through any of the nodes that are \
             left: {} probers at each node write 256 B, give up after {} ms and try again {} ms later. The killed node \
             is started again and catches up before the next kill. Alluvium elects after {} to {} ms of silence, etcd after \
             {} to {} ms; heartbeats are {} ms apart, those of etcd {} ms.",
            limits::PROBERS,
            limits::PROBE_MAX.as_millis(),
            limits::PROBE_PAUSE.as_millis(),
            limits::SILENCE_MS.0,
            limits::SILENCE_MS.1,
            limits::ELECTION_MS,
            2 * limits::ELECTION_MS,
            limits::HEARTBEAT_MS,
            limits::HEARTBEAT_ETCD_MS
        ),
        figure: "ms",
        extras: &["smallest", "largest"],
        cases,
    }
}

fn sample(gaps: &Result<Vec<u64>>, per_mille: usize) -> Result<Sample> {
    let gaps = gaps.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let mut sorted = gaps.clone();
    sorted.sort_unstable();
    let millis = |ns: Option<u64>| Ok::<_, anyhow::Error>(ns.context("no kills")? as f64 / 1e6);
    let (least, most) = (sorted.first().copied(), sorted.last().copied());
    let value = millis(percentile(&sorted, per_mille))?;
    Ok(Sample { value, extras: vec![millis(least)?, millis(most)?] })
}

async fn alluvium_turn(args: &Args, directory: PathBuf, kills: u64) -> Result<Vec<u64>> {
    let mut cluster = alluvium::Cluster::start(&args.binary, &directory, &[]).await?;
    cluster.register(NAME, &rows::VALUE).await?;
    let value = rows::values(BYTES, limits::PAYLOADS).swap_remove(0);
    let append = Append { name: NAME, streams: vec![rows::of_value(&value)?] };
    let mut works = Vec::new();
    for prober in 0..limits::PROBERS * limits::NODES {
        works.push(cluster.prober(prober % limits::NODES, std::slice::from_ref(&append))?);
    }
    let watch = Watch::new();
    let probers = start(&watch, works);
    let mut gaps = Vec::new();
    for _ in 0..kills {
        sleep(limits::CALM).await;
        let leader = cluster.leader().await?;
        gaps.push(watch.gap(|| cluster.kill(leader)).await?);
        cluster.restart(leader).await?;
    }
    end(&watch, probers).await;
    Ok(gaps)
}

async fn etcd_turn(directory: PathBuf, kills: u64) -> Result<Vec<u64>> {
    let mut cluster = etcd::Cluster::start(&directory).await?;
    let values = rows::values(BYTES, limits::PAYLOADS);
    let mut works = Vec::new();
    for prober in 0..limits::PROBERS * limits::NODES {
        works.push(cluster.prober(prober % limits::NODES, prober, &values)?);
    }
    let watch = Watch::new();
    let probers = start(&watch, works);
    let mut gaps = Vec::new();
    for _ in 0..kills {
        sleep(limits::CALM).await;
        let leader = cluster.leader().await?;
        gaps.push(watch.gap(|| cluster.kill(leader)).await?);
        cluster.restart(leader).await?;
    }
    end(&watch, probers).await;
    Ok(gaps)
}

async fn end(watch: &Watch, mut probers: JoinSet<()>) {
    watch.is_over.store(true, Ordering::SeqCst);
    while probers.join_next().await.is_some() {}
}
