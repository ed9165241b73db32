//! Reading a segment from front to back: the next record of the chain, or the reason why there is
//! none.
//!
//! It decides nothing: whether a bad record is a torn tail or damage is judged in `judge.rs`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::ChainEnd;
use crate::error::Reason;
use crate::ids::{Lsn, StreamId};
use crate::limits;
use crate::number::{gap, sum, u64_of, usize_of};
use crate::record::{Defect, HEADER_LEN, Header, Kind, RECORD_MAGIC, chain_hash, padding_bytes};
use crate::segment::SegmentHeader;
use crate::storage::StorageFile;

/// A window over a file, filled with large reads.
#[derive(Debug)]
pub(crate) struct Pages {
    file: Arc<dyn StorageFile>,
    end: u64,
    buffer: Vec<u8>,
    begin: u64,
}

impl Pages {
    pub(crate) fn new(file: Arc<dyn StorageFile>, end: u64) -> Self {
        Self { file, end, buffer: Vec::new(), begin: 0 }
    }

    /// Returns `len` bytes at `offset`, or nothing when they run over the end.
    pub(crate) fn at(&mut self, offset: u64, len: u64) -> io::Result<Option<&[u8]>> {
        if self.end < sum(offset, len) {
            return Ok(None);
        }
        let filled = sum(self.begin, u64_of(self.buffer.len()));
        if offset < self.begin || filled < sum(offset, len) {
            let want = limits::SCAN_BYTES.max(len).min(gap(self.end, offset));
            self.buffer.resize(usize_of(want), 0);
            self.begin = offset;
            self.file.read_at(offset, &mut self.buffer)?;
        }
        let from = usize_of(gap(offset, self.begin));
        Ok(self.buffer.get(from..from.saturating_add(usize_of(len))))
    }
}

/// A record that continues the chain.
#[derive(Debug)]
pub(crate) struct Scanned<'a> {
    pub(crate) header: Header,
    pub(crate) offset: u64,
    pub(crate) payload: &'a [u8],
    pub(crate) end: ChainEnd,
}

/// What replaying needs of an intact record, as small as it goes: a segment has many.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) durable: Lsn,
    pub(crate) index: u64,
    pub(crate) tag: u128,
    pub(crate) stream: StreamId,
    pub(crate) payload_len: u32,
    pub(crate) offset: u32,
    pub(crate) slot: u16,
    pub(crate) kind: Kind,
    pub(crate) all: bool,
}

impl Kept {
    pub(crate) fn of(scanned: &Scanned<'_>) -> Self {
        let Header { durable, index, tag, stream, payload_len, slot, kind, all, .. } =
            scanned.header;
        let offset = u32::try_from(scanned.offset).expect("segments are smaller than 4 GiB");
        Self { durable, index, tag, stream, payload_len, offset, slot, kind, all }
    }
}

/// The records of a segment that has a successor, read on their own, from what its header says of
/// the chain before it. Their positions are consecutive.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) records: Vec<Kept>,
    /// Payloads of the few records that replaying needs them of, by position in `records`.
    pub(crate) payloads: BTreeMap<usize, Bytes>,
    /// The chain behind the record that was asked for, if it is one of these.
    pub(crate) watched: Option<ChainEnd>,
    /// Behind the last record.
    pub(crate) cursor: Cursor,
    /// Why there are no more records, though the successor's header says that there are.
    pub(crate) fault: Option<io::Result<Reason>>,
}

impl Sealed {
    /// Reads up to the record that the next segment begins with.
    pub(crate) fn read(cursor: Cursor, next: Lsn, watch: Lsn) -> Self {
        let mut sealed = Self {
            records: Vec::new(),
            payloads: BTreeMap::new(),
            watched: None,
            cursor,
            fault: None,
        };
        while sealed.cursor.next_lsn() < next {
            let scanned = match sealed.cursor.next() {
                Ok(Ok(scanned)) => scanned,
                Ok(Err(reason)) => {
                    sealed.fault = Some(Ok(reason));
                    break;
                }
                Err(source) => {
                    sealed.fault = Some(Err(source));
                    break;
                }
            };
            if matches!(scanned.header.kind, Kind::Slot | Kind::Base) {
                let payload = Bytes::copy_from_slice(scanned.payload);
                sealed.payloads.insert(sealed.records.len(), payload);
            }
            if scanned.end.lsn == watch {
                sealed.watched = Some(scanned.end);
            }
            sealed.records.push(Kept::of(&scanned));
        }
        sealed
    }
}

