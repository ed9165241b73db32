//! The jepsen harness: clients, faults and judges around a cluster of real processes.
//!
//! It drives workloads through the public API, lets `alluvium-world` do faults meanwhile, and lets
//! `alluvium-checker` judge the histories. Invariant: it ends with 0 only if every selected fault was observed, every
//! judge says valid, and the replicas are equal after a power cut of all of them.

mod args;
mod client;
mod judge;
mod limits;
mod model;
mod nemesis;
mod outcome;
mod proof;
mod recorder;
mod report;
mod rows;
mod runner;
mod schedule;
mod stage;
mod timeline;
mod troupe;
mod verdict;
mod witness;
mod workloads;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::Args;
use runner::Run;
use verdict::{Conclusion, Finding};

fn main() -> ExitCode {
    let args = Args::parse();
    if args.self_proof {
        return self_proof(&args);
    }
    let (expect_caught, known) = (args.expect_caught, args.known.clone());
    let (mut run, inside) = match begin(args) {
        Ok(begun) => begun,
        Err(error) => {
            say(&format!("verdict: {}\n{error:#}\n", Conclusion::Unknown.word()));
            return ExitCode::from(Conclusion::Unknown.exit_code());
        }
    };
    let outcome = match &inside {
        None => run.beside(),
        Some(Ok(inside)) => run.inside(inside),
        Some(Err(why)) => {
            run.report.findings.push(why.clone());
            Ok(())
        }
    };
    if let Err(error) = outcome {
        run.report.findings.push(Finding::doubt("harness", format!("{error:#}")));
    }
    let conclusion = run.report.conclude(&known);
    say(&run.report.table(conclusion));
    let out = run.args.out.display();
    match run.report.write(&run.args.out, conclusion) {
        Ok(()) => say(&format!("results: {out}/results.json, {out}/timeline.html\n")),
        Err(error) => {
            say(&format!("the results cannot be written: {error:#}\n"));
            return ExitCode::from(Conclusion::Unknown.exit_code());
        }
    }
    if conclusion == Conclusion::Pass
        && let Err(error) = runner::tidy_up(&run.args.out)
    {
        say(&format!("{error:#}\n"));
    }
    match (expect_caught, conclusion) {
        (false, conclusion) => ExitCode::from(conclusion.exit_code()),
        (true, Conclusion::Invalid) => ExitCode::SUCCESS,
        // What could not be tried was not caught either.
        (true, Conclusion::Pass) => ExitCode::FAILURE,
        (true, other) => ExitCode::from(other.exit_code()),
    }
}

/// Whether there is a world, and why not.
type Entered = Option<Result<alluvium_world::Inside, Finding>>;

/// Enters the world's namespaces, while there is one thread, unless a cluster is there already.
fn begin(mut args: Args) -> anyhow::Result<(Run, Entered)> {
    args.leave_out();
    let is_beside = !args.connect.is_empty();
    let inside = (!is_beside).then(|| {
        alluvium_world::enter().map_err(|error| {
            let detail = nemesis::chain(&error);
            match error.is_skip() {
                true => Finding::skip("world", detail),
                false => Finding::doubt("world", detail),
            }
        })
    });
    Ok((Run::new(args)?, inside))
}

fn self_proof(args: &Args) -> ExitCode {
    match proof::run(args) {
        Ok((table, conclusion)) => {
            say(&table);
            ExitCode::from(conclusion.exit_code())
        }
        Err(error) => {
            say(&format!("{error:#}\n"));
            ExitCode::from(Conclusion::Unknown.exit_code())
        }
    }
}

/// Prints; when nobody listens, the results are in their files.
fn say(text: &str) {
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}
