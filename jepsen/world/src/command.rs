//! Programs of the machine, each with a limit of time.
//!
//! Must not use a shell, nor leave a program running. Invariant: a command either succeeded or is an [`Error`] with
//! what it said.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::error::Error;

/// The end of what a program said that an error repeats.
const SAID_MAX: usize = 2_000;
/// How `timeout` ends when it had to end the program.
const TIMED_OUT: [i32; 2] = [124, 137];

/// A command line.
#[derive(Debug)]
pub(crate) struct Line {
    words: Vec<String>,
    env: Vec<(String, String)>,
}

impl Line {
    pub(crate) fn new(program: impl Into<String>) -> Self {
        Self { words: vec![program.into()], env: Vec::new() }
    }

    pub(crate) fn of(words: &[&str]) -> Self {
        Self { words: words.iter().map(|word| (*word).to_owned()).collect(), env: Vec::new() }
    }

    pub(crate) fn arg(mut self, word: impl Into<String>) -> Self {
        self.words.push(word.into());
        self
    }

    pub(crate) fn args(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    pub(crate) fn path(self, path: &Path) -> Self {
        self.arg(path.to_string_lossy())
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Runs it to its end, and returns what it printed.
    pub(crate) fn run(&self, limit: Duration) -> Result<String, Error> {
        let output = self.output(limit)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Command {
            line: self.to_string(),
            status: output.status.to_string(),
            said: end_of(&format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )),
        })
    }

    /// Runs it to its end, however it ends.
    pub(crate) fn output(&self, limit: Duration) -> Result<Output, Error> {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", &format!("{:.3}", limit.as_secs_f64())]).args(&self.words);
        command.env_remove(crate::enter::MARK);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let output =
            command.stdin(Stdio::null()).output().map_err(Error::io(format!("run `{self}`")))?;
        match output.status.code() {
            Some(code) if TIMED_OUT.contains(&code) => {
                Err(Error::CommandTimeout { line: self.to_string(), limit })
            }
            Some(_) | None => Ok(output),
        }
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

/// Returns the end of a text that is too long for a message.
pub(crate) fn end_of(text: &str) -> String {
    let text = text.trim();
    let from = text.len().saturating_sub(SAID_MAX);
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(from..).unwrap_or(text).to_owned()
}

/// Returns where a program is, as a shell would find it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|place| place.join(program)).find(|file| file.is_file())
}

/// Waits. The harness is synchronous, and nobody else needs the thread.
pub(crate) fn sleep(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the world is driven by one thread of its own")]
    std::thread::sleep(time);
}
