//! Which rows are hidden: keys are looked up once for each file and delta, then rows are known by position.
//!
//! Must not: answer when a tombstone cannot be read. Invariant INV-Q2: a row is hidden at an index exactly
//! when some tombstone of its key lies above the row's own index and not above that index.

mod positions;
mod resolver;
mod visible;

pub(crate) use resolver::{DeltaTarget, FileTarget, Resolver, ScanTombstones};
pub(crate) use visible::visible;
