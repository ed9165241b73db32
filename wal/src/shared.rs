//! What the writer and all readers share, behind one lock: the staged state of every stream, and
//! the queue.
//!
//! An append is checked and *staged* here: from then on it is readable, and its room on disk is
//! reserved, so that the writer cannot meet a full disk. It must not touch the disk. Invariant: the
//! order of the queue is the order of staging, and what is staged is written or the log is
//! poisoned.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::bases::{Base, Bases, Draft, Refusal, draft};
use crate::error::{Error, IoOperation};
use crate::ids::{Position, SegmentSeq, StreamId};
use crate::index::Index;
use crate::limits;
use crate::number::{gap, sum, u64_of};
use crate::operation::{Durable, Operation, StreamState};
use crate::record::Kind;
use crate::segment::capacity;
use crate::storage::StorageFile;

/// Called once by the writer, when an append is durable or has failed.
pub type Callback = Box<dyn FnOnce(Result<Durable, Error>) + Send>;

/// The lock, and what waits at it.
#[derive(Debug)]
pub(crate) struct Gate {
    shared: Mutex<Shared>,
    /// The writer waits here for work.
    pub(crate) work: Condvar,
    /// The preparer waits here until spares are wanted.
    pub(crate) wanted: Condvar,
    /// Appenders wait here for room.
    pub(crate) room: Notify,
}

impl Gate {
    pub(crate) fn new(shared: Shared) -> Self {
        Self {
            shared: Mutex::new(shared),
            work: Condvar::new(),
            wanted: Condvar::new(),
            room: Notify::new(),
        }
    }

    /// Takes the lock. A thread that panicked under it asserted something: what it left is still
    /// whole, since changes are made after the checks.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open segment, for reading.
#[derive(Debug, Clone)]
pub(crate) struct OpenSegment {
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) life: u64,
}

/// An append on its way to the disk. It is never divided between two segments.
#[derive(Debug, Default)]
pub(crate) struct Unit {
    pub(crate) drafts: Vec<Draft>,
    pub(crate) bytes: u64,
    /// A new segment begins before it.
    pub(crate) rotate_before: bool,
}

pub(crate) struct Waiting {
    pub(crate) unit: Unit,
    pub(crate) callback: Callback,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("unit", &self.unit).finish_non_exhaustive()
    }
}

/// The room on disk that is prepared and not promised to anyone.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// Bytes left in the segment that the next staged unit goes to.
    pub(crate) left: u64,
    /// Prepared segments.
    pub(crate) ready: VecDeque<String>,
    /// How many of them are promised to staged units.
    pub(crate) promised: u64,
    /// The number of the next spare's name.
    pub(crate) next_spare: u64,
    /// What the last attempt to prepare one said, if it failed for want of room.
    pub(crate) full: Option<Arc<std::io::Error>>,
}

impl Space {
    pub(crate) fn unpromised(&self) -> u64 {
        gap(u64_of(self.ready.len()), self.promised)
    }

    /// Takes `count` numbers for spares; returns the first.
    pub(crate) fn take_numbers(&mut self, count: u64) -> u64 {
        let first = self.next_spare;
        self.next_spare = sum(first, count);
        first
    }

    /// Takes the spare that was promised to the unit that is about to be written.
    pub(crate) fn redeem(&mut self) -> String {
        self.promised = gap(self.promised, 1);
        self.ready.pop_front().expect("a promise is backed by a spare")
    }
}

/// Why an append is not staged.
#[derive(Debug)]
pub(crate) enum NotStaged {
    /// Another segment must be prepared first.
    NoSpare,
    /// It can never be staged as it is.
    Refused(Error),
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) segment_bytes: u64,
    pub(crate) cache_bytes: u64,
    /// All streams as they will be when what is staged is written.
    pub(crate) staged: Bases,
    /// The values of slots that are durable.
    pub(crate) durable_slots: BTreeMap<(StreamId, u16), Bytes>,
    pub(crate) index: Index,
    pub(crate) segments: BTreeMap<SegmentSeq, OpenSegment>,
    pub(crate) space: Space,
    pub(crate) queue: VecDeque<Waiting>,
    pub(crate) queue_bytes: u64,
    pub(crate) poison: Option<(IoOperation, Arc<std::io::Error>)>,
    pub(crate) closed: bool,
    pub(crate) next_ticket: u64,
}

/// Operations whose payloads are measured and hashed, which needs no lock.
#[derive(Debug)]
pub(crate) struct Prepared {
    drafts: Vec<Draft>,
}

impl Prepared {
    pub(crate) fn new(operations: Vec<Operation>) -> Result<Self, Error> {
        check("OPERATIONS_MAX", limits::OPERATIONS_MAX, u64_of(operations.len()))?;
        let drafts = operations.into_iter().map(draft_of).collect::<Result<_, _>>()?;
        Ok(Self { drafts })
    }

