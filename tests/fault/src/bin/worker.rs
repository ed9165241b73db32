//! The worker process: `alluvium-fault-worker DIR SEED COUNT`, or `DIR FROM COUNT retention`.

use std::path::PathBuf;
use std::process::ExitCode;

use alluvium_fault::worker::{append_and_purge, say, work};
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
    let mut next = || arguments.next().context("usage: DIR SEED COUNT | DIR FROM COUNT retention");
    let (dir, first, count) = (PathBuf::from(next()?), next()?, next()?.parse()?);
    let is_retention = next().is_ok_and(|word| word == "retention");
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build()?;
    match is_retention {
        true => runtime.block_on(append_and_purge(&dir, first.parse()?, count)),
        false => runtime.block_on(work(&dir, first.parse()?, count)),
    }
}
