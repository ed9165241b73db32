//! Answers SQL at one log index: the only direct user of DataFusion.
//!
//! A query sees what the log says at its index: data files whose bytes are verified as they are read,
//! deltas decoded from the log, minus what tombstones hide. Guarantees: planning reads metadata alone; the
//! answer names its index; a tombstone that cannot be read fails the query, it never shows hidden rows.
//!
//! Does not: write anything but spill files, spawn tasks of its own, open a file or address that a user
//! names, or decide which index is linearizable (the engine does).
//!
//! Reading order: [`engine`], `planner`, `sql` (text to statement), `catalog`, `table` (a dataset at an index), `files`,
//! `deltas`, `tombstones`, [`predicate`] (keys of a predicate), `system` (tables about the log itself).

#![deny(missing_docs)]

mod apart;
mod cache;
mod catalog;
mod deep;
mod deltas;
mod error;
mod files;
mod memory;
mod metadata;
mod planner;
mod predicate;
mod pruning;
mod recover;
mod request;
mod schema_map;
mod session;
mod sources;
mod sql;
mod stop;
mod stores;
mod stream;
mod system;
mod table;
mod tombstones;

pub mod engine;

#[cfg(test)]
mod lake;

pub use engine::{QueryConfig, QueryEngine};
pub use error::{Error, PredicateFault, SharedError};
pub use predicate::ResolvedKeys;
pub use request::{CancelToken, QueryRequest};
pub use sources::{BucketSource, Sources, SystemSource};
pub use stream::{QueryStats, QueryStream};
