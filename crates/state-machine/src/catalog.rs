//! Typed reads of the metadata, as of an index: what engine, query, materialize and apply itself
//! ask.
//!
//! It must not change anything or cache. Invariant: an answer depends on the view and the index
//! alone. `at` is the index to read as of; pass [`LogIndex::MAX`] for the latest.

use std::collections::BTreeMap;

use alluvium_types::{
    DatasetKey, DatasetName, FileId, KeyBlock, LogIndex, Schema, SchemaVersion, limits,
};

use crate::record::{
    DatasetCounters, DatasetRecord, DeltaRecord, FileContent, FileRecord, NameRecord, SweepRecord,
    UploadRecord,
};
use crate::view::{ScanRange, View, ViewError, decode_record, record_at};
use crate::{Key, Table};

/// Returns the state machine's time in milliseconds; zero before the first command.
///
/// # Errors
/// A local fault.
pub fn clock(view: &dyn View) -> Result<u64, ViewError> {
    Ok(record_at(view, Table::Clock, &Key::empty(), LogIndex::MAX)?.unwrap_or(0))
}

/// Returns the dataset that has a name, if it was live at `at`.
///
/// # Errors
/// A local fault; [`ViewError::BelowFloor`] when its record at `at` is pruned.
pub fn find(
    view: &dyn View,
    name: &DatasetName,
    at: LogIndex,
) -> Result<Option<DatasetRecord>, ViewError> {
    match record_at::<NameRecord>(view, Table::Name, &Key::name(name), at)? {
        Some(record) if record.live => match named(view, record.dataset, at)? {
            Named::Kept(record) => Ok(Some(record)),
            Named::Pruned { floor } => {
                let dataset = name.to_string();
                Err(ViewError::BelowFloor { dataset, asked: at, floor })
            }
        },
        Some(_) | None => Ok(None),
    }
}

/// Returns a dataset, live or dropped.
///
/// # Errors
/// A local fault.
pub fn dataset(
    view: &dyn View,
    key: DatasetKey,
    at: LogIndex,
) -> Result<Option<DatasetRecord>, ViewError> {
    record_at(view, Table::Dataset, &Key::dataset(key), at)
}

/// Returns the datasets that were live at `at`, by name; those whose record there is pruned are
/// left out: one dataset's retention does not close the whole catalog.
///
/// # Errors
/// A local fault.
pub fn list(view: &dyn View, at: LogIndex) -> Result<Vec<DatasetRecord>, ViewError> {
    let mut datasets = Vec::new();
    for (_, key) in names(view, at)? {
        match named(view, key, at)? {
            Named::Kept(record) => datasets.push(record),
            Named::Pruned { .. } => {}
        }
    }
    Ok(datasets)
}

/// Returns the names that were live at `at`, with what they stood for, in order. Names are never
/// pruned.
///
/// # Errors
/// A local fault.
pub fn names(view: &dyn View, at: LogIndex) -> Result<Vec<(String, DatasetKey)>, ViewError> {
    let table = Table::Name;
    let mut names = Vec::new();
    for (key, value) in view.scan_prefix(table, &Key::empty(), at)? {
        let record: NameRecord = decode_record(table, &value)?;
        if record.live {
            let name =
                String::from_utf8(key.0).map_err(|_not_text| ViewError::Dangling { table })?;
            names.push((name, record.dataset));
        }
    }
    Ok(names)
}

/// The record that a name refers to.
enum Named {
    Kept(DatasetRecord),
    /// Expire took it: the dataset cannot be read below its floor.
    Pruned {
        floor: LogIndex,
    },
}

/// Finds the record of a name at an index. Names outlive the records of their datasets, so that
/// only the latest record can tell what was pruned from damage.
fn named(view: &dyn View, key: DatasetKey, at: LogIndex) -> Result<Named, ViewError> {
    if let Some(record) = dataset(view, key, at)? {
        return Ok(Named::Kept(record));
    }
    match dataset(view, key, LogIndex::MAX)? {
        Some(latest) if at < latest.floor => Ok(Named::Pruned { floor: latest.floor }),
        Some(_) | None => Err(ViewError::Dangling { table: Table::Name }),
    }
}

/// Returns a schema of a dataset.
///
/// # Errors
/// A local fault; a version that was never made is [`ViewError::Dangling`].
pub fn schema(
    view: &dyn View,
    key: DatasetKey,
    version: SchemaVersion,
    at: LogIndex,
) -> Result<Schema, ViewError> {
    let found = record_at(view, Table::Schema, &Key::schema(key, version), at)?;
    found.ok_or(ViewError::Dangling { table: Table::Dataset })
}

