//! The state digest: equal states have equal digests, whatever order their entries were written in.
//!
//! An additive multiset hash (Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing:
//! Incrementality at Reduced Cost", 1997) with BLAKE3 as the inner function: the digest is the
//! lane-wise wrapping sum, over all stored (table, key, version, value), of their hashes as four
//! 64-bit words. It is kept up to date with each mutation and can be recomputed by one scan of the
//! store. It finds faults and divergence; it does not defend against an adversary who chooses keys.

use std::fmt;

use alluvium_types::LogIndex;

use crate::{Key, Table};

/// A digest of the whole metadata at one applied index.
#[derive(Clone, Copy, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StateDigest([u64; 4]);

impl StateDigest {
    /// Adds a stored value; `None` is a deletion marker of a versioned table.
    ///
    /// `version` is the index that wrote it, or zero in latest-only tables.
    pub fn add(&mut self, table: Table, key: &Key, version: LogIndex, value: Option<&[u8]>) {
        let words = hash(table, key, version, value);
        self.0.iter_mut().zip(words).for_each(|(lane, word)| *lane = lane.wrapping_add(word));
    }

    /// Removes what [`StateDigest::add`] added.
    pub fn remove(&mut self, table: Table, key: &Key, version: LogIndex, value: Option<&[u8]>) {
        let words = hash(table, key, version, value);
        self.0.iter_mut().zip(words).for_each(|(lane, word)| *lane = lane.wrapping_sub(word));
    }

    /// Returns the digest that has these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        }
        Self(words)
    }

    /// Returns the digest's 32 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

fn hash(table: Table, key: &Key, version: LogIndex, value: Option<&[u8]>) -> [u64; 4] {
    let mut hasher = blake3::Hasher::new();
    let key_length = u32::try_from(key.0.len()).expect("keys are short");
    hasher.update(&[table.byte(), u8::from(value.is_some())]);
    hasher.update(&version.0.to_le_bytes());
    hasher.update(&key_length.to_le_bytes());
    hasher.update(&key.0);
    hasher.update(value.unwrap_or_default());
    let bytes = hasher.finalize();
    std::array::from_fn(|lane| {
        let eight = bytes.as_bytes()[lane * 8..lane * 8 + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(eight)
    })
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateDigest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_removal_undoes() {
        let put = |digest: &mut StateDigest, key: &[u8], version| {
            digest.add(Table::Name, &Key(key.to_vec()), LogIndex(version), Some(b"v"));
        };
        let (mut one, mut two) = (StateDigest::default(), StateDigest::default());
        put(&mut one, b"a", 1);
        put(&mut one, b"b", 2);
        put(&mut two, b"b", 2);
        put(&mut two, b"a", 1);
        assert_eq!(one, two);
        two.remove(Table::Name, &Key(b"a".to_vec()), LogIndex(1), Some(b"v"));
        two.remove(Table::Name, &Key(b"b".to_vec()), LogIndex(2), Some(b"v"));
        assert_eq!(two, StateDigest::default());
    }

    #[test]
    fn table_key_version_value_and_deletion_all_count() {
        let digest = |table, key: &[u8], version, value: Option<&[u8]>| {
            let mut digest = StateDigest::default();
            digest.add(table, &Key(key.to_vec()), LogIndex(version), value);
            digest.to_string()
        };
        let all = std::collections::BTreeSet::from([
            digest(Table::Name, b"a", 1, Some(b"v")),
            digest(Table::File, b"a", 1, Some(b"v")),
            digest(Table::Name, b"av", 1, Some(b"")),
            digest(Table::Name, b"a", 2, Some(b"v")),
            digest(Table::Name, b"a", 1, Some(b"")),
            digest(Table::Name, b"a", 1, None),
        ]);
        assert_eq!(all.len(), 6);
    }
}
