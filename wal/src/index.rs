//! Where each entry of a stream is: in memory while it waits for the disk, else in a segment,
//! perhaps cached.
//!
//! It holds no bytes but those of waiting and recent entries. Invariant: entries have consecutive
//! indexes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::bases::Draft;
use crate::ids::{SegmentSeq, StreamId};
use crate::number::{sum, u64_of, usize_of};
use crate::record::Kind;

/// A place in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) segment: SegmentSeq,
    pub(crate) offset: u32,
}

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) tag: u128,
    pub(crate) payload_len: u32,
    /// Where it is on disk; nothing while it waits.
    pub(crate) at: Option<At>,
    /// Its payload, while it waits or is recent.
    pub(crate) payload: Option<Bytes>,
    pub(crate) ticket: u64,
}

#[derive(Debug, Default)]
struct Entries {
    first: u64,
    entries: VecDeque<Entry>,
}

impl Entries {
    fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize_of(index.checked_sub(self.first)?))
    }

    fn get_mut(&mut self, index: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize_of(index.checked_sub(self.first)?))
    }

    fn push(&mut self, index: u64, entry: Entry) {
        if self.entries.is_empty() {
            self.first = index;
        }
        let next = sum(self.first, u64_of(self.entries.len()));
        assert_eq!(index, next, "the index has a hole: the caller checks the order");
        self.entries.push_back(entry);
    }

    fn keep_until(&mut self, after: Option<u64>) {
        let count = after.and_then(|after| sum(after, 1).checked_sub(self.first)).unwrap_or(0);
        self.entries.truncate(usize_of(count));
    }

    fn drop_until(&mut self, upto: u64) {
        let count = sum(upto, 1).saturating_sub(self.first).min(u64_of(self.entries.len()));
        self.entries.drain(..usize_of(count));
        self.first = sum(self.first, count);
    }
}

/// The entries of all streams.
#[derive(Debug, Default)]
pub(crate) struct Index {
    streams: BTreeMap<StreamId, Entries>,
    cache: Cache,
}

/// Payloads that are on disk and still in memory, oldest first.
#[derive(Debug, Default)]
struct Cache {
    order: VecDeque<(StreamId, u64, u64, u32)>,
    bytes: u64,
}

impl Index {
    pub(crate) fn get(&self, stream: StreamId, index: u64) -> Option<&Entry> {
        self.streams.get(&stream)?.get(index)
    }

    /// Applies a draft: of a caller, then `at` is nothing, or of a replayed record.
    pub(crate) fn apply(&mut self, draft: &Draft, at: Option<At>) {
        let entries = self.streams.entry(draft.stream).or_default();
        match draft.kind {
            Kind::Entry => {
                let payload = at.is_none().then(|| draft.payload.clone());
                let Draft { tag, ticket, payload_len, .. } = *draft;
                entries.push(draft.index, Entry { tag, payload_len, at, payload, ticket });
            }
            Kind::Truncate => entries.keep_until((!draft.all).then_some(draft.index)),
            Kind::Purge => entries.drop_until(draft.index),
            Kind::Slot | Kind::Checkpoint | Kind::Base => {}
        }
    }

    /// Remembers where a waiting entry went, unless it was dropped meanwhile.
    pub(crate) fn settle(&mut self, placed: &Placed, cache_bytes_max: u64) {
        let entry = self.streams.get_mut(&placed.stream).and_then(|e| e.get_mut(placed.index));
        let Some(entry) = entry.filter(|entry| entry.ticket == placed.ticket) else { return };
        assert!(entry.at.is_none(), "entry {} was written twice", placed.index);
        entry.at = Some(placed.at);
        let len = entry.payload_len;
        self.cache.order.push_back((placed.stream, placed.index, placed.ticket, len));
        self.cache.bytes = sum(self.cache.bytes, u64::from(len));
        while cache_bytes_max < self.cache.bytes {
            self.evict();
        }
    }

    fn evict(&mut self) {
        let (stream, index, ticket, len) =
            self.cache.order.pop_front().expect("bytes are counted per cached entry");
        self.cache.bytes = self.cache.bytes.saturating_sub(u64::from(len));
        let entry = self.streams.get_mut(&stream).and_then(|entries| entries.get_mut(index));
        if let Some(entry) = entry.filter(|entry| entry.ticket == ticket) {
            assert!(entry.at.is_some(), "only what is on disk is evicted");
            entry.payload = None;
        }
    }

    /// Returns the first index that the index holds for `stream`.
    pub(crate) fn first(&self, stream: StreamId) -> Option<u64> {
        self.streams.get(&stream).filter(|e| !e.entries.is_empty()).map(|e| e.first)
    }
}

/// Where the writer put an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) stream: StreamId,
    pub(crate) index: u64,
    pub(crate) ticket: u64,
    pub(crate) at: At,
}
