//! One RocksDB: reads at an index, and writes of resolved batches.
//!
//! It must not know of other generations. Invariant: the state record is written in the same batch
//! as the versions it describes. RocksDB's own log is off: the Raft log is the log, and a flush
//! makes a prefix of the batches durable.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use alluvium_state_machine::record::{AppliedEntry, RaftRecord};
use alluvium_state_machine::{
    Key, ScanRange, StateDigest, StoreError, Table, Version, VersionKey, VersionWrite, View,
    ViewError, unreachable_versions,
};
use alluvium_stdx::invariant;
use alluvium_types::{LogIndex, codec};
use rocksdb::{DB, DBRawIterator, ErrorKind, WriteBatch, WriteOptions};

use crate::OpenOptions;
use crate::recent::{Latest, Quiet, Recent};
use crate::tuning::{database_options, read_options};
use crate::{layout, recent};

/// How RocksDB says that one of its files is not there.
const FILE_GONE: &str = "No such file or directory";
/// The newest format this program reads, and the one it writes.
const FORMAT: u32 = 1;
/// Older versions of a key that are stepped over before the next key is sought.
const STEPS_BEFORE_SEEK: usize = 8;

/// An open RocksDB.
pub(crate) struct Generation {
    db: DB,
    dir: PathBuf,
    state: Mutex<State>,
    recent: Recent,
}

/// Receives stored versions; none is a deletion marker.
pub(crate) type VersionSink<'a> =
    dyn FnMut(&VersionKey, Option<&[u8]>) -> Result<(), StoreError> + 'a;

/// What is known besides the tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) raft: RaftRecord,
    pub(crate) digest: StateDigest,
    /// The last entry that a finished flush covers, and the pointer knows of.
    pub(crate) durable: Option<AppliedEntry>,
}

/// What is stored under [`layout::META_STATE`].
type StateRecord = (RaftRecord, StateDigest);

/// What is found in a damaged database.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("a stored key or value of the metadata is malformed")]
    Malformed,
    #[error("the record of {what} is missing")]
    Missing { what: &'static str },
}

/// Whether a generation must be there already, and whether it may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode<'a> {
    Create,
    Existing,
    /// RocksDB writes what it has to say into this directory, for it cannot say nothing.
    ReadOnly {
        notes: &'a Path,
    },
}

impl Generation {
    pub(crate) fn open(
        dir: &Path,
        mode: Mode<'_>,
        options: &OpenOptions,
    ) -> Result<Self, StoreError> {
        let mut database = database_options(mode, options);
        let db = match mode {
            Mode::Create | Mode::Existing => DB::open(&database, dir),
            Mode::ReadOnly { notes } => {
                database.set_db_log_dir(notes);
                DB::open_for_read_only(&database, dir, false)
            }
        };
        let db = db.map_err(|error| open_error(dir, mode, error))?;
        let mut generation =
            Self { db, dir: dir.to_path_buf(), state: Mutex::default(), recent: Recent::default() };
        match mode {
            Mode::Create => generation.create()?,
            Mode::Existing | Mode::ReadOnly { .. } => generation.load()?,
        }
        Ok(generation)
    }

