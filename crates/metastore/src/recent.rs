//! The latest versions of the few records that almost every entry reads, in memory.
//!
//! It must not be asked what a moment of the past looked like, and holds nothing that RocksDB does not. Invariant INV-M2:
//! what it answers is never older than what RocksDB shows at that moment. So it answers nothing while a batch is written:
//! whoever saw a part of the batch would then see another part of what was before it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use alluvium_state_machine::{Key, Table, VersionKey, VersionWrite};
use alluvium_types::LogIndex;

/// Keys of a half; there are two.
const KEYS_MAX: usize = 2_048;
/// Bytes of a value that is kept.
const VALUE_BYTES_MAX: usize = 4 * 1_024;

/// Says whether records of a table are small, and read and written again and again.
pub(crate) fn is_kept(table: Table) -> bool {
    match table {
        Table::Clock
        | Table::Session
        | Table::SessionCount
        | Table::Name
        | Table::Dataset
        | Table::Schema
        | Table::Counters => true,
        Table::SessionResult
        | Table::SessionByActivity
        | Table::Upload
        | Table::UploadPart
        | Table::UploadKeys
        | Table::Delta
        | Table::File
        | Table::Tombstone
        | Table::Planned
        | Table::Sweep => false,
    }
}

/// A stored version. Its version is zero in latest-only tables; no value is a deletion marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Latest {
    pub(crate) version: LogIndex,
    pub(crate) value: Option<Vec<u8>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// Odd while a batch is written.
    writes: AtomicU64,
    kept: Mutex<Kept>,
}

/// Two halves: what is asked for moves into the young one, and the old one is thrown away when that is full.
#[derive(Debug, Default)]
struct Kept {
    young: BTreeMap<(Table, Key), Latest>,
    old: BTreeMap<(Table, Key), Latest>,
}

/// That no batch was being written when a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quiet(u64);

/// A batch that is being written. Dropped without [`Writing::done`], nothing is kept any more.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    recent: &'a Recent,
    changed: Option<Vec<(VersionKey, VersionWrite)>>,
}

impl Recent {
    /// Returns what a key has as of `at`, if that is known: its latest version, when it is not above `at`.
    pub(crate) fn get(&self, table: Table, key: &Key, at: LogIndex) -> Option<Option<Vec<u8>>> {
        if !is_kept(table) {
            return None;
        }
        let mut kept = self.kept();
        // Under the lock: a batch that is written stays so until it has it.
        self.quiet()?;
        let sought = (table, key.clone());
        if let Some(latest) = kept.young.get(&sought) {
            return (latest.version <= at).then(|| latest.value.clone());
        }
        let latest = kept.old.remove(&sought)?;
        let answer = (latest.version <= at).then(|| latest.value.clone());
        kept.insert(sought, latest);
        answer
    }

    /// Begins a read of RocksDB whose outcome may be kept.
    pub(crate) fn quiet(&self) -> Option<Quiet> {
        let writes = self.writes.load(Ordering::SeqCst);
        writes.is_multiple_of(2).then_some(Quiet(writes))
    }

    /// Says whether no batch was written since.
    pub(crate) fn is_still(&self, quiet: Quiet) -> bool {
        self.quiet() == Some(quiet)
    }

    /// Keeps what RocksDB answered, unless a batch was written meanwhile.
    pub(crate) fn keep(&self, quiet: Quiet, table: Table, key: &Key, latest: Latest) {
        if !is_kept(table) || !latest.is_small() {
            return;
        }
        let mut kept = self.kept();
        // Under the lock: the batch that comes next takes it before it ends.
        if self.is_still(quiet) {
            kept.insert((table, key.clone()), latest);
        }
    }

