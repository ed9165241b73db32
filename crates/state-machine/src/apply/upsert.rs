//! Upsert: rows become a delta, and a tombstone at the same index hides older rows with their keys.

use alluvium_types::{KeyBlock, Outcome, Rejection, RowSource, Upsert, codec::ALIGNMENT};
use bytes::Bytes;

use crate::record::{DatasetRecord, DeltaEntry};
use crate::{Key, Table};

use super::append::{add_delta, check_rows, check_version};
use super::draft::{Draft, Stop};
use super::tombstone::check_keyed;
use super::upload::{self, Taken, UploadKind};

pub(super) fn apply(
    draft: &mut Draft<'_>,
    command: &Upsert,
    body: &Bytes,
) -> Result<Outcome, Stop> {
    let record = draft.live_dataset(command.dataset)?;
    check_keyed(draft, &record)?;
    check_version(&record, command.schema_version)?;
    let taken = match command.source {
        RowSource::Inline { rows, rows_bytes } => inline(draft, rows, rows_bytes, body)?,
        RowSource::Staged { upload, parts, content_hash: _ } => {
            let kind = UploadKind::KeyedRows(command.schema_version);
            upload::take(draft, upload, parts, command.dataset, kind)?
        }
    };
    let rows = taken.entries.iter().map(|entry| u64::from(entry.rows)).sum::<u64>();
    assert!(rows == taken.items, "an upsert has one key a row: {rows} rows, {} keys", taken.items);
    put_blocks(draft, &record, taken.blocks);
    let rows = add_delta(draft, &record, taken.entries, taken.items)?;
    Ok(Outcome::Upserted { rows })
}

fn inline(draft: &Draft<'_>, rows: u32, rows_bytes: u32, body: &Bytes) -> Result<Taken, Stop> {
    let block = split_keys(draft, rows, rows_bytes, body)?;
    let entries = vec![DeltaEntry { index: draft.index, rows, rows_bytes }];
    Ok(Taken { entries, blocks: vec![block.as_bytes().to_vec()], items: u64::from(rows) })
}

/// Returns the key block that follows the rows of a body, one key a row.
pub(super) fn split_keys(
    draft: &Draft<'_>,
    rows: u32,
    rows_bytes: u32,
    body: &Bytes,
) -> Result<KeyBlock, Stop> {
    check_rows(draft, rows, rows_bytes, body)?;
    let start = (rows_bytes as usize).next_multiple_of(ALIGNMENT);
    if start > body.len() {
        return Err(draft.illegal("its keys are not in its body"));
    }
    let block = upload::parse_keys(draft, body.slice(start..))?;
    match block.len() == rows {
        true => Ok(block),
        false => Err(draft.illegal("an upsert has one key a row")),
    }
}

/// Writes the key blocks of a tombstone at the entry's index, one row a part.
pub(super) fn put_blocks(draft: &mut Draft<'_>, record: &DatasetRecord, blocks: Vec<Vec<u8>>) {
    for (part, block) in (0_u32..).zip(blocks) {
        let key = Key::tombstone(record.dataset, draft.index, part);
        draft.put_bytes(Table::Tombstone, key, block);
    }
}

/// Refuses a dataset without key columns.
pub(super) fn keyless() -> Stop {
    Rejection::Keyless.into()
}
