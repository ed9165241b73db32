//! Opening a log: take stock, replay, judge the end, and only then write.
//!
//! Until the judgment nothing is written, so that a damaged log stays as it was found. After it:
//! what remains of a torn write is wiped, records that may not be on the disk are written again,
//! and a checkpoint that counts this opening follows, so that no record of the torn write can ever
//! continue the chain. Invariant: opening a log twice leaves the same entries as opening it once.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use alluvium_stdx::spawn;
use bytes::Bytes;

use crate::batch::ChainEnd;
use crate::error::{Error, IoOperation, Reason};
use crate::ids::{Lsn, SegmentSeq};
use crate::limits;
use crate::number::{gap, sum, u64_of, usize_of};
use crate::operation::Options;
use crate::planted::Planted;
use crate::record::{Defect, HEADER_LEN};
use crate::segment::{SegmentHeader, genesis_hash, segment_name, spare_name};
use crate::shared::{OpenSegment, Shared, Space, check_checkpoint};
use crate::spares;
use crate::storage::{Access, Storage};
use crate::watermark::WatermarkFile;
use crate::writer::{self, Active, Fault, Writer};

mod judge;
mod replay;
pub(crate) mod scan;
pub(crate) mod survey;

use judge::{Remains, Verdict};
use replay::Replay;
use scan::{Cursor, Sealed};
use survey::{Survey, Surveyed};

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// What an operator may want to know.
    pub notices: Vec<Notice>,
    /// How many segments were read.
    pub segments: u64,
    /// How many records were read.
    pub records: u64,
    /// How many times the log was opened, this time included.
    pub opens: u64,
    /// The position of the last record found.
    pub last: Lsn,
}

/// Something found that is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A write that was never acknowledged was cut off the end of the log.
    TornTail {
        /// The segment.
        segment: SegmentSeq,
        /// Where the log ends now.
        offset: u64,
        /// The position of the first record that was cut.
        lsn: Lsn,
        /// What was wrong with it.
        reason: Reason,
    },
    /// One of the two slots of the watermark is damaged; the other one is used.
    WatermarkSlotDamaged,
    /// A segment that was purged before a crash was there again, and is given back.
    LeftoverSegment {
        /// Its name.
        name: String,
    },
    /// A file in the directory is not one of the log's, and was left alone.
    UnknownFile {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornTail { segment, offset, lsn, reason } => write!(
                f,
                "a write that was never acknowledged was cut off: segment {segment} ends at {offset}, \
                 position {lsn}: {reason}"
            ),
            Self::WatermarkSlotDamaged => f.write_str("a slot of the watermark is damaged"),
            Self::LeftoverSegment { name } => write!(f, "purged segment {name} was there again"),
            Self::UnknownFile { name } => write!(f, "{name} is no file of the log, left alone"),
        }
    }
}

/// An opened log, in parts.
pub(crate) struct Opened {
    pub(crate) writer: Writer,
    pub(crate) shared: Shared,
    pub(crate) report: Recovery,
    pub(crate) lock: Box<dyn Send + Sync>,
}

pub(crate) fn open(storage: Arc<dyn Storage>, options: Options) -> Result<Opened, Error> {
    let lock = storage.lock().map_err(|source| Error::io(IoOperation::Lock, ".", source))?;
    let mut survey = survey::survey(storage.as_ref(), options.owner)?;
    if survey.run.is_empty() {
        make(storage.as_ref(), &options, &survey)?;
        let notices = std::mem::take(&mut survey.notices);
        survey = survey::survey(storage.as_ref(), options.owner)?;
        survey.notices = notices;
    }
    let watermark = survey.watermark.expect("a log with segments has a watermark");
    let mut replay = Replay::new(watermark);
    let (mut cursor, verdict, remains) =
        replay_all(&survey, &options, storage.read_workers(), &mut replay)?;
    let mut notices = std::mem::take(&mut survey.notices);
    let report_torn = verdict == Verdict::Torn;
    if report_torn {
        notices.push(Notice::TornTail {
            segment: cursor.segment.seq,
            offset: cursor.offset,
            lsn: remains.lsn,
            reason: remains.reason,
        });
    }
    for name in &survey.leftovers {
        notices.push(Notice::LeftoverSegment { name: name.clone() });
    }
    let report = Recovery {
        notices,
        segments: u64_of(survey.run.len()),
        records: replay.records,
        opens: sum(replay.opens, 1),
        last: cursor.chain.lsn,
    };
    // From here on bytes are written: the judgment is made.
    mend(&survey, &mut cursor, &remains, &replay).map_err(poisoned)?;
    let watermark = WatermarkFile::open(storage.as_ref(), watermark)?;
    let mut space = take_spares(storage.as_ref(), &options, &survey)?;
    let segments = open_segments(&survey);
    check_checkpoint(&replay.bases, options.segment_bytes)?;
    let mut writer = Writer {
        active: active_of(&survey, &cursor),
        segments: survey.run.iter().map(|s| (s.header.seq, s.header.segment_bytes)).collect(),
        durable: cursor.chain,
        bases: replay.bases,
        spans: replay.spans,
        opens: report.opens,
        watermark,
        options,
        storage,
    };
    let segments = write_opening(&mut writer, &mut space, segments)?;
    let shared = shared_of(&writer, replay.index, segments, space);
    Ok(Opened { writer, shared, report, lock })
}

