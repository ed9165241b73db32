//! The snapshot stream: every stored version, in checksummed chunks, with a footer that proves it
//! is whole.
//!
//! Layout in `docs/formats/snapshot.md`. It must not depend on the store that wrote it. Invariant:
//! rows ascend strictly, and a reader returns only after their digest equals the footer's.

use std::io::{Read, Write};

use alluvium_types::{LogIndex, codec};
use bincode::{Decode, Encode};

use crate::record::{AppliedEntry, RaftRecord};
use crate::store::VersionKey;
use crate::{Key, SnapshotError, StateDigest, StoreError, Table};

/// The newest snapshot format this program reads, and the one it writes.
pub const SNAPSHOT_VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"ALVS";
const HEADER_BYTES: usize = 32;
const ROW_BYTES: usize = 18;
/// A chunk is written when it has at least this many bytes.
const CHUNK_BYTES: usize = 1024 * 1024;
/// No chunk is larger: its last row may have a value of an entry's size.
const CHUNK_BYTES_MAX: usize = 16 * 1024 * 1024;
const KIND_ROWS: u8 = 1;
const KIND_FOOTER: u8 = 2;

const _: () = assert!(
    CHUNK_BYTES + alluvium_types::limits::ENTRY_BYTES_MAX as usize + (1 << 16) < CHUNK_BYTES_MAX
);

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry in it.
    pub applied: Option<AppliedEntry>,
    /// The membership at that entry, as the raft crate encodes it.
    pub membership: Vec<u8>,
    /// The digest of its rows.
    pub digest: StateDigest,
    /// Its rows: stored versions.
    pub rows: u64,
}

#[derive(Encode, Decode)]
struct Footer {
    rows: u64,
    raft: RaftRecord,
    digest: StateDigest,
}

/// Writes a snapshot stream.
pub struct SnapshotWriter<'a> {
    sink: &'a mut dyn Write,
    chunk: Vec<u8>,
    chunks: u64,
    rows: u64,
    last: Option<VersionKey>,
}

impl<'a> SnapshotWriter<'a> {
    /// Writes the header.
    ///
    /// # Errors
    /// The sink's.
    pub fn new(sink: &'a mut dyn Write) -> Result<Self, SnapshotError> {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4..6].copy_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
        seal_header(&mut header);
        sink.write_all(&header).map_err(|source| SnapshotError::Write { source })?;
        Ok(Self { sink, chunk: Vec::new(), chunks: 0, rows: 0, last: None })
    }

    /// Adds a stored version; none is a deletion marker.
    ///
    /// # Errors
    /// The sink's.
    ///
    /// # Panics
    /// If it is not above the row before: the store does not iterate in order.
    pub fn row(&mut self, at: &VersionKey, value: Option<&[u8]>) -> Result<(), SnapshotError> {
        assert!(self.last.as_ref().is_none_or(|last| last < at), "snapshot rows out of order");
        self.last = Some(at.clone());
        let length = |bytes: usize| u32::try_from(bytes).expect("values fit an entry");
        self.chunk.push(at.table.byte());
        self.chunk.push(u8::from(value.is_some()));
        self.chunk.extend_from_slice(&at.version.0.to_le_bytes());
        self.chunk.extend_from_slice(&length(at.key.0.len()).to_le_bytes());
        self.chunk.extend_from_slice(&length(value.map_or(0, <[u8]>::len)).to_le_bytes());
        self.chunk.extend_from_slice(&at.key.0);
        self.chunk.extend_from_slice(value.unwrap_or_default());
        self.rows += 1;
        if self.chunk.len() >= CHUNK_BYTES {
            self.write_chunk(KIND_ROWS)?;
        }
        Ok(())
    }

