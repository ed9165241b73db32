//! Between Arrow's schemas and the log's: one type per meaning, field ids as Parquet metadata.
//!
//! It must not accept a type that it cannot give back. Invariant: `from_arrow(to_arrow(s))` is `s` but for
//! its field ids.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow has forty types; those without a place in a dataset share one arm"
)]

use std::sync::Arc;

use alluvium_types as types;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::Error;

/// The hidden last column of data files and deltas: the log index at which a row became visible.
pub const INDEX_COLUMN: &str = "_alluvium_index";

/// The field id of [`INDEX_COLUMN`]: no dataset column ever reaches it.
pub const INDEX_FIELD_ID: types::FieldId = types::FieldId(i32::MAX as u32);

/// The metadata key by which Parquet writers and readers know a field's id.
pub const FIELD_ID_KEY: &str = "PARQUET:field_id";

/// The name of a list's element, whatever the producer called it.
pub(crate) const ELEMENT: &str = "item";

/// Returns the Arrow schema of a dataset's rows. Field ids that were given out become metadata.
#[must_use]
pub fn to_arrow(schema: &types::Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields.iter().map(arrow_field).collect::<Vec<_>>()))
}

/// Returns the schema with the hidden index column behind its own.
#[must_use]
pub fn with_index(schema: &SchemaRef) -> SchemaRef {
    debug_assert!(schema.column_with_name(INDEX_COLUMN).is_none(), "the index column is there");
    let index = Field::new(INDEX_COLUMN, DataType::UInt64, false);
    let index = index.with_metadata(field_id(INDEX_FIELD_ID));
    let fields = schema.fields().iter().cloned().chain([Arc::new(index)]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[expect(clippy::disallowed_types, reason = "Arrow's own type of metadata")]
fn field_id(id: types::FieldId) -> std::collections::HashMap<String, String> {
    std::iter::once((FIELD_ID_KEY.to_owned(), id.0.to_string())).collect()
}

/// Returns one column's Arrow field.
pub(crate) fn arrow_field(field: &types::Field) -> Field {
    let arrow = Field::new(&field.name, arrow_type(&field.data_type), field.nullable);
    // Zero means that nobody gave an id yet: Parquet must not carry it as one.
    if field.id == types::FieldId(0) { arrow } else { arrow.with_metadata(field_id(field.id)) }
}

/// Returns the Arrow type of a column.
pub(crate) fn arrow_type(data_type: &types::DataType) -> DataType {
    match data_type {
        types::DataType::Boolean => DataType::Boolean,
        types::DataType::Int8 => DataType::Int8,
        types::DataType::Int16 => DataType::Int16,
        types::DataType::Int32 => DataType::Int32,
        types::DataType::Int64 => DataType::Int64,
        types::DataType::UInt8 => DataType::UInt8,
        types::DataType::UInt16 => DataType::UInt16,
        types::DataType::UInt32 => DataType::UInt32,
        types::DataType::UInt64 => DataType::UInt64,
        types::DataType::Float32 => DataType::Float32,
        types::DataType::Float64 => DataType::Float64,
        types::DataType::Utf8 => DataType::Utf8,
        types::DataType::Binary => DataType::Binary,
        types::DataType::FixedSizeBinary(width) => DataType::FixedSizeBinary(i32::from(*width)),
        types::DataType::Date32 => DataType::Date32,
        types::DataType::Time64Microsecond => DataType::Time64(TimeUnit::Microsecond),
        types::DataType::Timestamp(unit, zone) => {
            DataType::Timestamp(arrow_unit(*unit), zone.as_deref().map(Arc::from))
        }
        types::DataType::Decimal128(precision, scale) => DataType::Decimal128(*precision, *scale),
        types::DataType::List(element) => DataType::List(Arc::new(arrow_field(element))),
        types::DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(arrow_field).collect::<Vec<_>>().into())
        }
    }
}

fn arrow_unit(unit: types::TimeUnit) -> TimeUnit {
    match unit {
        types::TimeUnit::Second => TimeUnit::Second,
        types::TimeUnit::Millisecond => TimeUnit::Millisecond,
        types::TimeUnit::Microsecond => TimeUnit::Microsecond,
        types::TimeUnit::Nanosecond => TimeUnit::Nanosecond,
    }
}

