//! Where metadata is kept: the contract of both stores, and the one place that turns mutations into
//! stored versions and their digest.
//!
//! A store must not interpret records. Invariant: mutations, applied index, membership and digest
//! change together or not at all.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Read, Write};

use alluvium_stdx::invariant;
use alluvium_types::LogIndex;

use crate::overlay::marks;
use crate::record::{AppliedEntry, RaftRecord};
use crate::view::{Mutation, Operation, Version, View, ViewError, unreachable_versions};
use crate::{Key, SnapshotMeta, StateDigest, StoreError, Table};

/// A store of metadata. Two real ones: memory (tests, the simulator) and RocksDB (production).
pub trait MetaStore: View + Send + Sync + Debug {
    /// Returns the last applied entry and the membership.
    fn raft(&self) -> RaftRecord;

    /// Returns the digest of the state at the applied index.
    fn digest(&self) -> StateDigest;

    /// Applies a batch, whole or not at all, and returns the new digest. Visible at once; durable
    /// by flush.
    ///
    /// # Errors
    /// A local fault; the store must not be used any more.
    fn commit(&self, batch: CommitBatch) -> Result<StateDigest, StoreError>;

    /// Makes everything applied durable and returns what is durable now.
    ///
    /// # Errors
    /// A local fault. A failed flush is final.
    fn flush(&self) -> Result<Option<AppliedEntry>, StoreError>;

    /// Returns the last entry whose effect is known to survive a power cut. Never ahead of the
    /// disk.
    fn durable(&self) -> Option<AppliedEntry>;

    /// Writes the state at one applied index as a snapshot stream.
    ///
    /// # Errors
    /// A local fault, or one of the sink.
    fn export(&self, sink: &mut dyn Write) -> Result<SnapshotMeta, StoreError>;

    /// Replaces everything by a snapshot stream, after its digest was verified. Durable when it
    /// returns; a crash leaves the old state or the new.
    ///
    /// # Errors
    /// A damaged or short stream, which leaves the old state in place; or a local fault.
    fn import(&self, source: &mut dyn Read) -> Result<SnapshotMeta, StoreError>;

    /// Computes the digest from every stored version, to compare with the one kept up to date.
    ///
    /// # Errors
    /// A local fault.
    fn recompute_digest(&self) -> Result<StateDigest, StoreError>;
}

/// What one or more entries change. Only [`crate::BatchApplier`] makes one with mutations, so there is no way to
/// change metadata but to apply an entry:
///
/// ```compile_fail,E0451
/// use alluvium_state_machine::{CommitBatch, record::RaftRecord};
/// let (mutations, raft) = (Vec::new(), RaftRecord::default());
/// let batch = CommitBatch { mutations, raft };
/// ```
///
/// The same names, where nothing is changed:
///
/// ```
/// use alluvium_state_machine::{CommitBatch, record::RaftRecord};
/// let raft = RaftRecord::default();
/// assert_eq!(CommitBatch::without_mutations(raft.clone()).raft(), &raft);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitBatch {
    /// Each entry's mutations, by ascending index.
    pub(crate) mutations: Vec<(LogIndex, Vec<Mutation>)>,
    /// The applied entry and the membership after the batch.
    pub(crate) raft: RaftRecord,
}

impl CommitBatch {
    /// Returns the batch of entries that change no metadata: blank ones, and memberships.
    #[must_use]
    pub fn without_mutations(raft: RaftRecord) -> Self {
        Self { mutations: Vec::new(), raft }
    }

    /// Returns the applied entry and the membership after the batch.
    #[must_use]
    pub fn raft(&self) -> &RaftRecord {
        &self.raft
    }
}

/// A batch as stored versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What becomes of each version.
    pub writes: BTreeMap<VersionKey, VersionWrite>,
    /// The digest after the batch.
    pub digest: StateDigest,
}

/// The full identity of a stored version. Its version is zero in latest-only tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionKey {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: Key,
    /// The index that wrote it.
    pub version: LogIndex,
}

/// What becomes of a stored version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionWrite {
    /// It is stored: a value, or a deletion marker.
    Store(Option<Vec<u8>>),
    /// It is removed.
    Remove,
}

