//! A dataset at one index, as DataFusion sees it.
//!
//! Must not: touch an object store or the log while planning. Invariant INV-Q4: the hidden index column is in
//! no schema that leaves this file, so no statement can name it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::datasource::TableType;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use alluvium_types::LogIndex;

use crate::deltas::{DeltaRows, DeltaScan};
use crate::files::{FileScan, Footers};
use crate::metadata::DatasetAt;
use crate::sources::Sources;
use crate::stores::QueryStores;
use crate::stream::QueryStats;
use crate::tombstones::Resolver;

/// What one query shares between its tables.
pub(crate) struct QueryScope {
    /// The index it runs at.
    pub(crate) at: LogIndex,
    /// Where it reads from.
    pub(crate) sources: Sources,
    /// The files it may read.
    pub(crate) stores: Arc<QueryStores>,
    /// Who knows which rows are hidden.
    pub(crate) resolver: Arc<Resolver>,
    /// Footers that were read before.
    pub(crate) footers: Arc<Footers>,
    /// Rows of the log that were read before.
    pub(crate) delta_rows: Arc<DeltaRows>,
    /// What it did.
    pub(crate) stats: Arc<QueryStats>,
}

/// A dataset at an index.
pub(crate) struct DatasetTable {
    dataset: Arc<DatasetAt>,
    scope: Arc<QueryScope>,
}

impl DatasetTable {
    pub(crate) fn new(dataset: DatasetAt, scope: Arc<QueryScope>) -> Self {
        scope.stats.note_dataset(dataset.key(), dataset.name());
        Self { dataset: Arc::new(dataset), scope }
    }

    fn plan(
        &self,
        state: &dyn Session,
        projection: Vec<usize>,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> PlanResult<Vec<Arc<dyn ExecutionPlan>>> {
        let (dataset, scope) = (&self.dataset, &self.scope);
        let files = dataset.live_files(&scope.sources.view)?;
        let partitions = state.config().target_partitions();
        let scan = FileScan { dataset, scope, projection: &projection, predicate, partitions };
        let mut parts = scan.plan(files)?;
        let deltas = dataset.deltas(&scope.sources.view)?;
        if !deltas.is_empty() {
            let scan = DeltaScan { dataset, scope, projection, partitions };
            parts.push(scan.plan(deltas)?);
        }
        Ok(parts)
    }
}

impl fmt::Debug for DatasetTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatasetTable({} at {})", self.dataset.name(), self.dataset.at)
    }
}

#[async_trait]
impl TableProvider for DatasetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.dataset.arrow)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        // Statistics rule out files, row groups and pages; rows are filtered above the scan.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.dataset.arrow.fields().len()).collect();
        let projection = projection.cloned().unwrap_or_else(all);
        let schema = DFSchema::try_from(Arc::clone(&self.dataset.arrow_with_index))?;
        let predicate = conjunction(filters.iter().cloned())
            .map(|filter| state.create_physical_expr(filter, &schema))
            .transpose()?;
        let mut parts = self.plan(state, projection.clone(), predicate.as_ref())?;
        match (parts.pop(), parts.is_empty()) {
            (None, _) => {
                let empty = Arc::new(self.dataset.arrow.project(&projection)?);
                Ok(Arc::new(EmptyExec::new(empty)))
            }
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                parts.push(last);
                UnionExec::try_new(parts)
            }
        }
    }
}
