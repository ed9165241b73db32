//! Log lines on standard error: standard output belongs to results.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::args::{Command, LogFormat};
use crate::config::Settings;
use crate::failure::Failure;

/// What a command logs when nobody says: a server tells what it does, the others only what is wrong.
fn default_level(command: &Command) -> &'static str {
    match command {
        // The consensus library tells every step of an election, and every call that a dead peer does not answer: nothing
        // that somebody should see to.
        Command::Serve(_) => "info,openraft=error",
        // Recovery after the kill warns, as it should; the demonstration says so in its own words.
        Command::Demo(_) | Command::DemoWriter => "error",
        Command::Dev(_)
        | Command::Cluster(_)
        | Command::Certs(_)
        | Command::Dataset(_)
        | Command::Append(_)
        | Command::Upsert(_)
        | Command::Tombstone(_)
        | Command::Seal(_)
        | Command::Compact(_)
        | Command::Expire(_)
        | Command::Sql(_)
        | Command::Log(_)
        | Command::Verify
        | Command::Status
        | Command::Version => "warn,openraft=error",
    }
}

/// Starts logging for the whole program.
pub(crate) fn start(settings: &Settings, command: &Command) -> Result<(), Failure> {
    let level = settings.log_level.as_deref().unwrap_or_else(|| default_level(command));
    let filter = EnvFilter::try_new(level).map_err(|error| {
        Failure::usage(format!("log level {level:?} is not possible: {error}"))
            .with_hint("error, warn, info, debug, trace, or a filter such as alluvium_engine=debug")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match settings.log_format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.with_ansi(false).init(),
    }
    Ok(())
}
