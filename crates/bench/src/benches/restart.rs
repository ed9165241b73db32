//! Opening a node after its process was killed.

use anyhow::Result;

use super::{READS, SAMPLE};
use crate::contest::{Better, Case, Contender, Harness, Run};
use crate::report::Section;
use crate::sample::Params;

/// Bytes of log that an append of 8,000 flights takes.
const APPEND_BYTES: u64 = 320_000;

pub(super) fn run(harness: &Harness) -> Result<Section> {
    let mut cases = Vec::new();
    let mut smallest: Option<Params> = None;
    for &megabytes in harness.plan.restart_megabytes {
        let directory = harness.scratch.fresh()?.join("node");
        let params = |work| {
            Params::new(work)
                .path("dir", &directory)
                .path("sample", &harness.root.join(SAMPLE))
                .with("appends", megabytes * 1_000_000 / APPEND_BYTES)
        };
        harness.prepare(Run::Own(params("restart-fill")))?;
        let mut contenders = vec![
            Contender::own("Alluvium", READS, params("restart-node")),
            Contender::own("limit: the log alone", READS, params("restart-log")),
        ];
        match &smallest {
            Some(words) => {
                let reference = Contender::own("Alluvium, smallest log", READS, words.clone());
                contenders.push(reference.goal(0.5));
            }
            None => smallest = Some(params("restart-node")),
        }
        let name = format!("{megabytes} MB unsealed");
        cases.push(harness.contest(Case { name, better: Better::Lower, contenders }));
    }
    Ok(Section {
        title: "restart: opening a node after a kill",
        note: "The log holds appends of 8,000 flights that are in no file; the process that wrote them ended \
               without closing anything. Opened means that everything acknowledged is applied; answered, that \
               a count over all rows came back too. From a warm page cache."
            .to_owned(),
        figure: "ms, opened",
        extras: &[("answer", "ms, answered")],
        cases,
    })
}
