//! The store of tests and the simulator: metadata in memory, with the same digest as on disk.
//!
//! It must not differ from RocksDB in any answer. Invariant: a key's versions ascend.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Arc, PoisonError, RwLock};

use alluvium_types::LogIndex;

use crate::overlay::marks;
use crate::record::{AppliedEntry, RaftRecord};
use crate::snapshot::{SnapshotReader, SnapshotWriter};
use crate::store::{CommitBatch, MetaStore, VersionKey, VersionWrite, resolve};
use crate::view::{ScanRange, Version, View, ViewError, unreachable_versions};
use crate::{Key, SnapshotMeta, StateDigest, StoreError, Table};

/// Metadata in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    states: RwLock<States>,
}

#[derive(Debug, Clone, Default)]
struct States {
    current: Arc<State>,
    /// The state at the last flush: what a crash leaves.
    flushed: Arc<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    keys: BTreeMap<(Table, Key), Vec<Version>>,
    raft: RaftRecord,
    digest: StateDigest,
}

impl MemoryStore {
    /// Returns an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes back to the last flush, as a crash does.
    pub fn lose_unflushed(&self) {
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        states.current = Arc::clone(&states.flushed);
    }

    fn current(&self) -> Arc<State> {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&states.current)
    }

    /// Runs a scan. The lock is held meanwhile: copying the state would cost more than any scan.
    fn with<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        read(&states.current)
    }
}

impl State {
    fn range<'s>(
        &'s self,
        range: &'s ScanRange<'_>,
    ) -> impl Iterator<Item = (&'s Key, &'s Vec<Version>)> + 's {
        let start = range.from.map_or(range.prefix, |from| from.max(range.prefix)).clone();
        self.keys
            .range((range.table, start)..)
            .take_while(|((table, key), _)| {
                *table == range.table && key.0.starts_with(&range.prefix.0)
            })
            .map(|((_, key), versions)| (key, versions))
    }

    fn write(&mut self, at: VersionKey, write: VersionWrite) {
        let VersionKey { table, key, version } = at;
        let versions = self.keys.entry((table, key.clone())).or_default();
        let found = versions.binary_search_by_key(&version, |stored| stored.index);
        match (write, found) {
            (VersionWrite::Store(value), Ok(place)) => versions[place].value = value,
            (VersionWrite::Store(value), Err(place)) => {
                versions.insert(place, Version { index: version, value });
            }
            (VersionWrite::Remove, Ok(place)) => drop(versions.remove(place)),
            (VersionWrite::Remove, Err(_)) => {}
        }
        if versions.is_empty() {
            self.keys.remove(&(table, key));
        }
    }
}

fn value_at(table: Table, versions: &[Version], at: LogIndex) -> Option<&Vec<u8>> {
    // Latest-only tables have version zero, which every index sees.
    debug_assert!(table.is_versioned() || versions.iter().all(|stored| stored.index.0 == 0));
    versions.iter().rfind(|version| version.index <= at)?.value.as_ref()
}

impl View for MemoryStore {
    fn get_at(&self, table: Table, key: &Key, at: LogIndex) -> Result<Option<Vec<u8>>, ViewError> {
        let versions = |state: &State| {
            let versions = state.keys.get(&(table, key.clone()))?;
            value_at(table, versions, at).cloned()
        };
        Ok(self.with(versions))
    }

    fn scan_at(
        &self,
        range: &ScanRange<'_>,
        at: LogIndex,
    ) -> Result<Vec<(Key, Vec<u8>)>, ViewError> {
        let scan = |state: &State| {
            let seen = state.range(range).filter_map(|(key, versions)| {
                Some((key.clone(), value_at(range.table, versions, at)?.clone()))
            });
            seen.take(range.limit).collect()
        };
        Ok(self.with(scan))
    }

    fn versions(&self, table: Table, key: &Key) -> Result<Vec<Version>, ViewError> {
        Ok(self.with(|state| state.keys.get(&(table, key.clone())).cloned().unwrap_or_default()))
    }

    fn prunable(
        &self,
        range: &ScanRange<'_>,
        floor: LogIndex,
    ) -> Result<Vec<(Key, u64)>, ViewError> {
        let scan = |state: &State| {
            let counted = state.range(range).map(|(key, versions)| {
                (key.clone(), unreachable_versions(&marks(versions), floor) as u64)
            });
            counted.filter(|(_, count)| *count > 0).take(range.limit).collect()
        };
        Ok(self.with(scan))
    }
}

impl MetaStore for MemoryStore {
    fn raft(&self) -> RaftRecord {
        self.with(|state| state.raft.clone())
    }

    fn digest(&self) -> StateDigest {
        self.with(|state| state.digest)
    }

    fn commit(&self, batch: CommitBatch) -> Result<StateDigest, StoreError> {
        let raft = batch.raft.clone();
        let resolved = resolve(self, self.digest(), self.raft().applied, batch)?;
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        let state = Arc::make_mut(&mut states.current);
        for (at, write) in resolved.writes {
            state.write(at, write);
        }
        state.raft = raft;
        state.digest = resolved.digest;
        Ok(resolved.digest)
    }

    fn flush(&self) -> Result<Option<AppliedEntry>, StoreError> {
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        states.flushed = Arc::clone(&states.current);
        Ok(states.flushed.raft.applied)
    }

    fn durable(&self) -> Option<AppliedEntry> {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        states.flushed.raft.applied
    }

    fn export(&self, sink: &mut dyn Write) -> Result<SnapshotMeta, StoreError> {
        let state = self.current();
        let mut writer = SnapshotWriter::new(sink)?;
        for ((table, key), versions) in &state.keys {
            for version in versions {
                let stored = VersionKey { table: *table, key: key.clone(), version: version.index };
                writer.row(&stored, version.value.as_deref())?;
            }
        }
        Ok(writer.finish(&state.raft, state.digest)?)
    }

    fn import(&self, source: &mut dyn Read) -> Result<SnapshotMeta, StoreError> {
        let mut state = State::default();
        let meta = SnapshotReader::new(source)?.read(&mut |at, value| {
            state.write(at, VersionWrite::Store(value));
            Ok(())
        })?;
        state.raft = RaftRecord { applied: meta.applied, membership: meta.membership.clone() };
        state.digest = meta.digest;
        let state = Arc::new(state);
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        *states = States { current: Arc::clone(&state), flushed: state };
        Ok(meta)
    }

    fn recompute_digest(&self) -> Result<StateDigest, StoreError> {
        let recompute = |state: &State| {
            let mut digest = StateDigest::default();
            for ((table, key), versions) in &state.keys {
                for version in versions {
                    digest.add(*table, key, version.index, version.value.as_deref());
                }
            }
            digest
        };
        Ok(self.with(recompute))
    }
}
