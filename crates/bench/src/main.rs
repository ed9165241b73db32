//! Benchmarks: Alluvium and its peers in turn, on one disk, in one run.
//!
//! Absolute figures of a shared machine mean little, so the ratio within a run is what is reported. Every
//! contender runs in a process of its own, which answers with one line; that makes its peak memory its own.
//! It must not judge code: no test depends on a time. Invariant: a figure is shown beside how durable it is.

mod args;
mod benches;
mod closed_loop;
mod contest;
mod plan;
mod report;
mod same;
mod sample;
mod scratch;
mod versions;
mod work;

use std::process::ExitCode;

use alluvium_bench_kit::{machine, ui};
use anyhow::{Context as _, Result, ensure};

use crate::args::Command;
use crate::contest::Harness;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match Command::parse(&words) {
        Ok(Command::Measure(params)) => work::answer(&params),
        Ok(Command::Contest(request)) => contest(&request),
        Err(usage) => {
            ui::warn(&format!("error: {usage:#}\n\n{}", args::USAGE));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::warn(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs benchmarks one after the other; a failed one is shown as such and does not hide the others.
fn contest(request: &args::Request) -> Result<()> {
    let harness = Harness::new(request).context("prepare the run")?;
    let machine =
        machine::describe(harness.scratch.path(), harness.clock.as_ref(), &versions::versions());
    let mut sections = Vec::new();
    for benchmark in &request.benchmarks {
        ui::warn(&format!("==> {}", benchmark.name()));
        let section = benchmark.run(&harness);
        let section = section.with_context(|| format!("benchmark `{}`", benchmark.name()))?;
        ui::say(&section.render());
        sections.push(section);
    }
    if request.write {
        report::write_page(&harness.root, &machine, &harness.plan, &sections)?;
    }
    let failures: Vec<String> = sections.iter().flat_map(report::Section::failures).collect();
    ensure!(failures.is_empty(), "{} contenders failed: {}", failures.len(), failures.join("; "));
    Ok(())
}