fn poisoned(fault: Fault) -> Error {
    Error::Poisoned { operation: fault.operation, source: Arc::new(fault.source) }
}

/// Makes a log in a directory that has none: watermark first, then the first segment.
fn make(storage: &dyn Storage, options: &Options, survey: &Survey) -> Result<(), Error> {
    if survey::watermark_was_never_made(survey) && survey.has_watermark_file {
        survey::discard_half_made_watermark(storage)?;
    }
    match survey.watermark {
        None => {
            WatermarkFile::create(storage, options.owner)?;
        }
        // A process before us may have failed to sync it: it must be durable before a segment has a
        // name.
        Some(watermark) => {
            WatermarkFile::open(storage, watermark)?;
            let synced = storage.sync_dir();
            synced.map_err(|source| Error::io(IoOperation::SyncDirectory, ".", source))?;
        }
    }
    let number = survey.spares.iter().map(|(number, _)| sum(*number, 1)).max().unwrap_or(0);
    let spare = spares::prepare(storage, number, options.segment_bytes)?;
    let header = SegmentHeader {
        owner: options.owner,
        seq: SegmentSeq(1),
        first_lsn: Lsn(1),
        segment_bytes: options.segment_bytes,
        prev_hash: genesis_hash(options.owner),
    };
    writer::create(storage, &spare, &header).map_err(poisoned)?;
    let synced = storage.sync_dir();
    synced.map_err(|source| poisoned(Fault { operation: IoOperation::SyncDirectory, source }))
}

fn replay_all(
    survey: &Survey,
    options: &Options,
    workers: usize,
    replay: &mut Replay,
) -> Result<(Cursor, Verdict, Remains), Error> {
    let first = survey.run.first().expect("a log has a segment").header;
    let mut chain = chain_before(&first);
    replay.agrees_with_watermark(chain).map_err(|reason| damaged(first, 0, chain, reason))?;
    let sealed: Vec<_> = survey.run.iter().zip(survey.run.iter().skip(1)).collect();
    let watch = survey.watermark.map_or(Lsn(0), |watermark| watermark.lsn);
    // Each is checked on its own, side by side; what they mean is decided in their order.
    for window in sealed.chunks(workers.max(1)) {
        let read = spawn::side_by_side("wal-scan", workers, window.to_vec(), |(segment, next)| {
            let before = chain_before(&segment.header);
            Sealed::read(cursor_of(segment, options, before), next.header.first_lsn, watch)
        });
        for (sealed, (_, next)) in read.into_iter().zip(window) {
            chain = replay_sealed(sealed, &next.header, replay)?;
        }
    }
    let last = survey.run.last().expect("a log has a segment");
    let mut cursor = cursor_of(last, options, chain);
    let reason = replay_open(&mut cursor, replay)?;
    if let Reason::Record(Defect::NewerVersion(version)) = reason {
        let file = segment_name(cursor.segment.seq);
        return Err(Error::NewerFormat { file, version });
    }
    let headers = cursor.headers_behind().map_err(|source| read_failed(&cursor, source))?;
    let remains = Remains { lsn: cursor.next_lsn(), reason, headers };
    let mut verdict = judge::judge(&remains, watch);
    if options.has(Planted::CutAtFirstBad) && verdict != Verdict::Clean {
        verdict = Verdict::Torn;
    }
    if let Verdict::Damaged(reason) = verdict {
        return Err(damaged(cursor.segment, cursor.offset, cursor.chain, reason));
    }
    if replay.incomplete().is_some() {
        return Err(Error::MissingSegment { segment: first.seq.previous() });
    }
    Ok((cursor, verdict, remains))
}

