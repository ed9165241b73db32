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

/// Bytes for what is known of all datasets' tombstones, and of one's.
const KNOWN_BYTES: usize = 1024 * 1024;
const KNOWN_ENTRY_BYTES: usize = 128;

/// A file whose hidden rows are wanted.
#[derive(Debug)]
pub(crate) struct FileTarget {
    /// The file.
    pub(crate) file: FileId,
    /// Tombstones up to here hide no row that is in it.
    pub(crate) after: LogIndex,
    /// The schema its rows have.
    pub(crate) schema: Schema,
    /// The tombstones of its scan.
    pub(crate) tombstones: Arc<ScanTombstones>,
}

/// A delta whose hidden rows are wanted.
pub(crate) struct DeltaTarget<'a> {
    /// The index of the delta.
    pub(crate) index: LogIndex,
    /// The tombstones of its scan.
    pub(crate) tombstones: &'a ScanTombstones,
    /// Encodes the dataset's keys.
    pub(crate) keys: &'a KeyEncoder,
}

/// The tombstones that a scan asks for, each index of them made at most once however many files and deltas, and
/// however little the caches hold.
#[derive(Debug)]
pub(crate) struct ScanTombstones {
    dataset: DatasetKey,
    /// The dataset's name, for errors.
    name: String,
    /// The index of the query.
    at: LogIndex,
    /// Nothing that is scanned has a row that an earlier tombstone hides.
    first: LogIndex,
    /// What was known of everything that is scanned accounts for the tombstones up to here.
    base: LogIndex,
    /// Held while the index is made, which all partitions wait for.
    from_first: Mutex<Option<Arc<TombstoneIndex>>>,
    from_base: Mutex<Option<Arc<TombstoneIndex>>>,
}

impl ScanTombstones {
    fn new(dataset: &DatasetAt, first: LogIndex, base: LogIndex) -> Self {
        assert!(first <= base, "what is known of a part goes at least as far as the part");
        Self {
            dataset: dataset.key(),
            name: dataset.name().to_owned(),
            at: dataset.at,
            first,
            base,
            from_first: Mutex::new(None),
            from_base: Mutex::new(None),
        }
    }
}

/// Resolves tombstones for all queries of an engine.
pub(crate) struct Resolver {
    view: SharedView,
    files: Mutex<Cache<(DatasetKey, FileId), Resolved>>,
    deltas: Mutex<Cache<(DatasetKey, LogIndex), Resolved>>,
    indexes: Mutex<Cache<(DatasetKey, LogIndex, LogIndex), TombstoneIndex>>,
    /// A tombstone of each dataset, a late one: asking the metadata whether there is one reads its keys.
    known: Mutex<Cache<DatasetKey, LogIndex>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// Returns a resolver that keeps at most `cache_bytes`, half of them positions, of files and of deltas alike.
    pub(crate) fn new(view: SharedView, cache_bytes: usize) -> Self {
        let (half, quarter) = (cache_bytes / 2, cache_bytes / 4);
        Self {
            view,
            files: Mutex::new(Cache::new(quarter)),
            deltas: Mutex::new(Cache::new(quarter)),
            indexes: Mutex::new(Cache::new(half)),
            known: Mutex::new(Cache::new(half.min(KNOWN_BYTES))),
        }
    }

    /// Says whether a tombstone may hide rows of a dataset that none up to `after` hides.
    pub(crate) fn may_hide(&self, dataset: &DatasetAt, after: LogIndex) -> Result<bool, Error> {
        if !dataset.is_keyed() {
            return Ok(false);
        }
        let known = lock(&self.known).get(&dataset.key()).map(|index| *index);
        if known.is_some_and(|known| after < known && known <= dataset.at) {
            return Ok(true);
        }
        let Some(found) = dataset.tombstone_after(&self.view, after)? else { return Ok(false) };
        if known.is_none_or(|known| known < found) {
            lock(&self.known).put(dataset.key(), Arc::new(found), KNOWN_ENTRY_BYTES);
        }
        Ok(true)
    }

    /// Returns the tombstones of a scan of deltas.
    pub(crate) fn of_deltas(
        &self,
        dataset: &DatasetAt,
        deltas: impl Iterator<Item = LogIndex> + Clone,
    ) -> Arc<ScanTombstones> {
        let first = deltas.clone().min().unwrap_or(LogIndex(0));
        let known = lock(&self.deltas);
        let upto =
            |delta| known.peek(&(dataset.key(), delta)).map_or(delta, |resolved| resolved.upto);
        let base = deltas.map(upto).min().unwrap_or(first);
        Arc::new(ScanTombstones::new(dataset, first, base))
    }

