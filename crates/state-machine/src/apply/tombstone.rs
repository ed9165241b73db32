//! Tombstone: keys hide the rows that have them and a lower index.

use alluvium_types::{LogIndex, Outcome, Tombstone, TombstoneSource};
use bytes::Bytes;

use crate::record::DatasetRecord;
use crate::{Key, Table, catalog};

use super::draft::{Draft, Stop};
use super::upload::{self, UploadKind};
use super::upsert::{keyless, put_blocks};

pub(super) fn apply(
    draft: &mut Draft<'_>,
    command: &Tombstone,
    body: &Bytes,
) -> Result<Outcome, Stop> {
    let record = draft.live_dataset(command.dataset)?;
    check_keyed(draft, &record)?;
    let (blocks, keys) = match command.source {
        TombstoneSource::Inline => {
            let block = upload::parse_keys(draft, body.clone())?;
            (vec![block.as_bytes().to_vec()], u64::from(block.len()))
        }
        TombstoneSource::Staged { upload, parts, content_hash: _ } => {
            let taken = upload::take(draft, upload, parts, command.dataset, UploadKind::Keys)?;
            (taken.blocks, taken.items)
        }
    };
    put_blocks(draft, &record, blocks);
    let mut counters = catalog::counters(draft.view(), command.dataset)?;
    counters.changed_at = draft.index;
    counters.keys_hidden = counters.keys_hidden.saturating_add(keys);
    draft.put_small(Table::Counters, Key::dataset(command.dataset), &counters);
    Ok(Outcome::Tombstoned { keys })
}

/// Refuses a dataset whose rows cannot be named.
pub(super) fn check_keyed(draft: &Draft<'_>, record: &DatasetRecord) -> Result<(), Stop> {
    let version = record.schema_version;
    let schema = catalog::schema(draft.view(), record.dataset, version, LogIndex::MAX)?;
    match schema.key_columns.is_empty() {
        true => Err(keyless()),
        false => Ok(()),
    }
}
