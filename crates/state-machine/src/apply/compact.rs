//! Compact: exact inputs and a tombstone cutoff become one planned file.
//!
//! Invariant: a file is an input of at most one planned compaction.

use alluvium_types::{Compact, FileFault, FileId, LogIndex, Outcome, Rejection, limits};

use crate::record::{FileContent, FileRecord, FileState};
use crate::{Key, Table, catalog};

use super::draft::{Draft, Stop};
use super::seal;

pub(super) fn apply(draft: &mut Draft<'_>, command: &Compact) -> Result<Outcome, Stop> {
    let record = draft.live_dataset(command.dataset)?;
    let inputs = check_inputs(draft, command)?;
    let attested = |file: &FileRecord| file.attested().expect("inputs are live").rows;
    let rows_planned = inputs.iter().map(attested).fold(0, u64::saturating_add);
    if rows_planned > limits::COMPACT_ROWS_MAX {
        return Err(too_large());
    }
    let low = inputs.iter().map(|file| file.folded_to).max().unwrap_or_default();
    let high = LogIndex(draft.index.0 - 1);
    if command.cutoff < low || high < command.cutoff {
        return Err(Rejection::IndexOutOfRange { index: command.cutoff, low, high }.into());
    }
    let file = FileId(draft.index.0);
    let generation = inputs.iter().map(|file| file.generation).max().unwrap_or_default();
    let output = FileRecord {
        file,
        generation: generation.saturating_add(1),
        schema_version: record.schema_version,
        content: FileContent::Compaction { inputs: command.inputs.clone(), cutoff: command.cutoff },
        rows_planned,
        folded_to: command.cutoff,
        state: FileState::Planned,
        reserved_by: None,
    };
    for input in inputs {
        let reserved = FileRecord { reserved_by: Some(file), ..input };
        draft.put(Table::File, Key::file(command.dataset, reserved.file), &reserved)?;
    }
    seal::plan_file(draft, &record, &output)?;
    Ok(Outcome::CompactionPlanned { file })
}

fn check_inputs(draft: &Draft<'_>, command: &Compact) -> Result<Vec<FileRecord>, Stop> {
    if command.inputs.is_empty() {
        return Err(Rejection::NothingToCompact.into());
    }
    let ascending = command.inputs.is_sorted_by(|one, two| one < two);
    if !ascending || command.inputs.len() > limits::COMPACT_INPUTS_MAX {
        return Err(too_large());
    }
    let mut inputs = Vec::new();
    for &file in &command.inputs {
        let refuse = |reason| Rejection::File { file, reason };
        let found = catalog::file(draft.view(), command.dataset, file, LogIndex::MAX)?;
        let input = found.ok_or_else(|| refuse(FileFault::NotFound))?;
        if !input.is_live() {
            return Err(refuse(FileFault::NotLive).into());
        }
        if input.reserved_by.is_some() {
            return Err(refuse(FileFault::Reserved).into());
        }
        inputs.push(input);
    }
    Ok(inputs)
}

fn too_large() -> Stop {
    let files_max = limits::COMPACT_INPUTS_MAX as u64;
    Rejection::CompactionTooLarge { files_max, rows_max: limits::COMPACT_ROWS_MAX }.into()
}
