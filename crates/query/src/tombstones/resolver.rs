//! Turns tombstones into positions, once per tombstone and file or delta, and remembers them within a bound.
//!
//! Must not: cache what an error left half done. Invariant INV-Q3: a cached entry stands for every tombstone
//! up to its `upto` and none above, so that it may serve any query at any index.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::async_reader::{
    ParquetObjectReader, ParquetRecordBatchStreamBuilder,
};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use roaring::RoaringBitmap;

use alluvium_materialize::TombstoneIndex;
use alluvium_rows::{INDEX_COLUMN, KeyEncoder};
use alluvium_state_machine::catalog;
use alluvium_types::{DatasetKey, FileId, LogIndex, Schema};

use crate::Error;
use crate::cache::Cache;
use crate::error::SharedError;
use crate::metadata::{DatasetAt, Floor, SharedView};
use crate::tombstones::positions::{Hidden, Resolved};

/// A file whose hidden rows are wanted.
#[derive(Debug)]
pub(crate) struct FileTarget {
    /// Its dataset.
    pub(crate) dataset: DatasetKey,
    /// The dataset's name, for errors.
    pub(crate) name: String,
    /// The file.
    pub(crate) file: FileId,
    /// Tombstones up to here hide no row that is in it.
    pub(crate) after: LogIndex,
    /// The schema its rows have.
    pub(crate) schema: Schema,
    /// The index of the query.
    pub(crate) at: LogIndex,
}

/// A delta whose hidden rows are wanted.
pub(crate) struct DeltaTarget<'a> {
    /// Its dataset, at the index of the query.
    pub(crate) dataset: &'a DatasetAt,
    /// The index of the delta.
    pub(crate) index: LogIndex,
    /// Where the tombstones begin that the scan asks for, so that all its deltas ask for the same.
    pub(crate) base: LogIndex,
    /// Encodes the dataset's keys.
    pub(crate) keys: &'a KeyEncoder,
}

/// Resolves tombstones for all queries of an engine.
pub(crate) struct Resolver {
    view: SharedView,
    files: Mutex<Cache<(DatasetKey, FileId), Resolved>>,
    deltas: Mutex<Cache<(DatasetKey, LogIndex), Resolved>>,
    indexes: Mutex<Cache<(DatasetKey, LogIndex, LogIndex), TombstoneIndex>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// Returns a resolver that keeps at most `cache_bytes`, half of them positions.
    pub(crate) fn new(view: SharedView, cache_bytes: usize) -> Self {
        let (half, quarter) = (cache_bytes / 2, cache_bytes / 4);
        Self {
            view,
            files: Mutex::new(Cache::new(quarter)),
            deltas: Mutex::new(Cache::new(quarter)),
            indexes: Mutex::new(Cache::new(half)),
        }
    }

    /// Returns the index up to which tombstones are accounted for in each of these deltas.
    pub(crate) fn base(
        &self,
        dataset: DatasetKey,
        deltas: impl Iterator<Item = LogIndex>,
    ) -> LogIndex {
        let known = lock(&self.deltas);
        let upto = |delta| known.peek(&(dataset, delta)).map_or(delta, |resolved| resolved.upto);
        deltas.map(upto).min().unwrap_or(LogIndex(0))
    }

    /// Returns the rows of a delta that are hidden at the dataset's index, by their position in `batches`, which
    /// are all its rows in their order.
    pub(crate) fn hidden_in_delta(
        &self,
        target: &DeltaTarget<'_>,
        batches: &[RecordBatch],
    ) -> Result<Arc<RoaringBitmap>, Error> {
        let DeltaTarget { dataset, index: delta, base, keys } = *target;
        let key = (dataset.key(), delta);
        let known = lock(&self.deltas).get(&key);
        let known = known.unwrap_or_else(|| Arc::new(Resolved::nothing_hidden(delta)));
        if dataset.at <= known.upto {
            return Ok(known.hidden(dataset.at).positions);
        }
        // What was known when the scan was planned may be forgotten by now.
        let after = base.min(known.upto);
        let index = self.index(dataset.key(), dataset.name(), after, dataset.at)?;
        let mut found = Vec::new();
        let mut start = 0_u32;
        for batch in batches {
            let looked_up = keys.encode_rows(batch, |row, key| {
                let position = start + u32::try_from(row).expect("a row of a batch");
                if let Some(time) = index.hidden_since(key, delta)
                    && !known.is_hidden(position)
                {
                    found.push((time.0, position));
                }
                Ok(())
            });
            looked_up.map_err(|source| Error::tombstones(dataset.name(), source))?;
            start += u32::try_from(batch.num_rows()).expect("a delta has fewer than 2^32 rows");
        }
        let resolved = known.extended(dataset.at, found, Arc::from([]));
        let hidden = resolved.hidden(dataset.at).positions;
        keep(&self.deltas, key, resolved);
        Ok(hidden)
    }

