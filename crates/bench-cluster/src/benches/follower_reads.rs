//! What a follower answers.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::turn;
use crate::alluvium::{self, Append, Level};
use crate::args::Args;
use crate::contest::{Better, Case, Contender, READS, Sample, Section};
use crate::{closed_loop, etcd, limits, rows};

const NAME: &str = "readings";
const ROWS: usize = 10_000;
const CLIENTS: usize = 16;
const STALE_MS: u64 = 100;
const COUNT: &str = "SELECT count(*) FROM readings";
const FILTER: &str = "SELECT count(*), avg(reading) FROM readings WHERE device < 500";

/// A level of Alluvium, and whether etcd is asked without its leader.
const LEVELS: [(&str, Level, bool); 3] = [
    ("linearizable", Level::Linearizable, false),
    ("at most 100 ms old", Level::Stale(STALE_MS), true),
    ("local", Level::Local, true),
];

pub(super) async fn run(args: &Args, scratch: &Path) -> Result<Section> {
    let case = |(name, _, _): (&str, Level, bool)| Case {
        name: name.to_owned(),
        better: Better::Higher,
        contenders: vec![
            Contender::new("Alluvium, a count", READS, None),
            Contender::new("Alluvium, an aggregate with a filter", READS, None),
            Contender::new("etcd, one key", READS, None),
        ],
    };
    let mut cases: Vec<Case> = LEVELS.map(case).into();
    for round in 1..=args.rounds {
        for (case, (name, level, is_serializable)) in cases.iter_mut().zip(LEVELS) {
            let what = |who| format!("follower reads, {name}, {who}, round {round}");
            for (position, sql) in [COUNT, FILTER].into_iter().enumerate() {
                let ours = turn(scratch, what("Alluvium"), |directory| {
                    alluvium_turn(args, directory, sql, level)
                });
                case.contenders[position].take(ours.await);
            }
            let theirs = turn(scratch, what("etcd"), |directory| {
                etcd_turn(args, directory, is_serializable)
            });
            case.contenders[2].take(theirs.await);
        }
    }
    Ok(Section {
        title: "reads: what a follower answers",
        note: format!(
            "{CLIENTS} clients ask one follower. Alluvium plans and runs SQL over {ROWS} rows; etcd looks up one key: \
             the ratio says what a query costs beside a look-up, and has no goal. The reads of etcd without its \
             leader may be of any age."
        ),
        figure: "reads/s",
        extras: &["p50 us", "p99 us"],
        cases,
    })
}

async fn alluvium_turn(
    args: &Args,
    directory: PathBuf,
    sql: &'static str,
    level: Level,
) -> Result<Sample> {
    let mut cluster = alluvium::Cluster::start(&args.binary, &directory, &[]).await?;
    let leader = cluster.leader().await?;
    cluster.register(NAME, &rows::READING).await?;
    let append = Append { name: NAME, streams: rows::readings(ROWS)? };
    let mut works = cluster.appends(leader, 1, (std::slice::from_ref(&append), true)).await?;
    works[0]().await?;
    let follower = (leader + 1) % limits::NODES;
    cluster.catch_up(leader, follower).await?;
    let works = cluster.queries(follower, CLIENTS, (sql, level)).await?;
    closed_loop::run(works, args.millis).await?.sample(1.0)
}

async fn etcd_turn(args: &Args, directory: PathBuf, is_serializable: bool) -> Result<Sample> {
    let mut cluster = etcd::Cluster::start(&directory).await?;
    let leader = cluster.leader().await?;
    let mut works = cluster.puts(leader, 1, &rows::values(256, 1)).await?;
    works[0]().await?;
    let follower = (leader + 1) % limits::NODES;
    // A serializable read may come before the put: the follower is asked once through the leader.
    cluster.reads(follower, 1, false).await?[0]().await?;
    let works = cluster.reads(follower, CLIENTS, is_serializable).await?;
    closed_loop::run(works, args.millis).await?.sample(1.0)
}
