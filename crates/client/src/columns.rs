//! Columns and how a dataset is kept, as messages and back.
//!
//! It must not guess: what an answer lacks is an error. Invariant: what is converted and converted back is the same.

use alluvium_proto::v1;
use alluvium_types::{
    Codec, DataType, DatasetOptions, Field, FieldId, Schema, SchemaChange, TimeUnit, limits,
};

/// What an answer may lack.
type What = &'static str;

/// Reads the columns and keys of a dataset, the columns with their identities.
///
/// # Errors
/// What is missing or impossible in them.
pub fn schema_of(dataset: &v1::Dataset) -> Result<Schema, What> {
    let fields = dataset.columns.iter().map(|column| field_from(column, 1));
    let fields = fields.collect::<Result<_, _>>()?;
    Ok(Schema { fields, key_columns: dataset.key_columns.clone() })
}

fn field_from(column: &v1::Column, depth: usize) -> Result<Field, What> {
    if limits::NESTING_MAX < depth {
        return Err("a column nests too deep");
    }
    let data_type = column.r#type.as_deref().ok_or("a column has no type")?;
    let data_type = type_from(data_type, depth)?;
    Ok(Field {
        id: FieldId(column.id),
        name: column.name.clone(),
        data_type,
        nullable: column.nullable,
    })
}

fn type_from(message: &v1::DataType, depth: usize) -> Result<DataType, What> {
    use v1::data_type::Kind;
    match message.kind.as_ref().ok_or("a type has no kind")? {
        Kind::Scalar(scalar) => scalar_from(*scalar),
        Kind::FixedSizeBinary(width) => {
            let width = u16::try_from(*width).map_err(|_out_of_range| "a width is impossible")?;
            Ok(DataType::FixedSizeBinary(width))
        }
        Kind::Timestamp(timestamp) => {
            Ok(DataType::Timestamp(unit_from(timestamp.unit)?, timestamp.zone.clone()))
        }
        Kind::Decimal(v1::Decimal { precision, scale }) => {
            let precision =
                u8::try_from(*precision).map_err(|_out_of_range| "a precision is impossible")?;
            let scale = i8::try_from(*scale).map_err(|_out_of_range| "a scale is impossible")?;
            Ok(DataType::Decimal128(precision, scale))
        }
        Kind::List(element) => Ok(DataType::List(Box::new(field_from(element, depth + 1)?))),
        Kind::Structure(structure) => {
            let fields = structure.fields.iter().map(|field| field_from(field, depth + 1));
            Ok(DataType::Struct(fields.collect::<Result<_, _>>()?))
        }
    }
}

fn scalar_from(scalar: i32) -> Result<DataType, What> {
    let known = v1::Scalar::try_from(scalar).map_err(|_unknown| "a type is unknown")?;
    Ok(match known {
        v1::Scalar::Unspecified => return Err("a type has no scalar"),
        v1::Scalar::Boolean => DataType::Boolean,
        v1::Scalar::Int8 => DataType::Int8,
        v1::Scalar::Int16 => DataType::Int16,
        v1::Scalar::Int32 => DataType::Int32,
        v1::Scalar::Int64 => DataType::Int64,
        v1::Scalar::Uint8 => DataType::UInt8,
        v1::Scalar::Uint16 => DataType::UInt16,
        v1::Scalar::Uint32 => DataType::UInt32,
        v1::Scalar::Uint64 => DataType::UInt64,
        v1::Scalar::Float32 => DataType::Float32,
        v1::Scalar::Float64 => DataType::Float64,
        v1::Scalar::Utf8 => DataType::Utf8,
        v1::Scalar::Binary => DataType::Binary,
        v1::Scalar::Date32 => DataType::Date32,
        v1::Scalar::Time64Us => DataType::Time64Microsecond,
    })
}

fn unit_from(unit: i32) -> Result<TimeUnit, What> {
    match v1::TimeUnit::try_from(unit).map_err(|_unknown| "a unit is unknown")? {
        v1::TimeUnit::Unspecified => Err("a timestamp has no unit"),
        v1::TimeUnit::Second => Ok(TimeUnit::Second),
        v1::TimeUnit::Millisecond => Ok(TimeUnit::Millisecond),
        v1::TimeUnit::Microsecond => Ok(TimeUnit::Microsecond),
        v1::TimeUnit::Nanosecond => Ok(TimeUnit::Nanosecond),
    }
}

/// Makes the message for a column.
#[must_use]
pub fn field_to(field: &Field) -> v1::Column {
    v1::Column {
        id: field.id.0,
        name: field.name.clone(),
        r#type: Some(Box::new(type_to(&field.data_type))),
        nullable: field.nullable,
    }
}

