//! The keys that a predicate means, so that a tombstone can name them.
//!
//! Must not: let two evaluations differ. What leaves here travels in the log, and no replica evaluates again.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlanBuilder, Volatility, ident, is_not_true, is_true,
};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;

use alluvium_rows::KeyEncoder;
use alluvium_types::LogIndex;

use crate::Error;
use crate::error::PredicateFault;
use crate::metadata::DatasetAt;
use crate::recover::recover;
use crate::sql::{Names, has_subquery, parse_predicate};
use crate::table::{DatasetTable, QueryScope};

/// What a predicate was resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedKeys {
    /// The index at which it was resolved.
    pub index: LogIndex,
    /// The distinct keys of rows that match, encoded, ascending.
    pub keys: Vec<Vec<u8>>,
    /// How many rows match.
    pub rows: u64,
}

/// A predicate over a dataset, planned.
pub(crate) struct Planned {
    scope: Arc<QueryScope>,
    encoder: KeyEncoder,
    memory_bytes: usize,
    name: String,
    index: LogIndex,
    context: Arc<TaskContext>,
    /// The keys of the visible rows that match.
    matching: Arc<dyn ExecutionPlan>,
    /// The keys of those that do not.
    others: Arc<dyn ExecutionPlan>,
}

/// Plans a predicate over a dataset.
pub(crate) async fn plan(
    state: &SessionState,
    scope: &Arc<QueryScope>,
    dataset: DatasetAt,
    text: &str,
    memory_bytes: usize,
) -> Result<Planned, Error> {
    if !dataset.is_keyed() {
        return Err(Error::Predicate { reason: PredicateFault::Keyless });
    }
    let encoder = KeyEncoder::new(&dataset.schema);
    let encoder = encoder.map_err(|source| Error::Rows { source: Arc::new(source) })?;
    let job = Job { state, scope, memory_bytes };
    let predicate = job.understand(&dataset, text)?;
    let (name, index) = (dataset.name().to_owned(), dataset.at);
    let key_columns = dataset.schema.key_columns.clone();
    let table: Arc<dyn TableProvider> = Arc::new(DatasetTable::new(dataset, Arc::clone(scope)));
    let matching = job.plan(&table, is_true(predicate.clone()), &key_columns).await?;
    let others = job.plan(&table, is_not_true(predicate), &key_columns).await?;
    let (scope, context) = (Arc::clone(scope), state.task_ctx());
    Ok(Planned { scope, encoder, memory_bytes, name, index, context, matching, others })
}

impl Planned {
    /// Reads the rows.
    pub(crate) async fn resolve(self) -> Result<ResolvedKeys, Error> {
        let (mut keys, mut rows) = (BTreeSet::new(), 0);
        self.scan(&self.matching, |key| {
            rows += 1;
            keys.insert(key.to_vec());
            Ok(())
        })
        .await?;
        if !keys.is_empty() {
            let not_unique =
                |key: &[u8]| Error::KeyNotUnique { dataset: self.name.clone(), key: key.to_vec() };
            self.scan(&self.others, |key| match keys.contains(key) {
                true => Err(not_unique(key)),
                false => Ok(()),
            })
            .await?;
        }
        Ok(ResolvedKeys { index: self.index, keys: keys.into_iter().collect(), rows })
    }

    /// Gives the key of every row of a plan to `f`.
    async fn scan(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        mut f: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let recovered = |error| recover(error, &self.scope.stats, self.memory_bytes);
        let stream = execute_stream(Arc::clone(plan), Arc::clone(&self.context));
        let mut stream = stream.map_err(recovered)?;
        while let Some(batch) = stream.try_next().await.map_err(recovered)? {
            self.each_key(&batch, &mut f)?;
        }
        Ok(())
    }

    fn each_key(
        &self,
        batch: &RecordBatch,
        f: &mut impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut stopped = None;
        let encoded = self.encoder.encode_rows(batch, |_, key| {
            if stopped.is_none() {
                stopped = f(key).err();
            }
            Ok(())
        });
        encoded.map_err(|source| Error::Rows { source: Arc::new(source) })?;
        stopped.map_or(Ok(()), Err)
    }
}

struct Job<'a> {
    state: &'a SessionState,
    scope: &'a QueryScope,
    memory_bytes: usize,
}

impl Job<'_> {
    fn recovered(&self, error: DataFusionError) -> Error {
        recover(error, &self.scope.stats, self.memory_bytes)
    }

    fn understand(&self, dataset: &DatasetAt, text: &str) -> Result<Expr, Error> {
        let mut names = Names::default();
        dataset.schema.fields.iter().for_each(|field| names.add(&field.name));
        let parsed = parse_predicate(text, &names)?;
        if has_subquery(&parsed) {
            return Err(Error::Predicate { reason: PredicateFault::Subquery });
        }
        let schema = DFSchema::try_from(Arc::clone(&dataset.arrow));
        let schema = schema.map_err(|error| self.recovered(error))?;
        let expr = self.state.create_logical_expr_from_sql_expr(parsed, &schema);
        let expr = expr.map_err(|error| self.recovered(error))?;
        let fault = fault_of(&expr).map_err(|error| self.recovered(error))?;
        if let Some(reason) = fault {
            return Err(Error::Predicate { reason });
        }
        let data_type = expr.get_type(&schema).map_err(|error| self.recovered(error))?;
        if data_type != DataType::Boolean && data_type != DataType::Null {
            let data_type = data_type.to_string();
            return Err(Error::Predicate { reason: PredicateFault::NotBoolean { data_type } });
        }
        Ok(expr)
    }

    /// Plans the keys of every visible row that passes `filter`.
    async fn plan(
        &self,
        table: &Arc<dyn TableProvider>,
        filter: Expr,
        key_columns: &[String],
    ) -> Result<Arc<dyn ExecutionPlan>, Error> {
        let source = provider_as_source(Arc::clone(table));
        let plan = LogicalPlanBuilder::scan("rows", source, None)
            .and_then(|plan| plan.filter(filter))
            .and_then(|plan| plan.project(key_columns.iter().map(ident)))
            .and_then(LogicalPlanBuilder::build)
            .map_err(|error| self.recovered(error))?;
        let physical = self.state.create_physical_plan(&plan).await;
        physical.map_err(|error| self.recovered(error))
    }
}

/// Finds the first part of an expression whose value depends on more than one row and its text.
fn fault_of(expr: &Expr) -> Result<Option<PredicateFault>, DataFusionError> {
    let mut fault = None;
    expr.apply(|part| {
        fault = fault_of_part(part);
        Ok(if fault.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(fault)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "DataFusion's expressions; the rest are pure")]
fn fault_of_part(part: &Expr) -> Option<PredicateFault> {
    match part {
        Expr::ScalarFunction(call) => {
            // Stable is not enough: `now()` is stable within one query.
            let pure = call.func.signature().volatility == Volatility::Immutable;
            let function = call.func.name().to_owned();
            (!pure).then_some(PredicateFault::Volatile { function })
        }
        Expr::ScalarVariable(..) => Some(PredicateFault::Parameter),
        Expr::Placeholder(_) => Some(PredicateFault::Parameter),
        Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::ScalarSubquery(_)
        | Expr::SetComparison(_) => Some(PredicateFault::Subquery),
        Expr::AggregateFunction(_) | Expr::WindowFunction(_) | Expr::GroupingSet(_) => {
            Some(PredicateFault::Aggregate)
        }
        _ => None,
    }
}
