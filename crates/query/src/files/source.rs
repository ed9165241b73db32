//! A Parquet source that leaves hidden rows out: their positions become row selections as files are opened.
//!
//! Must not: let a limit reach the Parquet reader below hidden rows. With a limit DataFusion 54 rebuilds the
//! plan of row groups that match a predicate in full, and forgets their selections: deleted rows would
//! return. The stream above counts rows itself, so only row groups that nobody would have read are lost.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as PlanResult;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::morsel::{MorselPlan, MorselPlanner, Morselizer};
use object_store::ObjectStore;

use crate::stream::QueryStats;
use crate::table::QueryScope;
use crate::tombstones::{FileTarget, Resolver};

/// The source of one scan.
#[derive(Clone)]
pub(crate) struct LakeSource {
    parquet: Arc<dyn FileSource>,
    resolver: Arc<Resolver>,
    stats: Arc<QueryStats>,
    /// Whether any file may have hidden rows.
    hides: bool,
}

impl LakeSource {
    pub(crate) fn new(parquet: Arc<dyn FileSource>, scope: &QueryScope, hides: bool) -> Self {
        let (resolver, stats) = (Arc::clone(&scope.resolver), Arc::clone(&scope.stats));
        Self { parquet, resolver, stats, hides }
    }

    /// Returns where EXPLAIN ANALYZE finds what it counted.
    pub(crate) fn own_metrics(&self) -> &ExecutionPlanMetricsSet {
        self.parquet.metrics()
    }

    fn over(&self, parquet: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { parquet, ..self.clone() })
    }
}

impl FileSource for LakeSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> PlanResult<Arc<dyn FileOpener>> {
        self.parquet.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> PlanResult<Box<dyn Morselizer>> {
        if !self.hides {
            return self.parquet.create_morselizer(store, config, partition);
        }
        let mut unlimited = config.clone();
        unlimited.limit = None;
        let parquet = self.parquet.create_morselizer(Arc::clone(&store), &unlimited, partition)?;
        let metrics = self.parquet.metrics();
        Ok(Box::new(WithoutHidden {
            parquet: Arc::from(parquet),
            store,
            resolver: Arc::clone(&self.resolver),
            stats: Arc::clone(&self.stats),
            rows_hidden: MetricBuilder::new(metrics).counter("rows_hidden", partition),
        }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.parquet.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.over(self.parquet.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.parquet.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.parquet.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.parquet.metrics()
    }

    fn file_type(&self) -> &str {
        self.parquet.file_type()
    }

    fn fmt_extra(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parquet.fmt_extra(format, f)?;
        if self.hides { write!(f, ", tombstones=positions") } else { Ok(()) }
    }

    fn supports_repartitioning(&self) -> bool {
        self.parquet.supports_repartitioning()
    }

    fn repartitioned(
        &self,
        target_partitions: usize,
        file_min_size: usize,
        ordering: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> PlanResult<Option<FileScanConfig>> {
        self.parquet.repartitioned(target_partitions, file_min_size, ordering, config)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> PlanResult<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.parquet.try_pushdown_filters(filters, config)?;
        let updated_node = pushed.updated_node.map(|parquet| self.over(parquet));
        Ok(FilterPushdownPropagation { filters: pushed.filters, updated_node })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> PlanResult<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(match self.parquet.try_pushdown_sort(order, properties)? {
            SortOrderPushdownResult::Exact { inner } => {
                SortOrderPushdownResult::Exact { inner: self.over(inner) }
            }
            SortOrderPushdownResult::Inexact { inner } => {
                SortOrderPushdownResult::Inexact { inner: self.over(inner) }
            }
            SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
        })
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.parquet.reorder_files(files)
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> PlanResult<Option<Arc<dyn FileSource>>> {
        let pushed = self.parquet.try_pushdown_projection(projection)?;
        Ok(pushed.map(|parquet| self.over(parquet)))
    }
}

/// Opens files without their hidden rows.
struct WithoutHidden {
    parquet: Arc<dyn Morselizer>,
    store: Arc<dyn ObjectStore>,
    resolver: Arc<Resolver>,
    stats: Arc<QueryStats>,
    rows_hidden: Count,
}

impl fmt::Debug for WithoutHidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WithoutHidden")
    }
}

impl Morselizer for WithoutHidden {
    fn plan_file(&self, file: PartitionedFile) -> PlanResult<Box<dyn MorselPlanner>> {
        let Some(target) = file.extensions.get_arc::<FileTarget>() else {
            return self.parquet.plan_file(file);
        };
        Ok(Box::new(ResolveFirst {
            target,
            file,
            parquet: Arc::clone(&self.parquet),
            store: Arc::clone(&self.store),
            resolver: Arc::clone(&self.resolver),
            stats: Arc::clone(&self.stats),
            rows_hidden: self.rows_hidden.clone(),
        }))
    }
}

/// A file whose hidden rows are looked up before it is opened.
struct ResolveFirst {
    target: Arc<FileTarget>,
    file: PartitionedFile,
    parquet: Arc<dyn Morselizer>,
    store: Arc<dyn ObjectStore>,
    resolver: Arc<Resolver>,
    stats: Arc<QueryStats>,
    rows_hidden: Count,
}

impl fmt::Debug for ResolveFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResolveFirst({})", self.file.object_meta.location)
    }
}

impl ResolveFirst {
    async fn resolve(mut self) -> PlanResult<Box<dyn MorselPlanner>> {
        let meta = self.file.object_meta.clone();
        let hidden = self.resolver.hidden(&self.target, self.store, meta.location, meta.size);
        let hidden = hidden.await?;
        // A file that was split is counted with its first part only.
        let is_first = self.file.range.as_ref().is_none_or(|range| range.start == 0);
        if is_first {
            let rows = usize::try_from(hidden.positions.len()).expect("rows of a file");
            self.rows_hidden.add(rows);
            self.stats.note_hidden(rows);
        }
        if let Some(plan) = hidden.access_plan() {
            self.file.extensions.insert(plan);
        }
        self.parquet.plan_file(self.file)
    }
}

impl MorselPlanner for ResolveFirst {
    fn plan(self: Box<Self>) -> PlanResult<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_pending_planner(self.resolve())))
    }
}
