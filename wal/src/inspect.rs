//! Looking at a log without changing it: every record with its place, and all damage, not only the
//! first.
//!
//! [`inspect`] walks a log that nobody has open, and [`open_in_memory`] opens it as a process would,
//! without a byte of it changing; [`scrub`] rereads the sealed segments of one that is open. None
//! writes, locks or repairs. Invariant: a record that is reported was verified whole, payload
//! included.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::ChainEnd;
use crate::core::Wal;
use crate::error::{Error, IoOperation, Reason};
use crate::ids::{Lsn, Owner, SegmentSeq};
use crate::limits;
use crate::number::{gap, sum};
use crate::operation::Options;
use crate::reader::Reader;
use crate::record::Header;
use crate::recovery::scan::Cursor;
use crate::recovery::survey::{self, Surveyed};
use crate::recovery::{Recovery, chain_before};
use crate::segment::{self, FileKind, SegmentHeader, segment_name};
use crate::shared::OpenSegment;
use crate::storage::overlay::Overlay;
use crate::storage::{Storage, StorageFile};
use crate::watermark::{self, Watermark};

/// Something found in a log.
#[derive(Debug, Clone)]
pub enum Finding {
    /// A segment begins.
    Segment(SegmentHeader),
    /// A whole record.
    Record {
        /// Its place in the segment.
        offset: u64,
        /// Its header.
        header: Header,
        /// Its payload.
        payload: Bytes,
    },
    /// A record, or several, or a whole segment, that should be there and is not.
    Damage {
        /// What is wrong and where; an [`Error::Corrupt`], [`Error::Foreign`] or
        /// [`Error::MissingSegment`].
        error: Error,
        /// The position of the first record behind the damage, if there is one.
        until: Option<Lsn>,
        /// True when the damaged records were acknowledged; false for a torn tail, which opening
        /// would cut.
        acknowledged: bool,
    },
    /// The records of a segment end here.
    End {
        /// The segment.
        segment: SegmentSeq,
        /// Where they end.
        offset: u64,
        /// The position that the next record has.
        next: Lsn,
    },
}

/// A walk over a log; yields findings in the order of the log.
#[derive(Debug)]
pub struct Inspection {
    storage: Arc<dyn Storage>,
    owner: Owner,
    watermark: Option<Watermark>,
    segments: VecDeque<SegmentSeq>,
    /// Where the chain stands behind the last segment, if that one was whole.
    chain: Option<ChainEnd>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    cursor: Cursor,
    /// The first position of the next segment, if there is one and its header is whole.
    next_first: Option<Lsn>,
}

/// Walks over the log of `owner` in `storage`, which nobody may have open for writing.
///
/// # Errors
/// When the directory or the watermark cannot be read at all, or the watermark is someone else's.
pub fn inspect(storage: Arc<dyn Storage>, owner: Owner) -> Result<Inspection, Error> {
    let failed = |source| Error::io(IoOperation::List, ".", source);
    // Recovery opens segments to write; over an overlay that needs no permission to.
    let storage: Arc<dyn Storage> = Arc::new(Overlay::new(storage).map_err(failed)?);
    let names = storage.list().map_err(failed)?;
    let mut segments = Vec::new();
    let mut watermark = None;
    for name in names {
        match segment::classify(&name) {
            FileKind::Segment(seq) => segments.push(seq),
            FileKind::Watermark => {
                watermark = watermark::read(storage.as_ref(), owner)?.watermark;
            }
            FileKind::Spare(_) | FileKind::Unknown => {}
        }
    }
    segments.sort_unstable();
    let segments = VecDeque::from(segments);
    Ok(Inspection { storage, owner, watermark, segments, chain: None, current: None })
}

impl Inspection {
    /// Returns the watermark, unless both of its slots are damaged.
    #[must_use]
    pub fn watermark(&self) -> Option<Watermark> {
        self.watermark
    }

    fn begin_segment(&mut self, seq: SegmentSeq) -> Result<Finding, Error> {
        let Surveyed { header, file } =
            match survey::open_segment(self.storage.as_ref(), self.owner, seq) {
                Ok(segment) => segment,
                Err(error) if error.is_corruption() => {
                    self.chain = None;
                    return Ok(Finding::Damage { error, until: None, acknowledged: true });
                }
                Err(error) => return Err(error),
            };
        let before = chain_before(&header);
        let broken = self.chain.is_some_and(|chain| chain != before);
        let next_first = self.segments.front().and_then(|&next| {
            let next = survey::open_segment(self.storage.as_ref(), self.owner, next);
            next.ok().map(|next| next.header.first_lsn)
        });
        self.current = Some(Current { cursor: Cursor::new(file, header, before), next_first });
        if broken {
            let reason = Reason::ChainBroken;
            let lsn = self.chain.map_or(header.first_lsn, |chain| chain.lsn.next());
            let error = Error::Corrupt { segment: seq, offset: 0, lsn, reason };
            let until = Some(header.first_lsn);
            return Ok(Finding::Damage { error, until, acknowledged: true });
        }
        Ok(Finding::Segment(header))
    }