/// Returns the files of a dataset in any state, by id.
///
/// # Errors
/// A local fault.
pub fn files(view: &dyn View, key: DatasetKey, at: LogIndex) -> Result<Vec<FileRecord>, ViewError> {
    let rows = view.scan_prefix(Table::File, &Key::dataset(key), at)?;
    rows.iter().map(|(_, value)| decode_record(Table::File, value)).collect()
}

/// Returns a file of a dataset.
///
/// # Errors
/// A local fault.
pub fn file(
    view: &dyn View,
    key: DatasetKey,
    id: FileId,
    at: LogIndex,
) -> Result<Option<FileRecord>, ViewError> {
    record_at(view, Table::File, &Key::file(key, id), at)
}

/// Returns the attested seal that holds the delta with a visible index, if one does. A read as of
/// an index before the attestation finds the delta's rows there once the log below is purged.
///
/// # Errors
/// A local fault.
pub fn sealed_in(
    view: &dyn View,
    key: DatasetKey,
    delta: LogIndex,
    at: LogIndex,
) -> Result<Option<FileRecord>, ViewError> {
    let covers = |record: &FileRecord| match &record.content {
        FileContent::Seal { first, last } => *first <= delta && delta <= *last,
        FileContent::Compaction { .. } => false,
    };
    let found = files(view, key, at)?.into_iter().find(covers);
    Ok(found.filter(|record| record.attested().is_some()))
}

/// Returns the deltas of a dataset that no attested file covers, by visible index.
///
/// # Errors
/// A local fault.
pub fn deltas(
    view: &dyn View,
    key: DatasetKey,
    at: LogIndex,
) -> Result<Vec<(LogIndex, DeltaRecord)>, ViewError> {
    deltas_in(view, key, LogIndex(0), LogIndex::MAX, at)
}

/// Returns the deltas of a dataset with a visible index from `first` to `last`.
///
/// # Errors
/// A local fault.
pub fn deltas_in(
    view: &dyn View,
    key: DatasetKey,
    first: LogIndex,
    last: LogIndex,
    at: LogIndex,
) -> Result<Vec<(LogIndex, DeltaRecord)>, ViewError> {
    let from = Key::delta(key, first);
    let prefix = Key::dataset(key);
    let range =
        ScanRange { table: Table::Delta, prefix: &prefix, from: Some(&from), limit: usize::MAX };
    let mut deltas = Vec::new();
    for (stored, value) in view.scan_at(&range, at)? {
        let index = number(Table::Delta, &stored)?;
        if index > last.0 {
            break;
        }
        deltas.push((LogIndex(index), decode_record(Table::Delta, &value)?));
    }
    Ok(deltas)
}

/// Returns the tombstones of a dataset that hide anything, by index; one index may have several
/// blocks.
///
/// # Errors
/// A local fault.
pub fn tombstones(
    view: &dyn View,
    key: DatasetKey,
    at: LogIndex,
) -> Result<Vec<(LogIndex, KeyBlock)>, ViewError> {
    tombstones_after(view, key, LogIndex(0), at)
}

/// Returns the tombstones of a dataset with an index above `after`.
///
/// # Errors
/// A local fault.
pub fn tombstones_after(
    view: &dyn View,
    key: DatasetKey,
    after: LogIndex,
    at: LogIndex,
) -> Result<Vec<(LogIndex, KeyBlock)>, ViewError> {
    let table = Table::Tombstone;
    let from = Key::tombstone(key, LogIndex(after.0.saturating_add(1)), 0);
    let prefix = Key::dataset(key);
    let range = ScanRange { table, prefix: &prefix, from: Some(&from), limit: usize::MAX };
    let mut blocks = Vec::new();
    for (stored, value) in view.scan_at(&range, at)? {
        let block = KeyBlock::parse(value.into());
        let block = block.map_err(|source| ViewError::Decode { table, source })?;
        blocks.push((LogIndex(number(table, &stored)?), block));
    }
    Ok(blocks)
}

/// Returns the index of the first tombstone above `after` that was made by `at`.
///
/// # Errors
/// A local fault.
pub fn tombstone_after(
    view: &dyn View,
    key: DatasetKey,
    after: LogIndex,
    at: LogIndex,
) -> Result<Option<LogIndex>, ViewError> {
    let table = Table::Tombstone;
    let from = Key::tombstone(key, LogIndex(after.0.saturating_add(1)), 0);
    let prefix = Key::dataset(key);
    let range = ScanRange { table, prefix: &prefix, from: Some(&from), limit: 1 };
    let found = view.scan_at(&range, at)?;
    found.first().map(|(stored, _)| number(table, stored).map(LogIndex)).transpose()
}

/// Returns the counters of a dataset: latest only.
///
/// # Errors
/// A local fault.
pub fn counters(view: &dyn View, key: DatasetKey) -> Result<DatasetCounters, ViewError> {
    let found = record_at(view, Table::Counters, &Key::dataset(key), LogIndex::MAX)?;
    Ok(found.unwrap_or_default())
}

