//! Rows as a schema wants them, or the first thing that is wrong with them.
//!
//! It must not round, truncate, reorder, invent or drop anything. Invariant: the returned batch has exactly
//! the schema of [`crate::to_arrow`], and every value of the input.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow has forty types; those without a place in a dataset share one arm"
)]

use std::sync::Arc;

use alluvium_types as types;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, RecordBatch, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal128Type, DecimalType as _, Field, FieldRef, Time64NanosecondType, TimeUnit,
};

use crate::Error;
use crate::schema::{arrow_field, arrow_type, canonical_type, to_arrow};
use crate::size::{ARRAY_BYTES_MAX, expanded_bytes};

/// Returns the batch with exactly the schema's columns, cast between encodings of the same values only.
///
/// # Errors
/// The first difference: a missing, unexpected or misplaced column, another type, a NULL where none may be,
/// a value that the canonical type cannot hold exactly.
pub fn conform(batch: &RecordBatch, schema: &types::Schema) -> Result<RecordBatch, Error> {
    check_columns(batch, schema)?;
    let pairs = schema.fields.iter().zip(batch.columns());
    let columns = pairs.map(|(field, column)| conform_column(column, field));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let arrow = to_arrow(schema);
    let conformed = RecordBatch::try_new(arrow, columns).map_err(Error::arrow("join columns"))?;
    assert!(conformed.num_rows() == batch.num_rows(), "conforming lost or made rows");
    Ok(conformed)
}

fn check_columns(batch: &RecordBatch, schema: &types::Schema) -> Result<(), Error> {
    let found = batch.schema();
    let missing = |field: &&types::Field| found.column_with_name(&field.name).is_none();
    if let Some(field) = schema.fields.iter().find(missing) {
        return Err(Error::Missing { column: field.name.clone() });
    }
    for (position, column) in found.fields().iter().enumerate() {
        let expected = schema.fields.get(position).map(|field| &field.name);
        if expected == Some(column.name()) {
            continue;
        }
        let occurs_earlier =
            found.fields().iter().take(position).any(|c| c.name() == column.name());
        return Err(match expected {
            Some(expected) if schema.field(column.name()).is_some() && !occurs_earlier => {
                let (expected, found) = (expected.clone(), column.name().clone());
                Error::Reordered { position, expected, found }
            }
            Some(_) | None => Error::Unexpected { column: column.name().clone() },
        });
    }
    Ok(())
}

/// Returns one column as `field` wants it.
pub(crate) fn conform_column(column: &ArrayRef, field: &types::Field) -> Result<ArrayRef, Error> {
    let canonical = canonical_type(&field.name, column.data_type(), 1)?;
    if !same_meaning(&canonical, &field.data_type) {
        return Err(Error::Type {
            column: field.name.clone(),
            expected: Box::new(field.data_type.clone()),
            found: Box::new(column.data_type().clone()),
        });
    }
    let column = represent(column, field, &field.name)?;
    check_nulls(&column, field)?;
    Ok(column)
}

fn check_nulls(column: &ArrayRef, field: &types::Field) -> Result<(), Error> {
    if field.nullable {
        return Ok(());
    }
    let nulls = column.logical_nulls();
    let first = nulls.and_then(|nulls| nulls.iter().position(|is_valid| !is_valid));
    match first {
        Some(row) => Err(Error::Null { column: field.name.clone(), row }),
        None => Ok(()),
    }
}

/// Compares types without the names of list elements, field ids and nullability: NULLs are looked for in the
/// values.
pub(crate) fn same_meaning(found: &types::DataType, expected: &types::DataType) -> bool {
    match (found, expected) {
        (types::DataType::List(found), types::DataType::List(expected)) => {
            same_meaning(&found.data_type, &expected.data_type)
        }
        (types::DataType::Struct(found), types::DataType::Struct(expected)) => {
            let same = |(a, b): (&types::Field, &types::Field)| {
                a.name == b.name && same_meaning(&a.data_type, &b.data_type)
            };
            found.len() == expected.len() && found.iter().zip(expected).all(same)
        }
        (found, expected) => found == expected,
    }
}

