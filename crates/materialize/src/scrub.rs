//! Scrub: every live file is read in the background and compared with its digest.
//!
//! It must not decode rows, repair, or read faster than it is let. Invariant: every live file as of the index
//! has one report.

use std::sync::Arc;

use alluvium_state_machine::catalog;
use alluvium_state_machine::record::FileRecord;
use alluvium_storage::{BlockHasher, VerifiedFile};
use alluvium_types::{Attested, FileId, LogIndex};

use crate::context::{FileContext, storage_digest};
use crate::error::Error;
use crate::publish::check_length;

/// Bytes that are read at once, between two calls of the throttle.
const SCRUB_READ_BYTES: u64 = 4 * 1024 * 1024;

/// What was found of one file.
#[derive(Debug)]
pub struct ScrubReport {
    /// The file.
    pub file: FileId,
    /// Its length as attested.
    pub bytes: u64,
    /// What is wrong with it, if anything.
    pub fault: Option<Error>,
}

/// Reads every file that is live as of `at`. Before each read of some bytes, `throttle` is awaited with their
/// number.
///
/// # Errors
/// Only when the list of files cannot be read; a file that cannot is in the reports.
pub async fn scrub<F>(
    context: &FileContext,
    at: LogIndex,
    mut throttle: impl FnMut(u64) -> F + Send,
) -> Result<Vec<ScrubReport>, Error>
where
    F: Future<Output = ()> + Send,
{
    let mut reports = Vec::new();
    for record in catalog::files(context.view.as_ref(), context.key(), at)? {
        if !record.is_live() {
            continue;
        }
        let Some(attested) = record.attested() else { continue };
        let fault = check(context, &record, attested, &mut throttle).await.err();
        reports.push(ScrubReport { file: record.file, bytes: attested.digest.len_bytes, fault });
    }
    Ok(reports)
}

/// Reads an attested file, and compares every byte with its digest.
///
/// # Errors
/// The damage, or why the file could not be read.
///
/// # Panics
/// When the file is only planned.
pub async fn check_file(context: &FileContext, record: &FileRecord) -> Result<(), Error> {
    let attested = record.attested().expect("a planned file has no digest");
    check(context, record, attested, &mut |_bytes| std::future::ready(())).await
}

async fn check<F>(
    context: &FileContext,
    record: &FileRecord,
    attested: &Attested,
    throttle: &mut (impl FnMut(u64) -> F + Send),
) -> Result<(), Error>
where
    F: Future<Output = ()> + Send,
{
    let digest = Arc::new(storage_digest(&attested.digest));
    let key = context.object(record.file, record.generation);
    let file = VerifiedFile::new(context.bucket.clone(), key.clone(), Arc::clone(&digest))?;
    check_length(context, &key, digest.len_bytes).await?;
    let mut hasher = BlockHasher::default();
    let mut start = 0;
    while start < digest.len_bytes {
        let end = digest.len_bytes.min(start + SCRUB_READ_BYTES);
        throttle(end - start).await;
        hasher.update(&file.read(start..end).await?);
        start = end;
    }
    if hasher.finish().blake3 == digest.blake3 {
        return Ok(());
    }
    let (bucket, key) = (context.bucket.name().to_owned(), key.to_string());
    Err(alluvium_storage::Error::FileHash { bucket, key }.into())
}
