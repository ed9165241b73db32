//! Each command of the program.

mod certs;
mod cluster;
mod dataset;
mod demo;
mod dev;
mod maintain;
mod observe;
mod preview;
mod rows;
mod serve;
mod shell;
mod sql;

use alluvium_engine::Caller;
use alluvium_types::LogIndex;

use crate::args::{Command, Condition};
use crate::backend::{Backend, Missing};
use crate::config::Settings;
use crate::failure::Failure;

/// Runs one command to its end.
pub(crate) async fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => Box::pin(serve::run(&arguments, settings)).await,
        Command::Dev(arguments) => dev::run(&arguments, settings).await,
        Command::Certs(arguments) => certs::run(&arguments, settings.output),
        Command::Cluster(command) => Box::pin(cluster::run(command, settings)).await,
        Command::Demo(arguments) => Box::pin(demo::run(&arguments, settings)).await,
        Command::DemoWriter => demo::write_until_killed(settings).await,
        Command::Version => observe::version(settings.output),
        Command::Verify => observe::verify(settings).await,
        Command::Dataset(command) => {
            let missing = match command {
                crate::args::Dataset::Register(_) => Missing::Create,
                crate::args::Dataset::List(_)
                | crate::args::Dataset::Show(_)
                | crate::args::Dataset::Evolve(_)
                | crate::args::Dataset::Drop(_) => Missing::Refuse,
            };
            let backend = Backend::open(settings, missing).await?;
            let done = dataset::run(&command, &backend, settings).await;
            close(backend, done).await
        }
        Command::Append(_)
        | Command::Upsert(_)
        | Command::Tombstone(_)
        | Command::Seal(_)
        | Command::Compact(_)
        | Command::Expire(_)
        | Command::Sql(_)
        | Command::Log(_)
        | Command::Status => {
            let backend = Backend::open(settings, Missing::Refuse).await?;
            let done = Box::pin(run_open(command, &backend, settings)).await;
            close(backend, done).await
        }
    }
}

async fn run_open(command: Command, backend: &Backend, settings: &Settings) -> Result<(), Failure> {
    match command {
        Command::Append(load) => Box::pin(rows::load(&load, false, backend, settings)).await,
        Command::Upsert(load) => Box::pin(rows::load(&load, true, backend, settings)).await,
        Command::Tombstone(tombstone) => rows::tombstone(&tombstone, backend, settings).await,
        Command::Seal(named) => maintain::seal(&named, backend, settings).await,
        Command::Compact(named) => maintain::compact(&named, backend, settings).await,
        Command::Expire(expire) => maintain::expire(&expire, backend, settings).await,
        Command::Sql(sql) => sql::run(&sql, backend, settings).await,
        Command::Log(log) => observe::log(&log, backend, settings.output).await,
        Command::Status => observe::status(backend, settings.output).await,
        Command::Serve(_)
        | Command::Dev(_)
        | Command::Certs(_)
        | Command::Cluster(_)
        | Command::Demo(_)
        | Command::DemoWriter
        | Command::Version
        | Command::Verify
        | Command::Dataset(_) => unreachable!("these commands open what they need themselves"),
    }
}

/// Closes the node whatever the command did; the command's failure comes first.
async fn close(backend: Backend, done: Result<(), Failure>) -> Result<(), Failure> {
    let closed = backend.close().await;
    done.and(closed)
}

/// Returns the caller of a command without a session.
fn caller(settings: &Settings, condition: Condition) -> Caller {
    Caller {
        expected_index: condition.expected_index.map(LogIndex),
        ..Caller::named(settings.actor.clone())
    }
}
