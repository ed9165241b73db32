//! Writing a snapshot file: the state first, then the entries to which the very rows that were written refer.
//!
//! Apply goes on meanwhile, so nothing is asked of the store after its export. It must not publish a file.
//! Invariant (INV-C2): a file that lacks an entry is not finished.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alluvium_state_machine::record::AppliedEntry;
use alluvium_state_machine::{MetaStore, SnapshotMeta, references};
use alluvium_types::LogIndex;
use alluvium_wal::Record;

use crate::error::{Error, Fault};

use super::carried::Carried;
use super::check::{Checked, entries_at, read_entries};
use super::file_fault;
use super::format::{EntryHead, HEADER_BYTES, Head, Header};

/// A file that has its state and not yet its entries.
pub(super) struct Unfinished {
    path: PathBuf,
    file: File,
    meta: SnapshotMeta,
    state_bytes: u64,
    /// The entries that its rows refer to.
    wanted: BTreeSet<LogIndex>,
}

impl Unfinished {
    /// Writes the state of `store`, and reads it back.
    pub(super) fn export(path: &Path, store: &dyn MetaStore) -> Result<Self, Fault> {
        let failed = |source| file_fault(path, source);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = options.open(path).map_err(failed)?;
        let mut sink = BufWriter::new(&file);
        // Its header is written last: it has the length of what follows.
        sink.write_all(&[0; HEADER_BYTES]).map_err(failed)?;
        let meta = store.export(&mut sink).map_err(Fault::Store)?;
        sink.into_inner().map_err(|error| failed(error.into_error()))?;
        let end = file.stream_position().map_err(failed)?;
        let header_bytes = HEADER_BYTES as u64;
        assert!(header_bytes < end, "a state's stream has a header and a footer");
        let state_bytes = end - header_bytes;
        file.seek(SeekFrom::Start(header_bytes)).map_err(failed)?;
        let mut written = BufReader::new((&file).take(state_bytes));
        let (found, wanted) = references(&mut written).map_err(Fault::Store)?;
        assert_eq!(found, meta, "another state was read back than the one that was written");
        Ok(Self { path: path.to_path_buf(), file, meta, state_bytes, wanted })
    }

    /// Returns the last entry in the state.
    pub(super) fn applied(&self) -> Option<AppliedEntry> {
        self.meta.applied
    }

    /// Adds the entries, each as `entry` returns it, one at a time; reads them back and syncs the file.
    pub(super) fn carry(
        mut self,
        entry: &dyn Fn(LogIndex) -> Result<Record, Error>,
    ) -> Result<Checked, Fault> {
        let start = entries_at(self.state_bytes);
        self.seek(SeekFrom::Start(start))?;
        let mut sink = BufWriter::new(&self.file);
        for &index in &self.wanted {
            let record = entry(index).map_err(|error| uncarried(index, error))?;
            let written = write_entry(&mut sink, index, &record);
            written.map_err(|source| file_fault(&self.path, source))?;
        }
        let end = Head::End { entries: self.wanted.len() as u64 };
        let written = sink.write_all(&end.encode()).and_then(|()| sink.flush());
        written.map_err(|source| file_fault(&self.path, source))?;
        drop(sink);
        self.seek(SeekFrom::Start(start))?;
        let places = read_entries(&mut BufReader::new(&self.file), start, &self.wanted)?;
        self.seek(SeekFrom::Start(0))?;
        let header = Header { state_bytes: self.state_bytes }.encode();
        let written = self.file.write_all(&header).and_then(|()| self.file.sync_all());
        written.map_err(|source| file_fault(&self.path, source))?;
        let carried = Carried::new(&self.path, self.file, places);
        Ok(Checked { meta: self.meta, carried })
    }

    fn seek(&mut self, to: SeekFrom) -> Result<(), Fault> {
        let sought = self.file.seek(to);
        sought.map(drop).map_err(|source| file_fault(&self.path, source))
    }
}

/// A log that stopped is told as that, not as one that lacks an entry.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are of the one entry")]
fn uncarried(index: LogIndex, error: Error) -> Fault {
    use alluvium_wal::Error as Wal;
    match error {
        Error::ReadLog { source: source @ (Wal::Closed | Wal::Poisoned { .. }) } => {
            Fault::Log(source)
        }
        error => Fault::Uncarried { index, source: Box::new(error) },
    }
}

fn write_entry(sink: &mut dyn Write, index: LogIndex, record: &Record) -> io::Result<()> {
    assert_eq!(record.index, index.0, "an entry of another index was read");
    let length = u32::try_from(record.payload.len()).expect("the log holds no larger entry");
    let checksum = crc32c::crc32c(&record.payload);
    let head = EntryHead { index, tag: record.tag, length, checksum };
    sink.write_all(&Head::Entry(head).encode())?;
    sink.write_all(&record.payload)
}
