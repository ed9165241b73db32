//! Taking stock of the directory: which files are there, whose they are, and which segments follow
//! each other.
//!
//! It must not write. Invariant: the segments that it returns have consecutive numbers and fitting
//! headers.

use std::sync::Arc;

use crate::error::{Error, IoOperation, Reason};
use crate::ids::{Lsn, Owner, SegmentSeq};
use crate::limits;
use crate::recovery::Notice;
use crate::segment::{self, FileKind, HEADER_LEN, HeaderDefect, SegmentHeader, genesis_hash};
use crate::storage::{Access, Storage, StorageFile};
use crate::watermark::{self, WATERMARK_NAME, Watermark};

/// A segment that belongs to the log.
#[derive(Debug)]
pub(crate) struct Surveyed {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn StorageFile>,
}

/// What the directory holds.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The segments of the log, oldest first.
    pub(crate) run: Vec<Surveyed>,
    /// Names of older segments, with a gap behind them: purged, but a crash brought the name back.
    pub(crate) leftovers: Vec<String>,
    pub(crate) spares: Vec<(u64, String)>,
    /// The watermark, unless the log is not made yet.
    pub(crate) watermark: Option<Watermark>,
    /// There is a file for the watermark.
    pub(crate) has_watermark_file: bool,
    pub(crate) notices: Vec<Notice>,
}

/// Takes stock of `storage` for `owner`.
pub(crate) fn survey(storage: &dyn Storage, owner: Owner) -> Result<Survey, Error> {
    let names = storage.list().map_err(|source| Error::io(IoOperation::List, ".", source))?;
    let mut segments = Vec::new();
    let mut survey = Survey {
        run: Vec::new(),
        leftovers: Vec::new(),
        spares: Vec::new(),
        watermark: None,
        has_watermark_file: false,
        notices: Vec::new(),
    };
    for name in names {
        match segment::classify(&name) {
            FileKind::Segment(seq) => segments.push(seq),
            FileKind::Spare(number) => survey.spares.push((number, name)),
            FileKind::Watermark => survey.has_watermark_file = true,
            FileKind::Unknown => survey.notices.push(Notice::UnknownFile { name }),
        }
    }
    if survey.has_watermark_file {
        let found = watermark::read(storage, owner)?;
        survey.watermark = found.watermark;
        if found.watermark.is_some() && found.damaged_slots > 0 {
            survey.notices.push(Notice::WatermarkSlotDamaged);
        }
    }
    segments.sort_unstable();
    let run_length = consecutive_from_end(&segments);
    let (leftovers, run) = segments.split_at(segments.len().saturating_sub(run_length));
    survey.leftovers = leftovers.iter().map(|&seq| segment::segment_name(seq)).collect();
    for &seq in run {
        survey.run.push(open_segment(storage, owner, seq)?);
    }
    check_watermark(&survey)?;
    check_links(&survey.run, owner)?;
    Ok(survey)
}

fn consecutive_from_end(segments: &[SegmentSeq]) -> usize {
    let pairs = segments.iter().rev().zip(segments.iter().rev().skip(1));
    let links = pairs.take_while(|(newer, older)| older.next() == **newer).count();
    if segments.is_empty() { 0 } else { links.saturating_add(1) }
}

fn check_watermark(survey: &Survey) -> Result<(), Error> {
    let last = survey.run.last().map(|segment| segment.header.seq);
    match (survey.watermark, last) {
        (Some(watermark), last) if last.is_none_or(|last| last < watermark.segment) => {
            if watermark.segment == SegmentSeq(0) {
                return Ok(());
            }
            Err(Error::MissingSegment { segment: watermark.segment })
        }
        // The watermark is durable before the first segment has a name: this is no crash.
        (None, Some(_)) => Err(Error::CorruptWatermark),
        (Some(_) | None, _) => Ok(()),
    }
}

/// Opens a segment and checks its header, without looking at its records.
pub(crate) fn open_segment(
    storage: &dyn Storage,
    owner: Owner,
    seq: SegmentSeq,
) -> Result<Surveyed, Error> {
    let name = segment::segment_name(seq);
    let io = |source| Error::io(IoOperation::OpenSegment, &name, source);
    let damaged = |reason| Error::Corrupt { segment: seq, offset: 0, lsn: Lsn(0), reason };
    let file = storage.open(&name, Access::Write).map_err(io)?;
    let len = file.len().map_err(io)?;
    if len < limits::SEGMENT_HEADER_BYTES {
        let expected = limits::SEGMENT_HEADER_BYTES;
        return Err(damaged(Reason::Truncated { len, expected }));
    }
    let mut bytes = [0; HEADER_LEN];
    file.read_at(0, &mut bytes).map_err(io)?;
    let header = match SegmentHeader::decode(&bytes) {
        Ok(header) => header,
        Err(HeaderDefect::NewerVersion(version)) => {
            return Err(Error::NewerFormat { file: name, version });
        }
        Err(defect) => return Err(damaged(defect.into())),
    };
    if header.owner != owner {
        return Err(Error::Foreign { file: name, expected: owner, found: header.owner });
    }
    if header.seq != seq {
        return Err(damaged(Reason::WrongSegment { found: header.seq }));
    }
    if len < header.segment_bytes {
        let expected = header.segment_bytes;
        return Err(damaged(Reason::Truncated { len, expected }));
    }
    Ok(Surveyed { header, file })
}

fn check_links(run: &[Surveyed], owner: Owner) -> Result<(), Error> {
    let first = run.first().map(|segment| segment.header);
    if let Some(first) = first.filter(|header| header.seq == SegmentSeq(1)) {
        let begins = first.first_lsn == Lsn(1) && first.prev_hash == genesis_hash(owner);
        if !begins {
            let (segment, lsn) = (first.seq, first.first_lsn);
            return Err(Error::Corrupt { segment, offset: 0, lsn, reason: Reason::ChainBroken });
        }
    }
    for (older, newer) in run.iter().zip(run.iter().skip(1)) {
        if newer.header.first_lsn < older.header.first_lsn {
            let (segment, lsn) = (newer.header.seq, newer.header.first_lsn);
            return Err(Error::Corrupt { segment, offset: 0, lsn, reason: Reason::ChainBroken });
        }
    }
    Ok(())
}

/// Says whether the watermark's file is unusable, which only a crash while it was made can explain
/// here.
pub(crate) fn watermark_was_never_made(survey: &Survey) -> bool {
    survey.run.is_empty() && survey.watermark.is_none()
}

/// Removes a watermark file that a crash left half made.
pub(crate) fn discard_half_made_watermark(storage: &dyn Storage) -> Result<(), Error> {
    storage
        .remove(WATERMARK_NAME)
        .map_err(|source| Error::io(IoOperation::CreateWatermark, WATERMARK_NAME, source))
}
