//! Expire: the retention floor moves, what only reads below it could see is pruned, and replaced
//! files go.
//!
//! It also works on a dropped dataset, whose past it prunes. Invariant: no entry prunes more than
//! `EXPIRE_VERSIONS_MAX` versions, one key's excess aside.

use alluvium_types::{Expire, LogIndex, Outcome, Rejection, limits};

use crate::record::{DatasetRecord, FileRecord, FileState};
use crate::view::{Effect, ScanRange, ViewError};
use crate::{Key, Table, catalog};

use super::attest::schedule_sweep;
use super::draft::{Draft, Stop};

/// The versioned tables whose keys begin with a dataset.
const TABLES: [Table; 5] =
    [Table::Dataset, Table::Schema, Table::Delta, Table::File, Table::Tombstone];
const PAGE_KEYS: usize = 1_024;

pub(super) fn apply(draft: &mut Draft<'_>, command: &Expire) -> Result<Outcome, Stop> {
    let key = command.dataset;
    let found = catalog::dataset(draft.view(), key, LogIndex::MAX)?;
    let record = found.ok_or(Rejection::DatasetNotFound { dataset: key })?;
    let (floor, low, high) = (command.floor, record.floor, LogIndex(draft.index.0 - 1));
    if floor < low || high < floor {
        return Err(Rejection::IndexOutOfRange { index: floor, low, high }.into());
    }
    let (versions_pruned, more) = prune(draft, &Key::dataset(key), floor)?;
    if !record.dropped {
        release_replaced(draft, &record, floor)?;
        let mut counters = catalog::counters(draft.view(), key)?;
        counters.changed_at = draft.index;
        draft.put_small(Table::Counters, Key::dataset(key), &counters);
    }
    if floor > record.floor {
        draft.put(Table::Dataset, Key::dataset(key), &DatasetRecord { floor, ..record })?;
    }
    Ok(Outcome::Expired { floor, versions_pruned, more })
}

/// Prunes the dataset's versioned tables. Returns how many versions, and whether some are left.
fn prune(draft: &mut Draft<'_>, prefix: &Key, floor: LogIndex) -> Result<(u64, bool), ViewError> {
    let mut pruned = 0;
    for table in TABLES {
        let mut from: Option<Key> = None;
        loop {
            let range = ScanRange { table, prefix, from: from.as_ref(), limit: PAGE_KEYS };
            let page = draft.view().prunable(&range, floor)?;
            let full = page.len() == PAGE_KEYS;
            from = page.last().map(|(key, _)| key.successor());
            for (key, count) in page {
                if pruned >= limits::EXPIRE_VERSIONS_MAX as u64 {
                    return Ok((pruned, true));
                }
                draft.prune(table, key, floor);
                pruned += count;
            }
            if !full {
                break;
            }
        }
    }
    Ok((pruned, false))
}

/// Gives up the files that were replaced at or below the floor.
fn release_replaced(
    draft: &mut Draft<'_>,
    record: &DatasetRecord,
    floor: LogIndex,
) -> Result<(), Stop> {
    let mut released = false;
    for file in catalog::files(draft.view(), record.dataset, LogIndex::MAX)? {
        if is_replaced(&file, floor) {
            schedule_sweep(draft, record, &file)?;
            draft.delete(Table::File, Key::file(record.dataset, file.file));
            released = true;
        }
    }
    if released {
        draft.effect(Effect::Sweep { dataset: record.dataset });
    }
    Ok(())
}

fn is_replaced(file: &FileRecord, floor: LogIndex) -> bool {
    match file.state {
        FileState::Replaced { since, .. } => since <= floor,
        FileState::Planned | FileState::Live(_) => false,
    }
}
