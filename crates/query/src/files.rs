//! Scans of data files: which ones, under which schema, and without which rows.
//!
//! Must not: hand DataFusion a limit below hidden rows (see `source`). Invariant: a file is read only through
//! the store that verifies it.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_plan::metrics::MetricBuilder;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use object_store::ObjectMeta;

use alluvium_state_machine::record::FileRecord;
use alluvium_types::{Attested, LogIndex, SchemaVersion};

use crate::Error;
use crate::metadata::DatasetAt;
use crate::pruning::FileStatistics;
use crate::schema_map::FieldIdAdapters;
use crate::stores::OpenFile;
use crate::table::QueryScope;
use crate::tombstones::{FileTarget, ScanTombstones};

mod reader;
mod source;

pub(crate) use reader::Footers;

/// The files of one dataset for one scan.
pub(crate) struct FileScan<'a> {
    pub(crate) dataset: &'a Arc<DatasetAt>,
    pub(crate) scope: &'a Arc<QueryScope>,
    pub(crate) projection: &'a [usize],
    pub(crate) predicate: Option<&'a Arc<dyn PhysicalExpr>>,
    pub(crate) partitions: usize,
}

/// The files of one schema version.
#[derive(Default)]
struct Version {
    files: Vec<PartitionedFile>,
    rows: u64,
    hides: bool,
    store: Option<OpenFile>,
}

impl FileScan<'_> {
    /// Returns one scan for each schema version that live files have.
    pub(crate) fn plan(
        &self,
        records: Vec<FileRecord>,
    ) -> Result<Vec<Arc<dyn ExecutionPlan>>, Error> {
        let total = records.len();
        let kept = self.prune(records);
        let pruned = total - kept.len();
        let hidden_by = self.tombstones(&kept)?;
        let mut versions: BTreeMap<SchemaVersion, Version> = BTreeMap::new();
        for record in &kept {
            let version = versions.entry(record.schema_version).or_default();
            self.add(version, record, hidden_by.as_ref())?;
        }
        let mut plans = Vec::with_capacity(versions.len());
        for (number, version) in versions {
            plans.push(self.scan(number, version, pruned)?);
        }
        self.scope.stats.note_files(kept.len(), pruned);
        Ok(plans)
    }

    fn prune(&self, records: Vec<FileRecord>) -> Vec<FileRecord> {
        let Some(predicate) = self.predicate else { return records };
        let attested: Vec<&Attested> = records.iter().filter_map(FileRecord::attested).collect();
        assert!(attested.len() == records.len(), "a live file is attested");
        let schema = &self.dataset.schema;
        let statistics = FileStatistics::new(attested, schema, &self.dataset.arrow_with_index);
        let keep = statistics.keep(predicate);
        assert!(keep.len() == records.len(), "one verdict for each file");
        records.into_iter().zip(keep).filter_map(|(record, keep)| keep.then_some(record)).collect()
    }

    /// Returns the tombstones that may hide rows of these files, if there are any: one look instead of one for each.
    fn tombstones(&self, records: &[FileRecord]) -> Result<Option<Arc<ScanTombstones>>, Error> {
        let files = records.iter().map(|record| (record.file, visible_after(record)));
        let Some(lowest) = files.clone().map(|(_, after)| after).min() else { return Ok(None) };
        let may_hide = self.scope.resolver.may_hide(self.dataset, lowest)?;
        Ok(may_hide.then(|| self.scope.resolver.of_files(self.dataset, files)))
    }

    fn add(
        &self,
        version: &mut Version,
        record: &FileRecord,
        hidden_by: Option<&Arc<ScanTombstones>>,
    ) -> Result<(), Error> {
        let attested = record.attested().expect("a live file is attested");
        let (dataset, scope) = (self.dataset, self.scope);
        let bucket = &dataset.record.bucket;
        let open = scope.stores.admit(bucket, dataset.key(), record, attested)?;
        let after = visible_after(record);
        let hidden_by = match hidden_by {
            Some(hidden_by) if scope.resolver.may_hide(dataset, after)? => {
                Some(Arc::clone(hidden_by))
            }
            Some(_) | None => None,
        };
        let hides = hidden_by.is_some();
        let mut file = PartitionedFile::new_from_meta(meta(&open));
        let rows = usize::try_from(attested.rows).expect("rows of a file fit in memory");
        let mut statistics = Statistics::new_unknown(&dataset.arrow_with_index);
        statistics.num_rows = if hides { Precision::Inexact(rows) } else { Precision::Exact(rows) };
        file = file.with_statistics(Arc::new(statistics));
        if let Some(tombstones) = hidden_by {
            file.extensions.insert(FileTarget {
                file: record.file,
                after,
                schema: dataset.schema_version(&scope.sources.view, record.schema_version)?,
                tombstones,
            });
        }
        version.files.push(file);
        version.rows += attested.rows;
        version.hides |= hides;
        version.store = Some(open);
        Ok(())
    }

    fn scan(
        &self,
        number: SchemaVersion,
        version: Version,
        pruned: usize,
    ) -> Result<Arc<dyn ExecutionPlan>, Error> {
        let Version { files, rows, hides, store } = version;
        let store = store.expect("a version is here because it has a file");
        let (dataset, scope) = (self.dataset, self.scope);
        let schema = TableSchema::from_file_schema(Arc::clone(&dataset.arrow_with_index));
        let footers =
            reader::FooterReaders::new(Arc::clone(&store.store), Arc::clone(&scope.footers));
        let mut parquet = ParquetSource::new(schema)
            .with_parquet_file_reader_factory(Arc::new(footers))
            .with_enable_page_index(true)
            .with_metadata_size_hint(reader::FOOTER_HINT_BYTES);
        if let Some(predicate) = self.predicate {
            parquet = parquet.with_predicate(Arc::clone(predicate));
        }
        let source = source::LakeSource::new(Arc::new(parquet), scope, hides);
        let counted = files.len();
        MetricBuilder::new(source.own_metrics()).global_counter("files_scanned").add(counted);
        MetricBuilder::new(source.own_metrics()).global_counter("files_pruned").add(pruned);
        let mut statistics = Statistics::new_unknown(&dataset.arrow_with_index);
        let rows = usize::try_from(rows).expect("rows of a dataset fit in memory");
        statistics.num_rows = if hides { Precision::Inexact(rows) } else { Precision::Exact(rows) };
        let groups = FileGroup::new(files).split_files(self.partitions);
        let old = dataset.schema_version(&scope.sources.view, number)?;
        let mut config = FileScanConfigBuilder::new(store.url, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics);
        if number != dataset.record.schema_version {
            let adapter = FieldIdAdapters::new(&old, &dataset.schema);
            config = config.with_expr_adapter(Some(Arc::new(adapter)));
        }
        let config = config.with_projection_indices(Some(self.projection.to_vec()));
        let config = config.map_err(|source| Error::Plan { source: Arc::new(source) })?;
        Ok(DataSourceExec::from_data_source(config.build()))
    }
}

/// Returns the index up to which no tombstone hides a row of the file.
fn visible_after(record: &FileRecord) -> LogIndex {
    let first = record.attested().map_or(LogIndex(0), |attested| attested.first_index);
    record.folded_to.max(first)
}

fn meta(open: &OpenFile) -> ObjectMeta {
    // Files never change: there is no time and no tag to compare.
    let last_modified = chrono::DateTime::UNIX_EPOCH;
    let (location, size) = (open.path.clone(), open.len_bytes);
    ObjectMeta { location, last_modified, size, e_tag: None, version: None }
}
