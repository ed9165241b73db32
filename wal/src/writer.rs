//! The one who writes: batches into the active segment, new segments, and the watermark.
//!
//! It must not decide what is written: that was decided when a unit was staged. Any failure here is
//! final, and the caller poisons the log. Invariant: `durable` is the end of the last batch whose
//! sync returned success.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::bases::{Bases, Draft, Spans};
use crate::batch::{Batch, ChainEnd, Frame};
use crate::error::IoOperation;
use crate::ids::SegmentSeq;
use crate::index::{At, Placed};
use crate::limits;
use crate::number::{gap, sum, u64_of};
use crate::operation::Options;
use crate::planted::Planted;
use crate::record::Kind;
use crate::segment::{SegmentHeader, segment_name, spare_name};
use crate::shared::{OpenSegment, Unit};
use crate::storage::{Access, Storage};
use crate::watermark::WatermarkFile;

/// A failure after which nothing may be tried again.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) operation: IoOperation,
    pub(crate) source: io::Error,
}

fn fault(operation: IoOperation) -> impl Fn(io::Error) -> Fault {
    move |source| Fault { operation, source }
}

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) header: SegmentHeader,
    pub(crate) open: OpenSegment,
    /// Where the next record goes.
    pub(crate) offset: u64,
}

/// What a write did.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) placed: Vec<Placed>,
    /// The segment that it began.
    pub(crate) began: Option<(SegmentSeq, OpenSegment)>,
}

/// Segments that no stream needs any more.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    pub(crate) gone: Vec<SegmentSeq>,
    pub(crate) spares: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) active: Active,
    /// All segments in the directory that belong to the log, with their sizes.
    pub(crate) segments: BTreeMap<SegmentSeq, u64>,
    pub(crate) durable: ChainEnd,
    /// The streams as the written records leave them.
    pub(crate) bases: Bases,
    pub(crate) spans: Spans,
    /// How many times the log was opened.
    pub(crate) opens: u64,
    pub(crate) watermark: WatermarkFile,
}

impl Writer {
    /// Writes units with one vectored write and one sync. The first may begin a new segment, in
    /// `spare`.
    pub(crate) fn write(&mut self, units: &[Unit], spare: Option<&str>) -> Result<Written, Fault> {
        let begins = units.first().is_some_and(|unit| unit.rotate_before);
        assert_eq!(begins, spare.is_some(), "a new segment needs its spare");
        let later = units.iter().skip(1).any(|unit| unit.rotate_before);
        assert!(!later, "a batch lies in one segment");
        let began = match spare {
            Some(spare) => Some(self.begin_segment(spare)?),
            None => None,
        };
        let checkpoint = match began {
            Some(_) => self.bases.checkpoint(self.opens),
            None => Vec::new(),
        };
        let drafts = checkpoint.iter().chain(units.iter().flat_map(|unit| &unit.drafts));
        let placed = self.write_drafts(drafts)?;
        Ok(Written { placed, began })
    }

    /// Writes the checkpoint that every opening of the log leaves behind; returns the bytes it
    /// took.
    pub(crate) fn write_checkpoint(&mut self) -> Result<u64, Fault> {
        let begin = self.active.offset;
        let checkpoint = self.bases.checkpoint(self.opens);
        self.write_drafts(checkpoint.iter())?;
        Ok(gap(self.active.offset, begin))
    }

