//! The store of production: one current RocksDB, replaced as a whole by an import.
//!
//! It must not retry a failed flush. Invariant: the pointer names a whole generation at every
//! moment.

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use alluvium_state_machine::record::{AppliedEntry, RaftRecord};
use alluvium_state_machine::{
    CommitBatch, Key, MetaStore, ScanRange, SnapshotError, SnapshotMeta, SnapshotReader,
    SnapshotWriter, StateDigest, StoreError, Table, Version, VersionKey, VersionWrite, View,
    ViewError, resolve,
};
use alluvium_stdx::durable;
use alluvium_types::LogIndex;

use crate::generation::{Generation, Mode};
use crate::pointer::{self, Pointer};

/// Bytes of rows of an import that are written at once.
const IMPORT_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How much memory a store may use. It bounds speed, never what is kept.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Bytes of blocks kept in memory.
    pub block_cache_bytes: usize,
    /// Bytes of a write buffer; three may exist at once.
    pub write_buffer_bytes: usize,
}

impl OpenOptions {
    /// What production uses: 64 MiB of cache, 16 MiB a write buffer.
    #[must_use]
    pub fn standard() -> Self {
        Self { block_cache_bytes: 64 * 1024 * 1024, write_buffer_bytes: 16 * 1024 * 1024 }
    }
}

/// Metadata in RocksDB.
pub struct RocksStore {
    root: PathBuf,
    options: OpenOptions,
    current: RwLock<Current>,
    /// Held by commits and by the moment of an import at which generations change.
    writing: Mutex<()>,
    /// Held by whoever writes the pointer; taken before `writing`.
    pointing: Mutex<()>,
    /// Set when a write or flush failed; nothing is written any more.
    poisoned: AtomicBool,
}

#[derive(Clone)]
struct Current {
    number: u64,
    generation: Arc<Generation>,
}

/// The store failed before, so it must not be written.
#[derive(Debug, thiserror::Error)]
#[error("an earlier write or flush failed; reopen the store")]
struct Poisoned;

/// Entries are missing that were flushed.
#[derive(Debug, thiserror::Error)]
#[error("entries up to {flushed} were flushed, and only those up to {found} are there")]
struct Lost {
    flushed: u64,
    found: u64,
}

/// The steps of an import, between any two of which a crash must do no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImportStep {
    Begun,
    Writing,
    Written,
    Verified,
    Pointed,
    Cleaned,
}

impl RocksStore {
    /// Opens the store in a directory of its own, or creates it there.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with the path when it is damaged: delete the directory and restore a
    /// snapshot.
    pub fn open(root: &Path, options: OpenOptions) -> Result<Self, StoreError> {
        let failed = |source| StoreError::File { path: root.to_path_buf(), source };
        durable::create_dir_all(root).map_err(failed)?;
        let pointer::Current { number, flushed } = match Pointer::read(root)? {
            Some(Pointer::Ready(current)) => current,
            Some(Pointer::Creating) | None => create(root, &options)?,
        };
        pointer::remove_others(root, Some(number))?;
        let dir = pointer::directory(root, number);
        let generation = Generation::open(&dir, Mode::Existing, &options)?;
        Self::over(root, options, number, generation, flushed)
    }

    /// Opens the store in a directory for reading what is there; returns none when it was never made. No file below
    /// `root` is made, changed or locked; what RocksDB notes of the opening goes below `notes`. Every write is refused.
    ///
    /// # Errors
    /// As [`RocksStore::open`].
    pub fn open_to_read(
        root: &Path,
        notes: &Path,
        options: OpenOptions,
    ) -> Result<Option<Self>, StoreError> {
        let there = root.try_exists();
        if !there.map_err(|source| StoreError::File { path: root.to_path_buf(), source })? {
            return Ok(None);
        }
        let pointer::Current { number, flushed } = match Pointer::read(root)? {
            Some(Pointer::Ready(current)) => current,
            Some(Pointer::Creating) | None => return Ok(None),
        };
        let dir = pointer::directory(root, number);
        let generation = Generation::open(&dir, Mode::ReadOnly { notes }, &options)?;
        let store = Self::over(root, options, number, generation, flushed)?;
        store.poisoned.store(true, Ordering::Release);
        Ok(Some(store))
    }

