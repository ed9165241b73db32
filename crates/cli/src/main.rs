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
use std::time::Duration;

use alluvium_stdx::spawn::deep_thread;
use clap::Parser;

use args::Arguments;
use config::Settings;
use failure::Failure;
use output::Format;

/// Every write is many small pieces of memory, freed by another thread than the one that made them; `docs/adr/0027` says
/// why. RocksDB takes its memory here too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

/// The stack of every thread that may evaluate a statement, which costs stack by its nesting. How much the
/// first thread has depends on who starts the program.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// How long a command that failed waits for its threads.
const FAILED_MAX: Duration = Duration::from_millis(500);

fn run(arguments: Arguments, settings: Settings) -> Result<(), Failure> {
    logging::start(&settings, &arguments.command)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().thread_stack_size(STACK_BYTES).build();
    let runtime = runtime.map_err(|error| Failure::io("start the runtime", &error))?;
    // Not on the first thread: its stack is the system's.
    let command = move || {
        let done = runtime.block_on(commands::run(arguments.command, &settings));
        if done.is_err() {
            // What hangs on a disk that failed must not keep the process: nothing of it is waited for any more.
            runtime.shutdown_timeout(FAILED_MAX);
        }
        done
    };
    let command = deep_thread("command", STACK_BYTES, command)
        .map_err(|error| Failure::io("start a thread", &error))?;
    command.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
