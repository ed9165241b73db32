//! The small state of every stream: where it begins and ends, and its slots. All but the entries.
//!
//! The same rules check a caller's operation before it is accepted and a record when it is
//! replayed. New segments begin with this state, so that older ones are needed only for entries.
//! Invariant: a purged stream's entries begin right behind the purged index.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::fields::{FieldReader, FieldWriter};
use crate::ids::{Position, SegmentSeq, StreamId};
use crate::limits;
use crate::number::{sum, u64_of};
use crate::record::{Kind, payload_hash, record_bytes};

/// A record that has no place in the log yet.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    pub(crate) all: bool,
    pub(crate) stream: StreamId,
    pub(crate) slot: u16,
    pub(crate) index: u64,
    pub(crate) tag: u128,
    /// The payload; of a replayed entry it stays on disk, and this is empty.
    pub(crate) payload: Bytes,
    pub(crate) payload_len: u32,
    pub(crate) payload_hash: u128,
    /// Tells this entry from a later one at the same index. Only in memory.
    pub(crate) ticket: u64,
}

impl Draft {
    pub(crate) fn record_bytes(&self) -> u64 {
        record_bytes(u64::from(self.payload_len))
    }
}

/// The entries that a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) first: u64,
    pub(crate) last: Position,
}

/// The small state of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) purged: Option<Position>,
    pub(crate) live: Option<Live>,
    pub(crate) slots: BTreeMap<u16, Bytes>,
}

/// Why a change does not fit the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotConsecutive { expected: u64 },
    BelowPurged { purged: u64 },
    Nonsense,
}

const BASE_PAYLOAD: usize = 48;

impl Base {
    fn append(&mut self, index: u64, tag: u128) -> Result<(), Refusal> {
        let last = Position { index, tag };
        let expected = match (self.live, self.purged) {
            (Some(live), _) => next_index(live.last.index),
            (None, Some(purged)) => next_index(purged.index),
            (None, None) => index,
        };
        if index != expected || index == u64::MAX {
            return Err(Refusal::NotConsecutive { expected });
        }
        let first = self.live.map_or(index, |live| live.first);
        self.live = Some(Live { first, last });
        Ok(())
    }

    fn truncate(&mut self, after: Option<Position>) -> Result<(), Refusal> {
        if let Some(purged) = self.purged
            && after.is_none_or(|after| after.index < purged.index)
        {
            return Err(Refusal::BelowPurged { purged: purged.index });
        }
        let Some(live) = self.live else { return Ok(()) };
        match after {
            Some(after) if live.last.index <= after.index => {}
            Some(after) if live.first <= after.index => {
                self.live = Some(Live { last: after, ..live });
            }
            Some(_) | None => self.live = None,
        }
        Ok(())
    }

    fn purge(&mut self, upto: Position) -> Result<(), Refusal> {
        match self.purged {
            Some(purged) if upto.index < purged.index => return Ok(()),
            Some(purged) if upto.index == purged.index => {
                let same = upto.tag == purged.tag;
                return if same {
                    Ok(())
                } else {
                    Err(Refusal::BelowPurged { purged: purged.index })
                };
            }
            Some(_) | None => {}
        }
        if upto.index == u64::MAX {
            return Err(Refusal::Nonsense);
        }
        self.purged = Some(upto);
        self.live = match self.live {
            Some(live) if upto.index < live.last.index => {
                Some(Live { first: live.first.max(next_index(upto.index)), ..live })
            }
            Some(_) | None => None,
        };
        // Entries that begin behind a gap after the purge would break the invariant of this file.
        match self.live {
            Some(live) if live.first != next_index(upto.index) => Err(Refusal::Nonsense),
            Some(_) | None => Ok(()),
        }
    }

    fn encode(&self) -> Bytes {
        let mut bytes = vec![0; BASE_PAYLOAD];
        let mut fields = FieldWriter::new(&mut bytes);
        fields.u8(u8::from(self.purged.is_some()));
        fields.u8(u8::from(self.live.is_some()));
        fields.bytes(&[0; 6]);
        fields.u64(self.purged.map_or(0, |purged| purged.index));
        fields.u128(self.purged.map_or(0, |purged| purged.tag));
        fields.u64(self.live.map_or(0, |live| live.first));
        fields.u64(0);
        Bytes::from(bytes)
    }

    fn decode(draft: &Draft) -> Option<Self> {
        let bytes: &[u8; BASE_PAYLOAD] = draft.payload.as_ref().try_into().ok()?;
        let mut fields = FieldReader::new(bytes);
        let has_purged = fields.u8() == 1;
        let has_live = fields.u8() == 1;
        let _reserved: [u8; 6] = fields.array();
        let purged = Position { index: fields.u64(), tag: fields.u128() };
        let live =
            Live { first: fields.u64(), last: Position { index: draft.index, tag: draft.tag } };
        let base = Self {
            purged: has_purged.then_some(purged),
            live: has_live.then_some(live),
            slots: BTreeMap::new(),
        };
        (*base.encode() == *draft.payload && base.is_sound()).then_some(base)
    }

    fn is_sound(&self) -> bool {
        match (self.live, self.purged) {
            (Some(live), Some(purged)) => {
                live.first == next_index(purged.index) && live.first <= live.last.index
            }
            (Some(live), None) => live.first <= live.last.index,
            (None, _) => true,
        }
    }
}

/// The small state of all streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bases {
    streams: BTreeMap<StreamId, Base>,
}

