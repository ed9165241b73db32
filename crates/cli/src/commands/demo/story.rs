//! The demonstration as it is told: short steps, checks with their figures, one table.
//!
//! It must not hide a failed check. Invariant: in the machine formats the whole story is one result at the end.

use std::io::{self, Write};
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use serde_json::json;
use tokio::time::Instant;

use crate::backend::Backend;
use crate::failure::Failure;
use crate::output::{Format, Record, print_answer, print_records};
use crate::terminal::grouped;

const FIELDS: [&str; 3] = ["step", "result", "text"];

pub(super) struct Story {
    format: Format,
    start: Instant,
    records: Vec<Record>,
}

impl Story {
    pub(super) fn start(format: Format) -> Self {
        Self { format, start: Instant::now(), records: Vec::new() }
    }

    fn say(&self, line: &str) -> Result<(), Failure> {
        match self.format {
            Format::Table => {
                let mut out = io::stdout().lock();
                writeln!(out, "{line}").map_err(|error| Failure::io("print", &error))
            }
            Format::Json | Format::Jsonl | Format::Csv => Ok(()),
        }
    }

    fn record(&mut self, step: &str, result: &str, text: &str) {
        let record = vec![("step", json!(step)), ("result", json!(result)), ("text", json!(text))];
        self.records.push(record);
    }

    /// Tells what was done.
    pub(super) fn step(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        self.record(name, "done", text);
        self.say(&format!("{name:<10} {text}"))
    }

    /// Tells what was found, or ends the story when it is wrong.
    pub(super) fn check(&mut self, is_right: bool, text: &str) -> Result<(), Failure> {
        if !is_right {
            self.say(&format!("{:<10} WRONG: {text}", ""))?;
            return Err(Failure::check(format!("a check failed: {text}")));
        }
        self.record("check", "right", text);
        self.say(&format!("{:<10} right: {text}", ""))
    }

    /// Shows an answer and returns the first text of it.
    pub(super) async fn table(
        &mut self,
        backend: &Backend,
        query: &str,
    ) -> Result<String, Failure> {
        let rows = backend.sql(query, None).await?.collect().await?;
        let first = rows.first().filter(|batch| 0 < batch.num_rows()).map(|batch| batch.column(0));
        let first = first.and_then(|column| {
            // The query engine may answer with text in one of two layouts.
            let text = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).ok()?;
            Some(text.as_string::<i32>().value(0).to_owned())
        });
        let first = first.ok_or_else(|| Failure::check("the query has no answer"))?;
        self.record("query", "done", query);
        self.say(&format!("{:<10} {query}", "query"))?;
        if self.format == Format::Table {
            print_answer(self.format, backend.sql(query, None).await?).await?;
        }
        Ok(first)
    }

    /// Ends the story with the command that opens what it left.
    pub(super) fn end(mut self, command: &str) -> Result<(), Failure> {
        let checks = self.records.iter().filter(|record| record[1].1 == "right");
        let checks = checks.count();
        let seconds = self.start.elapsed().as_secs_f64();
        let text = format!("{checks} checks were right, in {seconds:.1} s");
        self.step("end", &text)?;
        self.record("open", "next", command);
        self.say(&format!("\nLook at it yourself:\n  {command}"))?;
        match self.format {
            Format::Table => Ok(()),
            Format::Json | Format::Jsonl | Format::Csv => {
                print_records(self.format, &FIELDS, &self.records)
            }
        }
    }
}

/// Returns a number of things as people say it.
pub(super) fn counted(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{} {thing}s", grouped(number)),
    }
}

/// Returns a path as a word of a shell's command.
pub(super) fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Returns the number that is a query's only answer.
pub(super) fn only_number(batches: &[RecordBatch]) -> Result<u64, Failure> {
    let column = batches.first().map(|batch| batch.column(0));
    let values = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
    let value = values.filter(|values| values.len() == 1).map(|values| values.value(0));
    let value = value.and_then(|value| u64::try_from(value).ok());
    value.ok_or_else(|| Failure::check("a count did not answer with one number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_command() {
        assert_eq!(word(Path::new("/opt/alluvium-1.0/bin")), "/opt/alluvium-1.0/bin");
        assert_eq!(word(Path::new("my lake's")), r"'my lake'\''s'");
        assert_eq!(
            (counted(1, "file"), counted(1_000, "file")),
            ("1 file".into(), "1,000 files".into())
        );
    }
}
