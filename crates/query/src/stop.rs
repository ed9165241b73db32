//! Ends a running query that nobody waits for any more, whatever its operators are busy with.
//!
//! An operator that finds nothing to pass on may work for minutes within one poll: a join of each row with each row,
//! whose condition none fulfils. Joins here yield with every batch, and their conditions ask whether to go on. Must
//! not: change what a plan answers. Invariant: after a stop every join fails at the next rows it looks at.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

/// Whether a query shall stop. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

/// Stops its query when it is dropped.
#[derive(Debug)]
pub(crate) struct StopOnDrop(pub(crate) Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Stop {
    fn check(&self) -> PlanResult<()> {
        match self.0.load(Ordering::Relaxed) {
            // Nobody is left to read it.
            true => Err(DataFusionError::Execution("the query was stopped".to_owned())),
            false => Ok(()),
        }
    }

    /// Returns the plan with joins that can be stopped, and whether one of them compares each row with each row.
    pub(crate) fn guard(
        &self,
        plan: Arc<dyn ExecutionPlan>,
    ) -> PlanResult<(Arc<dyn ExecutionPlan>, bool)> {
        let mut has_nested_loops = false;
        let guarded = plan.transform_up(|node| {
            has_nested_loops |= node.downcast_ref::<NestedLoopJoinExec>().is_some();
            Ok(match self.guard_join(&node)? {
                Some(join) => Transformed::yes(Arc::new(CooperativeExec::new(join)) as _),
                None => Transformed::no(node),
            })
        });
        Ok((guarded?.data, has_nested_loops))
    }

    fn guard_join(
        &self,
        node: &Arc<dyn ExecutionPlan>,
    ) -> PlanResult<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            let Some(filter) = join.filter() else { return Ok(Some(Arc::clone(node))) };
            let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
            let projection = join.projection().as_ref().map(|columns| columns.to_vec());
            let filter = Some(self.guard_filter(filter));
            let join =
                NestedLoopJoinExec::try_new(left, right, filter, join.join_type(), projection)?;
            return Ok(Some(Arc::new(join)));
        }
        if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            let Some(filter) = join.filter() else { return Ok(Some(Arc::clone(node))) };
            let join = join.builder().with_filter(Some(self.guard_filter(filter))).build()?;
            return Ok(Some(Arc::new(join)));
        }
        let is_other_join = node.downcast_ref::<CrossJoinExec>().is_some()
            || node.downcast_ref::<SortMergeJoinExec>().is_some();
        Ok(is_other_join.then(|| Arc::clone(node)))
    }

    fn guard_filter(&self, filter: &JoinFilter) -> JoinFilter {
        let inner = Arc::clone(filter.expression());
        let guarded = Arc::new(Guarded { inner, stop: self.clone() });
        JoinFilter::new(guarded, filter.column_indices().to_vec(), Arc::clone(filter.schema()))
    }
}

/// An expression that fails once its query was stopped.
#[derive(Debug)]
struct Guarded {
    inner: Arc<dyn PhysicalExpr>,
    stop: Stop,
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner) && Arc::ptr_eq(&self.stop.0, &other.stop.0)
    }
}

impl Eq for Guarded {}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Guarded {
    fn data_type(&self, input: &Schema) -> PlanResult<DataType> {
        self.inner.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> PlanResult<bool> {
        self.inner.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> PlanResult<ColumnarValue> {
        self.stop.check()?;
        self.inner.evaluate(batch)
    }

    fn return_field(&self, input: &Schema) -> PlanResult<FieldRef> {
        self.inner.return_field(input)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> PlanResult<Arc<dyn PhysicalExpr>> {
        let inner = children.pop().expect("an expression with one child gets one");
        Ok(Arc::new(Self { inner, stop: self.stop.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
