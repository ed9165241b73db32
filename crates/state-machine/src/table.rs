//! The keyspace of the metadata: which tables there are, and how their keys are built.
//!
//! Keys are built only here. All integers in keys are big-endian, so that byte order is numeric
//! order.

use alluvium_types::{
    DatasetKey, DatasetName, FileId, LogIndex, SchemaVersion, Sequence, SessionId, UploadId,
};

/// A table of the metadata. The byte is part of the stored key and never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// The state machine's own time: one key, `u64` milliseconds. Latest only.
    Clock = 1,
    /// [`crate::record::SessionRecord`] by session. Latest only.
    Session = 2,
    /// [`crate::record::ResultRecord`] by session and sequence. Latest only.
    SessionResult = 3,
    /// Sessions by (last activity, id), to expire the oldest first. Latest only; empty values.
    SessionByActivity = 4,
    /// [`crate::record::UploadRecord`] by upload. Latest only.
    Upload = 5,
    /// [`crate::record::UploadPartRecord`] by upload and part. Latest only.
    UploadPart = 6,
    /// [`crate::record::NameRecord`] by dataset name. Versioned.
    Name = 7,
    /// [`crate::record::DatasetRecord`] by dataset. Versioned.
    Dataset = 8,
    /// [`alluvium_types::Schema`] by dataset and schema version. Versioned.
    Schema = 9,
    /// [`crate::record::DatasetCounters`] by dataset. Latest only.
    Counters = 10,
    /// [`crate::record::DeltaRecord`] by dataset and visible index. Versioned.
    Delta = 11,
    /// [`crate::record::FileRecord`] by dataset and file. Versioned.
    File = 12,
    /// A key block (see [`alluvium_types::KeyBlock`]) by dataset, index and part. Versioned.
    Tombstone = 13,
    /// Files that were planned and not attested, by dataset and file. Latest only; empty values.
    Planned = 14,
    /// [`crate::record::SweepRecord`]: files whose objects must go, by dataset and file. Latest
    /// only.
    Sweep = 15,
    /// The key block of a staged part, by upload and part. Latest only.
    UploadKeys = 16,
    /// How many sessions are open: one key, `u64`. Latest only.
    SessionCount = 17,
}

impl Table {
    /// All tables, in the order of their bytes.
    pub const ALL: [Self; 17] = [
        Self::Clock,
        Self::Session,
        Self::SessionResult,
        Self::SessionByActivity,
        Self::Upload,
        Self::UploadPart,
        Self::Name,
        Self::Dataset,
        Self::Schema,
        Self::Counters,
        Self::Delta,
        Self::File,
        Self::Tombstone,
        Self::Planned,
        Self::Sweep,
        Self::UploadKeys,
        Self::SessionCount,
    ];

    /// Returns the byte that stands for the table in stored keys.
    #[must_use]
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// Returns the table of a stored byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.byte() == byte)
    }

    /// Says whether old versions of its keys are kept until expire, so that it reads as of an
    /// index.
    #[must_use]
    pub fn is_versioned(self) -> bool {
        match self {
            Self::Name
            | Self::Dataset
            | Self::Schema
            | Self::Delta
            | Self::File
            | Self::Tombstone => true,
            Self::Clock
            | Self::Session
            | Self::SessionResult
            | Self::SessionByActivity
            | Self::Upload
            | Self::UploadPart
            | Self::Counters
            | Self::Planned
            | Self::Sweep
            | Self::UploadKeys
            | Self::SessionCount => false,
        }
    }
}

/// A key of a table, without the table's byte and without a version.
///
/// The empty key is the prefix of all keys of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<u8>);

impl Key {
    /// The one key of [`Table::Clock`] and [`Table::SessionCount`], and the prefix of every key.
    #[must_use]
    pub fn empty() -> Self {
        Self(Vec::new())
    }

    /// A key of [`Table::Session`], and the prefix of its results.
    #[must_use]
    pub fn session(id: SessionId) -> Self {
        Self(id.0.to_be_bytes().to_vec())
    }

    /// A key of [`Table::SessionResult`].
    #[must_use]
    pub fn session_result(id: SessionId, sequence: Sequence) -> Self {
        Self::session(id).then(&sequence.0.to_be_bytes())
    }

    /// A key of [`Table::SessionByActivity`].
    #[must_use]
    pub fn session_activity(active_at_ms: u64, id: SessionId) -> Self {
        Self(active_at_ms.to_be_bytes().to_vec()).then(&id.0.to_be_bytes())
    }