    /// Returns the bytes that the records take in a segment.
    pub(crate) fn bytes(&self) -> u64 {
        self.drafts.iter().map(Draft::record_bytes).fold(0, sum)
    }
}

fn draft_of(operation: Operation) -> Result<Draft, Error> {
    match operation {
        Operation::Append { stream, index, tag, payload } => {
            check("PAYLOAD_BYTES_MAX", limits::PAYLOAD_BYTES_MAX, u64_of(payload.len()))?;
            Ok(draft(Kind::Entry, stream, (index, tag), payload))
        }
        Operation::Truncate { stream, after } => {
            let record = draft(Kind::Truncate, stream, (after.unwrap_or(0), 0), Bytes::new());
            Ok(Draft { all: after.is_none(), ..record })
        }
        Operation::Purge { stream, upto } => {
            Ok(draft(Kind::Purge, stream, (upto.index, upto.tag), Bytes::new()))
        }
        Operation::Slot { stream, slot, value } => {
            check("SLOT_BYTES_MAX", limits::SLOT_BYTES_MAX, u64_of(value.len()))?;
            check("SLOTS_MAX", u64::from(limits::SLOTS_MAX), sum(u64::from(slot), 1))?;
            Ok(Draft { slot, ..draft(Kind::Slot, stream, (0, 0), value) })
        }
    }
}

/// Refuses a state whose checkpoint would fill more than half of a segment: the log could not go on
/// from it.
pub(crate) fn check_checkpoint(bases: &Bases, segment_bytes: u64) -> Result<(), Error> {
    let half = capacity(segment_bytes) >> 1;
    check("half of segment_bytes, for all slots and streams", half, bases.checkpoint_bytes())
}

fn check(limit: &'static str, max: u64, value: u64) -> Result<(), Error> {
    if value <= max { Ok(()) } else { Err(Error::TooLarge { limit, max, value }) }
}

impl Shared {
    /// Says why nothing can be done any more, if that is so.
    pub(crate) fn alive(&self) -> Result<(), Error> {
        match &self.poison {
            Some((operation, source)) => {
                Err(Error::Poisoned { operation: *operation, source: Arc::clone(source) })
            }
            None if self.closed => Err(Error::Closed),
            None => Ok(()),
        }
    }

    /// Says why the writer must stop: poison alone, for a closed log still writes what it accepted.
    pub(crate) fn alive_to_write(&self) -> Result<(), Error> {
        match self.poison {
            Some(_) => self.alive(),
            None => Ok(()),
        }
    }

    /// Makes the slots of a written unit visible.
    pub(crate) fn settle_slots(&mut self, unit: &Unit) {
        for draft in unit.drafts.iter().filter(|draft| draft.kind == Kind::Slot) {
            self.durable_slots.insert((draft.stream, draft.slot), draft.payload.clone());
        }
    }

    /// Checks an append against what is staged, and stages all of it or nothing.
    pub(crate) fn stage(&mut self, prepared: &Prepared) -> Result<Unit, NotStaged> {
        self.alive().map_err(NotStaged::Refused)?;
        let mut before: BTreeMap<StreamId, Option<Base>> = BTreeMap::new();
        for draft in &prepared.drafts {
            before.entry(draft.stream).or_insert_with(|| self.staged.copy_of(draft.stream));
        }
        // A new segment begins with the state before the unit. Most units begin none, and it is not
        // cheap to add up.
        let fits = prepared.bytes() <= self.space.left;
        let checkpoint_bytes = if fits { 0 } else { self.staged.checkpoint_bytes() };
        let staged = self.stage_drafts(prepared).map_err(NotStaged::Refused);
        let staged = staged.and_then(|unit| self.reserve(unit, checkpoint_bytes));
        match staged {
            Ok(mut unit) => {
                self.index_unit(&mut unit);
                Ok(unit)
            }
            Err(refusal) => {
                for (stream, base) in before {
                    self.staged.put_back(stream, base);
                }
                Err(refusal)
            }
        }
    }

    fn stage_drafts(&mut self, prepared: &Prepared) -> Result<Unit, Error> {
        let mut unit = Unit::default();
        let mut grows = false;
        for draft in &prepared.drafts {
            let Some(draft) = self.complete(draft.clone(), &unit.drafts) else { continue };
            grows |= self.staged.get(draft.stream).is_none();
            if !self.staged.has_room_for(draft.stream) {
                let (limit, max) = ("STREAMS_MAX", limits::STREAMS_MAX);
                return Err(Error::TooLarge { limit, max, value: sum(max, 1) });
            }
            self.staged.apply(&draft).map_err(|refusal| refused(&draft, refusal))?;
            grows |= draft.kind == Kind::Slot;
            unit.bytes = sum(unit.bytes, draft.record_bytes());
            unit.drafts.push(draft);
        }
        if grows {
            check_checkpoint(&self.staged, self.segment_bytes)?;
        }
        Ok(unit)
    }

