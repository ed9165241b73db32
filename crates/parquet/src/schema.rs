//! What can be written: one type per meaning, so that equal data has one form.
//!
//! Must not: change a column's meaning. Invariant: `canonical_schema` of its own result is that result.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::limits::NESTING_MAX;

/// The name of a list's element field, whatever the producer called it.
const ELEMENT: &str = "item";

/// A column whose type has no place in a dataset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column} has type {data_type}, which a dataset cannot hold")]
pub struct UnsupportedType {
    /// The column, with the path to the nested field.
    pub column: String,
    /// The type that is refused.
    pub data_type: DataType,
}

/// Checks that every column's type can be kept.
///
/// Maps are refused because their entries have no order: equal maps would not have equal bytes. Unions,
/// run-ends, views, dictionaries, intervals and durations have no Parquet type that every reader returns
/// as it was; ingest casts those that have an equal.
///
/// # Errors
/// The first column that cannot.
pub fn check_supported(schema: &Schema) -> Result<(), UnsupportedType> {
    schema.fields().iter().try_for_each(|field| check(field.name(), field.data_type(), 0))
}

fn check(column: &str, data_type: &DataType, depth: usize) -> Result<(), UnsupportedType> {
    let refused =
        || Err(UnsupportedType { column: column.to_owned(), data_type: data_type.clone() });
    if NESTING_MAX <= depth {
        return refused();
    }
    let nested =
        |field: &Field| check(&format!("{column}.{}", field.name()), field.data_type(), depth + 1);
    match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(_, _) => Ok(()),
        DataType::FixedSizeBinary(len) if 0 < *len => Ok(()),
        DataType::Decimal128(_, scale) if 0 <= *scale => Ok(()),
        DataType::List(item) | DataType::LargeList(item) => nested(item),
        DataType::Struct(fields) if !fields.is_empty() => {
            fields.iter().try_for_each(|field| nested(field))
        }
        DataType::FixedSizeBinary(_)
        | DataType::Decimal128(_, _)
        | DataType::Struct(_)
        | DataType::Null
        | DataType::Float16
        | DataType::Duration(_)
        | DataType::Interval(_)
        | DataType::BinaryView
        | DataType::Utf8View
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(_, _)
        | DataType::Union(_, _)
        | DataType::Dictionary(_, _)
        | DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Decimal256(_, _)
        | DataType::Map(_, _)
        | DataType::RunEndEncoded(_, _) => refused(),
    }
}

/// Returns the schema in the form in which files carry it: dictionaries and views as their value types,
/// list elements under one name, and no metadata but field ids.
#[must_use]
pub fn canonical_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(canonical_fields(schema.fields())))
}

fn canonical_fields(fields: &Fields) -> Fields {
    fields.iter().map(|field| canonical_field(field, field.name())).collect()
}

fn canonical_field(field: &Field, name: &str) -> Field {
    let data_type = canonical_type(field.data_type());
    let id = field.metadata().get_key_value(PARQUET_FIELD_ID_META_KEY);
    let metadata = id.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    Field::new(name, data_type, field.is_nullable()).with_metadata(metadata)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "arrow's types; check_supported lists them all")]
fn canonical_type(data_type: &DataType) -> DataType {
    let element = |field: &Field| Arc::new(canonical_field(field, ELEMENT));
    match data_type {
        DataType::Dictionary(_, value) => canonical_type(value),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) => DataType::List(element(item)),
        DataType::LargeList(item) => DataType::LargeList(element(item)),
        DataType::Struct(fields) => DataType::Struct(canonical_fields(fields)),
        _ => data_type.clone(),
    }
}