    /// Returns the tombstones of a scan of files, given with the index up to which none hides a row of them.
    pub(crate) fn of_files(
        &self,
        dataset: &DatasetAt,
        files: impl Iterator<Item = (FileId, LogIndex)> + Clone,
    ) -> Arc<ScanTombstones> {
        let first = files.clone().map(|(_, after)| after).min().unwrap_or(LogIndex(0));
        let known = lock(&self.files);
        let upto = |(file, after): (FileId, LogIndex)| {
            let resolved = known.peek(&(dataset.key(), file));
            resolved.map_or(after, |resolved| resolved.upto.max(after))
        };
        let base = files.map(upto).min().unwrap_or(first);
        Arc::new(ScanTombstones::new(dataset, first, base))
    }

    /// Returns the tombstones that a part of a scan has yet to look at, of which those up to `upto` are known.
    fn after(&self, scan: &ScanTombstones, upto: LogIndex) -> Result<Arc<TombstoneIndex>, Error> {
        // What was known when the scan was planned may be forgotten by now.
        let (made, from) = match scan.base <= upto {
            true => (&scan.from_base, scan.base),
            false => (&scan.from_first, scan.first),
        };
        assert!(from <= upto, "a part has rows below the first of its scan");
        let mut made = lock(made);
        if let Some(index) = made.as_ref() {
            return Ok(Arc::clone(index));
        }
        let index = self.index(scan.dataset, &scan.name, from, scan.at)?;
        *made = Some(Arc::clone(&index));
        Ok(index)
    }

    /// Returns the rows of a batch that are hidden, whichever deltas of the scan they are of.
    pub(crate) fn hidden_in_batch(
        &self,
        scan: &ScanTombstones,
        keys: &KeyEncoder,
        batch: &RecordBatch,
    ) -> Result<RoaringBitmap, Error> {
        let index = self.after(scan, scan.first)?;
        let hidden = index.resolve(keys, batch, scan.at);
        hidden.map_err(|source| Error::tombstones(&scan.name, source))
    }

    /// Returns the rows of a delta that are hidden at the dataset's index, by their position in `batches`, which
    /// are all its rows in their order.
    pub(crate) fn hidden_in_delta(
        &self,
        target: &DeltaTarget<'_>,
        batches: &[RecordBatch],
    ) -> Result<Arc<RoaringBitmap>, Error> {
        let DeltaTarget { index: delta, tombstones: scan, keys } = *target;
        let key = (scan.dataset, delta);
        let known = lock(&self.deltas).get(&key);
        let known = known.unwrap_or_else(|| Arc::new(Resolved::nothing_hidden(delta)));
        if scan.at <= known.upto {
            return Ok(known.hidden(scan.at).positions);
        }
        let index = self.after(scan, known.upto)?;
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
            looked_up.map_err(|source| Error::tombstones(&scan.name, source))?;
            start += u32::try_from(batch.num_rows()).expect("a delta has fewer than 2^32 rows");
        }
        let resolved = known.extended(scan.at, found, Arc::from([]));
        let hidden = resolved.hidden(scan.at).positions;
        keep(&self.deltas, key, resolved);
        Ok(hidden)
    }

    /// Returns the tombstones above `after` up to `at`.
    fn index(
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
        let scan = target.tombstones.as_ref();
        let key = (scan.dataset, target.file);
        let known = lock(&self.files).get(&key);
        let known = known.unwrap_or_else(|| Arc::new(Resolved::nothing_hidden(target.after)));
        if scan.at <= known.upto {
            return Ok(known.hidden(scan.at));
        }
        let index = self.after(scan, known.upto.max(target.after))?;
        let resolved = if index.is_empty() {
            known.advanced(scan.at)
        } else {
            let scan = Scan { target, known: &known, index: &index };
            scan.run(ParquetObjectReader::new(store, path).with_file_size(len_bytes)).await?
        };
        let hidden = resolved.hidden(scan.at);
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
        let unreadable = |source: SharedError| Error::Tombstones {
            dataset: self.target.tombstones.name.clone(),
            source,
        };
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
        Ok(self.known.extended(self.target.tombstones.at, found, row_groups))
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
