//! Benchmarks of a cluster: three nodes of Alluvium and of etcd in turn, on one disk, in one run.
//!
//! Absolute figures of a shared machine mean little, so the ratio within a round is what is reported. It drives real
//! processes through their public APIs. It must not judge code: no test depends on a time. Invariant: every process
//! that it starts has ended when it ends.

mod alluvium;
mod args;
mod benches;
mod closed_loop;
mod connect;
mod contest;
mod daemon;
mod etcd;
mod etcd_api;
mod limits;
mod report;
mod rows;
mod versions;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use alluvium_bench_kit::{machine, ui};
use alluvium_stdx::SystemClock;
use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;

fn main() -> ExitCode {
    match begin(Args::parse().completed()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::warn(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn begin(mut args: Args) -> Result<()> {
    args.binary = args.binary.canonicalize().context("find the program of Alluvium")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("start a runtime")?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("catch signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("catch signals")?;
        // What is dropped ends its processes.
        tokio::select! {
            outcome = Box::pin(run(&args)) => outcome,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("told to end"),
        }
    })
}

/// Runs the benchmarks one after the other; a contender that failed is shown as such and does not hide the others.
async fn run(args: &Args) -> Result<()> {
    let scratch = scratch(args.dir.as_deref())?;
    let machine = machine::describe(scratch.path(), &SystemClock::new(), &versions::versions());
    ui::say(&machine);
    let mut sections = Vec::new();
    for benchmark in &args.benchmarks {
        ui::warn(&format!("==> {benchmark:?}"));
        for section in benchmark.run(args, scratch.path()).await? {
            ui::say(&section.render());
            sections.push(section);
        }
    }
    if args.write {
        report::write_page(&root()?, &machine, args, &sections)?;
    }
    let failures: Vec<String> = sections.iter().flat_map(contest::Section::failures).collect();
    ensure!(failures.is_empty(), "{} contenders failed: {}", failures.len(), failures.join("; "));
    Ok(())
}

/// Makes the directory of the run: in `parent`, else beside the target directory of this very program, since `/tmp` may
/// be memory.
fn scratch(parent: Option<&Path>) -> Result<tempfile::TempDir> {
    let program = std::env::current_exe().context("find this program")?;
    let beside = program.ancestors().nth(3);
    let parent = parent.or(beside).context("this program is in no target directory: say --dir")?;
    let directory = tempfile::Builder::new().prefix("alluvium-bench-cluster-").tempdir_in(parent);
    directory.with_context(|| format!("in {}", parent.display()))
}

/// Returns the root of the checkout: of the one whose `xtask` started this, else of the one it was built from.
fn root() -> Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR");
    let own = own.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.ancestors().nth(2).map(Path::to_path_buf).context("the crate lies two levels deep")
}