    fn over(
        root: &Path,
        options: OpenOptions,
        number: u64,
        generation: Generation,
        flushed: u64,
    ) -> Result<Self, StoreError> {
        check_flushed(&generation, flushed)?;
        Ok(Self {
            root: root.to_path_buf(),
            options,
            current: RwLock::new(Current { number, generation: Arc::new(generation) }),
            writing: Mutex::new(()),
            pointing: Mutex::new(()),
            poisoned: AtomicBool::new(false),
        })
    }

    /// Imports, and tells of each step: the crash tests copy the directory there.
    pub(crate) fn import_in_steps(
        &self,
        source: &mut dyn Read,
        step: &mut dyn FnMut(ImportStep),
    ) -> Result<SnapshotMeta, StoreError> {
        let _pointing = self.pointing.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.current().number + 1;
        pointer::remove(&self.root, number)?;
        step(ImportStep::Begun);
        let dir = pointer::directory(&self.root, number);
        let built = self.build(&dir, source, step);
        let (generation, meta) = match built {
            Ok(built) => built,
            Err(error) => {
                pointer::remove(&self.root, number)?;
                return Err(error);
            }
        };
        step(ImportStep::Verified);
        let failed = |source| StoreError::File { path: self.root.clone(), source };
        durable::sync_dir(&self.root).map_err(failed)?;
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let flushed = index_of(meta.applied);
        Pointer::Ready(pointer::Current { number, flushed }).write(&self.root)?;
        step(ImportStep::Pointed);
        let next = Current { number, generation: Arc::new(generation) };
        let before = {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, next)
        };
        drop(writing);
        // A reader may still hold it; the next open removes what stays.
        if let Some(generation) = Arc::into_inner(before.generation) {
            drop(generation);
            pointer::remove(&self.root, before.number)?;
        }
        step(ImportStep::Cleaned);
        Ok(meta)
    }

    /// Builds a generation from a stream, and reads it back.
    fn build(
        &self,
        dir: &Path,
        source: &mut dyn Read,
        step: &mut dyn FnMut(ImportStep),
    ) -> Result<(Generation, SnapshotMeta), StoreError> {
        let generation = Generation::open(dir, Mode::Create, &self.options)?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let nothing = || (RaftRecord::default(), StateDigest::default());
        let meta = SnapshotReader::new(source)?.read(&mut |at, value| {
            if is_lost(at.table) {
                return Ok(());
            }
            bytes += at.key.0.len() + value.as_ref().map_or(0, Vec::len);
            rows.push((at, VersionWrite::Store(value)));
            if bytes >= IMPORT_BATCH_BYTES {
                let (raft, digest) = nothing();
                bytes = 0;
                generation.commit(std::mem::take(&mut rows), raft, digest)?;
                step(ImportStep::Writing);
            }
            Ok(())
        })?;
        let membership = meta.membership.clone();
        let raft = RaftRecord { applied: meta.applied, membership };
        generation.commit(rows, raft, meta.digest)?;
        let flushed = generation.flush()?;
        generation.state().durable = flushed;
        step(ImportStep::Written);
        let found = recompute(&generation)?;
        if found != meta.digest && !Table::ALL.into_iter().any(is_lost) {
            let claimed = meta.digest;
            return Err(SnapshotError::Digest { claimed, found }.into());
        }
        Ok((generation, meta))
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn generation(&self) -> Arc<Generation> {
        self.current().generation
    }

    fn flush_current(&self) -> Result<Option<AppliedEntry>, StoreError> {
        // An import must not change generations between the flush and the pointer.
        let _pointing = self.pointing.lock().unwrap_or_else(PoisonError::into_inner);
        let Current { number, generation } = self.current();
        let applied = generation.flush()?;
        let flushed = index_of(applied);
        Pointer::Ready(pointer::Current { number, flushed }).write(&self.root)?;
        generation.state().durable = applied;
        Ok(applied)
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(StoreError::Commit { path: self.root.clone(), source: Box::new(Poisoned) });
        }
        Ok(())
    }

    fn poison_on_error<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
        result
    }
}