    /// Writes the footer.
    ///
    /// # Errors
    /// The sink's.
    ///
    /// # Panics
    /// If the membership is larger than a log entry's header, in which it came.
    pub fn finish(
        mut self,
        raft: &RaftRecord,
        digest: StateDigest,
    ) -> Result<SnapshotMeta, SnapshotError> {
        if !self.chunk.is_empty() {
            self.write_chunk(KIND_ROWS)?;
        }
        let footer = Footer { rows: self.rows, raft: raft.clone(), digest };
        self.chunk = codec::encode(&footer).expect("a membership came in an entry's header");
        self.write_chunk(KIND_FOOTER)?;
        self.sink.flush().map_err(|source| SnapshotError::Write { source })?;
        let RaftRecord { applied, membership } = footer.raft;
        Ok(SnapshotMeta { applied, membership, digest, rows: self.rows })
    }

    fn write_chunk(&mut self, kind: u8) -> Result<(), SnapshotError> {
        assert!(self.chunk.len() <= CHUNK_BYTES_MAX, "a chunk of {} bytes", self.chunk.len());
        let length = u32::try_from(self.chunk.len()).expect("checked above");
        let mut header = [0; HEADER_BYTES];
        header[0] = kind;
        header[4..8].copy_from_slice(&length.to_le_bytes());
        header[8..16].copy_from_slice(&self.chunks.to_le_bytes());
        header[16..20].copy_from_slice(&crc32c::crc32c(&self.chunk).to_le_bytes());
        seal_header(&mut header);
        let write = |source| SnapshotError::Write { source };
        self.sink.write_all(&header).map_err(write)?;
        self.sink.write_all(&self.chunk).map_err(write)?;
        self.chunk.clear();
        self.chunks += 1;
        Ok(())
    }
}

/// Receives the rows of a snapshot; none is a deletion marker.
pub type RowSink<'a> = dyn FnMut(VersionKey, Option<Vec<u8>>) -> Result<(), StoreError> + 'a;

/// Reads a snapshot stream.
pub struct SnapshotReader<'a> {
    source: &'a mut dyn Read,
    chunk: u64,
    rows: u64,
    last: Option<VersionKey>,
    digest: StateDigest,
}

