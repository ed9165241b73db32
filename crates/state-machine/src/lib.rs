//! The state machine: what each log entry does to the metadata, as a pure function.
//!
//! `apply(view, entry) -> { mutations, effects, response }`. Guarantees: the same entries give the same
//! mutations, digest and responses on every replica and every run; a rejected command changes nothing but
//! its session; nothing here is async, reads a clock, draws a random number, does input or output, or
//! computes with floats.
//!
//! Does not: store (the metastore commits mutations, applied index and digest in one batch), perform effects
//! (the engine does, beside apply), look into Arrow bytes (the proposer validated them).
//!
//! Reading order: `table` (the keyspace), `record` (what the tables hold), `view` (how state is read),
//! `apply`, `digest`, `memory` (the store of tests and the simulator), `snapshot`.

#![deny(clippy::float_arithmetic, missing_docs)]

mod digest;
pub mod record;
mod table;
mod view;

pub use digest::StateDigest;
pub use table::{Key, Table};
pub use view::{
    Applied, Effect, Mutation, Operation, Overlay, ScanRange, View, ViewError, decode_record,
};