/// Creates the first generation. A crash in between leaves a pointer that says so.
fn create(root: &Path, options: &OpenOptions) -> Result<pointer::Current, StoreError> {
    const FIRST: u64 = 1;
    Pointer::Creating.write(root)?;
    pointer::remove_others(root, None)?;
    drop(Generation::open(&pointer::directory(root, FIRST), Mode::Create, options)?);
    let failed = |source| StoreError::File { path: root.to_path_buf(), source };
    durable::sync_dir(root).map_err(failed)?;
    let current = pointer::Current { number: FIRST, flushed: 0 };
    Pointer::Ready(current).write(root)?;
    Ok(current)
}

/// Refuses a generation that is older than what a flush promised.
fn check_flushed(generation: &Generation, flushed: u64) -> Result<(), StoreError> {
    let found = index_of(generation.state().raft.applied);
    if flushed <= found {
        return Ok(());
    }
    let source = Box::new(Lost { flushed, found });
    Err(StoreError::Corrupt { path: generation.dir().to_path_buf(), source })
}

fn index_of(applied: Option<AppliedEntry>) -> u64 {
    applied.map_or(0, |applied| applied.index.0)
}

fn recompute(generation: &Generation) -> Result<StateDigest, StoreError> {
    let mut digest = StateDigest::default();
    generation.for_each_version(&mut |at, value| {
        digest.add(at.table, &at.key, at.version, value);
        Ok(())
    })?;
    Ok(digest)
}

impl View for RocksStore {
    fn get_at(&self, table: Table, key: &Key, at: LogIndex) -> Result<Option<Vec<u8>>, ViewError> {
        self.generation().get_at(table, key, at)
    }

    fn scan_at(
        &self,
        range: &ScanRange<'_>,
        at: LogIndex,
    ) -> Result<Vec<(Key, Vec<u8>)>, ViewError> {
        self.generation().scan_at(range, at)
    }

    fn versions(&self, table: Table, key: &Key) -> Result<Vec<Version>, ViewError> {
        self.generation().versions(table, key)
    }

    fn prunable(
        &self,
        range: &ScanRange<'_>,
        floor: LogIndex,
    ) -> Result<Vec<(Key, u64)>, ViewError> {
        self.generation().prunable(range, floor)
    }
}

impl MetaStore for RocksStore {
    fn raft(&self) -> RaftRecord {
        self.generation().state().raft.clone()
    }

    fn digest(&self) -> StateDigest {
        self.generation().state().digest
    }

    fn commit(&self, batch: CommitBatch) -> Result<StateDigest, StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_writable()?;
        let generation = self.generation();
        let (digest, applied) = {
            let state = generation.state();
            (state.digest, state.raft.applied)
        };
        let raft = batch.raft().clone();
        let resolved = resolve(generation.as_ref(), digest, applied, batch)?;
        let written = generation.commit(resolved.writes, raft, resolved.digest);
        self.poison_on_error(written)?;
        Ok(resolved.digest)
    }

    fn flush(&self) -> Result<Option<AppliedEntry>, StoreError> {
        self.check_writable()?;
        let flushed = self.flush_current();
        self.poison_on_error(flushed)
    }

    fn durable(&self) -> Option<AppliedEntry> {
        self.generation().state().durable
    }

    fn export(&self, sink: &mut dyn Write) -> Result<SnapshotMeta, StoreError> {
        let mut writer = SnapshotWriter::new(sink)?;
        let generation = self.generation();
        let (raft, digest) = generation
            .for_each_version(&mut |at: &VersionKey, value| Ok(writer.row(at, value)?))?;
        Ok(writer.finish(&raft, digest)?)
    }

    fn import(&self, source: &mut dyn Read) -> Result<SnapshotMeta, StoreError> {
        self.check_writable()?;
        self.import_in_steps(source, &mut |_| {})
    }

    fn recompute_digest(&self) -> Result<StateDigest, StoreError> {
        recompute(&self.generation())
    }
}

/// Says whether an import leaves a table out: a planted bug.
fn is_lost(table: Table) -> bool {
    match table {
        #[cfg(feature = "plant-lost-tombstone-on-install")]
        Table::Tombstone => alluvium_stdx::plant::is_awake("lost-tombstone-on-install"),
        #[cfg(feature = "plant-session-table-not-in-snapshot")]
        Table::Session | Table::SessionResult => {
            alluvium_stdx::plant::is_awake("session-table-not-in-snapshot")
        }
        _ => false,
    }
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current();
        f.debug_struct("RocksStore")
            .field("dir", &current.generation.dir())
            .field("applied", &current.generation.state().raft.applied)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
