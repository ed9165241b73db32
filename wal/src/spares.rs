//! Spare segments: files of zeros, written and synced ahead, so that a rotation finds its blocks in
//! place.
//!
//! Zeros are written, not promised with `fallocate`: the first write into an unwritten extent costs
//! a journal commit at its sync, and halves the rate of small commits. Invariant: a spare has its
//! full length, synced.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::error::{Error, IoOperation};
use crate::limits;
use crate::number::{gap, sum, usize_of};
use crate::segment::spare_name;
use crate::storage::{Access, Storage};

/// Creates and fills the spare `number`; returns its name.
///
/// # Errors
/// [`Error::Full`] when the disk has no room: nothing is left behind. [`Error::Poisoned`] after any
/// other failure, for a device that fails here will fail the log.
pub(crate) fn prepare(storage: &dyn Storage, number: u64, bytes: u64) -> Result<String, Error> {
    let name = spare_name(number);
    match fill(storage, &name, bytes) {
        Ok(()) => Ok(name),
        Err(error) => Err(match (is_full(&error), remove_partial(storage, &name)) {
            (true, Ok(())) => Error::Full { source: Arc::new(error) },
            (true, Err(error)) | (false, Err(error)) => poison(error),
            (false, Ok(())) => poison(error),
        }),
    }
}

fn fill(storage: &dyn Storage, name: &str, bytes: u64) -> io::Result<()> {
    let file = storage.create(name, Access::Write)?;
    let zeros = vec![0; usize_of(limits::MIB.min(bytes))];
    let mut offset = 0;
    while offset < bytes {
        let count = gap(bytes, offset).min(limits::MIB);
        let (now, _) = zeros.split_at(usize_of(count));
        file.write_at(offset, &mut [IoSlice::new(now)])?;
        offset = sum(offset, count);
    }
    file.sync_data()
}

fn remove_partial(storage: &dyn Storage, name: &str) -> io::Result<()> {
    match storage.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Says whether a failure means that the disk has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn poison(error: io::Error) -> Error {
    Error::Poisoned { operation: IoOperation::PrepareSpare, source: Arc::new(error) }
}
