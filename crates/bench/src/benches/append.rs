//! Appending rows durably through the embedded node.

use super::{SAMPLE, SYNCED};
use crate::contest::{Better, Case, Contender, Harness};
use crate::report::Section;
use crate::sample::Params;

/// Rows of a batch and clients that append at once.
const SHAPES: [(u64, u64); 4] = [(1, 1), (1, 64), (1_000, 1), (100_000, 1)];
const NOT_SYNCED: &str = "**no: never syncs**";

pub(super) fn run(harness: &Harness) -> Section {
    let cases = SHAPES.map(|(rows, clients)| harness.contest(case(harness, rows, clients)));
    Section {
        title: "append: rows appended through an embedded node",
        note: "Each client appends a batch of flights and waits until it is acknowledged. Alluvium is one node \
               with its whole path: consensus, log, state, digest; files are made beside it. delta-rs makes a \
               commit of each batch, and a crash of the machine may lose them all. The limit is one Arrow IPC \
               stream per batch, written into a recycled file and synced, in groups where there are many \
               clients; nothing could read it back."
            .to_owned(),
        figure: "rows/s",
        extras: &[("p50", "p50 us"), ("p99", "p99 us")],
        cases: cases.to_vec(),
    }
}

fn case(harness: &Harness, rows: u64, clients: u64) -> Case {
    let params = |work| {
        Params::new(work)
            .path("sample", &harness.root.join(SAMPLE))
            .with("rows", rows)
            .with("clients", clients)
            .with("millis", harness.plan.millis)
    };
    let mut contenders = vec![Contender::own("Alluvium", SYNCED, params("append-alluvium"))];
    // One process of it at a time: its commits exclude each other anyway.
    if clients == 1 {
        let peer =
            Contender::python("delta-rs", NOT_SYNCED, "append_deltalake.py", params("append"));
        contenders.push(if rows < 100_000 { peer.goal(50.0) } else { peer });
    }
    let limit = Contender::own("limit: bare Arrow IPC", SYNCED, params("append-ipc"));
    contenders.push(limit.goal(0.5));
    let plural =
        |count, word| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    Case {
        name: format!("{}, {}", plural(rows, "row"), plural(clients, "client")),
        better: Better::Higher,
        contenders,
    }
}
