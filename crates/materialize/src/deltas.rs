//! Rows that are still in the log, with the hidden index column.
//!
//! It must not return fewer rows than the delta names, or rows of another command. Invariant: every row of a
//! delta has the delta's visible index, whatever entries carried it.

use std::sync::Arc;

use alluvium_rows::{decode_body, rows_part, to_arrow, with_index};
use alluvium_state_machine::record::{DeltaEntry, DeltaRecord};
use alluvium_types::{Command, Entry, LogIndex, RowSource, Schema, StageContent};
use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;

use crate::{Error, LogSource};

/// Returns the rows of a delta, one batch an entry, under the schema it was appended with and the hidden
/// index column behind.
///
/// # Errors
/// The first entry that is missing, damaged, or holds other rows than the delta names.
pub fn read_delta(
    log: &dyn LogSource,
    delta: &DeltaRecord,
    visible_at: LogIndex,
    schema: &Schema,
) -> Result<Vec<RecordBatch>, Error> {
    let arrow = to_arrow(schema);
    let indexed = with_index(&arrow);
    let batch = |entry: &DeltaEntry| {
        let rows = read_entry(log, *entry, &arrow)?;
        append_index(&rows, visible_at, &indexed)
            .map_err(|source| Error::Entry { index: entry.index, source })
    };
    let batches = delta.entries.iter().map(batch).collect::<Result<Vec<_>, _>>()?;
    let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    if rows != delta.rows {
        return Err(Error::EntryDiffers { index: visible_at });
    }
    Ok(batches)
}

fn read_entry(
    log: &dyn LogSource,
    place: DeltaEntry,
    schema: &SchemaRef,
) -> Result<RecordBatch, Error> {
    let index = place.index;
    let entry = log.entry(index)?;
    if !carries(&entry, place) {
        return Err(Error::EntryDiffers { index });
    }
    let unreadable = |source| Error::Entry { index, source };
    let body = rows_part(&entry.body(), place.rows_bytes).map_err(unreadable)?;
    let rows = decode_body(&body, schema).map_err(unreadable)?;
    if rows.num_rows() != place.rows as usize {
        return Err(Error::EntryDiffers { index });
    }
    Ok(rows)
}

/// Says whether an entry is one that carries rows, and as many as the delta says.
fn carries(entry: &Entry, place: DeltaEntry) -> bool {
    let Ok(envelope) = entry.envelope() else { return false };
    let source = match &envelope.command {
        Command::Append(append) => append.source,
        Command::Upsert(upsert) => upsert.source,
        Command::Stage(stage) => return staged_rows(stage.content) == Some(place.rows),
        Command::OpenSession(_)
        | Command::Register(_)
        | Command::Evolve(_)
        | Command::Tombstone(_)
        | Command::Seal(_)
        | Command::Compact(_)
        | Command::Attest(_)
        | Command::Expire(_)
        | Command::Swept(_)
        | Command::Drop(_)
        | Command::Checkpoint(_) => return false,
    };
    match source {
        RowSource::Inline { rows, rows_bytes } => {
            rows == place.rows && rows_bytes == place.rows_bytes
        }
        RowSource::Staged { .. } => false,
    }
}

fn staged_rows(content: StageContent) -> Option<u32> {
    match content {
        StageContent::Rows { rows, .. } | StageContent::KeyedRows { rows, .. } => Some(rows),
        StageContent::Keys => None,
    }
}

fn append_index(
    rows: &RecordBatch,
    visible_at: LogIndex,
    schema: &SchemaRef,
) -> Result<RecordBatch, alluvium_rows::Error> {
    let index = UInt64Array::from_value(visible_at.0, rows.num_rows());
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(index));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
