//! Rows that no file held at the query's index: read from the log, or from the file that holds them since.
//!
//! Must not: read anything before the stream is asked for rows. Invariant INV-Q5: a purged log changes
//! nothing in the answer; the seal that allowed the purge has the same rows under the same indexes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::parquet::arrow::async_reader::{
    ParquetObjectReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, future, stream};
use roaring::RoaringBitmap;

use alluvium_materialize::{Error as JobError, LogError, read_delta};
use alluvium_rows::{INDEX_COLUMN, KeyEncoder, adapt};
use alluvium_state_machine::catalog;
use alluvium_state_machine::record::{DeltaRecord, FileContent, FileRecord};
use alluvium_types::{LogIndex, Schema};

use crate::Error;
use crate::metadata::DatasetAt;
use crate::table::QueryScope;
use crate::tombstones::{DeltaTarget, ScanTombstones, visible};

mod rows;

pub(crate) use rows::DeltaRows;

/// Rows of a batch between operators: larger deltas are cut.
const BATCH_ROWS: usize = 8_192;

/// The deltas of one dataset for one scan.
pub(crate) struct DeltaScan<'a> {
    pub(crate) dataset: &'a Arc<DatasetAt>,
    pub(crate) scope: &'a Arc<QueryScope>,
    pub(crate) projection: Vec<usize>,
    pub(crate) partitions: usize,
}

impl DeltaScan<'_> {
    /// Returns the scan, which leaves out what tombstones hide.
    pub(crate) fn plan(
        self,
        deltas: Vec<(LogIndex, DeltaRecord)>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let (dataset, scope) = (self.dataset, self.scope);
        let first = deltas.first().expect("a scan of deltas has some").0;
        let hides = scope.resolver.may_hide(dataset, first)?;
        let indexes = deltas.iter().map(|(index, _)| *index);
        let tombstones = hides.then(|| scope.resolver.of_deltas(dataset, indexes));
        let keep = scope.delta_rows.fits(deltas.iter().map(|(_, delta)| delta));
        let parts = split(deltas, self.partitions);
        let scan = DeltaScanExec::new(dataset, scope, self.projection, parts)?;
        Ok(Arc::new(DeltaScanExec { tombstones, keep, ..scan }))
    }
}

type Deltas = Arc<[(LogIndex, DeltaRecord)]>;

/// Cuts deltas into at most `parts` runs of about as many rows each.
fn split(deltas: Vec<(LogIndex, DeltaRecord)>, parts: usize) -> Vec<Deltas> {
    let rows: u64 = deltas.iter().map(|(_, delta)| delta.rows).sum();
    let share = rows.div_ceil(parts.max(1) as u64).max(BATCH_ROWS as u64);
    let mut runs = Vec::new();
    let (mut run, mut run_rows) = (Vec::new(), 0);
    for delta in deltas {
        run_rows += delta.1.rows;
        run.push(delta);
        if share <= run_rows {
            runs.push(Arc::from(std::mem::take(&mut run)));
            run_rows = 0;
        }
    }
    if !run.is_empty() {
        runs.push(Arc::from(run));
    }
    runs
}

/// Reads deltas lazily, one after the other.
struct DeltaScanExec {
    dataset: Arc<DatasetAt>,
    scope: Arc<QueryScope>,
    columns: Vec<usize>,
    parts: Vec<Deltas>,
    /// Nothing when no tombstone hides a row.
    tombstones: Option<Arc<ScanTombstones>>,
    /// Whether what is read is kept for other queries.
    keep: bool,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DeltaScanExec {
    fn new(
        dataset: &Arc<DatasetAt>,
        scope: &Arc<QueryScope>,
        columns: Vec<usize>,
        parts: Vec<Deltas>,
    ) -> PlanResult<Self> {
        let schema = Arc::new(dataset.arrow_with_index.project(&columns)?);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        let (dataset, scope) = (Arc::clone(dataset), Arc::clone(scope));
        let metrics = ExecutionPlanMetricsSet::new();
        let (tombstones, keep) = (None, false);
        Ok(Self { dataset, scope, columns, parts, tombstones, keep, properties, metrics })
    }
}

impl fmt::Debug for DeltaScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeltaScanExec({})", self.dataset.name())
    }
}

