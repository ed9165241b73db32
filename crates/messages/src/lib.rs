//! Between messages and our own types, both ways: columns, changes of a schema, and how a dataset is kept.
//!
//! It must not guess: a field that a message needs and lacks is an error that names it. Invariant: what is
//! converted and converted back is the same.

use alluvium_proto::v1;
use alluvium_types::{
    Codec, DataType, DatasetOptions, Field, FieldId, SchemaChange, TimeUnit, limits,
};

/// A message that lacks a field or has an impossible one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field that is needed.
    #[error("the message has no {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A number or word that is not one of the possible ones.
    #[error("{field} {value:?} is not possible")]
    Impossible {
        /// The field.
        field: &'static str,
        /// What it was.
        value: String,
    },
    /// Types nested deeper than a dataset allows.
    #[error("it nests deeper than {limit} levels")]
    NestedTooDeep {
        /// The limit.
        limit: usize,
    },
    /// A column whose type is not one.
    #[error("column {column:?}: {fault}")]
    Column {
        /// The column, and the fields on the way within it.
        column: String,
        /// What is wrong.
        fault: Box<Error>,
    },
}

impl Error {
    fn within(self, name: &str) -> Self {
        match self {
            Self::Column { column, fault } => {
                Self::Column { column: format!("{name}.{column}"), fault }
            }
            Self::Missing { .. } | Self::Impossible { .. } | Self::NestedTooDeep { .. } => {
                Self::Column { column: name.to_owned(), fault: Box::new(self) }
            }
        }
    }
}

fn missing(field: &'static str) -> Error {
    Error::Missing { field }
}

fn impossible(field: &'static str, value: impl ToString) -> Error {
    Error::Impossible { field, value: value.to_string() }
}

/// Reads columns.
///
/// # Errors
/// A type that is missing, impossible or nested too deep.
pub fn fields_from(columns: Vec<v1::Column>) -> Result<Vec<Field>, Error> {
    columns.into_iter().map(|column| field_from(column, 1)).collect()
}

fn field_from(column: v1::Column, depth: usize) -> Result<Field, Error> {
    let data_type = match column.r#type {
        _ if limits::NESTING_MAX < depth => {
            Err(Error::NestedTooDeep { limit: limits::NESTING_MAX })
        }
        Some(data_type) => type_from(*data_type, depth),
        None => Err(missing("type of a column")),
    };
    let data_type = data_type.map_err(|fault| fault.within(&column.name))?;
    Ok(Field { id: FieldId(column.id), name: column.name, data_type, nullable: column.nullable })
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

fn type_from(message: v1::DataType, depth: usize) -> Result<DataType, Error> {
    use v1::data_type::Kind;
    match message.kind.ok_or(missing("kind of a type"))? {
        Kind::Scalar(scalar) => scalar_from(scalar),
        Kind::FixedSizeBinary(width) => {
            let width = u16::try_from(width)
                .map_err(|_out_of_range| impossible("fixed_size_binary", width))?;
            Ok(DataType::FixedSizeBinary(width))
        }
        Kind::Timestamp(timestamp) => {
            Ok(DataType::Timestamp(unit_from(timestamp.unit)?, timestamp.zone))
        }
        Kind::Decimal(v1::Decimal { precision, scale }) => {
            let bad = || impossible("decimal", format!("{precision}, {scale}"));
            let precision = u8::try_from(precision).map_err(|_out_of_range| bad())?;
            Ok(DataType::Decimal128(precision, i8::try_from(scale).map_err(|_out_of_range| bad())?))
        }
        Kind::List(element) => Ok(DataType::List(Box::new(field_from(*element, depth + 1)?))),
        Kind::Structure(structure) => {
            let fields = structure.fields.into_iter().map(|field| field_from(field, depth + 1));
            Ok(DataType::Struct(fields.collect::<Result<_, _>>()?))
        }
    }
}

fn scalar_from(scalar: i32) -> Result<DataType, Error> {
    let known =
        v1::Scalar::try_from(scalar).map_err(|_out_of_range| impossible("scalar", scalar))?;
    Ok(match known {
        v1::Scalar::Unspecified => return Err(missing("scalar of a type")),
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

fn unit_from(unit: i32) -> Result<TimeUnit, Error> {
    match v1::TimeUnit::try_from(unit).map_err(|_out_of_range| impossible("unit", unit))? {
        v1::TimeUnit::Unspecified => Err(missing("unit of a timestamp")),
        v1::TimeUnit::Second => Ok(TimeUnit::Second),
        v1::TimeUnit::Millisecond => Ok(TimeUnit::Millisecond),
        v1::TimeUnit::Microsecond => Ok(TimeUnit::Microsecond),
        v1::TimeUnit::Nanosecond => Ok(TimeUnit::Nanosecond),
    }
}

/// Makes the message for a type.
#[must_use]
pub fn type_to(data_type: &DataType) -> v1::DataType {
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

/// Reads the steps of an evolve command.
///
/// # Errors
/// A step without content, or a type that is not possible.
pub fn changes_from(messages: Vec<v1::SchemaChange>) -> Result<Vec<SchemaChange>, Error> {
    messages.into_iter().map(change_from).collect()
}

fn change_from(message: v1::SchemaChange) -> Result<SchemaChange, Error> {
    use v1::schema_change::Change;
    match message.change.ok_or(missing("content of a change"))? {
        Change::Add(column) => Ok(SchemaChange::Add(field_from(column, 1)?)),
        Change::Widen(v1::WidenColumn { column, to }) => {
            let to = type_from(to.ok_or(missing("new type"))?, 1)?;
            Ok(SchemaChange::Widen { column, to })
        }
        Change::Rename(v1::RenameColumn { column, to }) => Ok(SchemaChange::Rename { column, to }),
        Change::Drop(column) => Ok(SchemaChange::Drop { column }),
    }
}

/// Makes the message for one step of an evolve command.
#[must_use]
pub fn change_to(change: &SchemaChange) -> v1::SchemaChange {
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

/// Reads how a dataset is kept; absent fields have their standard values.
///
/// # Errors
/// A compression or level that does not exist.
pub fn options_from(message: Option<v1::DatasetOptions>) -> Result<DatasetOptions, Error> {
    let message = message.unwrap_or_default();
    let mut options = DatasetOptions::standard();
    options.seal_bytes = message.seal_bytes.unwrap_or(options.seal_bytes);
    options.seal_rows = message.seal_rows.unwrap_or(options.seal_rows);
    options.recipe.row_group_rows = message.row_group_rows.unwrap_or(options.recipe.row_group_rows);
    if let Some(name) = message.compression {
        options.recipe.codec = codec_from(&name, message.compression_level.unwrap_or(1))?;
    }
    Ok(options)
}

/// Makes the message for how a dataset is kept.
#[must_use]
pub fn options_to(options: &DatasetOptions) -> v1::DatasetOptions {
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

fn codec_from(name: &str, level: u32) -> Result<Codec, Error> {
    match name {
        "none" => Ok(Codec::Uncompressed),
        "snappy" => Ok(Codec::Snappy),
        "lz4_raw" => Ok(Codec::Lz4Raw),
        "zstd" => match u8::try_from(level) {
            Ok(level @ 1..=22) => Ok(Codec::Zstd { level }),
            Ok(_) | Err(_) => Err(impossible("compression_level", level)),
        },
        other => Err(impossible("compression", other)),
    }
}

#[cfg(test)]
mod tests;
