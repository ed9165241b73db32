//! Sweep: the object of a file that nothing refers to any more goes.
//!
//! It must not list, or delete anything but the one key that the record names: an object that a fenced or
//! newer writer put is not this function's business. Deleting twice is as deleting once.

use alluvium_state_machine::record::SweepRecord;
use alluvium_storage::Bucket;
use alluvium_types::{DatasetKey, FileId};

use crate::context::object_key;
use crate::error::Error;

/// Deletes the object of a file; one that is gone already is no error.
///
/// # Errors
/// The bucket failed; the same call again is safe.
///
/// # Panics
/// When `bucket` is not the one that the record names: a file there would be another one's.
pub async fn sweep(
    bucket: &Bucket,
    dataset: DatasetKey,
    file: FileId,
    record: &SweepRecord,
) -> Result<(), Error> {
    assert!(bucket.name() == record.bucket, "file {file} is to be swept from {}", record.bucket);
    bucket.delete(&object_key(dataset, file, record.generation)).await?;
    Ok(())
}
