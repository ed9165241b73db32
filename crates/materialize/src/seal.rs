//! Seal: the deltas of a range of the log become one data file.
//!
//! It must not look at the newest metadata. Invariant: everything is read as of the plan's entry, so a replica
//! that comes late writes the same bytes.

use alluvium_rows::adapt;
use alluvium_state_machine::catalog;
use alluvium_state_machine::record::{FileContent, FileRecord};
use alluvium_types::{AttestOutcome, LogIndex};

use crate::context::FileContext;
use crate::deltas::read_delta;
use crate::error::{Error, Sums};
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
    let mut written = Sums::default();
    for (visible_at, delta) in catalog::deltas_in(view, dataset, first, last, at)? {
        let own = catalog::schema(view, dataset, delta.schema_version, at)?;
        let batches = read_delta(context.log.as_ref(), &delta, visible_at, &own)?;
        for batch in &batches {
            let rows = adapt(batch, &own, &schema)?;
            written.add(&hashes(plan, &rows)?);
            output.write(&rows)?;
        }
    }
    let (expected, found) = (plan.rows_planned, output.rows());
    if found != expected || found == 0 {
        return Err(Error::PlannedRows { file: plan.file, expected, found });
    }
    let same = |found| match found == written {
        true => Ok(()),
        false => Err(Error::Differs { file: plan.file, expected: written, found }),
    };
    let attested = output.publish(context, 0, same).await?;
    let is_within = first <= attested.first_index && attested.last_index <= last;
    assert!(is_within, "a sealed row lies outside {first} to {last}");
    Ok(AttestOutcome::Written(Box::new(attested)))
}
