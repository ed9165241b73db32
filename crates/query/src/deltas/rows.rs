//! Rows of deltas, kept decoded: an entry of the log is read, checked and decoded once, not in every query.
//!
//! Must not: keep rows that something was left out of; tombstones are looked at above it. Invariant: a key names
//! rows that an applied entry holds, and those never change, so nothing grows stale.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::RecordBatch;

use alluvium_rows::slice_bytes;
use alluvium_state_machine::record::DeltaRecord;
use alluvium_types::{DatasetKey, LogIndex};

use crate::cache::Cache;

/// What a kept delta takes besides its values.
const OVERHEAD_BYTES: u64 = 1_024;

/// Decoded deltas by dataset and index, within a number of bytes.
pub(crate) struct DeltaRows {
    limit_bytes: usize,
    cache: Mutex<Cache<(DatasetKey, LogIndex), Vec<RecordBatch>>>,
}

impl DeltaRows {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, cache: Mutex::new(Cache::new(limit_bytes)) }
    }

    /// Says whether the rows of a whole scan fit; a longer one would push out what it needs again first.
    pub(crate) fn fits<'a>(&self, deltas: impl Iterator<Item = &'a DeltaRecord>) -> bool {
        let bytes = deltas.map(|delta| delta.bytes.saturating_add(OVERHEAD_BYTES));
        bytes.fold(0, u64::saturating_add) <= self.limit_bytes as u64
    }

    pub(crate) fn get(
        &self,
        dataset: DatasetKey,
        index: LogIndex,
    ) -> Option<Arc<Vec<RecordBatch>>> {
        self.lock().get(&(dataset, index))
    }

    pub(crate) fn put(&self, dataset: DatasetKey, index: LogIndex, rows: &Arc<Vec<RecordBatch>>) {
        let bytes = rows.iter().map(slice_bytes).fold(OVERHEAD_BYTES, u64::saturating_add);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.lock().put((dataset, index), Arc::clone(rows), bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Cache<(DatasetKey, LogIndex), Vec<RecordBatch>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for DeltaRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeltaRows")
    }
}