/// Returns the array in the representation of `field`; the meaning was found to be the same.
pub(crate) fn represent(
    array: &ArrayRef,
    field: &types::Field,
    path: &str,
) -> Result<ArrayRef, Error> {
    check_decimals(array, field, path)?;
    let target = arrow_type(&field.data_type);
    let is_leaf = field.data_type.children().is_empty();
    if *array.data_type() == target && (is_leaf || !field.data_type.holds_decimals()) {
        return Ok(Arc::clone(array));
    }
    match (&field.data_type, array.data_type()) {
        (types::DataType::List(element), DataType::List(_) | DataType::LargeList(_)) => {
            represent_list(array, element, path)
        }
        (types::DataType::Struct(fields), DataType::Struct(_)) => {
            represent_struct(array, fields, path)
        }
        (_, DataType::Time64(TimeUnit::Nanosecond)) => {
            check_whole_microseconds(array.as_primitive(), field, path)?;
            recast(array, &target, path)
        }
        (_, DataType::Dictionary(_, value)) if value.is_nested() || is_nanoseconds(value) => {
            represent(&recast(array, value, path)?, field, path)
        }
        _ => recast(array, &target, path),
    }
}

/// Refuses a decimal with more digits than its type has: Arrow takes it, and Parquet would cut it.
fn check_decimals(array: &ArrayRef, field: &types::Field, path: &str) -> Result<(), Error> {
    let types::DataType::Decimal128(precision, _) = field.data_type else { return Ok(()) };
    let Some(decimals) = array.as_primitive_opt::<Decimal128Type>() else { return Ok(()) };
    let is_too_long = |value: Option<i128>| {
        value.is_some_and(|value| !Decimal128Type::is_valid_decimal_precision(value, precision))
    };
    match decimals.iter().position(is_too_long) {
        Some(row) => {
            let expected = Box::new(field.data_type.clone());
            Err(Error::Inexact { column: path.to_owned(), row, expected })
        }
        None => Ok(()),
    }
}

fn is_nanoseconds(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Time64(TimeUnit::Nanosecond))
}

/// Casts between encodings; the caller knows that no value changes.
fn recast(array: &ArrayRef, target: &DataType, path: &str) -> Result<ArrayRef, Error> {
    // Views and dictionaries repeat values, and 32-bit offsets that overflow would panic in Arrow.
    let bytes = expanded_bytes(array);
    if ARRAY_BYTES_MAX < bytes {
        let limit = ARRAY_BYTES_MAX;
        return Err(Error::ColumnTooLarge { column: path.to_owned(), bytes, limit });
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, target, &options).map_err(Error::arrow("cast a column"))
}

fn represent_list(array: &ArrayRef, element: &types::Field, path: &str) -> Result<ArrayRef, Error> {
    let path = format!("{path}.{}", element.name);
    let (offsets, values) = match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (list.offsets().clone(), list.values())
        }
        _ => {
            let list = array.as_list::<i64>();
            (narrow_offsets(list.offsets(), &path)?, list.values())
        }
    };
    let values = represent(values, element, &path)?;
    let item: FieldRef = Arc::new(arrow_field(element));
    let list = ListArray::try_new(item, offsets, values, array.nulls().cloned());
    let list = list.map_err(|_null| Error::NestedNull { column: path })?;
    Ok(Arc::new(list))
}

fn narrow_offsets(offsets: &OffsetBuffer<i64>, path: &str) -> Result<OffsetBuffer<i32>, Error> {
    let bytes = offsets.last().map_or(0, |last| last.unsigned_abs());
    let too_large = |_| {
        let limit = ARRAY_BYTES_MAX;
        Error::ColumnTooLarge { column: path.to_owned(), bytes, limit }
    };
    let narrow = offsets.iter().map(|offset| i32::try_from(*offset)).collect::<Result<Vec<_>, _>>();
    Ok(OffsetBuffer::new(ScalarBuffer::from(narrow.map_err(too_large)?)))
}

fn represent_struct(
    array: &ArrayRef,
    fields: &[types::Field],
    path: &str,
) -> Result<ArrayRef, Error> {
    let nested = array.as_struct();
    let pairs = fields.iter().zip(nested.columns());
    let columns =
        pairs.map(|(field, column)| represent(column, field, &format!("{path}.{}", field.name)));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let arrow: Vec<Field> = fields.iter().map(arrow_field).collect();
    let built = StructArray::try_new(arrow.into(), columns, nested.nulls().cloned());
    let built = built.map_err(|_null| Error::NestedNull { column: path.to_owned() })?;
    Ok(Arc::new(built))
}

fn check_whole_microseconds(
    array: &PrimitiveArray<Time64NanosecondType>,
    field: &types::Field,
    path: &str,
) -> Result<(), Error> {
    let cut = |value: Option<i64>| value.is_some_and(|nanos| nanos % 1_000 != 0);
    match array.iter().position(cut) {
        Some(row) => {
            let expected = Box::new(field.data_type.clone());
            Err(Error::Inexact { column: path.to_owned(), row, expected })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