/// Returns where the chain is at the start of a segment, as its header says.
pub(crate) fn chain_before(header: &SegmentHeader) -> ChainEnd {
    ChainEnd { lsn: header.first_lsn.previous(), hash: header.prev_hash }
}

fn cursor_of(segment: &Surveyed, options: &Options, chain: ChainEnd) -> Cursor {
    let mut cursor = Cursor::new(Arc::clone(&segment.file), segment.header, chain);
    cursor.verify_chain = !options.has(Planted::SkipChain);
    cursor
}

fn damaged(segment: SegmentHeader, offset: u64, chain: ChainEnd, reason: Reason) -> Error {
    Error::Corrupt { segment: segment.seq, offset, lsn: chain.lsn.next(), reason }
}

fn read_failed(cursor: &Cursor, source: std::io::Error) -> Error {
    Error::io(IoOperation::ReadSegment, &segment_name(cursor.segment.seq), source)
}

/// Replays a segment that has a successor: all of it was synced before the successor's header was
/// written.
fn replay_sealed(
    sealed: Sealed,
    next: &SegmentHeader,
    replay: &mut Replay,
) -> Result<ChainEnd, Error> {
    let Sealed { records, mut payloads, watched, cursor, fault } = sealed;
    let (segment, mut before) = (cursor.segment, chain_before(&cursor.segment));
    for (position, kept) in records.iter().enumerate() {
        // Most records are replayed without.
        let payload = payloads.remove(&position).unwrap_or_else(Bytes::new);
        let lsn = before.lsn.next();
        let applied = match watched.filter(|end| end.lsn == lsn) {
            Some(end) => replay.agrees_with_watermark(end),
            None => Ok(()),
        };
        applied
            .and_then(|()| replay.apply(segment.seq, lsn, kept, payload))
            .map_err(|reason| damaged(segment, u64::from(kept.offset), before, reason))?;
        before.lsn = lsn;
    }
    match fault {
        Some(Ok(reason)) => {
            return Err(damaged(cursor.segment, cursor.offset, cursor.chain, reason));
        }
        Some(Err(source)) => return Err(read_failed(&cursor, source)),
        None => {}
    }
    let linked = cursor.next_lsn() == next.first_lsn && cursor.chain.hash == next.prev_hash;
    if cursor.verify_chain && !linked {
        return Err(damaged(*next, 0, cursor.chain, Reason::ChainBroken));
    }
    replay.prove(cursor.chain.lsn);
    Ok(cursor.chain)
}

/// Replays the last segment up to the first record that is not there; returns why.
fn replay_open(cursor: &mut Cursor, replay: &mut Replay) -> Result<Reason, Error> {
    loop {
        if let Err(reason) = step(cursor, replay)? {
            return Ok(reason);
        }
    }
}

fn step(cursor: &mut Cursor, replay: &mut Replay) -> Result<Result<(), Reason>, Error> {
    let (segment, before, offset) = (cursor.segment, cursor.chain, cursor.offset);
    let scanned = match cursor.next() {
        Ok(Ok(scanned)) => scanned,
        Ok(Err(reason)) => return Ok(Err(reason)),
        Err(source) => {
            let name = segment_name(segment.seq);
            return Err(Error::io(IoOperation::ReadSegment, &name, source));
        }
    };
    // An intact record that makes no sense is damage wherever it stands: no torn write looks like
    // that.
    replay
        .apply_scanned(segment.seq, &scanned)
        .map_err(|reason| damaged(segment, offset, before, reason))?;
    Ok(Ok(()))
}

