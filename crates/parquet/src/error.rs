//! What can go wrong with a Parquet file. Never holds row content.

use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use parquet::errors::ParquetError;

use crate::schema::UnsupportedType;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to write, read or verify a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each field is named in its variant's message")]
pub enum Error {
    /// A column's type has no place in a dataset.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedType),
    /// No writer of this version is known.
    #[error("recipe names writer version {version}, which this build does not have")]
    WriterVersion { version: u16 },
    /// The recipe's codec level is outside the codec's range.
    #[error("recipe names zstd level {level}, outside 1 to 22")]
    CodecLevel { level: u8 },
    /// The recipe's row group size is outside its limits.
    #[error("recipe names row groups of {rows} rows, outside the limits")]
    RowGroupRows { rows: u32 },
    /// A batch has another number of columns than the schema.
    #[error("a batch has {found} columns, the schema {expected}")]
    ColumnCount { expected: usize, found: usize },
    /// A batch's column has another name or a type that does not mean the same.
    #[error("column {column}: expected {expected}, found {found} named {found_name}")]
    ColumnMismatch { column: String, expected: DataType, found: DataType, found_name: String },
    /// A required column holds a null.
    #[error("column {column} is required and holds a null")]
    NullInRequired { column: String },
    /// A column could not be brought into canonical form.
    #[error("cannot bring column {column} into canonical form")]
    Canonical {
        column: String,
        #[source]
        source: ArrowError,
    },
    /// Batches could not be joined or checked against the schema.
    #[error("cannot join batches")]
    Join(#[source] ArrowError),
    /// The encoder failed.
    #[error("cannot encode a file")]
    Encode(#[source] ParquetError),
    /// The bytes are no whole Parquet file.
    #[error("not a readable Parquet file")]
    Decode(#[source] ParquetError),
    /// A page could not be decoded.
    #[error("a page of the file cannot be decoded")]
    Page(#[source] ArrowError),
    /// The decoder met a state that it thinks impossible: the bytes are damaged.
    #[error("the file's bytes crash the decoder")]
    DecoderPanicked,
    /// A projection names a column that the file does not have.
    #[error("the file has no column {column}")]
    NoSuchColumn { column: String },
    /// The file holds another number of rows than it must.
    #[error("the file holds {found} rows, expected {expected}")]
    Rows { expected: u64, found: u64 },
}
