//! Reading entries, from any thread, while the writer works.
//!
//! An entry on disk costs one `pread` into an aligned buffer, is verified there, and is handed out
//! without a copy. It must never hand out bytes that it has not verified. The lock is not held
//! while the disk is read.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, IoOperation, Reason};
use crate::ids::{Lsn, SegmentSeq, StreamId};
use crate::index::At;
use crate::limits;
use crate::number::{sum, u64_of, usize_of};
use crate::operation::{Record, StreamState};
use crate::record::{Defect, HEADER_LEN, Header, Kind};
use crate::segment::segment_name;
use crate::shared::{Gate, OpenSegment};

/// Reads a log. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Reader {
    gate: Arc<Gate>,
}

enum Found {
    InMemory(Record),
    OnDisk { at: At, tag: u128, payload_len: u32, segment: OpenSegment },
}

impl Reader {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// Returns where `stream` begins and ends, appends that wait for the disk included.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Closed`].
    pub fn state(&self, stream: StreamId) -> Result<StreamState, Error> {
        let shared = self.gate.lock();
        shared.alive()?;
        Ok(shared.state(stream))
    }

    /// Returns the value of a slot that is durable; one that still waits for the disk is not
    /// returned.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Closed`].
    pub fn slot(&self, stream: StreamId, slot: u16) -> Result<Option<Bytes>, Error> {
        let shared = self.gate.lock();
        shared.alive()?;
        Ok(shared.durable_slots.get(&(stream, slot)).cloned())
    }

    /// Returns the entries of `stream` in `range` that exist, in order, appends that wait included.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when an entry is not what was written; else as [`Reader::read_record`].
    pub fn read(&self, stream: StreamId, range: Range<u64>) -> Result<Vec<Record>, Error> {
        self.read_limited(stream, range, u64::MAX)
    }

    /// Returns the first entries of `stream` in `range`, as many as fit in `bytes_max` and at least
    /// one.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_limited(
        &self,
        stream: StreamId,
        range: Range<u64>,
        bytes_max: u64,
    ) -> Result<Vec<Record>, Error> {
        let state = self.state(stream)?;
        let (Some(first), Some(last)) = (state.first_index, state.last) else {
            return Ok(Vec::new());
        };
        let live = range.start.max(first)..range.end.min(sum(last.index, 1));
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        for index in live {
            let record = match self.read_record(stream, index) {
                // Purged or truncated since its place was looked up.
                Err(Error::NotFound { .. }) if records.is_empty() => continue,
                Err(Error::NotFound { .. }) => break,
                other => other?,
            };
            bytes = sum(bytes, u64_of(record.payload.len()));
            if bytes_max < bytes && !records.is_empty() {
                break;
            }
            records.push(record);
        }
        Ok(records)
    }

    /// Returns one entry.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none at `index`; [`Error::Corrupt`] when its bytes are
    /// damaged: fetch it from a peer; [`Error::Io`] when the disk cannot be read;
    /// [`Error::Poisoned`] or [`Error::Closed`].
    pub fn read_record(&self, stream: StreamId, index: u64) -> Result<Record, Error> {
        loop {
            let (at, tag, payload_len, segment) = match self.find(stream, index)? {
                Found::InMemory(record) => return Ok(record),
                Found::OnDisk { at, tag, payload_len, segment } => (at, tag, payload_len, segment),
            };
            let bytes = read_aligned(&segment, at, payload_len)?;
            let reason = match verify(&bytes, at, &segment, (stream, index, tag)) {
                Ok(payload) => return Ok(Record { index, tag, payload }),
                Err(reason) => reason,
            };
            if self.still_at(stream, index, at) {
                let (segment, offset) = (at.segment, u64::from(at.offset));
                return Err(Error::Corrupt { segment, offset, lsn: Lsn(0), reason });
            }
            // The entry was purged and its segment recycled while it was read: look again.
        }
    }

    /// Returns all segments, oldest first.
    pub(crate) fn segments(&self) -> Result<Vec<(SegmentSeq, OpenSegment)>, Error> {
        let shared = self.gate.lock();
        shared.alive()?;
        Ok(shared.segments.iter().map(|(&seq, segment)| (seq, segment.clone())).collect())
    }

    /// Says whether a segment still belongs to the log, in the same life.
    pub(crate) fn has_segment(&self, seq: SegmentSeq, life: u64) -> Result<bool, Error> {
        let shared = self.gate.lock();
        shared.alive()?;
        Ok(shared.segments.get(&seq).is_some_and(|segment| segment.life == life))
    }

    fn find(&self, stream: StreamId, index: u64) -> Result<Found, Error> {
        let shared = self.gate.lock();
        shared.alive()?;
        let entry = shared.index.get(stream, index).ok_or(Error::NotFound { stream, index })?;
        let tag = entry.tag;
        if let Some(payload) = &entry.payload {
            return Ok(Found::InMemory(Record { index, tag, payload: payload.clone() }));
        }
        let at = entry.at.expect("an entry is in memory or on disk");
        let segment = shared.segments.get(&at.segment).expect("live entries keep their segment");
        let (payload_len, segment) = (entry.payload_len, segment.clone());
        Ok(Found::OnDisk { at, tag, payload_len, segment })
    }

    fn still_at(&self, stream: StreamId, index: u64, at: At) -> bool {
        self.gate.lock().index.get(stream, index).is_some_and(|entry| entry.at == Some(at))
    }
}

/// Reads header and payload of a record with one read, the payload at a multiple of 64 in memory.
fn read_aligned(segment: &OpenSegment, at: At, payload_len: u32) -> Result<Bytes, Error> {
    let alignment = usize_of(limits::ALIGNMENT);
    let len = usize_of(sum(limits::RECORD_HEADER_BYTES, u64::from(payload_len)));
    let mut buffer = vec![0; len.saturating_add(alignment)];
    let skip = buffer.as_ptr().align_offset(alignment);
    assert!(skip <= alignment, "an address below a multiple of 64 is less than 64 away from it");
    let (_, rest) = buffer.split_at_mut(skip);
    let (wanted, _) = rest.split_at_mut(len);
    segment
        .file
        .read_at(u64::from(at.offset), wanted)
        .map_err(|source| Error::io(IoOperation::ReadSegment, &segment_name(at.segment), source))?;
    Ok(Bytes::from(buffer).slice(skip..skip.saturating_add(len)))
}

fn verify(
    bytes: &Bytes,
    at: At,
    segment: &OpenSegment,
    (stream, index, tag): (StreamId, u64, u128),
) -> Result<Bytes, Reason> {
    let (head, payload) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Defect::OverEnd)?;
    let header = Header::decode(head)?;
    if header.segment != at.segment || header.life != segment.life {
        return Err(Reason::StaleRecord);
    }
    let same = header.kind == Kind::Entry
        && (header.stream, header.index, header.tag) == (stream, index, tag)
        && usize_of(u64::from(header.payload_len)) == payload.len();
    if !same {
        return Err(Reason::WrongRecord { found: header.lsn });
    }
    header.check_payload(payload, &[])?;
    Ok(bytes.slice(HEADER_LEN..))
}

#[cfg(test)]
mod tests;
