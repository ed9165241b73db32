//! Verify: every row of a dataset is read again, from files and log, and compared with what the log attests.
//!
//! It must not change anything, or stop at the first damage. Invariant: a failure to look is an error, damage
//! that was seen is in the report.

use alluvium_state_machine::catalog;
use alluvium_state_machine::record::{DeltaRecord, FileRecord};
use alluvium_types::{Attested, ErrorKind, FileId, LogIndex};

use crate::context::{FileContext, storage_digest};
use crate::deltas::read_delta;
use crate::error::{Error, LogError, Sums};
use crate::publish::read_back;

/// What was found of a dataset.
#[derive(Debug, Default)]
pub struct DatasetReport {
    /// Files that were read.
    pub files: u64,
    /// Deltas that were read.
    pub deltas: u64,
    /// Rows that were read and are right, hidden ones too.
    pub rows: u64,
    /// What is wrong.
    pub damage: Vec<Damage>,
}

/// Something that is not as the log says.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A data file.
    #[error("data file {file}: {source}")]
    File {
        /// The file.
        file: FileId,
        /// What is wrong.
        source: Error,
    },
    /// Rows in the log.
    #[error("rows of index {index}: {source}")]
    Delta {
        /// The visible index of the delta.
        index: LogIndex,
        /// What is wrong.
        source: Error,
    },
}

/// Reads every live file and every delta of a dataset as of `at`: digests, row counts, row-hash sums.
///
/// # Errors
/// Only when it could not look.
pub async fn verify_dataset(context: &FileContext, at: LogIndex) -> Result<DatasetReport, Error> {
    let mut report = DatasetReport::default();
    let (view, dataset) = (context.view.as_ref(), context.key());
    for record in catalog::files(view, dataset, at)? {
        // Replaced files too: reads of the past need them until the floor passes them.
        let Some(attested) = record.attested() else { continue };
        report.files += 1;
        match verify_file(context, &record, attested).await {
            Ok(()) => report.rows += attested.rows,
            Err(source) if is_damage(&source) => {
                report.damage.push(Damage::File { file: record.file, source });
            }
            Err(error) => return Err(error),
        }
    }
    for (index, delta) in catalog::deltas(view, dataset, at)? {
        report.deltas += 1;
        match verify_delta(context, index, &delta, at) {
            Ok(()) => report.rows += delta.rows,
            // Sealed and purged since: its rows are those of a file that is attested now.
            Err(Error::Log(LogError::Purged { .. })) if is_sealed(context, index)? => {}
            Err(source) if is_damage(&source) => {
                report.damage.push(Damage::Delta { index, source });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

async fn verify_file(
    context: &FileContext,
    record: &FileRecord,
    attested: &Attested,
) -> Result<(), Error> {
    let digest = storage_digest(&attested.digest);
    let found = read_back(context, record, &digest, attested.rows).await?;
    let expected = Sums { rows: attested.rows, hash_sum: attested.row_hash_sum };
    if found == expected {
        return Ok(());
    }
    Err(Error::Differs { file: record.file, expected, found })
}

fn verify_delta(
    context: &FileContext,
    index: LogIndex,
    delta: &DeltaRecord,
    at: LogIndex,
) -> Result<(), Error> {
    let schema = catalog::schema(context.view.as_ref(), context.key(), delta.schema_version, at)?;
    read_delta(context.log.as_ref(), delta, index, &schema).map(|_| ())
}

/// Says whether a delta is gone from the state, because a file holds its rows.
fn is_sealed(context: &FileContext, index: LogIndex) -> Result<bool, Error> {
    let deltas = catalog::deltas(context.view.as_ref(), context.key(), LogIndex::MAX)?;
    Ok(deltas.iter().all(|(live, _)| *live != index))
}

/// Tells what is wrong with the bytes from a failure to look at them.
fn is_damage(error: &Error) -> bool {
    match error {
        Error::Storage(error) => {
            error.is_corruption()
                || alluvium_storage::Error::find_in(error.as_ref())
                    .is_some_and(alluvium_storage::Error::is_corruption)
        }
        Error::Log(LogError::Read { kind, .. }) => *kind == ErrorKind::Corrupt,
        Error::Log(LogError::Purged { .. })
        | Error::Entry { .. }
        | Error::EntryDiffers { .. }
        | Error::Rows(_)
        | Error::Parquet { .. }
        | Error::Differs { .. } => true,
        Error::View(_)
        | Error::Plan { .. }
        | Error::PlannedRows { .. }
        | Error::Input { .. }
        | Error::Conservation { .. }
        | Error::TooLarge { .. } => false,
    }
}
