//! Leaves out rows by key: for rows that have no position yet, because they are still in the log.
//!
//! Must not: pass a batch on when the tombstones could not be read. Invariant: the input has the key columns
//! and the hidden index column; the output has neither unless they were asked for.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::error::Result as PlanResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::StreamExt;

use alluvium_materialize::TombstoneIndex;
use alluvium_rows::KeyEncoder;
use alluvium_types::LogIndex;

use crate::Error;
use crate::metadata::DatasetAt;
use crate::table::QueryScope;

/// Drops the rows of its input that tombstones hide.
pub(crate) struct TombstoneFilterExec {
    input: Arc<dyn ExecutionPlan>,
    dataset: Arc<DatasetAt>,
    scope: Arc<QueryScope>,
    /// No row of the input has a lower index.
    after: LogIndex,
    /// The input's columns that are passed on.
    output: Vec<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TombstoneFilterExec {
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        dataset: &Arc<DatasetAt>,
        scope: &Arc<QueryScope>,
        after: LogIndex,
        output: Vec<usize>,
    ) -> PlanResult<Self> {
        let schema = Arc::new(input.schema().project(&output)?);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        ));
        let (dataset, scope) = (Arc::clone(dataset), Arc::clone(scope));
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { input, dataset, scope, after, output, properties, metrics })
    }
}

impl fmt::Debug for TombstoneFilterExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TombstoneFilterExec({})", self.dataset.name())
    }
}

impl DisplayAs for TombstoneFilterExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.dataset.schema.key_columns.join(", ");
        write!(f, "TombstoneFilterExec: keys=[{keys}], after={}", self.after)
    }
}

impl ExecutionPlan for TombstoneFilterExec {
    fn name(&self) -> &'static str {
        "TombstoneFilterExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let input = children.pop().expect("an operator with one input gets one");
        let output = self.output.clone();
        Ok(Arc::new(Self::new(input, &self.dataset, &self.scope, self.after, output)?))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> PlanResult<SendableRecordBatchStream> {
        let dataset = &self.dataset;
        let index =
            self.scope.resolver.index(dataset.key(), dataset.name(), self.after, dataset.at)?;
        let encoder =
            KeyEncoder::new(&dataset.schema).map_err(|source| tombstones(dataset, source))?;
        let work = Work {
            encoder,
            index,
            dataset: Arc::clone(dataset),
            scope: Arc::clone(&self.scope),
            output: self.output.clone(),
            rows_hidden: MetricBuilder::new(&self.metrics).counter("rows_hidden", partition),
            baseline: BaselineMetrics::new(&self.metrics, partition),
        };
        let input = self.input.execute(partition, context)?;
        let filtered = input.map(move |batch| work.filter(&batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), filtered)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn tombstones(dataset: &DatasetAt, source: alluvium_rows::Error) -> Error {
    Error::Tombstones { dataset: dataset.name().to_owned(), source: Arc::new(source) }
}

struct Work {
    encoder: KeyEncoder,
    index: Arc<TombstoneIndex>,
    dataset: Arc<DatasetAt>,
    scope: Arc<QueryScope>,
    output: Vec<usize>,
    rows_hidden: Count,
    baseline: BaselineMetrics,
}

impl Work {
    fn filter(&self, batch: &RecordBatch) -> PlanResult<RecordBatch> {
        let _timer = self.baseline.elapsed_compute().timer();
        let hidden = self.index.resolve(&self.encoder, batch, self.dataset.at);
        let hidden = hidden.map_err(|source| tombstones(&self.dataset, source))?;
        let projected = batch.project(&self.output)?;
        self.rows_hidden.add(usize::try_from(hidden.len()).expect("rows of a batch"));
        self.scope.stats.note_hidden(usize::try_from(hidden.len()).expect("rows of a batch"));
        if hidden.is_empty() {
            self.baseline.record_output(projected.num_rows());
            return Ok(projected);
        }
        let rows = u32::try_from(batch.num_rows()).expect("a batch has fewer than 2^32 rows");
        let visible = (0..rows).map(|row| Some(!hidden.contains(row)));
        let visible: BooleanArray = visible.collect();
        let filtered = filter_record_batch(&projected, &visible)?;
        self.baseline.record_output(filtered.num_rows());
        Ok(filtered)
    }
}
