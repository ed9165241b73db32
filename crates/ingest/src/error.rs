//! What is wrong with a file, and where. Every message names the place; every hint is right for its cause.

use std::fmt;
use std::io;

use alluvium_types::DataType;
use arrow::error::ArrowError;
use parquet::errors::ParquetError;

use crate::Format;

/// A place in a file, counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// A line of a text file.
    Line(u64),
    /// A row of a file that has no lines.
    Row(u64),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A file that cannot be read as rows of the dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open {name}")]
    Open {
        name: String,
        #[source]
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read {name}")]
    Read {
        name: String,
        #[source]
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{name} is empty")]
    Empty { name: String },
    /// A format that needs a seekable file came through a pipe.
    #[error("{format} cannot be read from standard input: its index is at the end of the file")]
    NotSeekable { format: Format },
    /// A CSV record with another number of fields than the header.
    #[error("line {line}: {found} fields, the header has {expected}")]
    Ragged { line: u64, expected: usize, found: usize },
    /// A line longer than any row can be.
    #[error("line {line} has more than {limit} bytes")]
    RecordTooLarge { line: u64, limit: usize },
    /// Bytes that are not text.
    #[error("{at}, column {column:?}: not valid UTF-8")]
    NotUtf8 { at: Location, column: String },
    /// Bytes that are not text, where no column is known.
    #[error("line {line}: not valid UTF-8")]
    LineNotUtf8 { line: u64 },
    /// Text that is no value of its column's type.
    #[error("{at}, column {column:?}: {text:?} is not {expected}")]
    Value { at: Location, column: String, text: String, expected: DataType },
    /// A value that the column's type would have to round or cut.
    #[error("{at}, column {column:?}: {text:?} does not fit {expected} exactly")]
    Inexact { at: Location, column: String, text: String, expected: DataType },
    /// No value where one must be.
    #[error("{at}, column {column:?}: no value, and the column may not be NULL")]
    Null { at: Location, column: String },
    /// No value where the key of a new dataset would be.
    #[error("{at}, column {column:?}: no value, and a key column may not be NULL")]
    NullKey { at: Location, column: String },
    /// A line that is not JSON.
    #[error("line {line}, character {character}: not valid JSON: {reason}")]
    Json { line: u64, character: usize, reason: String },
    /// JSON that is not an object.
    #[error("line {line}: a JSON object is expected, found {found}")]
    NotAnObject { line: u64, found: &'static str },
    /// The same column twice.
    #[error("column {column:?} occurs twice in {name}")]
    Twice { name: String, column: String },
    /// Columns that the dataset does not have.
    #[error("columns that the dataset does not have: {}", list(.columns))]
    Unknown { columns: Vec<String>, known: Vec<String> },
    /// A JSON object with columns that the dataset does not have.
    #[error("{at}: columns that the dataset does not have: {}", list(.columns))]
    UnknownAt { at: Location, columns: Vec<String>, known: Vec<String> },
    /// Columns that rows must have and the file lacks.
    #[error("columns that may not be NULL are missing: {}", list(.columns))]
    Missing { columns: Vec<String>, found: Vec<String> },
    /// A type that text cells cannot express.
    #[error("column {column:?}: CSV has no form for {data_type}")]
    NoTextForm { column: String, data_type: DataType },
    /// A sample without a single row.
    #[error("{name} has a header and no row, so its column types cannot be inferred")]
    NothingToInfer { name: String },
    /// Rows that the dataset does not take.
    #[error("{at}: {source}")]
    Rows {
        at: Location,
        #[source]
        source: alluvium_rows::Error,
    },
    /// A schema that no dataset can have.
    #[error("the columns of {name} cannot become a dataset: {source}")]
    Schema {
        name: String,
        #[source]
        source: alluvium_rows::Error,
    },
    /// Not a Parquet file, or a damaged one.
    #[error("{name} is not a readable Parquet file: {source}")]
    Parquet {
        name: String,
        #[source]
        source: ParquetError,
    },
    /// Not an Arrow file, or a damaged one.
    #[error("{name} is not readable as {format}: {source}")]
    Arrow {
        name: String,
        format: Format,
        #[source]
        source: ArrowError,
    },
    /// A decoder gave up on damaged bytes.
    #[error("{name} is damaged: its {format} decoder gave up near row {row}")]
    Damaged { name: String, format: Format, row: u64 },
}

impl Error {
    /// Returns what the caller can do, where that is not plain from the message.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotSeekable { .. } => {
                Some("give the file's path, or pipe an Arrow IPC stream".to_owned())
            }
            Self::Ragged { found, expected, .. } if found > expected => {
                Some("a field that contains the separator must be quoted".to_owned())
            }
            Self::Ragged { .. } => {
                Some("every row has a field for each column; an empty field is NULL".to_owned())
            }
            Self::RecordTooLarge { .. } => {
                Some("look for a quote that is opened and never closed before it".to_owned())
            }
            Self::NotUtf8 { .. } | Self::LineNotUtf8 { .. } => {
                Some("convert the file to UTF-8, for example with iconv".to_owned())
            }
            Self::Unknown { known, .. } | Self::UnknownAt { known, .. } => Some(format!(
                "columns are matched by exact name; the dataset has {}; add one with `alluvium \
                 dataset evolve --add`",
                list(known)
            )),
            Self::Missing { found, .. } => {
                Some(format!("columns are matched by exact name; the file has {}", list(found)))
            }
            Self::NoTextForm { .. } => Some("use Parquet, NDJSON or Arrow IPC".to_owned()),
            Self::NothingToInfer { .. } => {
                Some("name the columns with --column name:type".to_owned())
            }
            Self::NullKey { .. } => Some(
                "a key names every row: choose other columns with --key, or fill this one"
                    .to_owned(),
            ),
            Self::Json { .. } => Some("NDJSON has one whole JSON object a line".to_owned()),
            Self::Open { .. }
            | Self::Read { .. }
            | Self::Empty { .. }
            | Self::Value { .. }
            | Self::Inexact { .. }
            | Self::Null { .. }
            | Self::NotAnObject { .. }
            | Self::Twice { .. }
            | Self::Rows { .. }
            | Self::Schema { .. }
            | Self::Parquet { .. }
            | Self::Arrow { .. }
            | Self::Damaged { .. } => None,
        }
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