    fn step(&mut self, mut current: Current) -> Result<Finding, Error> {
        let (segment, offset) = (current.cursor.segment.seq, current.cursor.offset);
        let failed = |source| Error::io(IoOperation::ReadSegment, &segment_name(segment), source);
        let reason = match current.cursor.next().map_err(failed)? {
            Ok(scanned) => {
                let (header, offset) = (scanned.header, scanned.offset);
                let payload = Bytes::copy_from_slice(scanned.payload);
                self.current = Some(current);
                return Ok(Finding::Record { offset, header, payload });
            }
            Err(reason) => reason,
        };
        let lsn = current.cursor.next_lsn();
        let ended = current.next_first == Some(lsn);
        let headers = match ended {
            true => Vec::new(),
            false => current.cursor.headers_behind().map_err(failed)?,
        };
        let behind = headers.iter().find(|(place, _)| offset < *place).copied();
        let watermark = self.watermark.map_or(Lsn(0), |watermark| watermark.lsn);
        let missing = current.next_first.is_some_and(|next| lsn < next);
        let acknowledged =
            missing || lsn <= watermark || headers.iter().any(|(_, header)| lsn <= header.durable);
        let error = Error::Corrupt { segment, offset, lsn, reason };
        if let Some((place, header)) = behind {
            current.cursor.jump(place, &header);
            self.current = Some(current);
            return Ok(Finding::Damage { error, until: Some(header.lsn), acknowledged });
        }
        if acknowledged && !ended {
            self.chain = None;
            return Ok(Finding::Damage { error, until: current.next_first, acknowledged });
        }
        self.chain = Some(current.cursor.chain);
        Ok(Finding::End { segment, offset, next: lsn })
    }
}

impl Iterator for Inspection {
    type Item = Result<Finding, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(current) = self.current.take() {
            return Some(self.step(current));
        }
        let seq = self.segments.pop_front()?;
        Some(self.begin_segment(seq))
    }
}

/// Opens the log in `storage`, which nobody may have open for writing, as [`Wal::open`] would, and
/// keeps in memory whatever opening writes: what is torn is cut there alone.
///
/// # Errors
/// As [`Wal::open`].
pub fn open_in_memory(
    storage: Arc<dyn Storage>,
    options: Options,
) -> Result<(Wal, Recovery), Error> {
    let overlay = Overlay::new(storage);
    let overlay = overlay.map_err(|source| Error::io(IoOperation::List, ".", source))?;
    Wal::open(Arc::new(overlay), options)
}

/// What a scrub found.
#[derive(Debug, Clone, Default)]
pub struct Scrubbed {
    /// Segments read to their end.
    pub segments: u64,
    /// Records verified.
    pub records: u64,
    /// The first damage of each damaged segment.
    pub damage: Vec<Error>,
}

/// Rereads all sealed segments of a log that is open, and verifies every record and the chain.
///
/// Segments that are purged meanwhile are passed over. `pace` is called with the number of bytes
/// that were read since it was called last, at most [`limits::SCAN_BYTES`] and a record, and may
/// wait; when it breaks, the rest is left out.
///
/// # Errors
/// When the log is poisoned or closed, or a segment cannot be read.
pub fn scrub(
    reader: &Reader,
    pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Scrubbed, Error> {
    let mut scrubbed = Scrubbed::default();
    let segments = reader.segments()?;
    for ((seq, segment), (_, next)) in segments.iter().zip(segments.iter().skip(1)) {
        match scrub_segment(*seq, segment, next, &mut scrubbed.records, pace) {
            Ok(ControlFlow::Continue(())) => scrubbed.segments = sum(scrubbed.segments, 1),
            Ok(ControlFlow::Break(())) => return Ok(scrubbed),
            Err(error) if error.is_corruption() => {
                if reader.has_segment(*seq, segment.life)? {
                    scrubbed.damage.push(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(scrubbed)
}

fn scrub_segment(
    seq: SegmentSeq,
    segment: &OpenSegment,
    next: &OpenSegment,
    records: &mut u64,
    pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    let header = read_header(seq, segment.file.as_ref())?;
    let next = read_header(seq.next(), next.file.as_ref())?;
    let mut cursor = Cursor::new(Arc::clone(&segment.file), header, chain_before(&header));
    let damaged = |cursor: &Cursor, reason| {
        let (offset, lsn) = (cursor.offset, cursor.next_lsn());
        Error::Corrupt { segment: seq, offset, lsn, reason }
    };
    let mut paid = 0;
    while cursor.next_lsn() < next.first_lsn {
        let failed = |source| Error::io(IoOperation::ReadSegment, &segment_name(seq), source);
        let bad = cursor.next().map_err(failed)?.err();
        if let Some(reason) = bad {
            return Err(damaged(&cursor, reason));
        }
        *records = sum(*records, 1);
        let unpaid = gap(cursor.offset, paid);
        let is_last = next.first_lsn <= cursor.next_lsn();
        if is_last || limits::SCAN_BYTES <= unpaid {
            paid = cursor.offset;
            if pace(unpaid).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    match cursor.chain == chain_before(&next) && header.life() == segment.life {
        true => Ok(ControlFlow::Continue(())),
        false => Err(damaged(&cursor, Reason::ChainBroken)),
    }
}

fn read_header(seq: SegmentSeq, file: &dyn StorageFile) -> Result<SegmentHeader, Error> {
    let mut bytes = [0; segment::HEADER_LEN];
    file.read_at(0, &mut bytes)
        .map_err(|source| Error::io(IoOperation::ReadSegment, &segment_name(seq), source))?;
    SegmentHeader::decode(&bytes).map_err(|defect| Error::Corrupt {
        segment: seq,
        offset: 0,
        lsn: Lsn(0),
        reason: defect.into(),
    })
}

#[cfg(test)]
mod tests;