/// Returns the dataset schema of Arrow columns. Key columns become not nullable; field ids are left to the
/// state machine.
///
/// # Errors
/// [`Error::Unsupported`] naming the first column without a place, or what [`types::Schema::validate`] says.
pub fn from_arrow(schema: &Schema, key_columns: &[String]) -> Result<types::Schema, Error> {
    let is_key = |name: &str| key_columns.iter().any(|key| key == name);
    let column = |field: &Arc<Field>| {
        let mut column = canonical_field(field.name(), field, 1)?;
        column.nullable &= !is_key(field.name());
        Ok(column)
    };
    let fields = schema.fields().iter().map(column).collect::<Result<Vec<_>, Error>>()?;
    let schema = types::Schema { fields, key_columns: key_columns.to_vec() };
    schema.validate()?;
    Ok(schema)
}

fn canonical_field(path: &str, field: &Field, depth: usize) -> Result<types::Field, Error> {
    Ok(types::Field {
        id: types::FieldId(0),
        name: field.name().clone(),
        data_type: canonical_type(path, field.data_type(), depth)?,
        nullable: field.is_nullable(),
    })
}

/// Returns the one type that stands for all of a meaning.
pub(crate) fn canonical_type(
    path: &str,
    data_type: &DataType,
    depth: usize,
) -> Result<types::DataType, Error> {
    if types::limits::NESTING_MAX < depth {
        let limit = types::limits::NESTING_MAX;
        return Err(types::Error::NestedTooDeep { name: path.to_owned(), limit }.into());
    }
    if let Some(scalar) = canonical_scalar(data_type) {
        return Ok(scalar);
    }
    match data_type {
        DataType::Dictionary(_, value) => canonical_type(path, value, depth),
        DataType::List(element) | DataType::LargeList(element) => {
            let mut item = canonical_field(&format!("{path}.{ELEMENT}"), element, depth + 1)?;
            item.name = ELEMENT.to_owned();
            Ok(types::DataType::List(Box::new(item)))
        }
        DataType::Struct(fields) if !fields.is_empty() => {
            let nested = |field: &Arc<Field>| {
                canonical_field(&format!("{path}.{}", field.name()), field, depth + 1)
            };
            Ok(types::DataType::Struct(fields.iter().map(nested).collect::<Result<_, _>>()?))
        }
        other => Err(unsupported(path, other)),
    }
}

pub(crate) fn unsupported(path: &str, data_type: &DataType) -> Error {
    Error::Unsupported { column: path.to_owned(), data_type: Box::new(data_type.clone()) }
}

/// Returns the canonical type of a type without children; none when it has no place.
fn canonical_scalar(data_type: &DataType) -> Option<types::DataType> {
    Some(match data_type {
        DataType::Boolean => types::DataType::Boolean,
        DataType::Int8 => types::DataType::Int8,
        DataType::Int16 => types::DataType::Int16,
        DataType::Int32 => types::DataType::Int32,
        DataType::Int64 => types::DataType::Int64,
        DataType::UInt8 => types::DataType::UInt8,
        DataType::UInt16 => types::DataType::UInt16,
        DataType::UInt32 => types::DataType::UInt32,
        DataType::UInt64 => types::DataType::UInt64,
        DataType::Float32 => types::DataType::Float32,
        DataType::Float64 => types::DataType::Float64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => types::DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => types::DataType::Binary,
        DataType::FixedSizeBinary(width) if 0 < *width => {
            types::DataType::FixedSizeBinary(u16::try_from(*width).ok()?)
        }
        DataType::Date32 => types::DataType::Date32,
        // Arrow's Date64 counts milliseconds and may hold a time of day; as a timestamp it loses nothing.
        DataType::Date64 => types::DataType::Timestamp(types::TimeUnit::Millisecond, None),
        DataType::Time32(_) | DataType::Time64(_) => types::DataType::Time64Microsecond,
        DataType::Timestamp(unit, zone) => {
            types::DataType::Timestamp(log_unit(*unit), zone.as_deref().map(str::to_owned))
        }
        // A negative scale has no form in Parquet.
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if 0 <= *scale =>
        {
            types::DataType::Decimal128(*precision, *scale)
        }
        _ => return None,
    })
}

fn log_unit(unit: TimeUnit) -> types::TimeUnit {
    match unit {
        TimeUnit::Second => types::TimeUnit::Second,
        TimeUnit::Millisecond => types::TimeUnit::Millisecond,
        TimeUnit::Microsecond => types::TimeUnit::Microsecond,
        TimeUnit::Nanosecond => types::TimeUnit::Nanosecond,
    }
}

#[cfg(test)]
mod tests;
