//! What a job may read, and how the log's vocabulary meets that of buckets and files.
//!
//! It must not write. Invariant: an object's key comes from `storage::layout` alone.

use std::fmt;
use std::sync::Arc;

use alluvium_state_machine::View;
use alluvium_state_machine::record::DatasetRecord;
use alluvium_storage::{Bucket, DataFileName};
use alluvium_types::{Codec, DatasetKey, Entry, FileDigest, FileId, LogIndex, Recipe};
use object_store::path::Path;

use crate::LogError;

/// Reads entries of the log. An implementation checks their hashes: a damaged entry is an error.
pub trait LogSource: Send + Sync {
    /// Returns the entry at an index.
    ///
    /// # Errors
    /// [`LogError`] naming the index.
    fn entry(&self, index: LogIndex) -> Result<Entry, LogError>;
}

/// Everything that the jobs of one dataset read and write.
#[derive(Clone)]
pub struct FileContext {
    /// The dataset.
    pub dataset: DatasetRecord,
    /// The bucket of its files.
    pub bucket: Bucket,
    /// The metadata.
    pub view: Arc<dyn View + Send + Sync>,
    /// The log.
    pub log: Arc<dyn LogSource>,
}

impl FileContext {
    /// Returns the dataset's identity.
    pub(crate) fn key(&self) -> DatasetKey {
        self.dataset.dataset
    }

    /// Returns the key of one of the dataset's files.
    pub(crate) fn object(&self, file: FileId, generation: u32) -> Path {
        object_key(self.key(), file, generation)
    }
}

impl fmt::Debug for FileContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileContext({} in {})", self.key(), self.bucket.name())
    }
}

/// Returns the key under which a bucket holds a data file.
#[must_use]
pub fn object_key(dataset: DatasetKey, file: FileId, generation: u32) -> Path {
    let (incarnation, file) = (dataset.incarnation.0, file.0);
    DataFileName { dataset: dataset.id.uuid(), incarnation, file, generation }.key()
}

/// Returns an attested digest as buckets take it.
#[must_use]
pub fn storage_digest(digest: &FileDigest) -> alluvium_storage::FileDigest {
    alluvium_storage::FileDigest {
        len_bytes: digest.len_bytes,
        blake3: digest.blake3,
        block_bytes: digest.block_bytes,
        blocks: digest.blocks.clone(),
    }
}

/// Returns a bucket's digest as the log attests it.
pub(crate) fn log_digest(digest: alluvium_storage::FileDigest) -> FileDigest {
    let alluvium_storage::FileDigest { len_bytes, blake3, block_bytes, blocks } = digest;
    FileDigest { len_bytes, blake3, block_bytes, blocks }
}

/// Returns a dataset's recipe as the writer takes it.
#[must_use]
pub fn parquet_recipe(recipe: &Recipe) -> alluvium_parquet::Recipe {
    let codec = match recipe.codec {
        Codec::Uncompressed => alluvium_parquet::Codec::Uncompressed,
        Codec::Snappy => alluvium_parquet::Codec::Snappy,
        Codec::Zstd { level } => alluvium_parquet::Codec::Zstd { level },
        Codec::Lz4Raw => alluvium_parquet::Codec::Lz4Raw,
    };
    let (writer_version, row_group_rows) = (recipe.writer_version, recipe.row_group_rows);
    alluvium_parquet::Recipe { writer_version, codec, row_group_rows }
}