    /// A key of [`Table::Upload`], and the prefix of its parts.
    #[must_use]
    pub fn upload(id: UploadId) -> Self {
        Self(id.0.to_be_bytes().to_vec())
    }

    /// A key of [`Table::UploadPart`] and [`Table::UploadKeys`].
    #[must_use]
    pub fn upload_part(id: UploadId, part: u32) -> Self {
        Self::upload(id).then(&part.to_be_bytes())
    }

    /// A key of [`Table::Name`].
    #[must_use]
    pub fn name(name: &DatasetName) -> Self {
        Self(name.as_str().as_bytes().to_vec())
    }

    /// A key of [`Table::Dataset`] and [`Table::Counters`], and the prefix of all else of the
    /// dataset.
    #[must_use]
    pub fn dataset(key: DatasetKey) -> Self {
        Self(key.id.0.to_vec()).then(&key.incarnation.0.to_be_bytes())
    }

    /// A key of [`Table::Schema`].
    #[must_use]
    pub fn schema(key: DatasetKey, version: SchemaVersion) -> Self {
        Self::dataset(key).then(&version.0.to_be_bytes())
    }

    /// A key of [`Table::Delta`].
    #[must_use]
    pub fn delta(key: DatasetKey, visible_at: LogIndex) -> Self {
        Self::dataset(key).then(&visible_at.0.to_be_bytes())
    }

    /// A key of [`Table::File`], [`Table::Planned`] and [`Table::Sweep`].
    #[must_use]
    pub fn file(key: DatasetKey, file: FileId) -> Self {
        Self::dataset(key).then(&file.0.to_be_bytes())
    }

    /// A key of [`Table::Tombstone`].
    #[must_use]
    pub fn tombstone(key: DatasetKey, index: LogIndex, part: u32) -> Self {
        Self::dataset(key).then(&index.0.to_be_bytes()).then(&part.to_be_bytes())
    }

    /// Reads back the index of a delta or tombstone, or the file id of a file key.
    #[must_use]
    pub fn number_after_dataset(&self) -> Option<u64> {
        let eight = self.0.get(DATASET_KEY_BYTES..DATASET_KEY_BYTES + 8)?;
        Some(u64::from_be_bytes(eight.try_into().ok()?))
    }

    /// Returns the key right after this one.
    #[must_use]
    pub fn successor(&self) -> Self {
        self.clone().then(&[0])
    }

    /// Reads back the last eight bytes: a session of an activity key, a sequence of a result key.
    #[must_use]
    pub fn last_number(&self) -> Option<u64> {
        let eight = self.0.get(self.0.len().checked_sub(8)?..)?;
        Some(u64::from_be_bytes(eight.try_into().ok()?))
    }

    /// Reads back the dataset of any key that begins with one.
    #[must_use]
    pub fn dataset_of(&self) -> Option<DatasetKey> {
        let id = self.0.get(..16)?.try_into().ok()?;
        let incarnation = self.0.get(16..DATASET_KEY_BYTES)?.try_into().ok()?;
        Some(DatasetKey {
            id: alluvium_types::DatasetId(id),
            incarnation: alluvium_types::Incarnation(u64::from_be_bytes(incarnation)),
        })
    }

    /// Reads back the key of the upload that a part belongs to.
    #[must_use]
    pub fn upload_of(&self) -> Option<Self> {
        Some(Self(self.0.get(..UPLOAD_KEY_BYTES)?.to_vec()))
    }

    fn then(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

const DATASET_KEY_BYTES: usize = 24;
const UPLOAD_KEY_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_its_own_byte_and_reads_back() {
        for (position, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(table.byte()), position + 1);
            assert_eq!(Table::from_byte(table.byte()), Some(table));
        }
        assert_eq!(Table::from_byte(0), None);
        assert_eq!(Table::from_byte(18), None);
    }

    #[test]
    fn keys_sort_by_number_and_read_back() {
        let dataset = DatasetKey {
            id: alluvium_types::DatasetId([1; 16]),
            incarnation: alluvium_types::Incarnation(7),
        };
        let low = Key::delta(dataset, LogIndex(255));
        let high = Key::delta(dataset, LogIndex(256));
        assert!(low < high);
        assert_eq!(high.number_after_dataset(), Some(256));
        assert_eq!(high.dataset_of(), Some(dataset));
        let upload = UploadId(9);
        let part = Key::upload_part(upload, 3);
        assert_eq!(part.upload_of(), Some(Key::upload(upload)));
    }
}