/// Turns a batch into stored versions and the digest after it. `base` is the state before it, whose
/// digest and applied entry are given.
///
/// # Errors
/// A local fault of `base`.
///
/// # Panics
/// If the batch does not follow the applied entry: committing it would apply an entry twice or skip
/// one.
pub fn resolve(
    base: &dyn View,
    digest: StateDigest,
    applied: Option<AppliedEntry>,
    batch: CommitBatch,
) -> Result<Resolved, ViewError> {
    let before = applied.map_or(LogIndex(0), |entry| entry.index);
    let after = batch.raft.applied.map_or(LogIndex(0), |entry| entry.index);
    invariant!("INV-M1", before <= after, "applied moves back: {after} after {before}");
    let mut resolver = Resolver { base, writes: BTreeMap::new(), digest };
    let mut previous = before;
    for (index, mutations) in batch.mutations {
        invariant!("INV-M1", previous < index, "entry {index} is committed after {previous}");
        invariant!("INV-M1", index <= after, "entry {index} is above the applied index {after}");
        previous = index;
        for mutation in mutations {
            resolver.add(index, mutation)?;
        }
    }
    Ok(Resolved { writes: resolver.writes, digest: resolver.digest })
}

struct Resolver<'a> {
    base: &'a dyn View,
    writes: BTreeMap<VersionKey, VersionWrite>,
    digest: StateDigest,
}

impl Resolver<'_> {
    fn add(&mut self, index: LogIndex, mutation: Mutation) -> Result<(), ViewError> {
        let Mutation { table, key, operation } = mutation;
        match (operation, table.is_versioned()) {
            (Operation::Put(value), true) => self.store(table, key, index, Some(value)),
            (Operation::Delete, true) => self.store(table, key, index, None),
            (Operation::Put(value), false) => {
                self.forget_latest(table, &key)?;
                self.store(table, key, LogIndex(0), Some(value));
            }
            (Operation::Delete, false) => {
                self.forget_latest(table, &key)?;
                let version = LogIndex(0);
                self.writes.insert(VersionKey { table, key, version }, VersionWrite::Remove);
            }
            (Operation::Prune { floor }, true) => self.prune(table, &key, floor)?,
            (Operation::Prune { .. }, false) => panic!("table {table:?} has no versions to prune"),
        }
        Ok(())
    }

    fn store(&mut self, table: Table, key: Key, version: LogIndex, value: Option<Vec<u8>>) {
        self.digest.add(table, &key, version, value.as_deref());
        let stored = VersionKey { table, key, version };
        let before = self.writes.insert(stored, VersionWrite::Store(value));
        // Latest-only values were taken out of the digest before; a versioned key is written once
        // an entry.
        let twice = matches!(before, Some(VersionWrite::Store(_))) && table.is_versioned();
        assert!(!twice, "an entry writes a key of {table:?} twice");
    }

    fn forget_latest(&mut self, table: Table, key: &Key) -> Result<(), ViewError> {
        let stored = VersionKey { table, key: key.clone(), version: LogIndex(0) };
        let old = match self.writes.get(&stored) {
            Some(VersionWrite::Store(value)) => value.clone(),
            Some(VersionWrite::Remove) => None,
            None => self.base.get(table, key)?,
        };
        if let Some(old) = old {
            self.digest.remove(table, key, LogIndex(0), Some(&old));
        }
        Ok(())
    }

    fn prune(&mut self, table: Table, key: &Key, floor: LogIndex) -> Result<(), ViewError> {
        let mut versions = self.versions(table, key)?;
        versions.truncate(unreachable_versions(&marks(&versions), floor));
        for Version { index: version, value } in versions {
            self.digest.remove(table, key, version, value.as_deref());
            let stored = VersionKey { table, key: key.clone(), version };
            self.writes.insert(stored, VersionWrite::Remove);
        }
        Ok(())
    }

    fn versions(&self, table: Table, key: &Key) -> Result<Vec<Version>, ViewError> {
        let stored = self.base.versions(table, key)?;
        let mut versions: BTreeMap<LogIndex, Option<Vec<u8>>> =
            stored.into_iter().map(|version| (version.index, version.value)).collect();
        let bound = |version| VersionKey { table, key: key.clone(), version };
        for (changed, write) in self.writes.range(bound(LogIndex(0))..=bound(LogIndex::MAX)) {
            match write {
                VersionWrite::Store(value) => versions.insert(changed.version, value.clone()),
                VersionWrite::Remove => versions.remove(&changed.version),
            };
        }
        Ok(versions.into_iter().map(|(index, value)| Version { index, value }).collect())
    }
}
