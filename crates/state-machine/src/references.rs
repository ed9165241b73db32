//! Which log entries a state refers to: those that hold rows which are in no file yet.
//!
//! It must not look at a store, which goes on while its snapshot is written: the rows of the snapshot alone tell.
//! Invariant: what it finds is a function of the rows, so every node finds the same for the same state.

use std::collections::BTreeSet;
use std::io::Read;

use alluvium_types::LogIndex;

use crate::record::{DeltaRecord, UploadPartRecord, UploadRecord};
use crate::snapshot::{SnapshotMeta, SnapshotReader};
use crate::store::VersionKey;
use crate::view::{ViewError, decode_record};
use crate::{Key, StoreError, Table};

// Rows ascend by table: the clock is known before the uploads, and these before their parts.
const _: () = assert!((Table::Clock as u8) < Table::Upload as u8);
const _: () = assert!((Table::Upload as u8) < Table::UploadPart as u8);

/// Reads a snapshot stream to its end, verifies it, and returns the log entries that its state refers to: those of
/// deltas that no attested file covers, and the parts of uploads that can still be continued or committed.
///
/// # Errors
/// As [`SnapshotReader::read`]; [`StoreError::View`] when a record does not decode.
pub fn references(source: &mut dyn Read) -> Result<(SnapshotMeta, BTreeSet<LogIndex>), StoreError> {
    let mut references = References::default();
    let reader = SnapshotReader::new(source)?;
    let meta = reader.read(&mut |at, value| references.row(at, value).map_err(StoreError::from))?;
    let found = references.finish()?;
    let applied = meta.applied.map_or(LogIndex(0), |applied| applied.index);
    match found.last() {
        Some(last) if applied < *last => Err(ViewError::Dangling { table: Table::Delta }.into()),
        Some(_) | None => Ok((meta, found)),
    }
}

/// What the rows so far refer to.
#[derive(Debug, Default)]
struct References {
    clock_ms: u64,
    open_uploads: BTreeSet<Key>,
    /// The delta whose versions are being read, and the newest of them so far; none for a deletion marker.
    delta: Option<(Key, Option<Vec<u8>>)>,
    found: BTreeSet<LogIndex>,
}

impl References {
    fn row(&mut self, at: VersionKey, value: Option<Vec<u8>>) -> Result<(), ViewError> {
        let VersionKey { table, key, .. } = at;
        match (table, value) {
            (Table::Delta, value) => return self.delta(key, value),
            (Table::Clock, Some(value)) => self.clock_ms = decode_record(table, &value)?,
            (Table::Upload, Some(value)) => {
                let upload: UploadRecord = decode_record(table, &value)?;
                if upload.is_open(self.clock_ms) {
                    self.open_uploads.insert(key);
                }
            }
            (Table::UploadPart, Some(value)) => {
                if key.upload_of().is_some_and(|upload| self.open_uploads.contains(&upload)) {
                    let part: UploadPartRecord = decode_record(table, &value)?;
                    self.found.insert(part.index);
                }
            }
            (
                Table::Clock
                | Table::Session
                | Table::SessionResult
                | Table::SessionByActivity
                | Table::Upload
                | Table::UploadPart
                | Table::Name
                | Table::Dataset
                | Table::Schema
                | Table::Counters
                | Table::File
                | Table::Tombstone
                | Table::Planned
                | Table::Sweep
                | Table::UploadKeys
                | Table::SessionCount,
                _,
            ) => {}
        }
        Ok(())
    }

    /// Takes a version of a delta. Only the last one counts: a delta that was deleted is in a file, or dropped.
    fn delta(&mut self, key: Key, value: Option<Vec<u8>>) -> Result<(), ViewError> {
        if self.delta.as_ref().is_some_and(|(before, _)| *before != key) {
            self.settle()?;
        }
        self.delta = Some((key, value));
        Ok(())
    }

    fn settle(&mut self) -> Result<(), ViewError> {
        let Some((_, Some(value))) = self.delta.take() else { return Ok(()) };
        let delta: DeltaRecord = decode_record(Table::Delta, &value)?;
        self.found.extend(delta.entries.iter().map(|entry| entry.index));
        Ok(())
    }

    fn finish(mut self) -> Result<BTreeSet<LogIndex>, ViewError> {
        self.settle()?;
        Ok(self.found)
    }
}
