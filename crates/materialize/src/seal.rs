//! Seal: the deltas of a range of the log become one data file.
//!
//! It must not look at the newest metadata. Invariant: everything is read as of the plan's entry, so a replica
//! that comes late writes the same bytes.

use alluvium_rows::adapt;
use alluvium_state_machine::catalog;
use alluvium_state_machine::record::{FileContent, FileRecord};
use alluvium_types::{AttestOutcome, LogIndex, Schema};

use crate::context::FileContext;
use crate::deltas::read_delta;
use crate::error::Error;
use crate::publish::{Output, hashes};

/// Makes a planned seal: writes the file, reads it back, and returns what to attest. Memory is bounded by
/// the file and by one delta.
///
/// # Errors
/// A delta that cannot be read, rows that are not those planned, other bytes under the file's key, or a file
/// that does not read back as it was written.
pub async fn seal(context: &FileContext, plan: &FileRecord) -> Result<AttestOutcome, Error> {
    let FileContent::Seal { first, last } = plan.content else {
        return Err(Error::Plan { file: plan.file });
    };
    let (view, dataset, at) = (context.view.as_ref(), context.key(), LogIndex(plan.file.0));
    let schema = catalog::schema(view, dataset, plan.schema_version, at)?;
    let mut output = Output::new(context, plan, &schema)?;
    for (visible_at, delta) in catalog::deltas_in(view, dataset, first, last, at)? {
        let own = catalog::schema(view, dataset, delta.schema_version, at)?;
        let batches = read_delta(context.log.as_ref(), &delta, visible_at, &own)?;
        write_adapted(&mut output, plan, &batches, (&own, &schema))?;
    }
    let (expected, found) = (plan.rows_planned, output.sums().rows);
    if found != expected || found == 0 {
        return Err(Error::PlannedRows { file: plan.file, expected, found });
    }
    let (attested, _) = output.publish(context, 0).await?;
    let is_within = first <= attested.first_index && attested.last_index <= last;
    assert!(is_within, "a sealed row lies outside {first} to {last}");
    Ok(AttestOutcome::Written(Box::new(attested)))
}

fn write_adapted(
    output: &mut Output<'_>,
    plan: &FileRecord,
    batches: &[arrow::array::RecordBatch],
    (from, to): (&Schema, &Schema),
) -> Result<(), Error> {
    for batch in batches {
        let rows = adapt(batch, from, to)?;
        let hashes = hashes(plan, &rows)?;
        output.write(&rows, &hashes)?;
    }
    Ok(())
}
