//! Newtypes for every id and position, so that a term can never be passed for an index.

use std::fmt;

use bincode::{Decode, Encode};
use uuid::Uuid;

use crate::DatasetName;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode,
        )]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A position in the Raft log. Zero is before the first entry.
    LogIndex
);
number!(
    /// A Raft term.
    Term
);
number!(
    /// A node of the cluster. Never reused.
    NodeId
);
number!(
    /// A life of a dataset name: drop and re-create gives the next one. It is the index of the register entry.
    Incarnation
);
number!(
    /// A data file of a dataset: the index of the entry that planned it.
    FileId
);
number!(
    /// A client session: the index of the entry that opened it. Never reused.
    SessionId
);
number!(
    /// A client's number for one command within a session; retries carry the same number.
    Sequence
);

impl LogIndex {
    /// Reads at this index see every applied entry.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the index after this one.
    ///
    /// # Panics
    /// At `u64::MAX`: a log that long cannot be written.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a log never reaches 2^64 entries"))
    }
}

/// The id of a staged append or tombstone, chosen by the client; unique among open uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct UploadId(pub u128);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A column's identity: kept by renames, never reused within a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct FieldId(pub u32);

/// The number of a schema of a dataset; evolve makes the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SchemaVersion(pub u32);

/// The id of a dataset: UUIDv5 of its name in the pinned namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct DatasetId(pub [u8; 16]);

/// The namespace of dataset ids. Pinned: changing it would give every dataset another id.
const DATASET_NAMESPACE: Uuid = Uuid::from_u128(0xa8f3_c1d2_4e5b_5a6c_9d8e_7f0a_1b2c_3d4e);

impl DatasetId {
    /// Returns the id that every node derives from `name`.
    #[must_use]
    pub fn of(name: &DatasetName) -> Self {
        Self(Uuid::new_v5(&DATASET_NAMESPACE, name.as_str().as_bytes()).into_bytes())
    }

    /// Returns the id as a UUID.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        Uuid::from_bytes(self.0)
    }
}

impl fmt::Display for DatasetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid().fmt(f)
    }
}

impl fmt::Debug for DatasetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatasetId({self})")
    }
}

/// A dataset's full identity. Drop and re-create changes the incarnation, so old state is never met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct DatasetKey {
    /// The id derived from the name.
    pub id: DatasetId,
    /// Which life of the name.
    pub incarnation: Incarnation,
}

impl fmt::Display for DatasetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dataset_ids_are_pinned() {
        let name: DatasetName = "flights".parse().expect("a legal name");
        assert_eq!(DatasetId::of(&name).to_string(), "cb97953f-0ea6-5b7e-8831-060b9f9a8ed6");
    }
}
