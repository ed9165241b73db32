//! Histories as lines of JSON: a header with the version, then one event a line.
//!
//! It must not guess: a field or a version that it does not know is an error. Invariant: what is read back
//! is what was written.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

use super::{Event, History};
use crate::error::Error;

const FORMAT: &str = "alluvium-history";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
}

impl History {
    /// Writes the history as JSON lines. The caller flushes, and syncs if it must.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write_jsonl(&self, writer: &mut impl Write) -> Result<(), Error> {
        let header = Header { format: FORMAT.to_owned(), version: VERSION };
        write_line(writer, 1, &header)?;
        for (position, event) in self.events().iter().enumerate() {
            write_line(writer, position + 2, event)?;
        }
        Ok(())
    }

    /// Reads a history that was written as JSON lines.
    ///
    /// # Errors
    /// When the reader fails, a line is not what this version writes, or the history is not well formed.
    pub fn read_jsonl(reader: impl BufRead) -> Result<Self, Error> {
        let mut lines = reader.lines().enumerate().map(|(position, line)| {
            let line_number = position + 1;
            line.map(|text| (line_number, text))
                .map_err(|source| Error::Io { line: line_number, source })
        });
        let (_, first) = lines.next().ok_or(Error::NoHeader)??;
        check_header(&first)?;
        let mut events = Vec::new();
        for line in lines {
            let (line, text) = line?;
            let event: Event =
                serde_json::from_str(&text).map_err(|source| Error::Line { line, source })?;
            events.push(event);
        }
        Self::new(events)
    }
}

fn check_header(line: &str) -> Result<(), Error> {
    let header: Header =
        serde_json::from_str(line).map_err(|source| Error::Line { line: 1, source })?;
    if header.format != FORMAT {
        return Err(Error::NoHeader);
    }
    if header.version != VERSION {
        return Err(Error::Version { found: header.version, expected: VERSION });
    }
    Ok(())
}

fn write_line(writer: &mut impl Write, line: usize, value: &impl Serialize) -> Result<(), Error> {
    serde_json::to_writer(&mut *writer, value).map_err(|source| Error::Line { line, source })?;
    writer.write_all(b"\n").map_err(|source| Error::Io { line, source })
}
