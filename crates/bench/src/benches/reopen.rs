//! Opening a log that holds many small records.

use anyhow::Result;

use super::{RAFT_ENGINE, SYNCED};
use crate::contest::{Better, Case, Contender, Harness, Run};
use crate::report::Section;
use crate::sample::Params;

const PAYLOAD_BYTES: u64 = 256;

/// Who is started for a step.
type Maker = fn(Params) -> Run;

pub(super) fn run(harness: &Harness) -> Result<Section> {
    let contenders: [(&str, Maker, Option<f64>); 3] = [
        ("Alluvium", |params| Run::Own(params.suffixed("alluvium")), None),
        ("raft-engine", |params| Run::Program(RAFT_ENGINE, params), Some(1.0)),
        ("limit: raw read and CRC", |params| Run::Own(params.suffixed("raw")), Some(0.5)),
    ];
    let mut ready = Vec::new();
    for (name, make, goal) in contenders {
        let directory = harness.scratch.fresh()?;
        let params = |step: &str| {
            Params::new(step)
                .path("dir", &directory)
                .with("records", harness.plan.reopen_records)
                .with("bytes", PAYLOAD_BYTES)
                .with("segment", harness.plan.segment_bytes)
        };
        harness.prepare(make(params("reopen-fill")))?;
        let run = make(params("reopen-open"));
        ready.push(Contender { name, durability: SYNCED, goal, run });
    }
    let mebibytes = harness.plan.reopen_records * PAYLOAD_BYTES / crate::plan::MIB;
    let case = Case {
        name: format!("{mebibytes} MiB of payload"),
        better: Better::Lower,
        contenders: ready,
    };
    Ok(Section {
        title: "reopen: opening the log",
        note: format!(
            "A log of {PAYLOAD_BYTES}-byte records is opened until it takes appends, per GB of payload, from a \
             warm page cache. raft-engine reads with four threads, Alluvium with two. The limit reads the \
             payloads alone, without headers, and checks a CRC of each."
        ),
        figure: "s per GB",
        extras: &[],
        cases: vec![harness.contest(case)],
    })
}
