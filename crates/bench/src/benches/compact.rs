//! Rewriting many data files as one.

use anyhow::Result;

use super::{SAMPLE, SYNCED};
use crate::contest::{Better, Case, Contender, Harness, Run};
use crate::report::Section;
use crate::sample::Params;

const PEERS: [(&str, &str, Option<f64>); 3] =
    [("polars", "polars", Some(1.0)), ("DuckDB", "duckdb", None), ("pyarrow", "pyarrow", None)];

pub(super) fn run(harness: &Harness) -> Result<Section> {
    let directory = harness.scratch.fresh()?.join("node");
    let params = |work| {
        Params::new(work)
            .path("dir", &directory)
            .path("sample", &harness.root.join(SAMPLE))
            .with("files", harness.plan.compact_files)
    };
    harness.prepare(Run::Own(params("compact-fill")))?;
    let mut contenders = vec![Contender::own("Alluvium", SYNCED, params("compact-alluvium"))];
    for (name, library, goal) in PEERS {
        let words =
            params("compact").with("library", library).path("dir", &directory.join("buckets"));
        let peer = Contender::python(name, "synced once, at the end", "compact.py", words);
        contenders.push(Contender { goal, ..peer });
    }
    let name = format!("{} files of 200,000 flights", harness.plan.compact_files);
    Ok(Section {
        title: "compact: many data files become one",
        note: "MB of Parquet read per second, Zstandard level 1 and row groups of 262,144 rows for all. \
               Alluvium works below everything else, reads the result back, compares row hashes with its \
               inputs and swaps it in through the log; the others write a file."
            .to_owned(),
        figure: "MB/s",
        extras: &[],
        cases: vec![harness.contest(Case { name, better: Better::Higher, contenders })],
    })
}
