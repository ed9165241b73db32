//! Which rows are hidden: by position in data files, by key in deltas.
//!
//! Must not: answer when a tombstone cannot be read. Invariant INV-Q2: a row is hidden at an index exactly
//! when some tombstone of its key lies above the row's own index and not above that index.

mod filter;
mod positions;
mod resolver;

pub(crate) use filter::TombstoneFilterExec;
pub(crate) use resolver::{FileTarget, Resolver};