    /// Says that a batch is about to be written. One at a time.
    pub(crate) fn writing(&self, changed: Vec<(VersionKey, VersionWrite)>) -> Writing<'_> {
        let before = self.writes.fetch_add(1, Ordering::SeqCst);
        assert!(before.is_multiple_of(2), "two batches are written at once");
        Writing { recent: self, changed: Some(changed) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    fn is_small(&self) -> bool {
        self.value.as_ref().map_or(0, Vec::len) <= VALUE_BYTES_MAX
    }
}

impl Writing<'_> {
    /// The batch is written: what is kept of its keys is what it wrote.
    pub(crate) fn done(mut self) {
        let changed = self.changed.take().expect("a batch is written once");
        let mut kept = self.recent.kept();
        for (at, write) in changed {
            kept.change(at, write);
        }
        // Before the lock is gone: whoever waits for it to keep an older answer finds a new number.
        self.recent.writes.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if self.changed.is_some() {
            let mut kept = self.recent.kept();
            *kept = Kept::default();
            self.recent.writes.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Kept {
    /// Keeps a version, unless a later one is kept.
    fn insert(&mut self, at: (Table, Key), latest: Latest) {
        if KEYS_MAX <= self.young.len() {
            self.old = std::mem::take(&mut self.young);
        }
        let old = self.old.remove(&at);
        let slot = self.young.entry(at).or_insert_with(|| old.unwrap_or_else(|| latest.clone()));
        if slot.version <= latest.version {
            *slot = latest;
        }
    }

    /// Takes note of a write, if its key is kept: what nobody reads is not worth the room.
    fn change(&mut self, at: VersionKey, write: VersionWrite) {
        let VersionKey { table, key, version } = at;
        let sought = (table, key);
        let before = match self.young.get(&sought) {
            Some(before) => before.version,
            None => match self.old.get(&sought) {
                Some(before) => before.version,
                None => return,
            },
        };
        if version < before {
            return;
        }
        match write {
            VersionWrite::Store(value) if Latest { version, value: value.clone() }.is_small() => {
                self.insert(sought, Latest { version, value });
            }
            VersionWrite::Store(_) | VersionWrite::Remove => {
                self.young.remove(&sought);
                self.old.remove(&sought);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table::Dataset;

    fn key(number: u64) -> Key {
        Key(number.to_be_bytes().to_vec())
    }

    fn latest(version: u64, value: &str) -> Latest {
        Latest { version: LogIndex(version), value: Some(value.as_bytes().to_vec()) }
    }

    fn write(recent: &Recent, number: u64, version: u64, write: VersionWrite) {
        let at = VersionKey { table: TABLE, key: key(number), version: LogIndex(version) };
        recent.writing(vec![(at, write)]).done();
    }

    fn read(recent: &Recent, number: u64, at: u64) -> Option<Option<String>> {
        let found = recent.get(TABLE, &key(number), LogIndex(at))?;
        Some(found.map(|value| String::from_utf8(value).expect("text")))
    }

    #[test]
    fn the_latest_version_is_kept_and_the_past_is_not_known() {
        let recent = Recent::default();
        assert_eq!(read(&recent, 1, 9), None);
        recent.keep(recent.quiet().expect("quiet"), TABLE, &key(1), latest(5, "five"));
        assert_eq!(read(&recent, 1, 5), Some(Some("five".to_owned())));
        assert_eq!(read(&recent, 1, 4), None, "another version was the latest then");
        write(&recent, 1, 7, VersionWrite::Store(Some(b"seven".to_vec())));
        assert_eq!(read(&recent, 1, 6), None);
        assert_eq!(read(&recent, 1, 7), Some(Some("seven".to_owned())));
        // What expire removes of the past changes nothing.
        write(&recent, 1, 5, VersionWrite::Remove);
        assert_eq!(read(&recent, 1, 7), Some(Some("seven".to_owned())));
        write(&recent, 1, 8, VersionWrite::Store(None));
        assert_eq!(read(&recent, 1, 8), Some(None), "a deletion marker");
        write(&recent, 1, 8, VersionWrite::Remove);
        assert_eq!(read(&recent, 1, 8), None);
        // Whoever read an older version keeps it in vain.
        write(&recent, 3, 4, VersionWrite::Store(None));
        recent.keep(recent.quiet().expect("quiet"), TABLE, &key(3), latest(4, "four"));
        recent.keep(recent.quiet().expect("quiet"), TABLE, &key(3), latest(3, "three"));
        assert_eq!(read(&recent, 3, 9), Some(Some("four".to_owned())));
        // Nobody asked for it.
        write(&recent, 2, 9, VersionWrite::Store(Some(b"nine".to_vec())));
        assert_eq!(read(&recent, 2, 9), None);
    }

    #[test]
    fn what_was_read_while_a_batch_was_written_is_not_kept() {
        let recent = Recent::default();
        recent.keep(recent.quiet().expect("quiet"), TABLE, &key(2), latest(2, "two"));
        assert_eq!(read(&recent, 2, 9), Some(Some("two".to_owned())));
        let before = recent.quiet().expect("quiet");
        let at = VersionKey { table: TABLE, key: key(1), version: LogIndex(6) };
        let value = VersionWrite::Store(Some(b"six".to_vec()));
        let writing = recent.writing(vec![(at, value)]);
        assert_eq!(recent.quiet(), None);
        assert_eq!(read(&recent, 2, 9), None, "a part of the batch may be seen already");
        recent.keep(before, TABLE, &key(1), latest(5, "five"));
        writing.done();
        recent.keep(before, TABLE, &key(1), latest(5, "five"));
        assert_eq!(read(&recent, 1, 9), None);
        // A batch that failed may have been written or not.
        recent.keep(recent.quiet().expect("quiet"), TABLE, &key(1), latest(6, "six"));
        drop(recent.writing(Vec::new()));
        assert_eq!(read(&recent, 1, 9), None);
        assert!(recent.quiet().is_some());
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_makes_room() {
        let recent = Recent::default();
        for number in 0..3 * KEYS_MAX as u64 {
            recent.keep(recent.quiet().expect("quiet"), TABLE, &key(number), latest(1, "v"));
            assert_eq!(read(&recent, 0, 1), Some(Some("v".to_owned())), "asked for all the time");
        }
        assert_eq!(read(&recent, 1, 1), None, "never asked for");
        let kept = recent.kept();
        assert!(kept.young.len() + kept.old.len() <= 2 * KEYS_MAX);
        drop(kept);
        let large = Latest { version: LogIndex(1), value: Some(vec![0; VALUE_BYTES_MAX + 1]) };
        recent.keep(recent.quiet().expect("quiet"), TABLE, &key(7), large);
        write(&recent, 0, 2, VersionWrite::Store(Some(vec![0; VALUE_BYTES_MAX + 1])));
        assert_eq!((read(&recent, 7, 9), read(&recent, 0, 9)), (None, None), "too large");
        let result = Table::SessionResult;
        recent.keep(recent.quiet().expect("quiet"), result, &key(1), latest(0, "once"));
        assert_eq!(recent.get(result, &key(1), LogIndex(9)), None);
    }
}