impl<'a> SnapshotReader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`SnapshotError::Header`], [`SnapshotError::NewerFormat`] or the source's.
    pub fn new(source: &'a mut dyn Read) -> Result<Self, SnapshotError> {
        let mut header = [0; HEADER_BYTES];
        let read = |source| SnapshotError::Read { chunk: 0, source };
        source.read_exact(&mut header).map_err(read)?;
        if !header.starts_with(&MAGIC) || !is_sealed(&header) {
            return Err(SnapshotError::Header);
        }
        let found = u16::from_le_bytes([header[4], header[5]]);
        if found > SNAPSHOT_VERSION {
            return Err(SnapshotError::NewerFormat { found, supported: SNAPSHOT_VERSION });
        }
        if found == 0 || header[6..28].iter().any(|&byte| byte != 0) {
            return Err(SnapshotError::Header);
        }
        let digest = StateDigest::default();
        Ok(Self { source, chunk: 0, rows: 0, last: None, digest })
    }

    /// Reads all rows into `sink`, checks them against the footer, and that nothing follows it.
    ///
    /// # Errors
    /// What is damaged or missing, or the sink's. What the sink got must then be thrown away.
    pub fn read(mut self, sink: &mut RowSink<'_>) -> Result<SnapshotMeta, StoreError> {
        loop {
            let (kind, payload) = self.read_chunk()?;
            if kind == KIND_FOOTER {
                return Ok(self.finish(&payload)?);
            }
            self.read_rows(&payload, sink)?;
            self.chunk += 1;
        }
    }

    fn read_chunk(&mut self) -> Result<(u8, Vec<u8>), SnapshotError> {
        let mut header = [0; HEADER_BYTES];
        self.read_exact(&mut header)?;
        let number = u64::from_le_bytes(header[8..16].try_into().expect("eight bytes"));
        let length = four(&header, 4) as usize;
        let padding = header[1..4].iter().chain(&header[20..28]);
        if !is_sealed(&header) || padding.into_iter().any(|&byte| byte != 0) {
            return Err(self.damaged("its header's checksum does not match"));
        }
        if number != self.chunk {
            return Err(self.damaged("it is out of order"));
        }
        if !matches!(header[0], KIND_ROWS | KIND_FOOTER) || length > CHUNK_BYTES_MAX {
            return Err(self.damaged("its kind or length is impossible"));
        }
        let mut payload = vec![0; length];
        self.read_exact(&mut payload)?;
        if crc32c::crc32c(&payload) != four(&header, 16) {
            return Err(self.damaged("its checksum does not match"));
        }
        Ok((header[0], payload))
    }

    fn read_rows(&mut self, mut rest: &[u8], sink: &mut RowSink<'_>) -> Result<(), StoreError> {
        while !rest.is_empty() {
            let row = self.split_row(&mut rest)?;
            let (at, value) = row;
            if self.last.as_ref().is_some_and(|last| *last >= at) {
                return Err(self.damaged("its rows do not ascend").into());
            }
            self.digest.add(at.table, &at.key, at.version, value.as_deref());
            self.rows += 1;
            self.last = Some(at.clone());
            sink(at, value)?;
        }
        Ok(())
    }

    fn split_row(&self, rest: &mut &[u8]) -> Result<(VersionKey, Option<Vec<u8>>), SnapshotError> {
        let short = || self.damaged("a row is cut");
        let (head, tail) = rest.split_at_checked(ROW_BYTES).ok_or_else(short)?;
        let (key, tail) = tail.split_at_checked(four(head, 10) as usize).ok_or_else(short)?;
        let (value, tail) = tail.split_at_checked(four(head, 14) as usize).ok_or_else(short)?;
        let table = Table::from_byte(head[0]).ok_or_else(|| self.damaged("unknown table"))?;
        let version = LogIndex(u64::from_le_bytes(head[2..10].try_into().expect("eight bytes")));
        let value = match (head[1], table.is_versioned(), version.0) {
            (1, true, _) | (1, false, 0) => Some(value.to_vec()),
            (0, true, _) if value.is_empty() => None,
            _ => return Err(self.damaged("a row has an impossible version")),
        };
        *rest = tail;
        Ok((VersionKey { table, key: Key(key.to_vec()), version }, value))
    }

    fn finish(self, payload: &[u8]) -> Result<SnapshotMeta, SnapshotError> {
        let footer: Option<Footer> = codec::decode(payload).ok();
        let footer = footer.ok_or_else(|| self.damaged("its footer does not decode"))?;
        if footer.rows != self.rows {
            return Err(self.damaged("it has another number of rows than it claims"));
        }
        if footer.digest != self.digest {
            let (claimed, found) = (footer.digest, self.digest);
            return Err(SnapshotError::Digest { claimed, found });
        }
        let mut one = [0];
        let read = |source| SnapshotError::Read { chunk: self.chunk, source };
        if self.source.read(&mut one).map_err(read)? != 0 {
            return Err(self.damaged("bytes follow the footer"));
        }
        let RaftRecord { applied, membership } = footer.raft;
        Ok(SnapshotMeta { applied, membership, digest: footer.digest, rows: footer.rows })
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), SnapshotError> {
        let chunk = self.chunk;
        self.source.read_exact(buffer).map_err(|source| SnapshotError::Read { chunk, source })
    }

    fn damaged(&self, reason: &'static str) -> SnapshotError {
        SnapshotError::Chunk { chunk: self.chunk, reason }
    }
}

/// Puts the CRC-32C of a header into its last four bytes.
fn seal_header(header: &mut [u8; HEADER_BYTES]) {
    let checksum = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&checksum.to_le_bytes());
}

fn is_sealed(header: &[u8; HEADER_BYTES]) -> bool {
    crc32c::crc32c(&header[..28]).to_le_bytes() == header[28..]
}

fn four(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests;
