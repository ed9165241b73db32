//! Tombstones by key: which rows they hide, as of any index.
//!
//! It must not take two keys for one because their hashes are equal: the keys are compared. Invariant: the
//! indexes of a key strictly ascend.

use std::ops::Range;

use alluvium_rows::{Error as RowsError, INDEX_COLUMN, KeyEncoder};
use alluvium_types::{KeyBlock, LogIndex};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, UInt64Type};
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_64;

const EMPTY: u32 = u32::MAX;
const SLOTS_MIN: usize = 16;

/// Every key that tombstones name, with the indexes of those tombstones.
#[derive(Debug, Clone, Default)]
pub struct TombstoneIndex {
    /// Open addressing: positions in `entries`. Invariant: a power of two, at most half full, or none at all.
    slots: Vec<u32>,
    entries: Vec<Entry>,
    /// The keys' bytes, one after the other.
    keys: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Entry {
    hash: u64,
    key: Range<usize>,
    /// The lowest tombstone; most keys have one only.
    first: u64,
    /// The others, ascending.
    later: Vec<u64>,
}

impl TombstoneIndex {
    /// Returns the index of some blocks.
    #[must_use]
    pub fn from_blocks(blocks: &[(LogIndex, KeyBlock)]) -> Self {
        let mut index = Self::default();
        let keys = blocks.iter().map(|(_, block)| block.len() as usize).sum();
        index.reserve(keys);
        for (tombstone, block) in blocks {
            index.extend(*tombstone, block);
        }
        index
    }

    /// Adds the keys of one tombstone, in any order of tombstones; a block that is there already changes
    /// nothing.
    pub fn extend(&mut self, tombstone: LogIndex, block: &KeyBlock) {
        self.reserve(self.entries.len() + block.len() as usize);
        for key in block.iter() {
            self.insert(key, tombstone.0);
        }
    }

    fn insert(&mut self, key: &[u8], tombstone: u64) {
        let hash = xxh3_64(key);
        let slot = self.slot(hash, key);
        if let Some(entry) = self.entries.get_mut(self.slots[slot] as usize) {
            entry.add(tombstone);
            return;
        }
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        self.slots[slot] =
            u32::try_from(self.entries.len()).expect("fewer than 2^32 keys fit in memory");
        let key = start..self.keys.len();
        self.entries.push(Entry { hash, key, first: tombstone, later: Vec::new() });
    }

    /// Returns the slot of a key: its own, or the empty one where it belongs.
    fn slot(&self, hash: u64, key: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let low = u32::try_from(hash & u64::from(u32::MAX)).expect("masked to 32 bits");
        let mut slot = low as usize & mask;
        loop {
            match self.entries.get(self.slots[slot] as usize) {
                Some(entry) if entry.hash != hash || self.keys[entry.key.clone()] != *key => {
                    slot = (slot + 1) & mask;
                }
                Some(_) | None => return slot,
            }
        }
    }

    /// Makes room so that `entries` keys leave half of the slots empty.
    fn reserve(&mut self, entries: usize) {
        let wanted = entries.saturating_mul(2).max(SLOTS_MIN).next_power_of_two();
        if wanted <= self.slots.len() {
            return;
        }
        self.slots.clear();
        self.slots.resize(wanted, EMPTY);
        for position in 0..self.entries.len() {
            let entry = &self.entries[position];
            let slot = self.slot(entry.hash, &self.keys[entry.key.clone()]);
            self.slots[slot] = u32::try_from(position).expect("it was a slot's content before");
        }
    }

    fn find(&self, key: &[u8]) -> Option<&Entry> {
        if self.slots.is_empty() {
            return None;
        }
        self.entries.get(self.slots[self.slot(xxh3_64(key), key)] as usize)
    }

    /// Returns the lowest tombstone above a row's index that names its key: the one since which it is hidden.
    #[must_use]
    pub fn hidden_since(&self, key: &[u8], row_index: LogIndex) -> Option<LogIndex> {
        self.find(key)?.after(row_index.0).map(LogIndex)
    }

    /// Says whether a row is hidden as of `at`: by a tombstone above its own index, and not above `at`.
    #[must_use]
    pub fn hidden(&self, key: &[u8], row_index: LogIndex, at: LogIndex) -> bool {
        self.hidden_since(key, row_index).is_some_and(|tombstone| tombstone <= at)
    }

    /// Returns the highest tombstone that names a key.
    #[must_use]
    pub fn latest(&self, key: &[u8]) -> Option<LogIndex> {
        let entry = self.find(key)?;
        Some(LogIndex(entry.later.last().copied().unwrap_or(entry.first)))
    }

    /// Returns the positions of a batch's rows that are hidden as of `at`. The batch has the key columns and
    /// the hidden index column.
    ///
    /// # Errors
    /// A column that is missing or of another type, or a NULL key: what is hidden cannot be told then.
    pub fn resolve(
        &self,
        keys: &KeyEncoder,
        batch: &RecordBatch,
        at: LogIndex,
    ) -> Result<RoaringBitmap, RowsError> {
        let mut hidden = RoaringBitmap::new();
        if self.is_empty() {
            return Ok(hidden);
        }
        let missing = || RowsError::Missing { column: INDEX_COLUMN.to_owned() };
        let column = batch.column_by_name(INDEX_COLUMN);
        let column = column.filter(|column| *column.data_type() == DataType::UInt64);
        let indexes = column.ok_or_else(missing)?.as_primitive::<UInt64Type>().values();
        keys.encode_rows(batch, |row, key| {
            if self.hidden(key, LogIndex(indexes[row]), at) {
                hidden.insert(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
            }
            Ok(())
        })?;
        Ok(hidden)
    }

    /// Returns how many distinct keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether it hides nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns about how many bytes it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let later: usize = self.entries.iter().map(|entry| entry.later.capacity() * 8).sum();
        self.slots.capacity() * 4
            + self.entries.capacity() * size_of::<Entry>()
            + self.keys.capacity()
            + later
    }
}

impl Entry {
    fn add(&mut self, tombstone: u64) {
        if tombstone == self.first {
            return;
        }
        let added = if tombstone < self.first {
            std::mem::replace(&mut self.first, tombstone)
        } else {
            tombstone
        };
        if let Err(place) = self.later.binary_search(&added) {
            self.later.insert(place, added);
        }
    }

    /// Returns the lowest tombstone above `row_index`.
    fn after(&self, row_index: u64) -> Option<u64> {
        if row_index < self.first {
            return Some(self.first);
        }
        let above = self.later.partition_point(|tombstone| *tombstone <= row_index);
        self.later.get(above).copied()
    }
}

#[cfg(test)]
mod tests;
