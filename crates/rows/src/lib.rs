//! Arrow rows as the log carries them: schemas, conforming batches, entry bodies, keys and adaptation.
//!
//! Guarantees: a batch that [`conform`] returns has exactly the columns of its schema, and no value was
//! rounded, truncated or made NULL on the way; bytes from outside become rows only through full validation
//! and within a memory budget, or a typed error; two rows have the same key bytes exactly when they have the
//! same key.
//!
//! Does not: do input or output, read clocks, decide what is visible.
//!
//! Reading order: [`schema`] (Arrow's types and ours), [`conform`], [`ipc`] (the body of an entry),
//! [`stream`] (what clients send), [`split`], [`keys`], [`adapt`] (older rows under a newer schema).

#![deny(missing_docs)]

mod adapt;
mod conform;
mod error;
mod ipc;
mod key_text;
mod keys;
mod layout;
mod lz4;
pub mod schema;
mod size;
mod split;
mod stream;
mod stream_schema;

#[cfg(test)]
mod samples;

pub use adapt::adapt;
pub use conform::conform;
pub use error::{Error, StreamFault};
pub use ipc::{decode_body, encode_body, join_keys, keys_part, rows_part};
pub use keys::KeyEncoder;
pub use schema::{INDEX_COLUMN, INDEX_FIELD_ID, from_arrow, to_arrow, with_index};
pub use size::slice_bytes;
pub use split::{Piece, split};
pub use stream::{StreamLimits, decode_stream};