    /// Returns the tombstones above `after` up to `at`.
    pub(crate) fn index(
        &self,
        dataset: DatasetKey,
        name: &str,
        after: LogIndex,
        at: LogIndex,
    ) -> Result<Arc<TombstoneIndex>, Error> {
        let key = (dataset, after, at);
        if let Some(found) = lock(&self.indexes).get(&key) {
            return Ok(found);
        }
        let unreadable =
            |source: SharedError| Error::Tombstones { dataset: name.to_owned(), source };
        // Before anything of it is cached: a block that expire took would stay missing.
        let mut blocks = Floor { view: &self.view, dataset, name, at }.guard(|view| {
            let blocks = catalog::tombstones_after(view, dataset, after, at);
            blocks.map_err(|source| unreadable(Arc::new(source)))
        })?;
        // Versions above `at` are not in the answer; a block above it would hide rows too early.
        blocks.retain(|(index, _)| *index <= at);
        let index = Arc::new(TombstoneIndex::from_blocks(&blocks));
        lock(&self.indexes).put(key, Arc::clone(&index), index.memory_bytes());
        Ok(index)
    }

    /// Returns the rows of a file that are hidden at the target's index.
    pub(crate) async fn hidden(
        &self,
        target: &FileTarget,
        store: Arc<dyn ObjectStore>,
        path: Path,
        len_bytes: u64,
    ) -> Result<Hidden, Error> {
        let key = (target.dataset, target.file);
        let known = lock(&self.files).get(&key);
        let known = known.unwrap_or_else(|| Arc::new(Resolved::nothing_hidden(target.after)));
        if target.at <= known.upto {
            return Ok(known.hidden(target.at));
        }
        let index = self.index(target.dataset, &target.name, known.upto, target.at)?;
        let resolved = if index.is_empty() {
            known.advanced(target.at)
        } else {
            let scan = Scan { target, known: &known, index: &index };
            scan.run(ParquetObjectReader::new(store, path).with_file_size(len_bytes)).await?
        };
        let hidden = resolved.hidden(target.at);
        keep(&self.files, key, resolved);
        Ok(hidden)
    }
}

fn keep<K: Ord + Clone>(cache: &Mutex<Cache<K, Resolved>>, key: K, resolved: Resolved) {
    let mut cache = lock(cache);
    // Another query may have gone further meanwhile; what it found holds for this one too.
    if cache.get(&key).is_none_or(|other| other.upto < resolved.upto) {
        let bytes = resolved.bytes();
        cache.put(key, Arc::new(resolved), bytes);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the keys and indexes of a file's rows and asks the tombstones about each.
struct Scan<'a> {
    target: &'a FileTarget,
    known: &'a Resolved,
    index: &'a TombstoneIndex,
}

impl Scan<'_> {
    async fn run(&self, reader: ParquetObjectReader) -> Result<Resolved, Error> {
        let unreadable =
            |source: SharedError| Error::Tombstones { dataset: self.target.name.clone(), source };
        let encoder = KeyEncoder::new(&self.target.schema);
        let encoder = encoder.map_err(|source| unreadable(Arc::new(source)))?;
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await;
        let builder = builder.map_err(|source| unreadable(Arc::new(source)))?;
        let group_rows =
            |rows: i64| u64::try_from(rows).expect("a row group's rows are counted up");
        let row_groups: Arc<[u64]> =
            builder.metadata().row_groups().iter().map(|g| group_rows(g.num_rows())).collect();
        let names = encoder.columns().iter().map(|column| column.name.as_str());
        let names: Vec<&str> = names.chain([INDEX_COLUMN]).collect();
        let mask = ProjectionMask::columns(builder.parquet_schema(), names);
        let stream = builder.with_projection(mask).with_batch_size(8_192).build();
        let mut stream = stream.map_err(|source| unreadable(Arc::new(source)))?;
        let mut found = Vec::new();
        let mut position = 0_u32;
        while let Some(batch) =
            stream.try_next().await.map_err(|source| unreadable(Arc::new(source)))?
        {
            let scanned = self.scan(&encoder, &batch, position, &mut found);
            scanned.map_err(|source| unreadable(Arc::new(source)))?;
            let rows = u32::try_from(batch.num_rows()).expect("a batch has fewer than 2^32 rows");
            position = position.checked_add(rows).expect("a file has fewer than 2^32 rows");
        }
        let counted: u64 = row_groups.iter().sum();
        assert!(u64::from(position) == counted, "a scan read {position} of {counted} rows");
        Ok(self.known.extended(self.target.at, found, row_groups))
    }

    fn scan(
        &self,
        encoder: &KeyEncoder,
        batch: &RecordBatch,
        start: u32,
        found: &mut Vec<(u64, u32)>,
    ) -> Result<(), alluvium_rows::Error> {
        let indexes = batch.column_by_name(INDEX_COLUMN);
        let missing = || alluvium_rows::Error::Missing { column: INDEX_COLUMN.to_owned() };
        let indexes = indexes.ok_or_else(missing)?;
        let indexes = indexes.as_primitive_opt::<UInt64Type>().ok_or_else(missing)?.clone();
        encoder.encode_rows(batch, |row, key| {
            let position = start + u32::try_from(row).expect("a row of a batch");
            if let Some(time) = self.index.hidden_since(key, LogIndex(indexes.value(row)))
                && !self.known.is_hidden(position)
            {
                found.push((time.0, position));
            }
            Ok(())
        })
    }
}
