//! Older files under the current schema: columns are matched by field id, whatever they were called.
//!
//! Must not: match by name. A dropped column's name may belong to another column today.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};

use alluvium_rows::INDEX_COLUMN;
use alluvium_types::Schema;

/// Makes adapters for the files of one schema version.
#[derive(Debug)]
pub(crate) struct FieldIdAdapters {
    /// What the files call a column, to what it is called now.
    names: BTreeMap<String, String>,
}

impl FieldIdAdapters {
    /// Returns the factory for files written under `old` that are read under `current`.
    pub(crate) fn new(old: &Schema, current: &Schema) -> Self {
        let now = |id| current.fields.iter().find(|field| field.id == id);
        let pairs = old.fields.iter().filter_map(|field| {
            now(field.id).map(|current| (field.name.clone(), current.name.clone()))
        });
        let mut names: BTreeMap<String, String> = pairs.collect();
        names.insert(INDEX_COLUMN.to_owned(), INDEX_COLUMN.to_owned());
        Self { names }
    }
}

impl PhysicalExprAdapterFactory for FieldIdAdapters {
    fn create(
        &self,
        logical: SchemaRef,
        physical: SchemaRef,
    ) -> PlanResult<Arc<dyn PhysicalExprAdapter>> {
        let rename = |(position, field): (usize, &Arc<Field>)| {
            // A column that is gone gets a name that no column can have.
            let gone = || format!("\u{1}{position}");
            let name = self.names.get(field.name()).cloned().unwrap_or_else(gone);
            Arc::new(field.as_ref().clone().with_name(name))
        };
        let renamed = physical.fields().iter().enumerate().map(rename).collect::<Vec<_>>();
        let renamed = Arc::new(ArrowSchema::new(renamed));
        let by_name = DefaultPhysicalExprAdapterFactory.create(logical, renamed)?;
        Ok(Arc::new(FieldIdAdapter { by_name, physical }))
    }
}

#[derive(Debug)]
struct FieldIdAdapter {
    by_name: Arc<dyn PhysicalExprAdapter>,
    physical: SchemaRef,
}

impl PhysicalExprAdapter for FieldIdAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> PlanResult<Arc<dyn PhysicalExpr>> {
        let current = self.by_name.rewrite(expr)?;
        // The reader looks columns up by the name that the file has.
        let restore = |expr: Arc<dyn PhysicalExpr>| {
            let Some(column) = expr.downcast_ref::<Column>() else {
                return Ok(Transformed::no(expr));
            };
            let name = self.physical.field(column.index()).name();
            let restored: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, column.index()));
            Ok(Transformed::yes(restored))
        };
        current.transform(restore).data()
    }
}
