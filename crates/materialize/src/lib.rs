//! Effects on bytes: deltas become data files, data files become better ones, unreferenced ones go.
//!
//! Guarantees: what a planned file holds is a function of the plan and of the metadata as of the plan's entry,
//! so every replica, now or later, makes the same bytes; a file is attested only after it was read back from
//! its bucket and its rows were counted and summed; a compaction whose rows do not add up is an error, never
//! a file that readers use.
//!
//! Does not: spawn, propose, cache, retry, or list a bucket to find out what exists. Its work blocks the
//! thread it runs on: the caller chooses one that may be kept busy.
//!
//! Reading order: `context` (what a job may read), `deltas` (rows still in the log), `tombstones` (what
//! is hidden), `seal`, `compact`, `publish` (put, read back, attest), `verify`, `scrub`, `sweep`.

#![deny(missing_docs)]

mod compact;
mod context;
mod deltas;
mod error;
mod publish;
mod scrub;
mod seal;
mod sweep;
mod tombstones;
mod verify;

#[cfg(test)]
mod tests;

pub use compact::compact;
pub use context::{FileContext, LogSource, object_key, parquet_recipe, storage_digest};
pub use deltas::read_delta;
pub use error::{Error, LogError, Sums};
pub use scrub::{ScrubReport, check_file, scrub};
pub use seal::seal;
pub use sweep::sweep;
pub use tombstones::TombstoneIndex;
pub use verify::{Damage, DatasetReport, verify_dataset};
