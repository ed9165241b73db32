//! Committed commands per second against etcd.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::turn;
use crate::alluvium::{self, Append};
use crate::args::Args;
use crate::contest::{Better, Case, Contender, SYNCED, Sample, Section};
use crate::{closed_loop, etcd, limits, rows};

const NAME: &str = "commands";

/// What is committed, and by how many clients.
struct Shape {
    title: &'static str,
    bytes: usize,
    /// Clients, and the ratio to reach against etcd.
    points: &'static [(usize, Option<f64>)],
    /// A figure is so many of these for each command.
    weight: f64,
    figure: &'static str,
    /// Other commands of Alluvium beside it, which show what an append costs beyond its way through the log.
    others: &'static [(&'static str, What)],
}

/// What a client of Alluvium asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// An append under a number of its session.
    Append,
    /// An append without a number.
    Unnumbered,
    /// A session: a command without rows, which needs no dataset.
    Session,
}

const SMALL: Shape = Shape {
    title: "commits: commands of 256 B",
    bytes: 256,
    points: &[(1, None), (16, None), (64, Some(4.0)), (256, Some(4.0))],
    weight: 1.0,
    figure: "commands/s",
    others: &[
        ("Alluvium, append without a session", What::Unnumbered),
        ("Alluvium, a session opened", What::Session),
    ],
};
const LARGE: Shape = Shape {
    title: "commits: commands of 64 KiB",
    bytes: 64 * 1024,
    points: &[(1, None), (16, Some(4.0)), (64, None)],
    weight: 1.0 / 16.0,
    figure: "MiB/s",
    others: &[],
};

pub(super) async fn run(args: &Args, scratch: &Path) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    for shape in [SMALL, LARGE] {
        sections.push(contest(args, scratch, &shape).await?);
    }
    Ok(sections)
}

async fn contest(args: &Args, scratch: &Path, shape: &Shape) -> Result<Section> {
    let case = |(clients, goal): &(usize, Option<f64>)| Case {
        name: if *clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") },
        better: Better::Higher,
        contenders: contenders(shape, *goal),
    };
    let is_wanted = |clients: usize| args.clients.is_none_or(|only| only == clients);
    let points: Vec<_> = shape.points.iter().filter(|(clients, _)| is_wanted(*clients)).collect();
    let mut cases: Vec<Case> = points.iter().map(|point| case(point)).collect();
    for round in 1..=args.rounds {
        for (at, (clients, _)) in points.iter().enumerate() {
            let what = |who| format!("{}, {clients} clients, {who}, round {round}", shape.title);
            let ours = turn(scratch, what("Alluvium"), |directory| {
                alluvium_turn(args, directory, shape, (*clients, What::Append))
            });
            cases[at].contenders[0].take(ours.await);
            let theirs = turn(scratch, what("etcd"), |directory| {
                etcd_turn(args, directory, shape, *clients)
            });
            cases[at].contenders[1].take(theirs.await);
            for (other, (who, asked)) in shape.others.iter().enumerate() {
                let ours = turn(scratch, what(who), |directory| {
                    alluvium_turn(args, directory, shape, (*clients, *asked))
                });
                cases[at].contenders[2 + other].take(ours.await);
            }
        }
    }
    Ok(Section {
        title: shape.title,
        note: "Clients call the leader and wait for each answer; 16 connections at most. A command of Alluvium is an \
               append of one row with one value of random bytes, under the client's own session, so that a repetition \
               would take effect once; it is an Arrow stream with its schema, so that more than the value is sent and \
               logged. A command of etcd is a put of the same bytes under a new key. An append without a session and an \
               opened session are shown for what an append costs beyond the log. The clients share the two \
               processors with the three nodes."
            .to_owned(),
        figure: shape.figure,
        extras: &["p50 us", "p99 us"],
        cases,
    })
}

fn contenders(shape: &Shape, goal: Option<f64>) -> Vec<Contender> {
    let peers = [Contender::new("Alluvium", SYNCED, None), Contender::new("etcd", SYNCED, goal)];
    let others = shape.others.iter().map(|(name, _)| Contender::new(name, SYNCED, None));
    peers.into_iter().chain(others).collect()
}

async fn alluvium_turn(
    args: &Args,
    directory: PathBuf,
    shape: &Shape,
    (clients, what): (usize, What),
) -> Result<Sample> {
    let mut cluster = alluvium::Cluster::start(&args.binary, &directory, &[]).await?;
    let leader = cluster.leader().await?;
    cluster.register(NAME, &rows::VALUE).await?;
    let mut appends = Vec::new();
    for value in rows::values(shape.bytes, limits::PAYLOADS) {
        appends.push(Append { name: NAME, streams: vec![rows::of_value(&value)?] });
    }
    let works = match what {
        What::Append => cluster.appends(leader, clients, (&appends, true)).await?,
        What::Unnumbered => cluster.appends(leader, clients, (&appends, false)).await?,
        What::Session => cluster.sessions(leader, clients).await?,
    };
    closed_loop::run(works, args.millis).await?.sample(shape.weight)
}

async fn etcd_turn(
    args: &Args,
    directory: PathBuf,
    shape: &Shape,
    clients: usize,
) -> Result<Sample> {
    let mut cluster = etcd::Cluster::start(&directory).await?;
    let leader = cluster.leader().await?;
    let works = cluster.puts(leader, clients, &rows::values(shape.bytes, limits::PAYLOADS)).await?;
    closed_loop::run(works, args.millis).await?.sample(shape.weight)
}
