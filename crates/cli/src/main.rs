//! The `alluvium` program: serve a node, put rows in, ask for them, look after them.
//!
//! It must not decide anything that a library decides. Invariant: the exit code is 0 when the command did
//! what was asked, 1 when it failed, 2 when it was asked wrongly.

mod args;
mod backend;
mod client;
mod commands;
mod config;
mod failure;
mod logging;
mod output;
mod retry;
mod statements;
mod terminal;
mod type_text;

use std::process::ExitCode;

use clap::Parser;

use args::Arguments;
use config::Settings;
use failure::Failure;
use output::Format;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A bad configuration is reported in the format that the flag asks for: the file's is not known yet.
    let asked = arguments.global.output.unwrap_or(Format::Table);
    let settings = match config::load(&arguments.global) {
        Ok(settings) => settings,
        Err(failure) => return failure.report(asked),
    };
    let format = settings.output;
    match run(arguments, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(format),
    }
}

fn run(arguments: Arguments, settings: Settings) -> Result<(), Failure> {
    logging::start(&settings, &arguments.command)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("start the runtime", &error))?;
    runtime.block_on(commands::run(arguments.command, &settings))
}
