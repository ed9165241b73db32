//! The memory that running queries share.
//!
//! Must not: let a query wait past its deadline; whoever takes a share does so within its limits. Invariant:
//! the shares given out never sum up to more than the whole.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many queries may hold the whole limit of one at once.
const FULL_QUERIES: usize = 2;
/// Bytes that one permit stands for: a share is rounded up to it.
const UNIT_BYTES: usize = 64 * 1024;

/// What all queries of an engine may hold together.
pub(crate) struct SharedMemory {
    units: Arc<Semaphore>,
    /// The most that one query takes.
    query_units: u32,
}

/// What one query may hold, until it is dropped.
pub(crate) type MemoryShare = OwnedSemaphorePermit;

impl SharedMemory {
    pub(crate) fn new(query_bytes: usize) -> Self {
        let query_units = units(query_bytes);
        let all = FULL_QUERIES.saturating_mul(query_units as usize).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(all)), query_units }
    }

    /// Waits for a share; first come, first served, so that a large query is not starved by small ones.
    pub(crate) async fn take(&self, bytes: usize) -> MemoryShare {
        let units = units(bytes).min(self.query_units);
        let share = Arc::clone(&self.units).acquire_many_owned(units).await;
        share.expect("the semaphore is never closed")
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX)
}