impl DisplayAs for DeltaScanExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deltas: usize = self.parts.iter().map(|part| part.len()).sum();
        let rows: u64 = self.parts.iter().flat_map(|part| part.iter()).map(|(_, d)| d.rows).sum();
        write!(f, "DeltaScanExec: dataset={}, deltas={deltas}, rows={rows}", self.dataset.name())?;
        if self.tombstones.is_some() {
            let keys = self.dataset.schema.key_columns.join(", ");
            write!(f, ", tombstones=[{keys}]")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for DeltaScanExec {
    fn name(&self) -> &'static str {
        "DeltaScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> PlanResult<SendableRecordBatchStream> {
        let schema = self.schema();
        let deltas = Arc::clone(&self.parts[partition]);
        let hides = |tombstones: &Arc<_>| Hides::new(Arc::clone(tombstones), &self.dataset);
        let reader = Arc::new(DeltaReader {
            hides: self.tombstones.as_ref().map(hides).transpose()?,
            keep: self.keep,
            dataset: Arc::clone(&self.dataset),
            scope: Arc::clone(&self.scope),
            columns: self.columns.clone(),
            schema: Arc::clone(&schema),
            entries: MetricBuilder::new(&self.metrics).counter("log_entries_read", partition),
            bytes: MetricBuilder::new(&self.metrics).counter("bytes_read", partition),
            files: MetricBuilder::new(&self.metrics).counter("sealed_files_read", partition),
            rows: MetricBuilder::new(&self.metrics).output_rows(partition),
            rows_hidden: MetricBuilder::new(&self.metrics).counter("rows_hidden", partition),
        });
        let batches = stream::try_unfold(0, move |position| {
            let (reader, deltas) = (Arc::clone(&reader), Arc::clone(&deltas));
            async move {
                let rest = &deltas[position..];
                if rest.is_empty() {
                    return Ok(None);
                }
                let (batches, read) = reader.read(rest).await?;
                assert!(0 < read && read <= rest.len(), "{read} of {} deltas read", rest.len());
                Ok::<_, DataFusionError>(Some((batches, position + read)))
            }
        })
        .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

struct DeltaReader {
    dataset: Arc<DatasetAt>,
    scope: Arc<QueryScope>,
    columns: Vec<usize>,
    schema: SchemaRef,
    entries: Count,
    bytes: Count,
    files: Count,
    rows: Count,
    rows_hidden: Count,
    hides: Option<Hides>,
    keep: bool,
}

/// How rows are found that tombstones hide.
struct Hides {
    tombstones: Arc<ScanTombstones>,
    keys: KeyEncoder,
}

impl Hides {
    fn new(tombstones: Arc<ScanTombstones>, dataset: &DatasetAt) -> Result<Self, Error> {
        let keys = KeyEncoder::new(&dataset.schema);
        let keys = keys.map_err(|source| Error::tombstones(dataset.name(), source))?;
        Ok(Self { tombstones, keys })
    }
}

/// What is left of a batch, and how many rows it had.
struct Visible {
    rows: RecordBatch,
    read: u32,
}

/// Batches, and how many deltas have their rows in them.
type Read = (BoxStream<'static, PlanResult<RecordBatch>>, usize);

impl DeltaReader {
    /// Reads the first of the deltas, and those after it that are read along with it.
    async fn read(self: &Arc<Self>, deltas: &[(LogIndex, DeltaRecord)]) -> Result<Read, Error> {
        let (index, delta) = deltas.first().expect("only what is there is read");
        let (index, view) = (*index, &self.scope.sources.view);
        let own = self.dataset.schema_version(view, delta.schema_version)?;
        let batches = match self.read_log(index, delta, &own) {
            Ok(batches) => batches,
            Err(JobError::Log(LogError::Purged { .. })) => return self.read_sealed(deltas).await,
            Err(source) => return Err(self.failed(index, source)),
        };
        let adapted = batches.iter().map(|batch| self.adapt(batch, &own, index));
        let adapted: Vec<RecordBatch> = adapted.collect::<Result<_, _>>()?;
        let hidden = self.hidden_in_delta(index, &adapted)?;
        let (mut cut, mut position) = (Vec::new(), 0);
        for batch in adapted {
            let batch = self.visible(&batch, &hidden, position, index)?;
            position += batch.read;
            let rows = batch.rows.num_rows();
            let starts = (0..rows).step_by(BATCH_ROWS);
            let slice = |start: usize| batch.rows.slice(start, BATCH_ROWS.min(rows - start));
            cut.extend(starts.map(|start| Ok(slice(start))));
        }
        Ok((stream::iter(cut).boxed(), 1))
    }

    /// Returns the rows of a delta under its own schema.
    fn read_log(
        &self,
        index: LogIndex,
        delta: &DeltaRecord,
        own: &Schema,
    ) -> Result<Arc<Vec<RecordBatch>>, JobError> {
        let (dataset, kept) = (self.dataset.key(), &self.scope.delta_rows);
        if let Some(rows) = kept.get(dataset, index) {
            return Ok(rows);
        }
        let rows = read_delta(self.scope.sources.log.as_ref(), delta, index, own)?;
        self.entries.add(delta.entries.len());
        self.bytes.add(usize::try_from(delta.bytes).unwrap_or(usize::MAX));
        self.scope.stats.note_bytes(delta.bytes);
        let rows = Arc::new(rows);
        if self.keep {
            kept.put(dataset, index, &rows);
        }
        Ok(rows)
    }

    /// Returns rows of an earlier schema as the table's.
    fn adapt(
        &self,
        batch: &RecordBatch,
        own: &Schema,
        index: LogIndex,
    ) -> Result<RecordBatch, Error> {
        adapt(batch, own, &self.dataset.schema).map_err(|source| self.failed(index, source))
    }

    /// Returns the hidden rows of one whole delta, which was read from the log.
    fn hidden_in_delta(
        &self,
        index: LogIndex,
        batches: &[RecordBatch],
    ) -> Result<Arc<RoaringBitmap>, Error> {
        let Some(hides) = &self.hides else { return Ok(Arc::default()) };
        let target = DeltaTarget { index, tombstones: &hides.tombstones, keys: &hides.keys };
        self.scope.resolver.hidden_in_delta(&target, batches)
    }

    /// Returns the hidden rows of a batch with rows of several deltas.
    fn hidden_in_batch(&self, batch: &RecordBatch) -> Result<RoaringBitmap, Error> {
        let Some(hides) = &self.hides else { return Ok(RoaringBitmap::new()) };
        self.scope.resolver.hidden_in_batch(&hides.tombstones, &hides.keys, batch)
    }

    /// Returns the scan's columns of the rows that are not hidden; the batch begins at `position` of them.
    fn visible(
        &self,
        batch: &RecordBatch,
        hidden: &RoaringBitmap,
        position: u32,
        index: LogIndex,
    ) -> Result<Visible, Error> {
        let projected = batch.project(&self.columns);
        let projected = projected.map_err(|source| self.failed(index, source))?;
        assert!(projected.schema() == self.schema, "an adapted delta has the table's schema");
        let rows = visible(&projected, hidden, position);
        let rows = rows.map_err(|source| self.failed(index, source))?;
        let gone = projected.num_rows() - rows.num_rows();
        self.rows.add(rows.num_rows());
        self.rows_hidden.add(gone);
        self.scope.stats.note_hidden(gone);
        let read = u32::try_from(projected.num_rows()).expect("a delta has fewer than 2^32 rows");
        Ok(Visible { rows, read })
    }

    fn failed(
        &self,
        index: LogIndex,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        Error::Delta { dataset: self.dataset.name().to_owned(), index, source: Arc::new(source) }
    }

    /// Reads deltas whose entries left the log from the seal that covers the first of them: all that it
    /// covers at once, because a file is read as a whole.
    async fn read_sealed(
        self: &Arc<Self>,
        deltas: &[(LogIndex, DeltaRecord)],
    ) -> Result<Read, Error> {
        let (dataset, view) = (&self.dataset, &self.scope.sources.view);
        let index = deltas.first().expect("only what is there is read").0;
        // The seal was attested after this query's index, so the latest metadata is asked.
        let (file, own) = dataset.guard(view, |view| {
            let file = catalog::sealed_in(view, dataset.key(), index, LogIndex::MAX)?;
            let file = file.ok_or_else(|| self.gone(index))?;
            let own = catalog::schema(view, dataset.key(), file.schema_version, LogIndex::MAX)?;
            Ok((file, own))
        })?;
        let last = match file.content {
            FileContent::Seal { last, .. } => last,
            FileContent::Compaction { .. } => unreachable!("sealed_in returns seals"),
        };
        let covered = deltas.iter().take_while(|(index, _)| *index <= last);
        let missing: Rows = covered.map(|(index, delta)| (index.0, delta.rows)).collect();
        let read = missing.len();
        let rows = self.open(&file, index).await?;
        let reader = Arc::clone(self);
        let batches = stream::try_unfold((rows, missing), move |(mut rows, mut missing)| {
            let (reader, own) = (Arc::clone(&reader), own.clone());
            async move {
                let batch = rows.try_next().await;
                let Some(batch) = batch.map_err(|source| reader.failed(index, source))? else {
                    return reader.check_complete(&missing).map(|()| None);
                };
                let found = take_rows(&batch, &mut missing);
                let found = found.map_err(|source| reader.failed(index, source))?;
                let adapted = reader.adapt(&found, &own, index)?;
                let hidden = reader.hidden_in_batch(&adapted)?;
                let visible = reader.visible(&adapted, &hidden, 0, index)?;
                Ok::<_, Error>(Some((visible.rows, (rows, missing))))
            }
        });
        let batches = batches.try_filter(|batch| future::ready(0 < batch.num_rows()));
        Ok((batches.map_err(DataFusionError::from).boxed(), read))
    }

    fn gone(&self, index: LogIndex) -> Error {
        Error::DeltaGone { dataset: self.dataset.name().to_owned(), index }
    }

    /// The file has to have every row of the deltas that were looked for.
    fn check_complete(&self, missing: &Rows) -> Result<(), Error> {
        match missing.iter().find(|(_, rows)| **rows != 0) {
            Some((index, _)) => Err(self.gone(LogIndex(*index))),
            None => Ok(()),
        }
    }

    async fn open(
        &self,
        file: &FileRecord,
        index: LogIndex,
    ) -> Result<ParquetRecordBatchStream<ParquetObjectReader>, Error> {
        let (dataset, scope) = (&self.dataset, &self.scope);
        let attested = file.attested().expect("sealed_in returns attested files");
        let bucket = &dataset.record.bucket;
        let open = scope.stores.admit(bucket, dataset.key(), file, attested)?;
        let reader = ParquetObjectReader::new(open.store, open.path).with_file_size(open.len_bytes);
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await;
        let stream = builder.and_then(|builder| builder.with_batch_size(BATCH_ROWS).build());
        self.files.add(1);
        stream.map_err(|source| self.failed(index, source))
    }
}

/// Rows that have not been seen, by the index of their delta.
type Rows = BTreeMap<u64, u64>;

/// Returns the rows of the deltas that are looked for.
fn take_rows(batch: &RecordBatch, missing: &mut Rows) -> Result<RecordBatch, ArrowError> {
    let position = batch.schema().index_of(INDEX_COLUMN)?;
    let indexes = batch.column(position).as_primitive::<UInt64Type>();
    let mut wanted = Vec::with_capacity(indexes.len());
    for index in indexes.values() {
        let rows = missing.get_mut(index);
        wanted.push(rows.is_some());
        if let Some(rows) = rows {
            let more = || ArrowError::InvalidArgumentError(format!("too many rows of {index}"));
            *rows = rows.checked_sub(1).ok_or_else(more)?;
        }
    }
    filter_record_batch(batch, &BooleanArray::from(wanted))
}
