//! The metadata on disk: the only user of RocksDB.
//!
//! Guarantees: mutations, applied entry, membership and digest reach the disk in one write batch,
//! so that a crash leaves the state after some entry and says which; an import replaces everything
//! or nothing; damage is an error that names the directory, never an answer.
//!
//! Does not: interpret records (the state machine does), decide when to flush (the engine does),
//! hold anything that the log and a snapshot could not give back.
//!
//! Reading order: `layout` (stored keys), `recent` (what is kept in memory), `tuning` and
//! `generation` (one RocksDB), `pointer` (which one is current), `store` (commit, flush, import).

#![deny(missing_docs)]

mod generation;
mod layout;
mod pointer;
mod recent;
mod store;
mod tuning;

pub use store::{OpenOptions, RocksStore};
