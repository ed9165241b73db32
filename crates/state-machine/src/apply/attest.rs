//! Attest: a planned file becomes what readers use, or goes away.
//!
//! Invariant: rows are conserved. A file that does not account for every row it was planned from is
//! refused.

use alluvium_types::{
    Attest, AttestOutcome, Attested, DatasetKey, FileFault, FileId, LogIndex, Outcome, Rejection,
};

use crate::record::{DatasetRecord, FileContent, FileRecord, FileState, SweepRecord};
use crate::view::{Effect, ViewError};
use crate::{Key, Table, catalog};

use super::draft::{Draft, Stop};

pub(super) fn apply(draft: &mut Draft<'_>, command: &Attest) -> Result<Outcome, Stop> {
    let record = draft.live_dataset(command.dataset)?;
    let (dataset, file) = (command.dataset, command.file);
    let found = catalog::file(draft.view(), dataset, file, LogIndex::MAX)?;
    let planned = found.ok_or(Rejection::File { file, reason: FileFault::NotFound })?;
    if planned.attested().is_some() {
        return repeated(&planned, &command.outcome);
    }
    match (&planned.content, &command.outcome) {
        (FileContent::Seal { first, last }, AttestOutcome::Written(attested)) => {
            sealed(draft, &record, &planned, attested, (*first, *last))?;
        }
        (FileContent::Seal { .. }, AttestOutcome::Empty { rows_hidden }) => {
            return Err(conservation(planned.rows_planned, *rows_hidden, 0));
        }
        (FileContent::Seal { .. }, AttestOutcome::Abandoned { .. }) => {
            return Err(Rejection::File { file, reason: FileFault::SealAbandoned }.into());
        }
        (FileContent::Compaction { inputs, .. }, AttestOutcome::Written(attested)) => {
            compacted(draft, &record, &planned, attested, inputs)?;
        }
        (FileContent::Compaction { inputs, .. }, AttestOutcome::Empty { rows_hidden }) => {
            if *rows_hidden != planned.rows_planned {
                return Err(conservation(planned.rows_planned, *rows_hidden, 0));
            }
            replace(draft, dataset, file, inputs)?;
            draft.delete(Table::File, Key::file(dataset, file));
            remove_tombstones(draft, dataset)?;
        }
        (FileContent::Compaction { inputs, .. }, AttestOutcome::Abandoned { .. }) => {
            abandon(draft, &record, &planned, inputs)?;
        }
    }
    draft.delete(Table::Planned, Key::file(dataset, file));
    Ok(Outcome::Attested { file })
}

/// Accepts an attestation that is there already, if it names the same bytes.
fn repeated(record: &FileRecord, outcome: &AttestOutcome) -> Result<Outcome, Stop> {
    let file = record.file;
    let refuse = |reason| Err(Rejection::File { file, reason }.into());
    match outcome {
        AttestOutcome::Written(again) => {
            let same = record.attested().is_some_and(|first| first.digest == again.digest);
            if same { Ok(Outcome::Attested { file }) } else { refuse(FileFault::Differs) }
        }
        AttestOutcome::Empty { .. } | AttestOutcome::Abandoned { .. } => {
            refuse(FileFault::NotPlanned)
        }
    }
}

fn sealed(
    draft: &mut Draft<'_>,
    record: &DatasetRecord,
    planned: &FileRecord,
    attested: &Attested,
    (first, last): (LogIndex, LogIndex),
) -> Result<(), Stop> {
    if attested.rows != planned.rows_planned || attested.rows_hidden != 0 {
        return Err(conservation(planned.rows_planned, attested.rows_hidden, attested.rows));
    }
    check_indexes(attested, first, last)?;
    let deltas = catalog::deltas_in(draft.view(), record.dataset, first, last, LogIndex::MAX)?;
    let rows = deltas.iter().map(|(_, delta)| delta.rows).sum::<u64>();
    assert!(rows == planned.rows_planned, "deltas {first} to {last} have {rows} rows");
    for (index, _) in deltas {
        draft.delete(Table::Delta, Key::delta(record.dataset, index));
    }
    make_live(draft, record.dataset, planned, attested)
}

fn compacted(
    draft: &mut Draft<'_>,
    record: &DatasetRecord,
    planned: &FileRecord,
    attested: &Attested,
    inputs: &[FileId],
) -> Result<(), Stop> {
    if attested.rows == 0 {
        return Err(Rejection::NoRows.into());
    }
    let accounted = attested.rows.checked_add(attested.rows_hidden);
    if accounted != Some(planned.rows_planned) {
        return Err(conservation(planned.rows_planned, attested.rows_hidden, attested.rows));
    }
    let (first, last) = replace(draft, record.dataset, planned.file, inputs)?;
    check_indexes(attested, first, last)?;
    make_live(draft, record.dataset, planned, attested)?;
    remove_tombstones(draft, record.dataset)
}

