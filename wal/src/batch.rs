//! The bytes of one vectored write: headers and small payloads in one buffer, large payloads where
//! they are.
//!
//! It must not copy a large payload. Invariant: the parts, one after the other, are whole records.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;

use crate::bases::Draft;
use crate::ids::{Lsn, SegmentSeq};
use crate::limits;
use crate::number::{sum, u64_of, usize_of};
use crate::record::{Header, chain_hash, padding_bytes};

/// Where the chain of records stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainEnd {
    /// The position of the last record.
    pub(crate) lsn: Lsn,
    /// Its hash.
    pub(crate) hash: u128,
}

/// What all records of one batch have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) segment: SegmentSeq,
    pub(crate) life: u64,
    pub(crate) durable: Lsn,
}

#[derive(Debug)]
enum Part {
    Copied(Range<usize>),
    Whole(Bytes),
}

/// A batch as it is encoded.
#[derive(Debug)]
pub(crate) struct Batch {
    frame: Frame,
    end: ChainEnd,
    copied: Vec<u8>,
    parts: Vec<Part>,
    /// Where the copied part that is being filled began.
    open: usize,
    bytes: u64,
}

impl Batch {
    /// Returns an empty batch that continues the chain at `end`.
    pub(crate) fn new(frame: Frame, end: ChainEnd) -> Self {
        assert!(frame.durable <= end.lsn, "what is not written cannot be durable");
        Self { frame, end, copied: Vec::new(), parts: Vec::new(), open: 0, bytes: 0 }
    }

    /// Appends a record; returns where it begins, from the start of the batch.
    pub(crate) fn push(&mut self, draft: &Draft) -> u64 {
        let header = Header {
            kind: draft.kind,
            all: draft.all,
            stream: draft.stream,
            slot: draft.slot,
            payload_len: draft.payload_len,
            lsn: self.end.lsn.next(),
            segment: self.frame.segment,
            life: self.frame.life,
            durable: self.frame.durable,
            index: draft.index,
            tag: draft.tag,
            prev_hash: self.end.hash,
            payload_hash: draft.payload_hash,
        };
        assert_eq!(usize_of(u64::from(draft.payload_len)), draft.payload.len(), "payload is here");
        let begin = self.bytes;
        let head = header.encode();
        self.copied.extend_from_slice(&head);
        let payload_len = u64_of(draft.payload.len());
        if payload_len <= limits::COPY_BYTES_MAX {
            self.copied.extend_from_slice(&draft.payload);
        } else {
            self.close();
            self.parts.push(Part::Whole(draft.payload.clone()));
        }
        let padding = usize_of(padding_bytes(payload_len));
        self.copied.resize(self.copied.len().saturating_add(padding), 0);
        self.end = ChainEnd { lsn: header.lsn, hash: chain_hash(&head) };
        self.bytes = sum(begin, header.record_bytes());
        begin
    }

    fn close(&mut self) {
        if self.open < self.copied.len() {
            self.parts.push(Part::Copied(self.open..self.copied.len()));
            self.open = self.copied.len();
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn end(&self) -> ChainEnd {
        self.end
    }

    /// Gives the batch to `write`, in order.
    pub(crate) fn write<T>(&mut self, write: impl FnOnce(&mut [IoSlice<'_>]) -> T) -> T {
        self.close();
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            slices.push(IoSlice::new(match part {
                Part::Copied(range) => {
                    self.copied.get(range.clone()).expect("ranges of this very buffer")
                }
                Part::Whole(bytes) => bytes,
            }));
        }
        debug_assert_eq!(
            slices.iter().map(|slice| u64_of(slice.len())).fold(0, sum),
            self.bytes,
            "the parts are whole records"
        );
        write(&mut slices)
    }
}
