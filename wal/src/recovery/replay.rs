//! Replaying records: what they leave of each stream, and how far the log is known to be durable.
//!
//! It must not write. Invariant: the state after n records is the same whichever process replays
//! them.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::bases::{Bases, Draft, Spans};
use crate::batch::ChainEnd;
use crate::error::Reason;
use crate::ids::{Lsn, SegmentSeq, StreamId};
use crate::index::{At, Index};
use crate::number::sum;
use crate::record::Kind;
use crate::recovery::scan::{Kept, Scanned};
use crate::watermark::Watermark;

/// The state of a log while it is replayed.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) bases: Bases,
    pub(crate) spans: Spans,
    pub(crate) index: Index,
    pub(crate) opens: u64,
    pub(crate) records: u64,
    watermark: Watermark,
    /// The highest position that is proven to have been synced.
    proven: Lsn,
    /// Records of the last segment that nothing proves to have been synced, with their places.
    unproven: VecDeque<(Lsn, u64)>,
}

impl Replay {
    pub(crate) fn new(watermark: Watermark) -> Self {
        Self {
            bases: Bases::default(),
            spans: Spans::default(),
            index: Index::default(),
            opens: 0,
            records: 0,
            watermark,
            proven: watermark.lsn,
            unproven: VecDeque::new(),
        }
    }

    /// Applies the record at `end` of `segment`.
    pub(crate) fn apply_scanned(
        &mut self,
        segment: SegmentSeq,
        scanned: &Scanned<'_>,
    ) -> Result<(), Reason> {
        self.agrees_with_watermark(scanned.end)?;
        // An entry's payload stays on disk: copying all of a log at each start would cost more than
        // reading it.
        let payload = match scanned.header.kind {
            Kind::Slot | Kind::Base => Bytes::copy_from_slice(scanned.payload),
            Kind::Entry | Kind::Truncate | Kind::Purge | Kind::Checkpoint => Bytes::new(),
        };
        self.apply(segment, scanned.header.lsn, &Kept::of(scanned), payload)
    }

    /// Applies one record, whose place in the chain was compared with the watermark.
    pub(crate) fn apply(
        &mut self,
        segment: SegmentSeq,
        lsn: Lsn,
        kept: &Kept,
        payload: Bytes,
    ) -> Result<(), Reason> {
        if kept.durable >= lsn {
            return Err(Reason::Sequence);
        }
        let draft = draft_of(kept, payload);
        self.bases.apply(&draft).map_err(|_refusal| Reason::Sequence)?;
        self.spans.apply(&draft, segment);
        if self.bases.get(draft.stream).and_then(|base| base.live).is_none() {
            self.spans.clear(draft.stream);
        }
        self.index.apply(&draft, Some(At { segment, offset: kept.offset }));
        if kept.kind == Kind::Checkpoint {
            self.opens = self.opens.max(kept.index);
        }
        self.records = sum(self.records, 1);
        self.unproven.push_back((lsn, u64::from(kept.offset)));
        self.prove(kept.durable);
        Ok(())
    }

    /// Takes note that all records up to `lsn` were synced.
    pub(crate) fn prove(&mut self, lsn: Lsn) {
        self.proven = self.proven.max(lsn);
        while self.unproven.front().is_some_and(|&(lsn, _)| lsn <= self.proven) {
            self.unproven.pop_front();
        }
    }

    /// Checks that the chain passes through the record that the watermark vouches for.
    pub(crate) fn agrees_with_watermark(&self, end: ChainEnd) -> Result<(), Reason> {
        let differs = end.lsn == self.watermark.lsn && end.hash != self.watermark.hash;
        if differs { Err(Reason::WatermarkMismatch) } else { Ok(()) }
    }

    /// Returns where the first record lies that may not have reached the disk, though it can be
    /// read.
    pub(crate) fn unproven_from(&self) -> Option<u64> {
        self.unproven.front().map(|&(_, offset)| offset)
    }

    /// Returns a stream with live entries that no segment held, if there is one.
    pub(crate) fn incomplete(&self) -> Option<StreamId> {
        let holds = |stream, first| self.index.first(stream) == Some(first);
        self.bases
            .iter()
            .find(|(stream, base)| base.live.is_some_and(|live| !holds(*stream, live.first)))
            .map(|(stream, _)| stream)
    }
}

fn draft_of(kept: &Kept, payload: Bytes) -> Draft {
    Draft {
        kind: kept.kind,
        all: kept.all,
        stream: kept.stream,
        slot: kept.slot,
        index: kept.index,
        tag: kept.tag,
        payload,
        payload_len: kept.payload_len,
        // Checked when it was read; nobody writes a replayed record again.
        payload_hash: 0,
        ticket: 0,
    }
}
