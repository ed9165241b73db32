//! Tables about the log itself, as of the query's index.
//!
//! Must not: read more of the log than the statement can use. Invariant: nothing above the index shows.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream;

use alluvium_types::LogIndex;

use crate::Error;
use crate::table::QueryScope;

mod log;
mod tables;

/// The tables there are.
pub(crate) const NAMES: [&str; 4] = ["log", "datasets", "files", "tombstones"];

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Log,
    Datasets,
    Files,
    Tombstones,
}

/// Returns a table by name.
pub(crate) fn table(
    name: &str,
    at: LogIndex,
    scope: &Arc<QueryScope>,
) -> Option<Arc<dyn TableProvider>> {
    let kind = match name {
        "log" => Kind::Log,
        "datasets" => Kind::Datasets,
        "files" => Kind::Files,
        "tombstones" => Kind::Tombstones,
        _ => return None,
    };
    Some(Arc::new(SystemTable { kind, at, scope: Arc::clone(scope) }))
}

struct SystemTable {
    kind: Kind,
    at: LogIndex,
    scope: Arc<QueryScope>,
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SystemTable({:?})", self.kind)
    }
}

impl Kind {
    fn schema(self) -> SchemaRef {
        match self {
            Self::Log => log::schema(),
            Self::Datasets => tables::datasets_schema(),
            Self::Files => tables::files_schema(),
            Self::Tombstones => tables::tombstones_schema(),
        }
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.kind.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let bounds = match self.kind {
            Kind::Log => log::Bounds::of(filters, self.at),
            Kind::Datasets | Kind::Files | Kind::Tombstones => log::Bounds::all(self.at),
        };
        let partition: Arc<dyn PartitionStream> = Arc::new(SystemRows {
            kind: self.kind,
            at: self.at,
            schema: self.kind.schema(),
            scope: Arc::clone(&self.scope),
            bounds,
        });
        let schema = self.kind.schema();
        let plan = StreamingTableExec::try_new(
            schema,
            vec![partition],
            projection,
            Vec::new(),
            false,
            limit,
        )?;
        Ok(Arc::new(plan))
    }
}

struct SystemRows {
    kind: Kind,
    at: LogIndex,
    schema: SchemaRef,
    scope: Arc<QueryScope>,
    bounds: log::Bounds,
}

impl fmt::Debug for SystemRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SystemRows({:?})", self.kind)
    }
}

impl PartitionStream for SystemRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (kind, at) = (self.kind, self.at);
        let scope = Arc::clone(&self.scope);
        let schema = Arc::clone(&self.schema);
        if kind == Kind::Log {
            let chunks = log::chunks(scope, self.bounds);
            return Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(chunks)));
        }
        let once =
            stream::once(async move { rows(kind, at, &scope).map_err(DataFusionError::from) });
        Box::pin(RecordBatchStreamAdapter::new(schema, once))
    }
}

fn rows(kind: Kind, at: LogIndex, scope: &QueryScope) -> Result<RecordBatch, Error> {
    match kind {
        Kind::Log => unreachable!("the log is read in chunks"),
        Kind::Datasets => tables::datasets(scope, at),
        Kind::Files => tables::files(scope, at),
        Kind::Tombstones => tables::tombstones(scope, at),
    }
}
