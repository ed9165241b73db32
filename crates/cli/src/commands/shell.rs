//! The shell: statements until `;`, and a few commands behind a backslash.
//!
//! It must not end because a statement failed. Invariant: one statement runs at a time.

use std::borrow::Cow;
use std::path::PathBuf;

use reedline::{
    FileBackedHistory, Prompt, PromptEditMode, PromptHistorySearch, Reedline, Signal,
    ValidationResult, Validator,
};
use tokio::time::Instant;

use super::dataset::print_dataset;
use crate::backend::Backend;
use crate::config::{Settings, user_directory};
use crate::failure::Failure;
use crate::output::{Format, print_answer};
use crate::statements;
use crate::terminal::note;

const HISTORY_LINES: usize = 10_000;
const HELP: &str = "\\dt         list datasets\n\\d NAME     show a dataset\n\\timing     show times or \
                    not\n\\q          leave\nSQL ends with a semicolon; \\? shows this";

struct Shell<'a> {
    backend: &'a Backend,
    format: Format,
    as_of: Option<u64>,
    shows_times: bool,
}

pub(super) async fn run(
    backend: &Backend,
    settings: &Settings,
    as_of: Option<u64>,
) -> Result<(), Failure> {
    let mut editor = Reedline::create().with_validator(Box::new(UntilSemicolon));
    if let Some(history) = history() {
        editor = editor.with_history(Box::new(history));
    }
    note(&format!("alluvium {}; \\? for help, \\q to leave", env!("CARGO_PKG_VERSION")));
    let mut shell = Shell { backend, format: settings.output, as_of, shows_times: true };
    loop {
        // The editor blocks on the terminal; the node's tasks go on on the other threads.
        let signal = tokio::task::block_in_place(|| editor.read_line(&Arrow));
        match signal.map_err(|error| Failure::io("read from the terminal", &error))? {
            Signal::CtrlD => return Ok(()),
            Signal::CtrlC => {}
            Signal::Success(text) => {
                if shell.take(&text).await {
                    return Ok(());
                }
            }
        }
    }
}

impl Shell<'_> {
    /// Does what was typed; says whether to leave.
    async fn take(&mut self, text: &str) -> bool {
        if let Some(command) = text.trim().strip_prefix('\\') {
            let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
            return match self.command(word, rest.trim().trim_end_matches(';')).await {
                Ok(leave) => leave,
                Err(failure) => self.tell(&failure),
            };
        }
        for statement in statements::split(text).all() {
            if let Err(failure) = self.query(statement.text).await {
                return self.tell(&statement.placed(failure));
            }
        }
        false
    }

    fn tell(&self, failure: &Failure) -> bool {
        failure.report(self.format);
        false
    }

    async fn command(&mut self, word: &str, rest: &str) -> Result<bool, Failure> {
        match (word, rest) {
            ("q" | "quit", _) => return Ok(true),
            ("?" | "h" | "help", _) => note(HELP),
            ("timing", _) => {
                self.shows_times = !self.shows_times;
                note(if self.shows_times { "times are shown" } else { "times are not shown" });
            }
            ("d", name) if !name.is_empty() => {
                let found = self.backend.dataset(name.trim_matches('"'), self.as_of).await?;
                print_dataset(self.format, &found)?;
            }
            ("d" | "dt", _) => super::dataset::list(self.as_of, self.backend, self.format).await?,
            (word, _) => {
                let message = format!("there is no command \\{word}");
                return Err(Failure::usage(message).with_hint("\\? shows the commands"));
            }
        }
        Ok(false)
    }

    async fn query(&self, statement: &str) -> Result<(), Failure> {
        let start = Instant::now();
        let answer = self.backend.sql(statement, self.as_of).await?;
        let index = answer.index;
        let rows = print_answer(self.format, answer).await?;
        if self.shows_times {
            let seconds = start.elapsed().as_secs_f64();
            note(&format!("{rows} rows at index {index} in {seconds:.3} s"));
        }
        Ok(())
    }
}

fn history() -> Option<FileBackedHistory> {
    let path: PathBuf = user_directory("XDG_DATA_HOME", ".local/share")?.join("history");
    // A shell without history is better than none.
    FileBackedHistory::with_file(HISTORY_LINES, path).ok()
}

struct UntilSemicolon;

impl Validator for UntilSemicolon {
    fn validate(&self, text: &str) -> ValidationResult {
        let is_command = text.trim_start().starts_with('\\');
        if is_command || statements::split(text).rest.is_none() {
            ValidationResult::Complete
        } else {
            ValidationResult::Incomplete
        }
    }
}

struct Arrow;

impl Prompt for Arrow {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("alluvium")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("       .. ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("(search: {}) ", search.term))
    }
}
