//! What the log should hold, kept the simplest way: maps of owned bytes, no limits, no disk.

use std::collections::BTreeMap;

use alluvium_stdx::Prng;
use bytes::Bytes;

use crate::{Operation, Position, StreamId, Wal};

pub(super) const STREAMS: u32 = 3;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stream {
    purged: Option<Position>,
    entries: BTreeMap<u64, (u128, Bytes)>,
    slots: BTreeMap<u16, Bytes>,
}

impl Stream {
    fn next_index(&self) -> Option<u64> {
        let last = self.entries.last_key_value().map(|(&index, _)| index);
        last.or(self.purged.map(|purged| purged.index)).map(|index| index + 1)
    }

    fn apply(&mut self, operation: &Operation) {
        match operation.clone() {
            Operation::Append { index, tag, payload, .. } => {
                self.entries.insert(index, (tag, payload));
            }
            Operation::Truncate { after, .. } => {
                self.entries.retain(|&index, _| after.is_some_and(|after| index <= after));
            }
            Operation::Purge { upto, .. } => {
                self.entries.retain(|&index, _| upto.index < index);
                if self.purged.is_none_or(|purged| purged.index < upto.index) {
                    self.purged = Some(upto);
                }
            }
            Operation::Slot { slot, value, .. } => {
                self.slots.insert(slot, value);
            }
        }
    }
}

/// The content of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    streams: BTreeMap<u32, Stream>,
}

fn stream_of(operation: &Operation) -> StreamId {
    match operation {
        Operation::Append { stream, .. }
        | Operation::Truncate { stream, .. }
        | Operation::Purge { stream, .. }
        | Operation::Slot { stream, .. } => *stream,
    }
}

impl State {
    pub(super) fn apply(&mut self, operation: &Operation) {
        self.streams.entry(stream_of(operation).0).or_default().apply(operation);
    }

    pub(super) fn after(&self, operations: &[Operation]) -> Self {
        let mut state = self.clone();
        operations.iter().for_each(|operation| state.apply(operation));
        state
    }

    /// Returns what `wal` holds.
    pub(super) fn of(wal: &Wal) -> Result<Self, crate::Error> {
        let mut state = Self::default();
        for number in 0..STREAMS {
            let id = StreamId(number);
            let found = wal.state(id)?;
            let mut stream = Stream { purged: found.purged, ..Stream::default() };
            for record in wal.read(id, 0..u64::MAX)? {
                stream.entries.insert(record.index, (record.tag, record.payload));
            }
            let first = stream.entries.first_key_value().map(|(&index, _)| index);
            let last = stream.entries.last_key_value().map(|(&index, (tag, _))| (index, *tag));
            assert_eq!(found.first_index, first, "state and entries differ");
            assert_eq!(found.last.map(|last| (last.index, last.tag)), last);
            for slot in 0..crate::limits::SLOTS_MAX {
                if let Some(value) = wal.slot(id, slot)? {
                    stream.slots.insert(slot, value);
                }
            }
            if stream != Stream::default() {
                state.streams.insert(number, stream);
            }
        }
        Ok(state)
    }

    /// Says whether two states hold the same; a stream without anything is as good as none.
    pub(super) fn same(&self, other: &Self) -> bool {
        let content = |state: &Self| {
            let mut streams = state.streams.clone();
            streams.retain(|_, stream| *stream != Stream::default());
            streams
        };
        content(self) == content(other)
    }

    /// Returns an operation that the log must accept.
    pub(super) fn operation(&self, prng: &mut Prng) -> Operation {
        let number = u32::try_from(prng.below(u64::from(STREAMS))).expect("small");
        let id = StreamId(number);
        let stream = self.streams.get(&number).map_or_else(Stream::default, Clone::clone);
        let next = stream.next_index().unwrap_or_else(|| prng.below(3));
        let first = stream.entries.first_key_value().map_or(next, |(&index, _)| index);
        match prng.below(20) {
            0 | 1 => {
                let from = stream.purged.map_or(first, |purged| purged.index);
                let after = from + prng.below(next - from.min(next) + 2);
                let all = stream.purged.is_none() && prng.one_in(4);
                Operation::Truncate { stream: id, after: (!all).then_some(after) }
            }
            2 | 3 => {
                let beyond = if prng.one_in(8) { 3 } else { 0 };
                let index = first + prng.below(next - first + 1 + beyond);
                let known = stream.entries.get(&index).map(|(tag, _)| *tag);
                let same = stream.purged.filter(|purged| index <= purged.index);
                let tag = same.map_or(known.unwrap_or(77), |purged| purged.tag);
                let index = same.map_or(index, |purged| purged.index);
                Operation::Purge { stream: id, upto: Position { index, tag } }
            }
            4 | 5 => {
                let slot = u16::try_from(prng.below(3)).expect("small");
                Operation::Slot { stream: id, slot, value: payload(prng, 40) }
            }
            _ => {
                let large = prng.one_in(16);
                let payload = payload(prng, if large { 6_000 } else { 300 });
                Operation::Append {
                    stream: id,
                    index: next,
                    tag: u128::from(prng.next_u64()),
                    payload,
                }
            }
        }
    }
}

fn payload(prng: &mut Prng, len_max: u64) -> Bytes {
    let len = usize::try_from(prng.below(len_max + 1)).expect("small");
    let mut bytes = vec![0; len];
    prng.fill(&mut bytes);
    Bytes::from(bytes)
}
