//! Files as batches: Parquet, CSV, NDJSON and Arrow IPC, in bounded memory.
//!
//! Guarantees: a batch that a [`Reader`] returns has exactly the columns of the schema it reads for, and no
//! value was rounded, truncated or made NULL on the way; an error says in which line (or row) and column it
//! is; no input makes a reader panic or hold more than a batch and a line.
//!
//! Does not: guess past a sample, skip a bad row, know of logs or datasets.
//!
//! Reading order: `source` (what is read), `reader` (batches), `align` (columns by name), then a file for
//! each format.

#![deny(missing_docs)]

mod align;
mod columnar;
mod error;
mod infer;
mod json_values;
mod limits;
mod ndjson;
mod reader;
mod separated;
mod source;
mod text;

pub use error::{Error, Location};
pub use limits::{BATCH_BYTES, BATCH_ROWS, RECORD_BYTES_MAX, SAMPLE_BYTES};
pub use reader::{Inferred, Progress, Reader, infer_schema, open};
pub use source::{Format, Input, Source};
