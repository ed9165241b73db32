//! Which files cannot hold a row that a predicate asks for, by the statistics that the log attests.
//!
//! Must not: open a file. A column without statistics never rules a file out.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicate;

use alluvium_types::{Attested, ColumnStats, Schema, StatValue};

/// Files and what is known of their columns.
pub(crate) struct FileStatistics<'a> {
    files: Vec<&'a Attested>,
    schema: &'a Schema,
    arrow: &'a SchemaRef,
}

impl<'a> FileStatistics<'a> {
    /// Returns the statistics of files of a dataset, whose columns have `schema` today.
    pub(crate) fn new(files: Vec<&'a Attested>, schema: &'a Schema, arrow: &'a SchemaRef) -> Self {
        Self { files, schema, arrow }
    }

    /// Returns for each file whether it may hold a row that matches.
    pub(crate) fn keep(&self, predicate: &Arc<dyn PhysicalExpr>) -> Vec<bool> {
        let everything = || vec![true; self.files.len()];
        // A predicate that statistics say nothing about rules nothing out.
        let pruning = PruningPredicate::try_new(Arc::clone(predicate), Arc::clone(self.arrow));
        let kept = pruning.and_then(|pruning| pruning.prune(self));
        kept.unwrap_or_else(|error| {
            tracing::debug!(%error, "files are not pruned");
            everything()
        })
    }

    fn column(&self, file: &'a Attested, column: &Column) -> Option<&'a ColumnStats> {
        let field = self.schema.field(column.name())?;
        file.stats.iter().find(|stats| stats.field == field.id)
    }

    fn bounds(
        &self,
        column: &Column,
        bound: impl Fn(&ColumnStats) -> Option<&StatValue>,
    ) -> Option<ArrayRef> {
        let field = self.arrow.field_with_name(column.name()).ok()?;
        let value = |file: &&'a Attested| {
            let known = self.column(file, column).and_then(&bound);
            let known = known.and_then(|value| scalar(value, field.data_type()));
            known.map_or_else(|| ScalarValue::try_from(field.data_type()).ok(), Some)
        };
        let values: Vec<ScalarValue> = self.files.iter().map(value).collect::<Option<_>>()?;
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for FileStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |stats| stats.min.as_ref())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |stats| stats.max.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls = |file: &&Attested| self.column(file, column).map(|stats| stats.null_count);
        Some(Arc::new(self.files.iter().map(nulls).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.files.iter().map(|file| Some(file.rows));
        Some(Arc::new(rows.collect::<UInt64Array>()))
    }

    #[expect(clippy::disallowed_types, reason = "the signature is DataFusion's")]
    fn contained(
        &self,
        _column: &Column,
        _values: &std::collections::HashSet<ScalarValue>,
    ) -> Option<BooleanArray> {
        None
    }
}

/// Returns a bound as a value of the column's type today; nothing when it has no exact place in it.
fn scalar(value: &StatValue, data_type: &DataType) -> Option<ScalarValue> {
    match (value, data_type) {
        (StatValue::Bool(value), DataType::Boolean) => Some(ScalarValue::Boolean(Some(*value))),
        (StatValue::Int(value), DataType::Date32) => {
            Some(ScalarValue::Date32(Some(i32::try_from(*value).ok()?)))
        }
        (StatValue::Int(value), DataType::Time64(TimeUnit::Microsecond)) => {
            Some(ScalarValue::Time64Microsecond(Some(*value)))
        }
        (StatValue::Int(value), DataType::Timestamp(unit, zone)) => {
            let (value, zone) = (Some(*value), zone.clone());
            Some(match unit {
                TimeUnit::Second => ScalarValue::TimestampSecond(value, zone),
                TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(value, zone),
                TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(value, zone),
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(value, zone),
            })
        }
        (StatValue::Int(value), _) => ScalarValue::Int64(Some(*value)).cast_to(data_type).ok(),
        (StatValue::UInt(value), _) => ScalarValue::UInt64(Some(*value)).cast_to(data_type).ok(),
        (StatValue::Float(bits), _) => {
            ScalarValue::Float64(Some(f64::from_bits(*bits))).cast_to(data_type).ok()
        }
        (StatValue::Utf8(text), DataType::Utf8) => Some(ScalarValue::Utf8(Some(text.clone()))),
        (StatValue::Binary(bytes), DataType::Binary) => {
            Some(ScalarValue::Binary(Some(bytes.clone())))
        }
        (StatValue::Decimal(value), DataType::Decimal128(precision, scale)) => {
            Some(ScalarValue::Decimal128(Some(*value), *precision, *scale))
        }
        _ => None,
    }
}