    fn write_drafts<'a>(
        &mut self,
        drafts: impl Iterator<Item = &'a Draft>,
    ) -> Result<Vec<Placed>, Fault> {
        let (segment, life) = (self.active.header.seq, self.active.open.life);
        let frame = Frame { segment, life, durable: self.durable.lsn };
        let mut batch = Batch::new(frame, self.durable);
        let mut placed = Vec::new();
        for draft in drafts {
            let offset = sum(self.active.offset, batch.push(draft));
            self.bases.apply(draft).expect("it was checked when it was staged");
            self.track(draft);
            if draft.kind == Kind::Entry {
                let offset = u32::try_from(offset).expect("segments are smaller than 4 GiB");
                let Draft { stream, index, ticket, .. } = *draft;
                placed.push(Placed { stream, index, ticket, at: At { segment, offset } });
            }
        }
        let end = sum(self.active.offset, batch.bytes());
        assert!(end <= self.active.header.segment_bytes, "room was reserved for every record");
        let file = &self.active.open.file;
        batch
            .write(|slices| file.write_at(self.active.offset, slices))
            .map_err(fault(IoOperation::WriteRecords))?;
        self.sync()?;
        self.active.offset = end;
        self.durable = batch.end();
        Ok(placed)
    }

    fn track(&mut self, draft: &Draft) {
        self.spans.apply(draft, self.active.header.seq);
        let live = self.bases.get(draft.stream).and_then(|base| base.live);
        if live.is_none() {
            self.spans.clear(draft.stream);
        }
    }

    fn sync(&self) -> Result<(), Fault> {
        if self.options.has(Planted::AckBeforeSync) {
            return Ok(());
        }
        let first = self.active.open.file.sync_data();
        let retry = first.is_err() && self.options.has(Planted::RetrySync);
        let synced = if retry { self.active.open.file.sync_data() } else { first };
        synced.map_err(fault(IoOperation::SyncRecords))
    }

    /// Turns a spare into the next segment: header, sync, name, sync of the name, watermark.
    ///
    /// The name comes after the header is durable, so that a named segment always has its header.
    /// The watermark learns of the segment, so that its loss is noticed even before it holds an
    /// acknowledged record.
    pub(crate) fn begin_segment(
        &mut self,
        spare: &str,
    ) -> Result<(SegmentSeq, OpenSegment), Fault> {
        let header = SegmentHeader {
            owner: self.options.owner,
            seq: self.active.header.seq.next(),
            first_lsn: self.durable.lsn.next(),
            segment_bytes: self.options.segment_bytes,
            prev_hash: self.durable.hash,
        };
        let open = create(self.storage.as_ref(), spare, &header)?;
        if !self.options.has(Planted::SkipDirectorySync) {
            self.storage.sync_dir().map_err(fault(IoOperation::SyncDirectory))?;
        }
        let offset = limits::SEGMENT_HEADER_BYTES;
        self.active = Active { header, open: open.clone(), offset };
        self.segments.insert(header.seq, header.segment_bytes);
        self.write_watermark()?;
        Ok((header.seq, open))
    }

    /// Says whether the watermark trails what is durable.
    pub(crate) fn watermark_trails(&self) -> bool {
        self.watermark.last().lsn < self.durable.lsn
    }

    /// Brings the watermark up to what is durable.
    pub(crate) fn write_watermark(&mut self) -> Result<(), Fault> {
        self.watermark
            .advance(self.durable.lsn, self.durable.hash, self.active.header.seq)
            .map_err(fault(IoOperation::WriteWatermark))
    }

    /// Says whether there is a segment that no stream needs.
    pub(crate) fn can_retire(&self) -> bool {
        let active = self.active.header.seq;
        let needed = self.spans.oldest().unwrap_or(active).min(active);
        self.segments.first_key_value().is_some_and(|(&seq, _)| seq < needed)
    }

    /// Gives back the segments that no stream needs; `wanted` of them become spares.
    pub(crate) fn retire(&mut self, wanted: u64, first_number: u64) -> Result<Retired, Fault> {
        let active = self.active.header.seq;
        let needed = self.spans.oldest().unwrap_or(active).min(active);
        let mut retired = Retired::default();
        while let Some((&seq, &bytes)) = self.segments.first_key_value() {
            if needed <= seq {
                break;
            }
            let recycle =
                bytes == self.options.segment_bytes && u64_of(retired.spares.len()) < wanted;
            let result = if recycle {
                let spare = spare_name(sum(first_number, u64_of(retired.spares.len())));
                let renamed = self.storage.rename(&segment_name(seq), &spare);
                retired.spares.push(spare);
                renamed
            } else {
                self.storage.remove(&segment_name(seq))
            };
            result.map_err(fault(IoOperation::RetireSegment))?;
            self.segments.remove(&seq);
            retired.gone.push(seq);
        }
        if !retired.gone.is_empty() {
            // A spare is overwritten soon: its old name must be gone for good before that.
            self.storage.sync_dir().map_err(fault(IoOperation::SyncDirectory))?;
        }
        Ok(retired)
    }
}

/// Writes the header of `spare`, syncs it, and gives the file its name; the name is not synced
/// here.
pub(crate) fn create(
    storage: &dyn Storage,
    spare: &str,
    header: &SegmentHeader,
) -> Result<OpenSegment, Fault> {
    let on_fail = fault(IoOperation::CreateSegment);
    let file = storage.open(spare, Access::Write).map_err(&on_fail)?;
    assert!(
        header.segment_bytes <= file.len().map_err(&on_fail)?,
        "a spare has the full length of a segment"
    );
    file.write_at(0, &mut [IoSlice::new(&header.encode())]).map_err(&on_fail)?;
    file.sync_data().map_err(&on_fail)?;
    storage.rename(spare, &segment_name(header.seq)).map_err(&on_fail)?;
    Ok(OpenSegment { file, life: header.life() })
}
