//! The log entries that a snapshot carries: rows that are in no file yet, and may be in no log any more.
//!
//! It must not decide which entries these are. Invariant: the file was read to its end and verified before anyone
//! reads an entry of it, and an entry that is read is verified again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_types::LogIndex;
use alluvium_wal::Record;
use bytes::Bytes;

use crate::error::{EntryFault, Error};

use super::format::EntryHead;

/// The carried entries of a snapshot. It keeps the file open: a snapshot that is replaced, and whose file is
/// removed, still answers those who have begun to read.
#[derive(Debug)]
pub(crate) struct Carried {
    path: PathBuf,
    file: File,
    /// Where each entry is, by ascending index.
    places: Vec<Place>,
}

/// Where an entry is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) head: EntryHead,
    /// The offset of its bytes.
    pub(super) at: u64,
}

impl Place {
    /// Returns the entry's term and leader, as the log's tag.
    pub(crate) fn tag(&self) -> u128 {
        self.head.tag
    }
}

impl Carried {
    /// Takes a file whose entries were verified at these places. `path` is for messages alone.
    pub(super) fn new(path: &Path, file: File, places: Vec<Place>) -> Self {
        let ascend = places.is_sorted_by(|one, next| one.head.index < next.head.index);
        assert!(ascend, "the verification of a snapshot lets entries of any order through");
        Self { path: path.to_path_buf(), file, places }
    }

    /// Says under which name the file stands now.
    pub(super) fn renamed(self, path: &Path) -> Self {
        Self { path: path.to_path_buf(), ..self }
    }

    /// Returns where an entry is, if the snapshot carries it.
    pub(crate) fn find(&self, index: LogIndex) -> Option<Place> {
        let found = self.places.binary_search_by_key(&index, |place| place.head.index);
        found.ok().map(|found| self.places[found])
    }

    /// Returns an entry's bytes, which start at a multiple of 64 in memory, as those of the log do.
    ///
    /// # Errors
    /// [`Error::ReadSnapshot`]; [`Error::ReadEntry`] when they changed since they were verified.
    pub(crate) fn read(&self, place: Place) -> Result<Record, Error> {
        let EntryHead { index, tag, length, checksum } = place.head;
        let length = usize::try_from(length).expect("an entry fits memory");
        let mut buffer = vec![0; length.saturating_add(alluvium_types::codec::ALIGNMENT)];
        let skip = buffer.as_ptr().align_offset(alluvium_types::codec::ALIGNMENT);
        let end = skip.saturating_add(length);
        let read = self.file.read_exact_at(&mut buffer[skip..end], place.at);
        read.map_err(|source| {
            let (path, source) = (self.path.clone(), Arc::new(source));
            Error::ReadSnapshot { index, path, source }
        })?;
        let payload = Bytes::from(buffer).slice(skip..end);
        if crc32c::crc32c(&payload) != checksum {
            return Err(Error::ReadEntry { index, source: EntryFault::Checksum });
        }
        Ok(Record { index: index.0, tag, payload })
    }
}
