//! `alluvium sql`: one statement, a file, standard input, or the shell.

use std::io::{self, IsTerminal, Read};

use super::shell;
use crate::args::Sql;
use crate::backend::Backend;
use crate::config::Settings;
use crate::failure::Failure;
use crate::output::print_answer;
use crate::statements;

/// Bytes of a file of statements.
const SCRIPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub(super) async fn run(
    arguments: &Sql,
    backend: &Backend,
    settings: &Settings,
) -> Result<(), Failure> {
    let as_of = arguments.as_of.as_of;
    let text = match (&arguments.query, &arguments.file) {
        (Some(query), _) => query.clone(),
        (None, Some(path)) => {
            let what = format!("read {}", path.display());
            let file = std::fs::File::open(path).map_err(|error| Failure::io(&what, &error))?;
            read_script(&what, file)?
        }
        (None, None) if io::stdin().is_terminal() => {
            return shell::run(backend, settings, as_of).await;
        }
        (None, None) => read_script("read standard input", io::stdin())?,
    };
    let all = statements::split(&text).all();
    if all.is_empty() {
        return Err(Failure::usage("there is no statement"));
    }
    for statement in all {
        let answer = backend.sql(statement.text, as_of).await;
        print_answer(settings.output, answer.map_err(|failure| statement.placed(failure))?).await?;
    }
    Ok(())
}

fn read_script(what: &str, input: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    let read = input.take(SCRIPT_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::io(what, &error))?;
    if SCRIPT_BYTES_MAX < text.len() as u64 {
        let message = format!("the statements have more than {SCRIPT_BYTES_MAX} bytes");
        return Err(Failure::usage(message));
    }
    Ok(text)
}
