//! Reading a snapshot file to its end, and what must hold for it to be believed.
//!
//! It must not change anything. Invariant (INV-C2): a file passes only when the entries that it carries are exactly
//! those that the rows of its state refer to.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use alluvium_state_machine::{SnapshotMeta, references};
use alluvium_types::LogIndex;

use crate::error::{Fault, SnapshotFault};
use crate::frame::Frame;

use super::carried::{Carried, Place};
use super::file_fault;
use super::format::{EntryHead, HEAD_BYTES, HEADER_BYTES, Head, Header};

/// A file that was read to its end.
pub(super) struct Checked {
    pub(super) meta: SnapshotMeta,
    pub(super) carried: Carried,
}

/// Verifies the file at `path`, and keeps it open for its entries.
pub(super) fn open(path: &Path) -> Result<Checked, Fault> {
    let file = File::open(path).map_err(|source| file_fault(path, source))?;
    let (meta, places) = read_to_end(&mut BufReader::new(&file))?;
    Ok(Checked { meta, carried: Carried::new(path, file, places) })
}

/// Reads a file to its end; checks its rows against their digest and its entries against its rows.
pub(super) fn read_to_end(source: &mut dyn Read) -> Result<(SnapshotMeta, Vec<Place>), Fault> {
    let Header { state_bytes } = read_header(source)?;
    let (meta, wanted) = references(&mut source.take(state_bytes)).map_err(Fault::Store)?;
    let places = read_entries(source, entries_at(state_bytes), &wanted)?;
    Ok((meta, places))
}

/// Returns the state's stream of the file at `path`. Only the file's header was checked.
pub(crate) fn open_state(path: &Path) -> Result<impl Read, Fault> {
    let file = File::open(path).map_err(|source| file_fault(path, source))?;
    let mut source = BufReader::new(file);
    let Header { state_bytes } = read_header(&mut source)?;
    Ok(source.take(state_bytes))
}

/// Returns where the entries of a file begin whose state has so many bytes.
pub(super) fn entries_at(state_bytes: u64) -> u64 {
    (HEADER_BYTES as u64).saturating_add(state_bytes)
}

fn read_header(source: &mut dyn Read) -> Result<Header, Fault> {
    let mut bytes = [0; HEADER_BYTES];
    let read = source.read_exact(&mut bytes);
    read.map_err(|source| SnapshotFault::Read { offset: 0, source })?;
    Ok(Header::decode(&bytes)?)
}

/// Reads the carried entries, which start at offset `at`, one at a time; there must be the wanted ones and no other.
pub(super) fn read_entries(
    source: &mut dyn Read,
    at: u64,
    wanted: &BTreeSet<LogIndex>,
) -> Result<Vec<Place>, Fault> {
    let mut entries = Entries { source, at };
    let mut places = Vec::new();
    for &index in wanted {
        match entries.head()? {
            Head::Entry(head) if head.index == index => places.push(entries.entry(head)?),
            Head::Entry(head) if head.index < index => {
                return Err(SnapshotFault::Surplus { index: head.index }.into());
            }
            Head::Entry(_) | Head::End { .. } => return Err(SnapshotFault::Lacks { index }.into()),
        }
    }
    match entries.head()? {
        Head::End { entries: claimed } if claimed == places.len() as u64 => {}
        Head::End { .. } => return Err(entries.damaged("it counts other entries").into()),
        Head::Entry(head) => return Err(SnapshotFault::Surplus { index: head.index }.into()),
    }
    entries.end()?;
    Ok(places)
}

/// The carried entries of a file that is read.
struct Entries<'a> {
    source: &'a mut dyn Read,
    /// The offset of the next byte.
    at: u64,
}

impl Entries<'_> {
    fn head(&mut self) -> Result<Head, SnapshotFault> {
        let mut bytes = [0; HEAD_BYTES];
        self.read_exact(&mut bytes)?;
        Head::decode(&bytes).ok_or_else(|| self.damaged("it is no head of an entry"))
    }

    fn entry(&mut self, head: EntryHead) -> Result<Place, SnapshotFault> {
        let place = Place { head, at: self.at };
        let mut payload = vec![0; usize::try_from(head.length).expect("an entry fits memory")];
        self.read_exact(&mut payload)?;
        if crc32c::crc32c(&payload) != head.checksum {
            return Err(self.damaged("its checksum does not match"));
        }
        let parsed = Frame::parse(payload.into());
        parsed.map_err(|source| SnapshotFault::Entry { index: head.index, source })?;
        Ok(place)
    }

    fn end(&mut self) -> Result<(), SnapshotFault> {
        let read = self.source.read(&mut [0]);
        let read = read.map_err(|source| SnapshotFault::Read { offset: self.at, source })?;
        match read {
            0 => Ok(()),
            _ => Err(self.damaged("bytes follow the end")),
        }
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), SnapshotFault> {
        let read: io::Result<()> = self.source.read_exact(buffer);
        read.map_err(|source| SnapshotFault::Read { offset: self.at, source })?;
        self.at = self.at.saturating_add(buffer.len() as u64);
        Ok(())
    }

    /// Names what ends where the reading stands.
    fn damaged(&self, reason: &'static str) -> SnapshotFault {
        SnapshotFault::Damaged { offset: self.at, reason }
    }
}
