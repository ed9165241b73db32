//! Append: rows become a delta, visible at the entry's index.

use alluvium_types::{
    Append, DatasetKey, LogIndex, Outcome, Rejection, RowSource, SchemaVersion, limits,
};
use bytes::Bytes;

use crate::record::{DatasetRecord, DeltaEntry, DeltaRecord};
use crate::{Key, Table, catalog};

use super::draft::{Draft, Stop};
use super::seal;
use super::upload::{self, UploadKind};

pub(super) fn apply(
    draft: &mut Draft<'_>,
    command: &Append,
    body: &Bytes,
) -> Result<Outcome, Stop> {
    let record = draft.live_dataset(command.dataset)?;
    check_version(&record, command.schema_version)?;
    let entries = match command.source {
        RowSource::Inline { rows, rows_bytes } => {
            check_rows(draft, rows, rows_bytes, body)?;
            vec![DeltaEntry { index: draft.index, rows, rows_bytes }]
        }
        RowSource::Staged { upload, parts, content_hash: _ } => {
            let kind = UploadKind::Rows(command.schema_version);
            upload::take(draft, upload, parts, command.dataset, kind)?.entries
        }
    };
    let rows = add_delta(draft, &record, entries, 0)?;
    Ok(Outcome::Appended { rows })
}

pub(super) fn check_version(record: &DatasetRecord, found: SchemaVersion) -> Result<(), Stop> {
    let current = record.schema_version;
    match found == current {
        true => Ok(()),
        false => Err(Rejection::SchemaVersion { found, current }.into()),
    }
}

pub(super) fn check_rows(
    draft: &Draft<'_>,
    rows: u32,
    rows_bytes: u32,
    body: &Bytes,
) -> Result<(), Stop> {
    if rows == 0 {
        return Err(Rejection::NoRows.into());
    }
    if rows > limits::BATCH_ROWS_MAX {
        return Err(draft.illegal("an entry has at most 1,048,576 rows"));
    }
    if rows_bytes == 0 || rows_bytes as usize > body.len() {
        return Err(draft.illegal("its rows are not in its body"));
    }
    Ok(())
}

/// Makes rows visible, and cuts a file if that is due. Returns how many rows.
pub(super) fn add_delta(
    draft: &mut Draft<'_>,
    record: &DatasetRecord,
    entries: Vec<DeltaEntry>,
    keys_hidden: u64,
) -> Result<u64, Stop> {
    let dataset: DatasetKey = record.dataset;
    let rows = entries.iter().map(|entry| u64::from(entry.rows)).sum();
    let bytes = entries.iter().map(|entry| u64::from(entry.rows_bytes)).sum();
    assert!(rows > 0, "every part of a delta has a row");
    let delta = DeltaRecord { schema_version: record.schema_version, rows, bytes, entries };
    draft.put(Table::Delta, Key::delta(dataset, draft.index), &delta)?;
    let mut counters = catalog::counters(draft.view(), dataset)?;
    counters.changed_at = draft.index;
    counters.rows_added = counters.rows_added.saturating_add(rows);
    counters.keys_hidden = counters.keys_hidden.saturating_add(keys_hidden);
    counters.unsealed_rows += rows;
    counters.unsealed_bytes += bytes;
    counters.unsealed_deltas += 1;
    counters.unsealed_last = draft.index;
    if counters.unsealed_first == LogIndex(0) {
        counters.unsealed_first = draft.index;
    }
    draft.put_small(Table::Counters, Key::dataset(dataset), &counters);
    let options = &record.options;
    let due = counters.unsealed_bytes >= options.seal_bytes
        || counters.unsealed_rows >= options.seal_rows
        || counters.unsealed_deltas >= limits::SEAL_DELTAS;
    if due {
        seal::plan(draft, record)?;
    }
    Ok(rows)
}
