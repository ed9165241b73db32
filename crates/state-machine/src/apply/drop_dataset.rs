//! Drop: a dataset ends; its name may live again with another incarnation.
//!
//! Invariant: nothing of it is live afterwards, and every object it may have is scheduled for
//! deletion.

use alluvium_types::{Drop, LogIndex, Outcome};

use crate::record::{DatasetRecord, NameRecord};
use crate::view::Effect;
use crate::{Key, Table, catalog};

use super::attest::schedule_sweep;
use super::draft::{Draft, Stop};
use super::upload;

pub(super) fn apply(draft: &mut Draft<'_>, command: &Drop) -> Result<Outcome, Stop> {
    let dataset = command.dataset;
    let record = draft.live_dataset(dataset)?;
    let prefix = Key::dataset(dataset);
    let files = catalog::files(draft.view(), dataset, LogIndex::MAX)?;
    for file in &files {
        // A planned file's object may be there already: its attestation is what comes too late.
        schedule_sweep(draft, &record, file)?;
        draft.delete(Table::File, Key::file(dataset, file.file));
    }
    if !files.is_empty() {
        draft.effect(Effect::Sweep { dataset });
    }
    for table in [Table::Planned, Table::Delta, Table::Tombstone, Table::Schema] {
        for key in catalog::keys(draft.view(), table, &prefix)? {
            draft.delete(table, key);
        }
    }
    for (id, upload) in upload::all(draft)? {
        if upload.dataset == dataset {
            upload::remove(draft, id)?;
        }
    }
    draft.delete(Table::Counters, prefix.clone());
    let name = Key::name(&record.name);
    draft.put(Table::Name, name, &NameRecord { dataset, live: false })?;
    let floor = draft.index;
    draft.put(Table::Dataset, prefix, &DatasetRecord { dropped: true, floor, ..record })?;
    Ok(Outcome::Dropped)
}
