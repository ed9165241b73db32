//! The worker process: `alluvium-fault-worker DIR SEED COUNT`.

use std::path::PathBuf;
use std::process::ExitCode;

use alluvium_fault::worker::{say, work};
use anyhow::{Context as _, Result};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error {error:#}"));
            ExitCode::from(3)
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("usage: DIR SEED COUNT");
    let (dir, seed, count) = (PathBuf::from(next()?), next()?.parse()?, next()?.parse()?);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build()?.block_on(work(&dir, seed, count))
}