/// Returns the files that wait to be written, of all datasets.
///
/// # Errors
/// A local fault.
pub fn planned(view: &dyn View) -> Result<Vec<(DatasetKey, FileId)>, ViewError> {
    let rows = view.scan_prefix(Table::Planned, &Key::empty(), LogIndex::MAX)?;
    rows.iter().map(|(key, _)| file_of(Table::Planned, key)).collect()
}

/// Returns the files whose objects may be deleted, of all datasets.
///
/// # Errors
/// A local fault.
pub fn sweepable(view: &dyn View) -> Result<Vec<(DatasetKey, FileId, SweepRecord)>, ViewError> {
    let mut found = Vec::new();
    for (key, value) in view.scan_prefix(Table::Sweep, &Key::empty(), LogIndex::MAX)? {
        let (dataset, file) = file_of(Table::Sweep, &key)?;
        found.push((dataset, file, decode_record(Table::Sweep, &value)?));
    }
    Ok(found)
}

/// Returns the uploads that can still be continued or committed.
///
/// # Errors
/// A local fault.
pub fn open_uploads(view: &dyn View) -> Result<Vec<UploadRecord>, ViewError> {
    let now_ms = clock(view)?;
    let mut open = Vec::new();
    for (_, value) in view.scan_prefix(Table::Upload, &Key::empty(), LogIndex::MAX)? {
        let upload: UploadRecord = decode_record(Table::Upload, &value)?;
        if upload.is_open(now_ms) {
            open.push(upload);
        }
    }
    Ok(open)
}

/// Returns the lowest log index that anything as of `at` still needs: rows of deltas that no
/// attested file covers (their entries, which for staged appends are below the visible index) and
/// parts of open uploads. None means that the log may go up to the index that was applied when the
/// caller asked; what is applied later may be needed.
///
/// # Errors
/// A local fault.
pub fn retained_from(view: &dyn View, at: LogIndex) -> Result<Option<LogIndex>, ViewError> {
    let mut lowest: Option<LogIndex> = None;
    let mut need = |index: LogIndex| {
        lowest = Some(lowest.map_or(index, |lowest| lowest.min(index)));
    };
    // Uploads first: what one entry moves from there to the deltas between the two scans is then seen twice,
    // never not at all.
    open_uploads(view)?.iter().for_each(|upload| need(upload.first_index));
    for (_, value) in view.scan_prefix(Table::Delta, &Key::empty(), at)? {
        let delta: DeltaRecord = decode_record(Table::Delta, &value)?;
        delta.entries.iter().for_each(|entry| need(entry.index));
    }
    Ok(lowest)
}

impl UploadRecord {
    /// Says whether it can still be continued or committed.
    #[must_use]
    pub fn is_open(&self, now_ms: u64) -> bool {
        now_ms <= self.active_at_ms.saturating_add(limits::UPLOAD_TTL_MS)
    }
}

/// Returns the indexes of a dataset's tombstone keys, with the keys; blocks are not decoded.
pub(crate) fn tombstone_keys(
    view: &dyn View,
    key: DatasetKey,
) -> Result<BTreeMap<Key, LogIndex>, ViewError> {
    let mut found = BTreeMap::new();
    for stored in keys(view, Table::Tombstone, &Key::dataset(key))? {
        let index = number(Table::Tombstone, &stored)?;
        found.insert(stored, LogIndex(index));
    }
    Ok(found)
}

/// Returns all keys with a prefix; values, which may be large, are read a few at a time and
/// dropped.
pub(crate) fn keys(view: &dyn View, table: Table, prefix: &Key) -> Result<Vec<Key>, ViewError> {
    const PAGE_KEYS: usize = 64;
    let mut found = Vec::new();
    let mut from: Option<Key> = None;
    loop {
        let range = ScanRange { table, prefix, from: from.as_ref(), limit: PAGE_KEYS };
        let page = view.scan_at(&range, LogIndex::MAX)?;
        let full = page.len() == PAGE_KEYS;
        found.extend(page.into_iter().map(|(key, _)| key));
        match found.last() {
            Some(last) if full => from = Some(last.successor()),
            Some(_) | None => return Ok(found),
        }
    }
}

fn number(table: Table, key: &Key) -> Result<u64, ViewError> {
    key.number_after_dataset().ok_or(ViewError::Dangling { table })
}

fn file_of(table: Table, key: &Key) -> Result<(DatasetKey, FileId), ViewError> {
    let dataset = key.dataset_of().ok_or(ViewError::Dangling { table })?;
    Ok((dataset, FileId(number(table, key)?)))
}