    fn create(&self) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put(layout::META_FORMAT, FORMAT.to_le_bytes());
        self.write(batch, &RaftRecord::default(), StateDigest::default())?;
        self.flush().map(drop)
    }

    fn load(&mut self) -> Result<(), StoreError> {
        let missing = |what| self.corrupt(Damage::Missing { what });
        let format = self.meta(layout::META_FORMAT)?.ok_or_else(|| missing("the format"))?;
        let format: Option<[u8; 4]> = format.try_into().ok();
        let format = format.ok_or_else(|| self.corrupt(Damage::Malformed))?;
        let found = u32::from_le_bytes(format);
        if found > FORMAT {
            return Err(StoreError::NewerFormat { found, supported: FORMAT });
        }
        let record = self.meta(layout::META_STATE)?.ok_or_else(|| missing("the state"))?;
        let record: StateRecord = codec::decode(&record).map_err(|source| self.corrupt(source))?;
        let (raft, digest) = record;
        let durable = raft.applied;
        self.state = Mutex::new(State { raft, digest, durable });
        Ok(())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes stored versions and the state after them in one batch.
    pub(crate) fn commit(
        &self,
        writes: impl IntoIterator<Item = (VersionKey, VersionWrite)>,
        raft: RaftRecord,
        digest: StateDigest,
    ) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let mut kept = Vec::new();
        for (at, write) in writes {
            let key = layout::version_key(at.table, &at.key, at.version);
            match &write {
                VersionWrite::Store(value) => {
                    batch.put(key, layout::stored_value(value.as_deref()));
                }
                VersionWrite::Remove => batch.delete(key),
            }
            if recent::is_kept(at.table) {
                kept.push((at, write));
            }
        }
        let writing = self.recent.writing(kept);
        self.write(batch, &raft, digest)?;
        {
            let mut state = self.state();
            (state.raft, state.digest) = (raft, digest);
        }
        // Last: a read that begins behind it takes the applied index for that of what is stored.
        writing.done();
        Ok(())
    }

    fn write(
        &self,
        mut batch: WriteBatch,
        raft: &RaftRecord,
        digest: StateDigest,
    ) -> Result<(), StoreError> {
        let record =
            codec::encode(&(raft, digest)).expect("a membership came in an entry's header");
        batch.put(layout::META_STATE, record);
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        let failed = |error| StoreError::Commit { path: self.dir.clone(), source: cause(error) };
        self.db.write_opt(batch, &options).map_err(failed)
    }

    /// Makes everything written durable, and returns the last entry that it is certain of.
    pub(crate) fn flush(&self) -> Result<Option<AppliedEntry>, StoreError> {
        // Read before: an entry that is committed meanwhile may or may not be covered.
        let applied = self.state().raft.applied;
        let failed = |error| StoreError::Flush { path: self.dir.clone(), source: cause(error) };
        self.db.flush().map_err(failed)?;
        Ok(applied)
    }

    fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_opt(key, &read_options()).map_err(|error| self.read_error(error))
    }

    /// Calls `row` with every stored version of one moment, by key and ascending version, and
    /// returns the state of the same moment.
    pub(crate) fn for_each_version(
        &self,
        row: &mut VersionSink<'_>,
    ) -> Result<StateRecord, StoreError> {
        let snapshot = self.db.snapshot();
        let mut options = read_options();
        options.fill_cache(false);
        options.set_iterate_upper_bound(layout::TABLES_END);
        let mut iterator = snapshot.raw_iterator_opt(options);
        iterator.seek(layout::TABLES_START);
        // Stored versions of a key descend.
        let mut versions: Vec<(VersionKey, Option<Vec<u8>>)> = Vec::new();
        while let Some((stored, value)) = iterator.item() {
            let (at, value) = self.parse(stored, value)?;
            if versions.first().is_some_and(|(first, _)| !same_key(first, &at)) {
                emit(&mut versions, row)?;
            }
            versions.push((at, value.map(<[u8]>::to_vec)));
            iterator.next();
        }
        iterator.status().map_err(|error| self.read_error(error))?;
        emit(&mut versions, row)?;
        let record = snapshot.get_opt(layout::META_STATE, read_options());
        let record = record.map_err(|error| self.read_error(error))?;
        let missing = || self.corrupt(Damage::Missing { what: "the state" });
        codec::decode(&record.ok_or_else(missing)?).map_err(|source| self.corrupt(source))
    }

    fn parse<'v>(
        &self,
        stored: &[u8],
        value: &'v [u8],
    ) -> Result<(VersionKey, Option<&'v [u8]>), StoreError> {
        let malformed = || self.corrupt(Damage::Malformed);
        let at = layout::parse(stored).ok_or_else(malformed)?;
        Ok((at, layout::parse_value(value).ok_or_else(malformed)?))
    }

    fn iterator(&self, range: &ScanRange<'_>) -> DBRawIterator<'_> {
        let prefix = layout::scan_prefix(range.table, range.prefix);
        let mut options = read_options();
        options.set_iterate_upper_bound(layout::end_of(&prefix));
        let mut iterator = self.db.raw_iterator_opt(options);
        match range.from {
            Some(from) if from > range.prefix => {
                iterator.seek(layout::scan_prefix(range.table, from));
            }
            Some(_) | None => iterator.seek(prefix),
        }
        iterator
    }

    fn read_error(&self, error: rocksdb::Error) -> StoreError {
        // RocksDB tells a file that is gone from one that cannot be read in words only.
        if error.kind() == ErrorKind::Corruption || error.as_ref().contains(FILE_GONE) {
            return self.corrupt(error);
        }
        StoreError::File { path: self.dir.clone(), source: std::io::Error::other(error) }
    }

    fn corrupt(&self, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
        StoreError::Corrupt { path: self.dir.clone(), source: Box::new(source) }
    }

    fn view_error(&self, table: Table, error: rocksdb::Error) -> ViewError {
        boxed(table)(self.read_error(error))
    }
}

fn boxed(table: Table) -> impl Fn(StoreError) -> ViewError {
    move |error| ViewError::Read { table, kind: kind_of(&error), source: Box::new(error) }
}

/// A disk that does not answer is no damage: another node answers, and so does this one after a restart.
fn kind_of(error: &StoreError) -> alluvium_types::ErrorKind {
    use alluvium_types::ErrorKind as Kind;
    match error {
        StoreError::Open { .. }
        | StoreError::Commit { .. }
        | StoreError::Flush { .. }
        | StoreError::File { .. } => Kind::Unavailable,
        StoreError::View { source } => source.kind(),
        StoreError::Corrupt { .. }
        | StoreError::NewerFormat { .. }
        | StoreError::Snapshot { .. } => Kind::Corrupt,
    }
}

