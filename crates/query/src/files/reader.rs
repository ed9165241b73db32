//! Reads Parquet bytes and keeps footers, so that a file's metadata is decoded once, not once a query.
//!
//! Must not: turn a typed error into text. DataFusion's own caching reader does, and then a missing file
//! could not be told from a bug.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReader;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::error::Result as PlanResult;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::{AsyncFileReader, ParquetObjectReader};
use datafusion::parquet::errors::Result as ParquetResult;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::cache::Cache;

/// Bytes to read from the end of a file at first: most footers fit.
pub(crate) const FOOTER_HINT_BYTES: usize = 64 * 1024;

/// Footers by key. A key names one immutable file for ever, so nothing grows stale.
pub(crate) struct Footers {
    cache: Mutex<Cache<Path, ParquetMetaData>>,
}

impl Footers {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { cache: Mutex::new(Cache::new(limit_bytes)) }
    }

    fn get(&self, path: &Path) -> Option<Arc<ParquetMetaData>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(path)
    }

    fn put(&self, path: Path, footer: &Arc<ParquetMetaData>) {
        let bytes = footer.memory_size();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(path, Arc::clone(footer), bytes);
    }
}

impl std::fmt::Debug for Footers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Footers")
    }
}

/// Makes the readers of one scan.
#[derive(Debug)]
pub(crate) struct FooterReaders {
    store: Arc<dyn ObjectStore>,
    footers: Arc<Footers>,
}

impl FooterReaders {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, footers: Arc<Footers>) -> Self {
        Self { store, footers }
    }
}

impl ParquetFileReaderFactory for FooterReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> PlanResult<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location.clone();
        let file_metrics = ParquetFileMetrics::new(partition, path.as_ref(), metrics);
        let inner = ParquetObjectReader::new(Arc::clone(&self.store), path.clone())
            .with_file_size(file.object_meta.size)
            .with_footer_size_hint(hint.unwrap_or(FOOTER_HINT_BYTES));
        let inner = ParquetFileReader { file_metrics, inner, partitioned_file: file };
        Ok(Box::new(Reader { inner, path, footers: Arc::clone(&self.footers) }))
    }
}

struct Reader {
    inner: ParquetFileReader,
    path: Path,
    footers: Arc<Footers>,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            if let Some(footer) = self.footers.get(&self.path) {
                return Ok(footer);
            }
            // With the page index, because the next query may want it even if this one does not.
            let options =
                ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
            let footer = self.inner.get_metadata(Some(&options)).await?;
            self.footers.put(self.path.clone(), &footer);
            Ok(footer)
        }
        .boxed()
    }
}
