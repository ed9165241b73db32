//! Seal: deltas that no file covers become one planned file.

use alluvium_types::{FileId, LogIndex, Outcome, Seal};

use crate::record::{DatasetCounters, DatasetRecord, FileContent, FileRecord, FileState};
use crate::view::Effect;
use crate::{Key, Table, catalog};

use super::draft::{Draft, Stop};

pub(super) fn apply(draft: &mut Draft<'_>, command: &Seal) -> Result<Outcome, Stop> {
    let record = draft.live_dataset(command.dataset)?;
    Ok(match plan(draft, &record)? {
        Some(file) => Outcome::Sealed { file: Some(file.file), rows: file.rows_planned },
        None => Outcome::Sealed { file: None, rows: 0 },
    })
}

/// Plans the file of all unsealed deltas of a dataset, if there are any. Its id is the entry's
/// index.
pub(super) fn plan(
    draft: &mut Draft<'_>,
    record: &DatasetRecord,
) -> Result<Option<FileRecord>, Stop> {
    let dataset = record.dataset;
    let counters = catalog::counters(draft.view(), dataset)?;
    if counters.unsealed_deltas == 0 {
        return Ok(None);
    }
    let (first, last) = (counters.unsealed_first, counters.unsealed_last);
    assert!(LogIndex(0) < first && first <= last, "unsealed deltas from {first} to {last}");
    assert!(counters.unsealed_rows >= counters.unsealed_deltas, "a delta has no row");
    let file = FileRecord {
        file: FileId(draft.index.0),
        generation: 0,
        schema_version: record.schema_version,
        content: FileContent::Seal { first, last },
        rows_planned: counters.unsealed_rows,
        // A tombstone hides rows below its index, and none of the file's rows is below the first.
        folded_to: first,
        state: FileState::Planned,
        reserved_by: None,
    };
    let reset = DatasetCounters {
        unsealed_rows: 0,
        unsealed_bytes: 0,
        unsealed_deltas: 0,
        unsealed_first: LogIndex(0),
        unsealed_last: LogIndex(0),
        ..counters
    };
    draft.put_small(Table::Counters, Key::dataset(dataset), &reset);
    plan_file(draft, record, &file)?;
    Ok(Some(file))
}

/// Records that a file must be written.
pub(super) fn plan_file(
    draft: &mut Draft<'_>,
    record: &DatasetRecord,
    file: &FileRecord,
) -> Result<(), Stop> {
    let key = Key::file(record.dataset, file.file);
    draft.put(Table::File, key.clone(), file)?;
    draft.put_bytes(Table::Planned, key, Vec::new());
    draft.effect(Effect::WriteFile { dataset: record.dataset, file: file.file });
    Ok(())
}