    /// Gives a truncation the tag of its new last entry; nothing when the change changes nothing.
    fn complete(&self, draft: Draft, earlier: &[Draft]) -> Option<Draft> {
        let base = self.staged.get(draft.stream);
        match draft.kind {
            Kind::Truncate if !draft.all => {
                let live = base.and_then(|base| base.live)?;
                let purged = base.and_then(|base| base.purged);
                // Below the purge: not ours to drop in silence, `apply` refuses it.
                if purged.is_some_and(|purged| draft.index < purged.index) {
                    return Some(draft);
                }
                if live.last.index <= draft.index {
                    return None;
                }
                if draft.index < live.first {
                    return Some(Draft { all: purged.is_none(), ..draft });
                }
                let tag = self.tag_at(draft.stream, draft.index, earlier);
                Some(Draft { tag, ..draft })
            }
            Kind::Purge => {
                let purged = base.and_then(|base| base.purged);
                let old = purged.is_some_and(|purged| draft.index < purged.index);
                let again = purged == Some(Position { index: draft.index, tag: draft.tag });
                (!old && !again).then_some(draft)
            }
            Kind::Truncate | Kind::Entry | Kind::Slot | Kind::Checkpoint | Kind::Base => {
                Some(draft)
            }
        }
    }

    fn tag_at(&self, stream: StreamId, index: u64, earlier: &[Draft]) -> u128 {
        let same = |draft: &&Draft| {
            draft.kind == Kind::Entry && draft.stream == stream && draft.index == index
        };
        let here = earlier.iter().rev().find(same).map(|draft| draft.tag);
        here.or_else(|| self.index.get(stream, index).map(|entry| entry.tag))
            .expect("the stream's state says that this entry is live")
    }

    /// Decides in which segment the unit goes, and takes the room for it.
    fn reserve(&mut self, unit: Unit, checkpoint_bytes: u64) -> Result<Unit, NotStaged> {
        if unit.bytes <= self.space.left {
            self.space.left = gap(self.space.left, unit.bytes);
            return Ok(unit);
        }
        assert!(checkpoint_bytes > 0, "a new segment begins with a checkpoint");
        let capacity = capacity(self.segment_bytes);
        let with_checkpoint = sum(unit.bytes, checkpoint_bytes);
        check("segment_bytes", capacity, with_checkpoint).map_err(NotStaged::Refused)?;
        self.reserve_segment(unit, checkpoint_bytes)
    }

    fn reserve_segment(&mut self, unit: Unit, checkpoint_bytes: u64) -> Result<Unit, NotStaged> {
        if self.space.unpromised() == 0 {
            return Err(NotStaged::NoSpare);
        }
        self.space.promised = sum(self.space.promised, 1);
        let used = sum(unit.bytes, checkpoint_bytes);
        self.space.left = gap(capacity(self.segment_bytes), used);
        Ok(Unit { rotate_before: true, ..unit })
    }

    /// Stages a unit that is empty but begins a new segment.
    pub(crate) fn stage_rotation(&mut self) -> Result<Unit, NotStaged> {
        self.alive().map_err(NotStaged::Refused)?;
        let checkpoint_bytes = self.staged.checkpoint_bytes();
        self.reserve_segment(Unit::default(), checkpoint_bytes)
    }

    fn index_unit(&mut self, unit: &mut Unit) {
        for draft in &mut unit.drafts {
            draft.ticket = self.next_ticket;
            self.next_ticket = sum(self.next_ticket, 1);
            self.index.apply(draft, None);
        }
    }

    pub(crate) fn state(&self, stream: StreamId) -> StreamState {
        let base = self.staged.get(stream);
        let live = base.and_then(|base| base.live);
        StreamState {
            first_index: live.map(|live| live.first),
            last: live.map(|live| live.last),
            purged: base.and_then(|base| base.purged),
        }
    }
}

fn refused(draft: &Draft, refusal: Refusal) -> Error {
    let (stream, got) = (draft.stream, draft.index);
    match refusal {
        Refusal::NotConsecutive { expected } => Error::NotConsecutive { stream, expected, got },
        Refusal::BelowPurged { purged } => Error::BelowPurged { stream, purged, got },
        Refusal::Nonsense => Error::NotConsecutive { stream, expected: 0, got },
    }
}
