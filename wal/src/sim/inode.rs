//! One file of the simulated disk: what the process sees, what the disk has, and the sectors in
//! between.
//!
//! Invariant: without a failed or lying sync, the cache is the disk plus all pending sectors.

use std::collections::BTreeMap;

use alluvium_stdx::Prng;

use crate::number::{gap, sum, u64_of, usize_of};

/// Bytes that a disk writes whole or not at all.
pub(crate) const SECTOR: u64 = 512;

/// What a crash keeps of the things that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Nothing,
    Everything,
    Random,
}

impl Keep {
    pub(crate) fn choose(prng: &mut Prng) -> Self {
        match prng.below(4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Random,
        }
    }

    /// Returns how many of `count` versions in a row reach the disk.
    pub(crate) fn of(self, count: usize, prng: &mut Prng) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Everything => count,
            Self::Random => usize_of(prng.below(sum(u64_of(count), 1))),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Inode {
    pub(crate) cache: Vec<u8>,
    durable: Vec<u8>,
    /// For each sector that is not synced, the contents that it had since, oldest first.
    pending: BTreeMap<u64, Vec<Vec<u8>>>,
}

impl Inode {
    pub(crate) fn of(content: &[u8]) -> Self {
        Self { cache: content.to_vec(), durable: content.to_vec(), pending: BTreeMap::new() }
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = sum(offset, u64_of(bytes.len()));
        if u64_of(self.cache.len()) < end {
            self.cache.resize(usize_of(end), 0);
        }
        let place = self.cache.get_mut(usize_of(offset)..usize_of(end)).expect("resized above");
        place.copy_from_slice(bytes);
        let first = gap(offset, offset.checked_rem(SECTOR).expect("sectors have bytes"));
        let mut at = first;
        while at < end {
            let sector_end = sum(at, SECTOR).min(u64_of(self.cache.len()));
            let content = self.cache.get(usize_of(at)..usize_of(sector_end)).expect("in the file");
            self.pending.entry(at).or_default().push(content.to_vec());
            at = sum(at, SECTOR);
        }
    }

    /// Makes everything durable.
    pub(crate) fn sync(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for (at, versions) in pending {
            let last = versions.last().expect("a pending sector has a version");
            self.store(at, last);
        }
        self.durable.resize(self.cache.len(), 0);
    }

    /// Fails to make everything durable: some sectors are lost, and the cache forgets that they
    /// were dirty.
    pub(crate) fn fail_sync(&mut self, prng: &mut Prng) {
        let keep = Keep::choose(prng);
        self.settle(keep, prng);
    }

    /// Leaves what a power cut leaves.
    pub(crate) fn crash(&mut self, keep: Keep, prng: &mut Prng) {
        self.settle(keep, prng);
        self.cache = self.durable.clone();
    }

    fn settle(&mut self, keep: Keep, prng: &mut Prng) {
        let pending = std::mem::take(&mut self.pending);
        let grown = self.durable.len() < self.cache.len();
        let keeps_len = grown && keep.of(1, prng) == 1;
        let len = if keeps_len { self.cache.len() } else { self.durable.len() };
        for (at, versions) in pending {
            let kept = keep.of(versions.len(), prng);
            if let Some(content) = kept.checked_sub(1).and_then(|last| versions.get(last)) {
                self.store(at, content);
            }
        }
        self.durable.resize(len, 0);
    }

    fn store(&mut self, at: u64, content: &[u8]) {
        let end = usize_of(at).saturating_add(content.len());
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        let place = self.durable.get_mut(usize_of(at)..end).expect("resized above");
        place.copy_from_slice(content);
    }

    pub(crate) fn flip_bit(&mut self, bit: u64) {
        let (byte, mask) = (usize_of(bit >> 3), 1_u8 << (bit & 7));
        let cached = self.cache.get_mut(byte).expect("the test aims at a byte of the file");
        *cached ^= mask;
        if let Some(durable) = self.durable.get_mut(byte) {
            *durable ^= mask;
        }
    }
}
