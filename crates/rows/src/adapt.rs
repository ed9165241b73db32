//! Rows of an older schema shown under a newer one of the same dataset, column by field id.
//!
//! It must not look at names to find a column's meaning, or narrow a value. Invariant: row count and order
//! stay, and so does the hidden index column.

use std::sync::Arc;

use alluvium_types as types;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};

use crate::conform::{represent, same_meaning};
use crate::schema::{arrow_type, to_arrow, with_index};
use crate::{Error, INDEX_COLUMN};

/// Returns the batch under schema `to`: columns of `from` by field id, widened where `to` is wider, NULL where
/// `to` has a column that `from` lacks, without those that `to` lacks.
///
/// # Errors
/// [`Error::Missing`] when the batch lacks a column of `from`; [`Error::Adapt`] when `to` does not follow
/// from `from` by evolution.
pub fn adapt(
    batch: &RecordBatch,
    from: &types::Schema,
    to: &types::Schema,
) -> Result<RecordBatch, Error> {
    let column = |field: &types::Field| match from.fields.iter().find(|old| old.id == field.id) {
        Some(old) => {
            let missing = || Error::Missing { column: old.name.clone() };
            adapt_column(batch.column_by_name(&old.name).ok_or_else(missing)?, old, field)
        }
        None if field.nullable => {
            Ok(new_null_array(&arrow_type(&field.data_type), batch.num_rows()))
        }
        None => Err(refused(field)),
    };
    let mut columns = to.fields.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let mut schema = to_arrow(to);
    if let Some(index) = batch.column_by_name(INDEX_COLUMN) {
        columns.push(Arc::clone(index));
        schema = with_index(&schema);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let adapted = RecordBatch::try_new_with_options(schema, columns, &options);
    let adapted = adapted.map_err(Error::arrow("join adapted columns"))?;
    assert!(adapted.num_rows() == batch.num_rows(), "adapting lost or made rows");
    Ok(adapted)
}

fn adapt_column(
    column: &ArrayRef,
    old: &types::Field,
    new: &types::Field,
) -> Result<ArrayRef, Error> {
    if same_meaning(&old.data_type, &new.data_type) {
        return represent(column, new, &new.name);
    }
    if !old.data_type.widens_to(&new.data_type) {
        return Err(refused(new));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, &arrow_type(&new.data_type), &options)
        .map_err(Error::arrow("widen a column"))
}

fn refused(field: &types::Field) -> Error {
    Error::Adapt { column: field.name.clone(), to: Box::new(field.data_type.clone()) }
}

#[cfg(test)]
mod tests;
