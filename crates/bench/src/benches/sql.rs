//! Aggregates over one dataset, with more and more tombstones.

use anyhow::Result;

use super::{READS, SAMPLE};
use crate::contest::{Better, Case, Contender, Harness, Run};
use crate::report::Section;
use crate::sample::Params;

const QUERIES: [&str; 3] = [
    "SELECT count(*) AS n, sum(delay) AS d, sum(distance) AS m FROM flights",
    "SELECT origin, count(*) AS n, sum(delay) AS d FROM flights GROUP BY origin ORDER BY origin",
    "SELECT count(*) AS n, sum(distance) AS m FROM flights WHERE delay > 60",
];

pub(super) fn run(harness: &Harness) -> Result<Section> {
    let rows = harness.plan.sql_rows;
    let mut cases = Vec::new();
    let without = fill(harness, 0, "no")?;
    for tombstones in [0, rows / 1_000, rows] {
        let clean = fill(harness, tombstones, "yes")?;
        let node = match tombstones {
            0 => without.clone(),
            _ => fill(harness, tombstones, "no")?,
        };
        let ours = |check: &str, params: Params| params.with("check", check);
        let peer = harness.scratch.path().join(clean.text("dir")?).join("buckets");
        let mut contenders = vec![
            Contender::own("Alluvium", READS, ours("yes", node)),
            Contender::python(
                "DuckDB, clean files",
                READS,
                "sql_duckdb.py",
                clean.clone().path("dir", &peer),
            )
            .goal(0.83),
            Contender::own("Alluvium, clean files", READS, ours("yes", clean)),
        ];
        if tombstones > 0 {
            let reference = ours("no", without.clone());
            contenders.push(Contender::own("Alluvium, no tombstones", READS, reference).goal(0.95));
        }
        let name = format!("{rows} rows, {tombstones} tombstones");
        cases.push(harness.contest(Case { name, better: Better::Lower, contenders }));
    }
    Ok(section(cases))
}

fn section(cases: Vec<crate::contest::Contested>) -> Section {
    Section {
        title: "sql: aggregates over files, unsealed rows and tombstones",
        note: format!(
            "Nine tenths of the rows are in three files, a tenth in small appends that are still in the log. One \
             tombstone in ten hides a row, the others name keys that never were. \"Clean files\" hold exactly \
             the visible rows, compacted by Alluvium; DuckDB reads those, with as many threads. The figure is \
             the sum of the medians of each query run warm; cold is the first run of each in the process, from \
             a warm page cache. All answers must agree.\n\n{}",
            QUERIES.map(|query| format!("- `{query}`\n")).concat()
        ),
        figure: "ms, warm",
        extras: &[("cold", "ms, cold"), ("q1", "q1"), ("q2", "q2"), ("q3", "q3")],
        cases,
    }
}

/// Makes a dataset; returns what a process needs to query it.
fn fill(harness: &Harness, tombstones: u64, clean: &str) -> Result<Params> {
    let directory = harness.scratch.fresh()?.join("node");
    let params = |work| {
        Params::new(work)
            .path("dir", &directory)
            .path("sample", &harness.root.join(SAMPLE))
            .with("rows", harness.plan.sql_rows)
            .with("tombstones", tombstones)
            .with("clean", clean)
    };
    harness.prepare(Run::Own(params("sql-fill")))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let queries = QUERIES.join(";");
    Ok(params("sql-query")
        .with("queries", queries)
        .with("repeats", harness.plan.sql_repeats)
        .with("threads", threads))
}