/// Wipes what remains of a torn write, and writes again what may not have reached the disk.
///
/// After a failed sync the kernel shows pages as clean that the disk does not have; reading them
/// back proves nothing, and syncing them again does nothing. Writing the same bytes makes them
/// dirty again.
fn mend(
    survey: &Survey,
    cursor: &mut Cursor,
    remains: &Remains,
    replay: &Replay,
) -> Result<(), Fault> {
    let file = &survey.run.last().expect("a log has a segment").file;
    let io = |source| Fault { operation: IoOperation::WriteRecords, source };
    let zeros = [0; HEADER_LEN];
    for (offset, _) in &remains.headers {
        file.write_at(*offset, &mut [IoSlice::new(&zeros)]).map_err(io)?;
    }
    let from = replay.unproven_from().unwrap_or(cursor.offset);
    let mut bytes = vec![0; usize_of(gap(cursor.offset, from))];
    file.read_at(from, &mut bytes).map_err(io)?;
    file.write_at(from, &mut [IoSlice::new(&bytes)]).map_err(io)?;
    file.sync_data().map_err(|source| Fault { operation: IoOperation::SyncRecords, source })
}

/// Collects spares of the right size, and gives back what nobody needs.
fn take_spares(storage: &dyn Storage, options: &Options, survey: &Survey) -> Result<Space, Error> {
    let on_fail = |source| poisoned(Fault { operation: IoOperation::RetireSegment, source });
    let mut space = Space::default();
    for (number, name) in &survey.spares {
        let file = storage.open(name, Access::Read).map_err(on_fail)?;
        let fits = file.len().map_err(on_fail)? == options.segment_bytes;
        if fits && u64_of(space.ready.len()) < limits::SPARES_MAX {
            assert_eq!(name, &spare_name(*number), "classified by this very form");
            space.ready.push_back(name.clone());
        } else {
            storage.remove(name).map_err(on_fail)?;
        }
        space.next_spare = space.next_spare.max(sum(*number, 1));
    }
    for name in &survey.leftovers {
        storage.remove(name).map_err(on_fail)?;
    }
    storage
        .sync_dir()
        .map_err(|source| poisoned(Fault { operation: IoOperation::SyncDirectory, source }))?;
    Ok(space)
}

type OpenSegments = BTreeMap<SegmentSeq, OpenSegment>;

fn open_segments(survey: &Survey) -> OpenSegments {
    let open = |segment: &Surveyed| OpenSegment {
        file: Arc::clone(&segment.file),
        life: segment.header.life(),
    };
    survey.run.iter().map(|segment| (segment.header.seq, open(segment))).collect()
}

fn active_of(survey: &Survey, cursor: &Cursor) -> Active {
    let last = survey.run.last().expect("a log has a segment");
    let open = OpenSegment { file: Arc::clone(&last.file), life: cursor.life };
    Active { header: last.header, open, offset: cursor.offset }
}

/// Writes the checkpoint that counts this opening, in a new segment if the last one is full.
fn write_opening(
    writer: &mut Writer,
    space: &mut Space,
    mut segments: OpenSegments,
) -> Result<OpenSegments, Error> {
    let needed = writer.bases.checkpoint_bytes();
    let left = gap(writer.active.header.segment_bytes, writer.active.offset);
    if left < needed {
        if space.ready.is_empty() {
            let number = space.take_numbers(1);
            let bytes = writer.options.segment_bytes;
            let name = spares::prepare(writer.storage.as_ref(), number, bytes)?;
            space.ready.push_back(name);
        }
        let spare = space.ready.pop_front().expect("prepared above");
        let (seq, open) = writer.begin_segment(&spare).map_err(poisoned)?;
        segments.insert(seq, open);
    }
    let written = writer.write_checkpoint().map_err(poisoned)?;
    assert_eq!(written, needed, "the checkpoint has the size that was reserved");
    writer.write_watermark().map_err(poisoned)?;
    space.left = gap(writer.active.header.segment_bytes, writer.active.offset);
    Ok(segments)
}

fn shared_of(
    writer: &Writer,
    index: crate::index::Index,
    segments: OpenSegments,
    space: Space,
) -> Shared {
    let slots = writer.bases.iter().flat_map(|(stream, base)| {
        base.slots.iter().map(move |(&slot, value)| ((stream, slot), value.clone()))
    });
    Shared {
        segment_bytes: writer.options.segment_bytes,
        cache_bytes: writer.options.cache_bytes,
        durable_slots: slots.collect(),
        staged: writer.bases.clone(),
        index,
        segments,
        space,
        queue: std::collections::VecDeque::new(),
        queue_bytes: 0,
        poison: None,
        closed: false,
        next_ticket: 1,
    }
}

#[cfg(test)]
pub(crate) mod tests;