impl Bases {
    pub(crate) fn get(&self, stream: StreamId) -> Option<&Base> {
        self.streams.get(&stream)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (StreamId, &Base)> {
        self.streams.iter().map(|(&stream, base)| (stream, base))
    }

    pub(crate) fn has_room_for(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream) || u64_of(self.streams.len()) < limits::STREAMS_MAX
    }

    /// Returns the state of `stream`, to be given to [`Bases::put_back`] when a later change is
    /// refused.
    pub(crate) fn copy_of(&self, stream: StreamId) -> Option<Base> {
        self.streams.get(&stream).cloned()
    }

    pub(crate) fn put_back(&mut self, stream: StreamId, base: Option<Base>) {
        match base {
            Some(base) => self.streams.insert(stream, base),
            None => self.streams.remove(&stream),
        };
    }

    /// Applies one record. After a refusal the stream's state means nothing.
    pub(crate) fn apply(&mut self, draft: &Draft) -> Result<(), Refusal> {
        if draft.kind == Kind::Base {
            return self.apply_base(draft);
        }
        if draft.kind == Kind::Checkpoint {
            return Ok(());
        }
        let base = self.streams.entry(draft.stream).or_default();
        let position = Position { index: draft.index, tag: draft.tag };
        match draft.kind {
            Kind::Entry => base.append(draft.index, draft.tag),
            Kind::Truncate => base.truncate((!draft.all).then_some(position)),
            Kind::Purge => base.purge(position),
            Kind::Slot => {
                base.slots.insert(draft.slot, draft.payload.clone());
                Ok(())
            }
            Kind::Checkpoint | Kind::Base => unreachable!("handled above"),
        }
    }

    fn apply_base(&mut self, draft: &Draft) -> Result<(), Refusal> {
        let new = Base::decode(draft).ok_or(Refusal::Nonsense)?;
        match self.streams.get(&draft.stream) {
            None => {
                self.streams.insert(draft.stream, new);
                Ok(())
            }
            Some(known) if known.purged == new.purged && known.live == new.live => Ok(()),
            Some(_) => Err(Refusal::Nonsense),
        }
    }

    /// Returns the records that say all of this again, for the start of a segment.
    pub(crate) fn checkpoint(&self, opens: u64) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (&stream, base) in &self.streams {
            let last = base.live.map_or(Position { index: 0, tag: 0 }, |live| live.last);
            drafts.push(draft(Kind::Base, stream, (last.index, last.tag), base.encode()));
            for (&slot, value) in &base.slots {
                let record = draft(Kind::Slot, stream, (0, 0), value.clone());
                drafts.push(Draft { slot, ..record });
            }
        }
        let count = u128::from(u64_of(drafts.len()));
        let head = draft(Kind::Checkpoint, StreamId(0), (opens, count), Bytes::new());
        drafts.insert(0, head);
        drafts
    }

    /// Returns the bytes that [`Bases::checkpoint`] takes in a segment.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        let head = record_bytes(0);
        self.streams.values().fold(head, |total, base| {
            let slots = base.slots.values().map(|value| record_bytes(u64_of(value.len())));
            slots.fold(sum(total, record_bytes(u64_of(BASE_PAYLOAD))), sum)
        })
    }
}

/// Returns a draft whose payload is hashed here.
pub(crate) fn draft(
    kind: Kind,
    stream: StreamId,
    (index, tag): (u64, u128),
    payload: Bytes,
) -> Draft {
    let payload_hash = payload_hash(&payload);
    let payload_len = u32::try_from(payload.len()).expect("the limit of a payload fits 32 bits");
    Draft {
        kind,
        all: false,
        stream,
        slot: 0,
        index,
        tag,
        payload,
        payload_len,
        payload_hash,
        ticket: 0,
    }
}

fn next_index(index: u64) -> u64 {
    index.saturating_add(1)
}

/// Remembers in which segments each stream has live entries, so that a segment goes only when none
/// needs it.
///
/// Kept by the writer from records that are written, never from those that wait.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    /// For each stream: segment and first index in it. Both increase.
    streams: BTreeMap<StreamId, VecDeque<(SegmentSeq, u64)>>,
}

impl Spans {
    pub(crate) fn apply(&mut self, draft: &Draft, segment: SegmentSeq) {
        let spans = self.streams.entry(draft.stream).or_default();
        match draft.kind {
            Kind::Entry => {
                if spans.back().is_none_or(|&(seq, _)| seq != segment) {
                    spans.push_back((segment, draft.index));
                }
            }
            Kind::Truncate => {
                let keeps = |first: u64| !draft.all && first <= draft.index;
                while spans.back().is_some_and(|&(_, first)| !keeps(first)) {
                    spans.pop_back();
                }
            }
            Kind::Purge => {
                let next = next_index(draft.index);
                while spans.get(1).is_some_and(|&(_, first)| first <= next) {
                    spans.pop_front();
                }
            }
            Kind::Slot | Kind::Checkpoint | Kind::Base => {}
        }
    }

    /// Forgets the spans of a stream whose entries are all gone.
    pub(crate) fn clear(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    /// Returns the oldest segment with a live entry.
    pub(crate) fn oldest(&self) -> Option<SegmentSeq> {
        self.streams.values().filter_map(|spans| spans.front().map(|&(seq, _)| seq)).min()
    }
}

#[cfg(test)]
mod tests;