/// Walks along the records of one segment.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) segment: SegmentHeader,
    pub(crate) life: u64,
    pages: Pages,
    pub(crate) offset: u64,
    pub(crate) chain: ChainEnd,
    pub(crate) verify_chain: bool,
}

impl Cursor {
    pub(crate) fn new(file: Arc<dyn StorageFile>, segment: SegmentHeader, chain: ChainEnd) -> Self {
        Self {
            segment,
            life: segment.life(),
            pages: Pages::new(file, segment.segment_bytes),
            offset: limits::SEGMENT_HEADER_BYTES,
            chain,
            verify_chain: true,
        }
    }

    /// Returns the next record and moves behind it, or stays and says why there is none.
    pub(crate) fn next(&mut self) -> io::Result<Result<Scanned<'_>, Reason>> {
        let offset = self.offset;
        let Some(bytes) = self.pages.at(offset, limits::RECORD_HEADER_BYTES)? else {
            return Ok(Err(Defect::OverEnd.into()));
        };
        let head: &[u8; HEADER_LEN] = bytes.try_into().expect("asked for a header's length");
        let header = match Header::decode(head) {
            Ok(header) => header,
            Err(defect) => return Ok(Err(defect.into())),
        };
        let end = ChainEnd { lsn: header.lsn, hash: chain_hash(head) };
        if let Some(reason) = self.stranger(&header) {
            return Ok(Err(reason));
        }
        let payload_len = u64::from(header.payload_len);
        let Some(bytes) = self.pages.at(offset, header.record_bytes())? else {
            return Ok(Err(Defect::OverEnd.into()));
        };
        let (_, rest) = bytes.split_at(HEADER_LEN);
        let (payload, padding) = rest.split_at(usize_of(payload_len));
        assert_eq!(u64_of(padding.len()), padding_bytes(payload_len), "sliced by the header");
        if let Err(defect) = header.check_payload(payload, padding) {
            return Ok(Err(defect.into()));
        }
        self.offset = sum(offset, header.record_bytes());
        self.chain = end;
        Ok(Ok(Scanned { header, offset, payload, end }))
    }

    fn stranger(&self, header: &Header) -> Option<Reason> {
        if header.segment != self.segment.seq || header.life != self.life {
            return Some(Reason::StaleRecord);
        }
        if header.lsn != self.chain.lsn.next() {
            return Some(Reason::WrongRecord { found: header.lsn });
        }
        let broken = self.verify_chain && header.prev_hash != self.chain.hash;
        broken.then_some(Reason::ChainBroken)
    }

    /// Returns all headers of this life behind the cursor, whole or not behind the header, in place
    /// order.
    ///
    /// The chain is broken there, so only what each header says of itself can be checked.
    pub(crate) fn headers_behind(&mut self) -> io::Result<Vec<(u64, Header)>> {
        let mut found = Vec::new();
        let mut offset = self.offset;
        while let Some(bytes) = self.pages.at(offset, limits::RECORD_HEADER_BYTES)? {
            if bytes.starts_with(&RECORD_MAGIC) {
                let head: &[u8; HEADER_LEN] = bytes.try_into().expect("asked for its length");
                if let Ok(header) = Header::decode(head)
                    && header.segment == self.segment.seq
                    && header.life == self.life
                    && self.chain.lsn < header.lsn
                {
                    found.push((offset, header));
                }
            }
            offset = sum(offset, limits::ALIGNMENT);
        }
        Ok(found)
    }

    /// Goes on behind damage, at a header that [`Cursor::headers_behind`] returned.
    pub(crate) fn jump(&mut self, offset: u64, header: &Header) {
        assert!(self.offset < offset, "a cursor moves forward");
        self.offset = offset;
        self.chain = ChainEnd { lsn: Lsn(header.lsn.0.saturating_sub(1)), hash: header.prev_hash };
    }

    /// Returns the position that the next record has.
    pub(crate) fn next_lsn(&self) -> Lsn {
        self.chain.lsn.next()
    }
}