fn make_live(
    draft: &mut Draft<'_>,
    dataset: DatasetKey,
    planned: &FileRecord,
    attested: &Attested,
) -> Result<(), Stop> {
    let live = FileRecord { state: FileState::Live(Box::new(attested.clone())), ..planned.clone() };
    draft.put(Table::File, Key::file(dataset, planned.file), &live)
}

/// Makes the inputs of a compaction replaced. Returns the lowest and highest index of their rows.
fn replace(
    draft: &mut Draft<'_>,
    dataset: DatasetKey,
    output: FileId,
    inputs: &[FileId],
) -> Result<(LogIndex, LogIndex), Stop> {
    let (mut first, mut last) = (LogIndex::MAX, LogIndex(0));
    for &input in inputs {
        let record = reserved(draft, dataset, output, input)?;
        let FileState::Live(attested) = record.state else {
            return Err(ViewError::Dangling { table: Table::File }.into());
        };
        first = first.min(attested.first_index);
        last = last.max(attested.last_index);
        let state = FileState::Replaced { attested, since: draft.index };
        draft.put(Table::File, Key::file(dataset, input), &FileRecord { state, ..record })?;
    }
    Ok((first, last))
}

fn abandon(
    draft: &mut Draft<'_>,
    record: &DatasetRecord,
    planned: &FileRecord,
    inputs: &[FileId],
) -> Result<(), Stop> {
    let dataset = record.dataset;
    for &input in inputs {
        let released =
            FileRecord { reserved_by: None, ..reserved(draft, dataset, planned.file, input)? };
        draft.put(Table::File, Key::file(dataset, input), &released)?;
    }
    draft.delete(Table::File, Key::file(dataset, planned.file));
    schedule_sweep(draft, record, planned)?;
    draft.effect(Effect::Sweep { dataset });
    Ok(())
}

/// Records that a file's object, if there is one, may be deleted.
pub(super) fn schedule_sweep(
    draft: &mut Draft<'_>,
    record: &DatasetRecord,
    file: &FileRecord,
) -> Result<(), Stop> {
    let bucket = record.bucket.clone();
    let sweep = SweepRecord { generation: file.generation, bucket, since: draft.index };
    draft.put(Table::Sweep, Key::file(record.dataset, file.file), &sweep)
}

fn reserved(
    draft: &Draft<'_>,
    dataset: DatasetKey,
    output: FileId,
    input: FileId,
) -> Result<FileRecord, ViewError> {
    let found = catalog::file(draft.view(), dataset, input, LogIndex::MAX)?;
    let record = found.ok_or(ViewError::Dangling { table: Table::File })?;
    assert!(record.reserved_by == Some(output), "file {input} is not reserved by {output}");
    Ok(record)
}

fn check_indexes(attested: &Attested, low: LogIndex, high: LogIndex) -> Result<(), Stop> {
    let (first, last) = (attested.first_index, attested.last_index);
    if first < low || high < first {
        return Err(Rejection::IndexOutOfRange { index: first, low, high }.into());
    }
    if last < first || high < last {
        return Err(Rejection::IndexOutOfRange { index: last, low: first, high }.into());
    }
    Ok(())
}

fn conservation(rows_in: u64, rows_hidden: u64, rows_out: u64) -> Stop {
    Rejection::Conservation { rows_in, rows_hidden, rows_out }.into()
}

/// Deletes the tombstones that hide nothing any more: no live file has a row below them that they
/// were not folded into, and no delta is below them.
fn remove_tombstones(draft: &mut Draft<'_>, dataset: DatasetKey) -> Result<(), Stop> {
    // A tombstone is needed while it is above this bound of some file or delta.
    let mut safe = LogIndex::MAX;
    for file in catalog::files(draft.view(), dataset, LogIndex::MAX)? {
        if let FileState::Live(attested) = &file.state {
            safe = safe.min(file.folded_to.max(attested.first_index));
        }
    }
    for (index, _) in catalog::deltas(draft.view(), dataset, LogIndex::MAX)? {
        safe = safe.min(index);
    }
    for (key, index) in catalog::tombstone_keys(draft.view(), dataset)? {
        if index <= safe {
            draft.delete(Table::Tombstone, key);
        }
    }
    Ok(())
}
