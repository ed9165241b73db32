//! Durable log appends: the log alone, without Raft above it.

use super::{RAFT_ENGINE, SYNCED};
use crate::contest::{Better, Case, Contender, Harness};
use crate::plan::KIB;
use crate::report::Section;
use crate::sample::Params;

const WRITERS: [u64; 3] = [1, 16, 64];
const SIZES: [u64; 2] = [256, 64 * KIB];

pub(super) fn run(harness: &Harness) -> Section {
    let mut cases = Vec::new();
    for bytes in SIZES {
        for writers in WRITERS {
            cases.push(harness.contest(case(harness, writers, bytes)));
        }
    }
    Section {
        title: "wal: durable appends to the log",
        note: note().to_owned(),
        figure: "appends/s",
        extras: &[("p50", "p50 us"), ("p99", "p99 us")],
        cases,
    }
}

fn note() -> &'static str {
    "Each writer waits for its append to be durable before the next. Payloads are random bytes; raft-engine \
     compresses nothing and recycles prefilled files; every writer has a stream (a region) of its own and \
     purges it as it goes. The limit is what the disk gives: at one writer a bare loop of pwrite and fdatasync \
     into a recycled file, above it a group commit with nothing around it: no headers, no checksums, no index."
}

fn case(harness: &Harness, writers: u64, bytes: u64) -> Case {
    let params = |work| {
        Params::new(work)
            .with("writers", writers)
            .with("bytes", bytes)
            .with("millis", harness.plan.millis)
            .with("segment", harness.plan.segment_bytes)
    };
    let (peer_goal, limit_goal) = if bytes < 4 * KIB { (1.1, 0.9) } else { (1.2, 0.8) };
    let (limit, work) = match writers {
        1 => ("limit: bare loop", "wal-bare-loop"),
        _ => ("limit: bare group commit", "wal-bare-group"),
    };
    let size = if bytes < KIB { format!("{bytes} B") } else { format!("{} KiB", bytes / KIB) };
    let plural = if writers == 1 { "writer" } else { "writers" };
    Case {
        name: format!("{size}, {writers} {plural}"),
        better: Better::Higher,
        contenders: vec![
            Contender::own("Alluvium", SYNCED, params("wal-alluvium")),
            Contender::program("raft-engine", SYNCED, RAFT_ENGINE, params("append"))
                .goal(peer_goal),
            Contender::own(limit, SYNCED, params(work)).goal(limit_goal),
        ],
    }
}
