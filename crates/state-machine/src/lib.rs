//! The state machine: what each log entry does to the metadata, as a pure function.
//!
//! `apply(view, entry) -> { mutations, effects, response }`. Guarantees: the same entries give the
//! same mutations, digest and responses on every replica and every run; a rejected command changes
//! nothing but its session; nothing here is async, reads a clock, draws a random number, does input
//! or output, or computes with floats.
//!
//! Does not: store (the metastore commits mutations, applied index and digest in one batch),
//! perform effects (the engine does, beside apply), look into Arrow bytes (the proposer validated
//! them).
//!
//! Reading order: `table` (the keyspace), `record` (what the tables hold), `view` (how state is
//! read), `apply`, `batch`, `store` (what a store must keep), `digest`, `memory` (the store of
//! tests and the simulator), `snapshot`, `references`, `catalog` (typed reads for everyone else).

#![deny(clippy::float_arithmetic, missing_docs)]

mod apply;
mod batch;
pub mod catalog;
mod digest;
mod error;
mod memory;
mod overlay;
pub mod record;
mod references;
mod snapshot;
mod store;
mod table;
mod view;
pub mod workload;

pub use apply::{EntryRef, apply, payload_hash, predicate_hash};
pub use batch::{BatchApplier, BatchEntry, BatchResult, EntryContent, apply_batch};
pub use digest::StateDigest;
pub use error::{SnapshotError, StoreError};
pub use memory::MemoryStore;
pub use overlay::Overlay;
pub use references::references;
pub use snapshot::{RowSink, SNAPSHOT_VERSION, SnapshotMeta, SnapshotReader, SnapshotWriter};
pub use store::{CommitBatch, MetaStore, Resolved, VersionKey, VersionWrite, resolve};
pub use table::{Key, Table};
pub use view::{
    Applied, Effect, Mutation, Operation, ScanRange, Version, View, ViewError, decode_record,
    record_at, unreachable_versions,
};