fn same_key(one: &VersionKey, two: &VersionKey) -> bool {
    one.table == two.table && one.key == two.key
}

fn emit(
    versions: &mut Vec<(VersionKey, Option<Vec<u8>>)>,
    row: &mut VersionSink<'_>,
) -> Result<(), StoreError> {
    versions.drain(..).rev().try_for_each(|(at, value)| row(&at, value.as_deref()))
}

impl Generation {
    /// Reads the version of a key that `at` sees; none when no version is stored there. A latest-only table's is zero.
    fn stored_at(
        &self,
        table: Table,
        key: &Key,
        at: LogIndex,
    ) -> Result<Option<Latest>, ViewError> {
        let malformed = || boxed(table)(self.corrupt(Damage::Malformed));
        if !table.is_versioned() {
            let stored = layout::version_key(table, key, LogIndex(0));
            let found = self.db.get_pinned_opt(stored, &read_options());
            let Some(value) = found.map_err(|error| self.view_error(table, error))? else {
                return Ok(None);
            };
            return match layout::parse_value(&value).ok_or_else(malformed)? {
                Some(value) => {
                    Ok(Some(Latest { version: LogIndex(0), value: Some(value.to_vec()) }))
                }
                None => Err(malformed()),
            };
        }
        let prefix = layout::key_prefix(table, key);
        let mut options = read_options();
        options.set_iterate_upper_bound(layout::end_of(&prefix));
        let mut iterator = self.db.raw_iterator_opt(options);
        iterator.seek(layout::version_key(table, key, at));
        iterator.status().map_err(|error| self.view_error(table, error))?;
        let Some((stored, value)) = iterator.item() else { return Ok(None) };
        let (found, value) = self.parse(stored, value).map_err(boxed(table))?;
        Ok(Some(Latest { version: found.version, value: value.map(<[u8]>::to_vec) }))
    }

    /// Reads as [`Generation::stored_at`], and keeps what is the latest version.
    fn look_up(&self, table: Table, key: &Key, at: LogIndex) -> Result<Option<Vec<u8>>, ViewError> {
        let quiet = self.recent.quiet().filter(|_| recent::is_kept(table));
        let newest = quiet.and_then(|_| self.state().raft.applied);
        let Some(found) = self.stored_at(table, key, at)? else { return Ok(None) };
        if let Some(quiet) = quiet
            && (!table.is_versioned() || newest.is_some_and(|newest| newest.index <= at))
        {
            self.recent.keep(quiet, table, key, found.clone());
        }
        Ok(found.value)
    }

    /// Compares what is kept with what is stored, in builds that check: a difference would be read by every entry after.
    /// `quiet` was taken before the look at what is kept.
    fn check_kept(
        &self,
        quiet: Quiet,
        (table, key, at): (Table, &Key, LogIndex),
        kept: Option<&Vec<u8>>,
    ) {
        let Ok(stored) = self.stored_at(table, key, at) else { return };
        let stored = stored.and_then(|stored| stored.value);
        let is_same = stored.as_ref() == kept || !self.recent.is_still(quiet);
        invariant!("INV-M2", is_same, "a record of {table:?} is kept that is not the latest");
    }
}

impl View for Generation {
    fn get_at(&self, table: Table, key: &Key, at: LogIndex) -> Result<Option<Vec<u8>>, ViewError> {
        let quiet = self.recent.quiet().filter(|_| cfg!(debug_assertions));
        let Some(kept) = self.recent.get(table, key, at) else {
            return self.look_up(table, key, at);
        };
        if let Some(quiet) = quiet {
            self.check_kept(quiet, (table, key, at), kept.as_ref());
        }
        Ok(kept)
    }

    fn scan_at(
        &self,
        range: &ScanRange<'_>,
        at: LogIndex,
    ) -> Result<Vec<(Key, Vec<u8>)>, ViewError> {
        let table = range.table;
        let mut iterator = self.iterator(range);
        let mut found = Vec::new();
        while found.len() < range.limit
            && let Some((stored, value)) = iterator.item()
        {
            let (version, value) = self.parse(stored, value).map_err(boxed(table))?;
            if version.version > at {
                iterator.seek(layout::version_key(table, &version.key, at));
                continue;
            }
            let value = value.map(<[u8]>::to_vec);
            skip_key(&mut iterator, &layout::key_prefix(table, &version.key));
            if let Some(value) = value {
                found.push((version.key, value));
            }
        }
        iterator.status().map_err(|error| self.view_error(table, error))?;
        Ok(found)
    }

