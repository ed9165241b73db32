//! What is wrong with rows. Never holds row content, except the text of a key that the caller typed.

use alluvium_types::ErrorKind;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// Rows, a schema or bytes that cannot be what they should be. A `row` is a position, from zero; its text counts
/// from one, as people and the lines of a file do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum Error {
    /// A schema or key that is not legal.
    #[error(transparent)]
    Illegal(#[from] alluvium_types::Error),
    /// A column whose type has no place in a dataset.
    #[error("column {column:?} has type {data_type}, which a dataset cannot hold")]
    Unsupported { column: String, data_type: Box<DataType> },
    /// The rows lack a column.
    #[error("column {column:?} is missing")]
    Missing { column: String },
    /// The rows have a column that the schema lacks.
    #[error("column {column:?} is not part of the schema")]
    Unexpected { column: String },
    /// The right columns in another order.
    #[error("column {position} is {found:?} where {expected:?} belongs: the order differs")]
    Reordered { position: usize, expected: String, found: String },
    /// A column of another type.
    #[error("column {column:?} has type {found}, the schema says {expected}")]
    Type { column: String, expected: Box<alluvium_types::DataType>, found: Box<DataType> },
    /// A NULL where none may be.
    #[error("column {column:?} is NULL in row {}, and may not be", .row.saturating_add(1))]
    Null { column: String, row: usize },
    /// A NULL within a nested value where none may be.
    #[error("column {column:?} has a NULL within a value, and may not")]
    NestedNull { column: String },
    /// A value that the column's type cannot hold exactly.
    #[error(
        "column {column:?}: the value in row {} does not fit {expected} exactly",
        .row.saturating_add(1)
    )]
    Inexact { column: String, row: usize, expected: Box<alluvium_types::DataType> },
    /// More text or bytes than one array holds.
    #[error("column {column:?} has {bytes} bytes in one batch, the limit is {limit}")]
    ColumnTooLarge { column: String, bytes: u64, limit: u64 },
    /// A row that no entry can carry.
    #[error(
        "row {} has {bytes} bytes encoded, the limit of an entry is {limit}",
        .row.saturating_add(1)
    )]
    RowTooLarge { row: usize, bytes: u64, limit: u64 },
    /// An entry body that is not one.
    #[error("an entry body is damaged: {fault}")]
    Body { fault: StreamFault },
    /// A client's stream that is not one.
    #[error("the Arrow stream is not readable: {fault}")]
    Stream { fault: StreamFault },
    /// A client's stream over its budget.
    #[error("the Arrow stream needs {needed} {unit}, the limit is {limit}")]
    Budget { unit: &'static str, needed: u64, limit: u64 },
    /// A dataset without keys was asked for one.
    #[error("the dataset has no key columns")]
    Keyless,
    /// A key typed with too few or too many parts.
    #[error("a key has {expected} columns, {found} values were given")]
    KeyParts { expected: usize, found: usize },
    /// A key's text that is no value of its column.
    #[error("key column {column:?}: {text:?} is no {data_type}")]
    KeyText { column: String, text: String, data_type: Box<alluvium_types::DataType> },
    /// Encoded key bytes that the schema's key columns do not explain.
    #[error("an encoded key does not match the key columns")]
    KeyBytes,
    /// A row that an older schema held cannot be shown under the new one.
    #[error("column {column:?} cannot become {to}")]
    Adapt { column: String, to: Box<alluvium_types::DataType> },
    /// Arrow failed where its arguments were checked before.
    #[error("cannot {operation}")]
    Arrow {
        operation: &'static str,
        #[source]
        source: ArrowError,
    },
}

/// What is wrong with IPC bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says it")]
pub enum StreamFault {
    #[error("it ends too early")]
    Truncated,
    #[error("a message does not start with the continuation marker")]
    Marker,
    #[error("a message's metadata is no valid flatbuffer")]
    Metadata,
    #[error("a message of an unexpected kind")]
    Kind,
    #[error("metadata version 5 is required")]
    Version,
    #[error("it is big-endian")]
    Endianness,
    #[error("a length or offset lies outside its bounds")]
    Bounds,
    #[error("a length differs from what it must be")]
    Length,
    #[error("the number of nodes or buffers does not fit the schema")]
    Layout,
    #[error("it is compressed")]
    Compressed,
    #[error("a compressed buffer is damaged")]
    Compression,
    #[error("a dictionary is missing, foreign or nested")]
    Dictionary,
    #[error("column {name:?} of type {type_name} is damaged, or has no place in a dataset")]
    Field { name: String, type_name: String },
    #[error("bytes follow its end")]
    Trailing,
    #[error("a column is invalid")]
    Values(#[source] ArrowError),
}

impl Error {
    /// Returns the kind by which protocols report it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Body { .. } | Self::KeyBytes => ErrorKind::Corrupt,
            Self::ColumnTooLarge { .. } | Self::RowTooLarge { .. } | Self::Budget { .. } => {
                ErrorKind::ResourceExhausted
            }
            Self::Adapt { .. } | Self::Arrow { .. } => ErrorKind::Internal,
            Self::Illegal(_)
            | Self::Unsupported { .. }
            | Self::Missing { .. }
            | Self::Unexpected { .. }
            | Self::Reordered { .. }
            | Self::Type { .. }
            | Self::Null { .. }
            | Self::NestedNull { .. }
            | Self::Inexact { .. }
            | Self::Stream { .. }
            | Self::Keyless
            | Self::KeyParts { .. }
            | Self::KeyText { .. } => ErrorKind::InvalidArgument,
        }
    }

    /// Returns the error with its row counted from the first of all rows, when its batch begins at `first_row`.
    #[must_use]
    pub fn moved_by(mut self, first_row: usize) -> Self {
        if let Self::Null { row, .. } | Self::Inexact { row, .. } | Self::RowTooLarge { row, .. } =
            &mut self
        {
            *row = row.saturating_add(first_row);
        }
        self
    }

    /// Makes a failure of Arrow itself, where its arguments were checked before.
    pub(crate) fn arrow(operation: &'static str) -> impl Fn(ArrowError) -> Self {
        move |source| Self::Arrow { operation, source }
    }
}

impl From<ArrowError> for Error {
    fn from(source: ArrowError) -> Self {
        Self::Arrow { operation: "compute on rows", source }
    }
}
