//! What the fuzz targets call, and a test with a seed in every run: one function for each way in.
//!
//! It must not be called in production: it panics when a promise is broken, which is how a search
//! finds that. Invariant: a target in `fuzz/` is a call of one of these and nothing else.

use std::sync::Arc;

use crate::number::{u64_of, usize_of};
use crate::record::{self, HEADER_LEN, Header, RECORD_MAGIC, payload_hash};
use crate::segment::{self, SegmentHeader, segment_name};
use crate::sim::SimDisk;
use crate::watermark::{SlotContent, Watermark};
use crate::{Operation, Options, Owner, SegmentSeq, StreamId, Wal, limits};

const OWNER: Owner = Owner { cluster: 1, node: 1 };
const STREAM: StreamId = StreamId(1);
/// Records of the log that [`recover`] edits, and bytes of each payload.
const RECORDS: u64 = 8;
const PAYLOAD_LEN: usize = 40;
/// Edits of one input that are made; the others are ignored.
const EDITS_MAX: usize = 64;
/// Bytes of an edit: two of the place, one to put there.
const EDIT_LEN: usize = 3;
/// Longest payload whose hash an edit makes right again.
const RESEALED_LEN_MAX: usize = 64;

/// Decodes bytes as each of the log's formats, and returns how many took them.
///
/// # Panics
/// When a decoder panics, or takes what its encoder would not have written.
#[must_use]
pub fn decode(bytes: &[u8]) -> usize {
    let mut taken = 0_usize;
    if let Ok((header, payload)) = record::decode(bytes) {
        let mut again = header.encode().to_vec();
        again.extend_from_slice(payload);
        again.resize(usize_of(header.record_bytes()), 0);
        assert!(bytes.starts_with(&again), "a record that we would not write: {header:?}");
        taken = taken.saturating_add(1);
    }
    if let Some(bytes) = bytes.first_chunk() {
        if let Ok(header) = SegmentHeader::decode(bytes) {
            assert!(header.encode() == *bytes, "a segment header that we would not write");
            taken = taken.saturating_add(1);
        }
        if let SlotContent::Valid(watermark) = Watermark::decode(bytes) {
            assert!(watermark.encode() == *bytes, "a watermark that we would not write");
            taken = taken.saturating_add(1);
        }
    }
    taken
}

/// Opens a log after edits to its segment, and returns whether it opened rather than name damage.
///
/// An edit is a place (two bytes, little-endian) and a byte to put there. Checksums of a header that
/// an edit hits are made right again, so that a search reaches the rules behind them.
///
/// # Panics
/// When opening panics, or what opened cannot be read or has more than was ever written.
#[must_use]
pub fn recover(edits: &[u8]) -> bool {
    let disk = written();
    let name = segment_name(SegmentSeq(1));
    let mut content = disk.content(&name).expect("the log made it");
    let body = content.len().saturating_sub(segment::HEADER_LEN);
    for edit in edits.chunks_exact(EDIT_LEN).take(EDITS_MAX) {
        let &[low, high, byte] = edit else { unreachable!("chunks are whole") };
        let place = usize::from(u16::from_le_bytes([low, high])).checked_rem(body).unwrap_or(0);
        let at = segment::HEADER_LEN.saturating_add(place);
        if let Some(slot) = content.get_mut(at) {
            *slot = byte;
        }
        reseal(&mut content, at);
    }
    disk.put(&name, &content);
    let Ok((wal, _)) = Wal::open(Arc::new(disk), options()) else { return false };
    let read = wal.read(STREAM, 0..u64::MAX).expect("what opened is readable");
    let most = u64_of(body).checked_div(u64_of(HEADER_LEN)).unwrap_or(0);
    assert!(u64_of(read.len()) <= most, "{} records where {most} fit", read.len());
    true
}

/// Returns the disk of a log with some records, whose process was killed.
fn written() -> SimDisk {
    let disk = SimDisk::new(1);
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), options()).expect("a new log opens");
    for index in 1..=RECORDS {
        let byte = u8::try_from(index).expect("few records");
        let payload = vec![byte; PAYLOAD_LEN].into();
        let append = Operation::Append { stream: STREAM, index, tag: 0, payload };
        wal.commit(vec![append]).expect("a disk without faults takes it");
    }
    disk.kill();
    disk
}

fn options() -> Options {
    let mut options = Options::new(OWNER);
    options.segment_bytes = limits::SEGMENT_BYTES_MIN;
    options
}

/// Makes the checksum of the header around `at` right, and the hash of a short payload behind it.
fn reseal(content: &mut [u8], at: usize) {
    let unit = usize_of(limits::ALIGNMENT);
    let start = at.checked_div(unit).unwrap_or(0).saturating_mul(unit);
    for start in [start, start.saturating_sub(unit)] {
        let from_start = content.get_mut(start..).and_then(|bytes| bytes.split_first_chunk_mut());
        let Some((head, rest)) = from_start else { continue };
        if !head.starts_with(&RECORD_MAGIC) {
            continue;
        }
        *head = Header::reseal(head);
        let Ok(mut header) = Header::decode(head) else { continue };
        let payload_len = usize_of(header.payload_len.into());
        let Some(payload) = rest.get(..payload_len) else { continue };
        if payload_len <= RESEALED_LEN_MAX {
            header.payload_hash = payload_hash(payload);
            *head = header.encode();
        }
    }
}

#[cfg(test)]
mod tests;