    fn versions(&self, table: Table, key: &Key) -> Result<Vec<Version>, ViewError> {
        let prefix = layout::key_prefix(table, key);
        let mut options = read_options();
        options.set_iterate_upper_bound(layout::end_of(&prefix));
        let mut iterator = self.db.raw_iterator_opt(options);
        iterator.seek(&prefix);
        let mut versions = Vec::new();
        while let Some((stored, value)) = iterator.item() {
            let (at, value) = self.parse(stored, value).map_err(boxed(table))?;
            versions.push(Version { index: at.version, value: value.map(<[u8]>::to_vec) });
            iterator.next();
        }
        iterator.status().map_err(|error| self.view_error(table, error))?;
        versions.reverse();
        Ok(versions)
    }

    fn prunable(
        &self,
        range: &ScanRange<'_>,
        floor: LogIndex,
    ) -> Result<Vec<(Key, u64)>, ViewError> {
        let mut iterator = self.iterator(range);
        let mut found = Vec::new();
        let mut current: Option<(Key, Vec<(LogIndex, bool)>)> = None;
        let mut close = |current: Option<(Key, Vec<(LogIndex, bool)>)>| {
            let Some((key, mut marks)) = current else { return found.len() };
            marks.reverse();
            match unreachable_versions(&marks, floor) {
                0 => {}
                count => found.push((key, count as u64)),
            }
            found.len()
        };
        let mut count = 0;
        while count < range.limit
            && let Some((stored, value)) = iterator.item()
        {
            let (at, value) = self.parse(stored, value).map_err(boxed(range.table))?;
            let mark = (at.version, value.is_none());
            match &mut current {
                Some((key, marks)) if *key == at.key => marks.push(mark),
                Some(_) | None => count = close(current.replace((at.key, vec![mark]))),
            }
            iterator.next();
        }
        iterator.status().map_err(|error| self.view_error(range.table, error))?;
        if count < range.limit {
            close(current);
        }
        Ok(found)
    }
}

/// Moves to the first stored key after those of one key.
fn skip_key(iterator: &mut DBRawIterator<'_>, prefix: &[u8]) {
    for _ in 0..STEPS_BEFORE_SEEK {
        iterator.next();
        if !iterator.key().is_some_and(|stored| stored.starts_with(prefix)) {
            return;
        }
    }
    iterator.seek(layout::end_of(prefix));
}

fn open_error(dir: &Path, mode: Mode<'_>, error: rocksdb::Error) -> StoreError {
    let path = dir.to_path_buf();
    // A generation that the pointer names is there: if RocksDB does not find it so, it is damaged.
    // A lock that another process holds is an IO error, and no damage; RocksDB tells a file that is gone from
    // that in words only.
    let damaged = mode != Mode::Create
        && (matches!(error.kind(), ErrorKind::Corruption | ErrorKind::InvalidArgument)
            || matches!(dir.join("CURRENT").try_exists(), Ok(false))
            || error.as_ref().contains(FILE_GONE));
    match damaged {
        true => StoreError::Corrupt { path, source: Box::new(error) },
        false => StoreError::Open { path, source: cause(error) },
    }
}

/// Returns an error of RocksDB as a cause; one of a full disk as that, which RocksDB says in words only.
fn cause(error: rocksdb::Error) -> Box<dyn std::error::Error + Send + Sync> {
    let kind = match error.as_ref() {
        text if text.contains("No space left on device") => std::io::ErrorKind::StorageFull,
        text if text.contains("Disk quota exceeded") => std::io::ErrorKind::QuotaExceeded,
        _ => return Box::new(error),
    };
    Box::new(std::io::Error::new(kind, error))
}

#[cfg(test)]
mod tests {
    use rocksdb::Options;

    use super::*;

    #[test]
    fn a_store_that_cannot_be_read_is_told_from_one_that_is_damaged() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = OpenOptions::standard();
        let generation =
            Generation::open(&dir.path().join("db-1"), Mode::Create, &options).expect("a store");
        // RocksDB makes its errors itself: this one is of a directory where a file must be.
        let other = dir.path().join("other");
        std::fs::create_dir_all(other.join("CURRENT")).expect("a directory");
        let unreadable = DB::open_default(&other).expect_err("a directory cannot be read");
        assert_eq!(unreadable.kind(), ErrorKind::IOError);
        let kind = |error| generation.view_error(Table::Name, error).kind();
        assert_eq!(kind(unreadable), alluvium_types::ErrorKind::Unavailable);
        let mut nowhere = Options::default();
        nowhere.create_if_missing(false);
        let read_only = DB::open_for_read_only(&nowhere, dir.path().join("none"), false);
        let gone = read_only.expect_err("there is no store");
        assert!(gone.as_ref().contains(FILE_GONE), "{gone}");
        assert_eq!(kind(gone), alluvium_types::ErrorKind::Corrupt);
    }
}
