//! Parquet files whose bytes are a function of their rows and a recipe, and nothing else.
//!
//! Guarantees: two replicas that write the same rows with the same [`Recipe`] write the same bytes, however
//! the rows were batched, sliced or dictionary-encoded on the way (INV-P1); a file has one footer and holds
//! every row written (INV-P2); statistics are bounds, never guesses.
//!
//! Does not: know buckets, the log or tombstones. Rows arrive with the hidden log-index column already there,
//! and it is a column like any other.
//!
//! In reading order: [`recipe`] fixes the bytes, [`schema`] says what can be written, [`canonical`] makes
//! equal rows equal, `encoding` chooses, [`writer`] and [`reader`] do the work, [`stats`] bounds columns, [`rowhash`] proves that
//! no row was lost.

pub mod canonical;
mod encoding;
pub mod error;
pub mod limits;
pub mod reader;
pub mod recipe;
pub mod rowhash;
pub mod schema;
pub mod stats;
pub mod writer;

pub use error::{Error, Result};
pub use reader::{Projection, Verified, open, read_file, verify};
pub use recipe::{Codec, Recipe};
pub use rowhash::{row_hash_sum, row_hashes};
pub use schema::{UnsupportedType, canonical_schema, check_supported};
pub use stats::{ColumnStats, StatValue};
pub use writer::{ParquetTableWriter, TableWriter, WrittenFile};