/// Makes the message for a type.
fn type_to(data_type: &DataType) -> v1::DataType {
    use v1::data_type::Kind;
    let scalar = |scalar: v1::Scalar| Kind::Scalar(scalar.into());
    let kind = match data_type {
        DataType::Boolean => scalar(v1::Scalar::Boolean),
        DataType::Int8 => scalar(v1::Scalar::Int8),
        DataType::Int16 => scalar(v1::Scalar::Int16),
        DataType::Int32 => scalar(v1::Scalar::Int32),
        DataType::Int64 => scalar(v1::Scalar::Int64),
        DataType::UInt8 => scalar(v1::Scalar::Uint8),
        DataType::UInt16 => scalar(v1::Scalar::Uint16),
        DataType::UInt32 => scalar(v1::Scalar::Uint32),
        DataType::UInt64 => scalar(v1::Scalar::Uint64),
        DataType::Float32 => scalar(v1::Scalar::Float32),
        DataType::Float64 => scalar(v1::Scalar::Float64),
        DataType::Utf8 => scalar(v1::Scalar::Utf8),
        DataType::Binary => scalar(v1::Scalar::Binary),
        DataType::Date32 => scalar(v1::Scalar::Date32),
        DataType::Time64Microsecond => scalar(v1::Scalar::Time64Us),
        DataType::FixedSizeBinary(width) => Kind::FixedSizeBinary(u32::from(*width)),
        DataType::Timestamp(unit, zone) => {
            Kind::Timestamp(v1::Timestamp { unit: unit_to(*unit).into(), zone: zone.clone() })
        }
        DataType::Decimal128(precision, scale) => Kind::Decimal(v1::Decimal {
            precision: u32::from(*precision),
            scale: i32::from(*scale),
        }),
        DataType::List(element) => Kind::List(Box::new(field_to(element))),
        DataType::Struct(fields) => {
            Kind::Structure(v1::Struct { fields: fields.iter().map(field_to).collect() })
        }
    };
    v1::DataType { kind: Some(kind) }
}

fn unit_to(unit: TimeUnit) -> v1::TimeUnit {
    match unit {
        TimeUnit::Second => v1::TimeUnit::Second,
        TimeUnit::Millisecond => v1::TimeUnit::Millisecond,
        TimeUnit::Microsecond => v1::TimeUnit::Microsecond,
        TimeUnit::Nanosecond => v1::TimeUnit::Nanosecond,
    }
}

/// Makes the message for one step of an evolve command.
pub(crate) fn change_to(change: &SchemaChange) -> v1::SchemaChange {
    use v1::schema_change::Change;
    let change = match change {
        SchemaChange::Add(field) => Change::Add(field_to(field)),
        SchemaChange::Widen { column, to } => {
            Change::Widen(v1::WidenColumn { column: column.clone(), to: Some(type_to(to)) })
        }
        SchemaChange::Rename { column, to } => {
            Change::Rename(v1::RenameColumn { column: column.clone(), to: to.clone() })
        }
        SchemaChange::Drop { column } => Change::Drop(column.clone()),
    };
    v1::SchemaChange { change: Some(change) }
}

/// Makes the message for how a dataset is kept.
pub(crate) fn options_to(options: &DatasetOptions) -> v1::DatasetOptions {
    let (compression, level) = match options.recipe.codec {
        Codec::Uncompressed => ("none", None),
        Codec::Snappy => ("snappy", None),
        Codec::Lz4Raw => ("lz4_raw", None),
        Codec::Zstd { level } => ("zstd", Some(u32::from(level))),
    };
    v1::DatasetOptions {
        compression: Some(compression.to_owned()),
        compression_level: level,
        row_group_rows: Some(options.recipe.row_group_rows),
        seal_bytes: Some(options.seal_bytes),
        seal_rows: Some(options.seal_rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(types: Vec<DataType>) -> (v1::Dataset, Schema) {
        let field = |(id, data_type): (u32, DataType)| Field {
            id: FieldId(id),
            name: format!("c{id}"),
            data_type,
            nullable: id % 2 == 0,
        };
        let fields: Vec<Field> = (1..).zip(types).map(field).collect();
        let columns = fields.iter().map(field_to).collect();
        let key_columns = vec!["c1".to_owned()];
        let schema = Schema { fields, key_columns: key_columns.clone() };
        (v1::Dataset { columns, key_columns, ..v1::Dataset::default() }, schema)
    }

    #[test]
    fn columns_come_back_as_they_went() {
        let element = Field {
            id: FieldId(9),
            name: "item".to_owned(),
            data_type: DataType::Decimal128(10, -2),
            nullable: true,
        };
        let (message, schema) = dataset(vec![
            DataType::Int64,
            DataType::Utf8,
            DataType::Date32,
            DataType::FixedSizeBinary(16),
            DataType::Timestamp(TimeUnit::Millisecond, Some("Europe/Vienna".to_owned())),
            DataType::List(Box::new(element.clone())),
            DataType::Struct(vec![element]),
        ]);
        assert_eq!(schema_of(&message), Ok(schema));
    }

    #[test]
    fn what_an_answer_lacks_is_named() {
        let (mut message, _) = dataset(vec![DataType::Int64]);
        message.columns[0].r#type = None;
        assert_eq!(schema_of(&message), Err("a column has no type"));
        let deep = (0..limits::NESTING_MAX).fold(DataType::Int64, |data_type, _| {
            DataType::Struct(vec![Field {
                id: FieldId(0),
                name: "x".to_owned(),
                data_type,
                nullable: true,
            }])
        });
        let (message, _) = dataset(vec![deep]);
        assert_eq!(schema_of(&message), Err("a column nests too deep"));
    }
}
