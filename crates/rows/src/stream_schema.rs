//! The schema message of a client's stream, read without Arrow's own conversion, which panics on damage.
//!
//! It must not accept a type that a dataset cannot hold. Invariant: a dictionary is at the top level only,
//! and of values without children.

use std::sync::Arc;

use alluvium_types::limits::{COLUMNS_MAX, NESTING_MAX};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::ipc;

use crate::error::StreamFault;

/// What a stream's batches look like, on the wire and once dictionaries are undone.
pub(crate) struct StreamSchema {
    /// Dictionary columns have the type of their indices.
    pub(crate) wire: SchemaRef,
    /// Dictionary columns have the type of their values.
    pub(crate) rows: SchemaRef,
    /// For each column, the id of its dictionary.
    pub(crate) dictionaries: Vec<Option<i64>>,
}

impl StreamSchema {
    /// Reads a schema message.
    pub(crate) fn read(schema: &ipc::Schema<'_>) -> Result<Self, StreamFault> {
        if schema.endianness() != ipc::Endianness::Little {
            return Err(StreamFault::Endianness);
        }
        let fields = schema.fields().ok_or(StreamFault::Metadata)?;
        if fields.is_empty() || COLUMNS_MAX < fields.len() {
            return Err(StreamFault::Layout);
        }
        let (mut wire, mut rows, mut dictionaries) = (Vec::new(), Vec::new(), Vec::new());
        for field in fields {
            let values = read_field(&field, 1)?;
            let dictionary = field.dictionary();
            let on_wire = match &dictionary {
                Some(_) if values.data_type().is_nested() => return Err(StreamFault::Dictionary),
                Some(dictionary) => {
                    let index = dictionary.indexType().map_or(Some(DataType::Int32), integer);
                    let index = index.ok_or_else(|| damaged(&field))?;
                    Field::new(values.name(), index, values.is_nullable())
                }
                None => values.clone(),
            };
            dictionaries.push(dictionary.map(|dictionary| dictionary.id()));
            wire.push(on_wire);
            rows.push(values);
        }
        let (wire, rows) = (Arc::new(Schema::new(wire)), Arc::new(Schema::new(rows)));
        Ok(Self { wire, rows, dictionaries })
    }

    /// Returns the type of the values of dictionary `id`.
    pub(crate) fn dictionary_values(&self, id: i64) -> Option<&DataType> {
        let column = self.dictionaries.iter().position(|dictionary| *dictionary == Some(id))?;
        Some(self.rows.field(column).data_type())
    }
}

fn damaged(field: &ipc::Field<'_>) -> StreamFault {
    let name = field.name().unwrap_or_default().to_owned();
    StreamFault::Field { name, type_name: type_name(field) }
}

/// Puts the name of the field around it before that of a refused one.
fn within(mut fault: StreamFault, parent: &ipc::Field<'_>) -> StreamFault {
    if let StreamFault::Field { name, .. } = &mut fault {
        *name = format!("{}.{name}", parent.name().unwrap_or_default());
    }
    fault
}

/// Returns how people call a type that may not be one.
fn type_name(field: &ipc::Field<'_>) -> String {
    let plain = || field.type_type().variant_name().unwrap_or("unknown");
    if let Some(decimal) = field.type_as_decimal() {
        let (width, digits, scale) = (decimal.bitWidth(), decimal.precision(), decimal.scale());
        return format!("Decimal{width}({digits}, {scale})");
    }
    if let Some(binary) = field.type_as_fixed_size_binary() {
        return format!("FixedSizeBinary({})", binary.byteWidth());
    }
    match field.type_as_floating_point().map(|float| float.precision()) {
        Some(ipc::Precision::HALF) => "Float16".to_owned(),
        Some(_) | None => plain().trim_end_matches('_').to_owned(),
    }
}

fn read_field(field: &ipc::Field<'_>, depth: usize) -> Result<Field, StreamFault> {
    if NESTING_MAX < depth || (1 < depth && field.dictionary().is_some()) {
        return Err(damaged(field));
    }
    let data_type = match field.type_type() {
        ipc::Type::List => DataType::List(element(field, depth)?),
        ipc::Type::LargeList => DataType::LargeList(element(field, depth)?),
        ipc::Type::Struct_ => {
            let nested = children(field, depth)?;
            if nested.is_empty() || COLUMNS_MAX < nested.len() {
                return Err(damaged(field));
            }
            DataType::Struct(nested.into())
        }
        _ => scalar(field).ok_or_else(|| damaged(field))?,
    };
    let name = field.name().ok_or(StreamFault::Metadata)?;
    Ok(Field::new(name, data_type, field.nullable()))
}

fn children(field: &ipc::Field<'_>, depth: usize) -> Result<Vec<Field>, StreamFault> {
    let child = |child: ipc::Field<'_>| read_field(&child, depth + 1);
    let children = field.children().into_iter().flatten();
    children.map(|found| child(found).map_err(|fault| within(fault, field))).collect()
}

fn element(field: &ipc::Field<'_>, depth: usize) -> Result<Arc<Field>, StreamFault> {
    let mut children = children(field, depth)?;
    match (children.pop(), children.is_empty()) {
        (Some(element), true) => Ok(Arc::new(element)),
        _ => Err(damaged(field)),
    }
}

fn scalar(field: &ipc::Field<'_>) -> Option<DataType> {
    Some(match field.type_type() {
        ipc::Type::Bool => DataType::Boolean,
        ipc::Type::Int => integer(field.type_as_int()?)?,
        ipc::Type::FloatingPoint => match field.type_as_floating_point()?.precision() {
            ipc::Precision::SINGLE => DataType::Float32,
            ipc::Precision::DOUBLE => DataType::Float64,
            _ => return None,
        },
        ipc::Type::Utf8 => DataType::Utf8,
        ipc::Type::LargeUtf8 => DataType::LargeUtf8,
        ipc::Type::Utf8View => DataType::Utf8View,
        ipc::Type::Binary => DataType::Binary,
        ipc::Type::LargeBinary => DataType::LargeBinary,
        ipc::Type::BinaryView => DataType::BinaryView,
        ipc::Type::FixedSizeBinary => {
            let width = field.type_as_fixed_size_binary()?.byteWidth();
            let is_possible = 0 < width && width <= i32::from(u16::MAX);
            is_possible.then_some(DataType::FixedSizeBinary(width))?
        }
        ipc::Type::Date => match field.type_as_date()?.unit() {
            ipc::DateUnit::DAY => DataType::Date32,
            ipc::DateUnit::MILLISECOND => DataType::Date64,
            _ => return None,
        },
        ipc::Type::Time => time(field.type_as_time()?)?,
        ipc::Type::Timestamp => {
            let timestamp = field.type_as_timestamp()?;
            DataType::Timestamp(unit(timestamp.unit())?, timestamp.timezone().map(Arc::from))
        }
        ipc::Type::Decimal => decimal(field.type_as_decimal()?)?,
        _ => return None,
    })
}

fn integer(int: ipc::Int<'_>) -> Option<DataType> {
    Some(match (int.is_signed(), int.bitWidth()) {
        (true, 8) => DataType::Int8,
        (true, 16) => DataType::Int16,
        (true, 32) => DataType::Int32,
        (true, 64) => DataType::Int64,
        (false, 8) => DataType::UInt8,
        (false, 16) => DataType::UInt16,
        (false, 32) => DataType::UInt32,
        (false, 64) => DataType::UInt64,
        _ => return None,
    })
}

fn unit(unit: ipc::TimeUnit) -> Option<TimeUnit> {
    Some(match unit {
        ipc::TimeUnit::SECOND => TimeUnit::Second,
        ipc::TimeUnit::MILLISECOND => TimeUnit::Millisecond,
        ipc::TimeUnit::MICROSECOND => TimeUnit::Microsecond,
        ipc::TimeUnit::NANOSECOND => TimeUnit::Nanosecond,
        _ => return None,
    })
}

fn time(time: ipc::Time<'_>) -> Option<DataType> {
    match (time.bitWidth(), unit(time.unit())?) {
        (32, unit @ (TimeUnit::Second | TimeUnit::Millisecond)) => Some(DataType::Time32(unit)),
        (64, unit @ (TimeUnit::Microsecond | TimeUnit::Nanosecond)) => Some(DataType::Time64(unit)),
        _ => None,
    }
}

fn decimal(decimal: ipc::Decimal<'_>) -> Option<DataType> {
    let precision = u8::try_from(decimal.precision()).ok()?;
    let scale = i8::try_from(decimal.scale()).ok()?;
    let (digits, data_type) = match decimal.bitWidth() {
        32 => (9, DataType::Decimal32(precision, scale)),
        64 => (18, DataType::Decimal64(precision, scale)),
        128 => (38, DataType::Decimal128(precision, scale)),
        _ => return None,
    };
    let is_possible = (1..=digits).contains(&precision) && scale.unsigned_abs() <= precision;
    is_possible.then_some(data_type)
}
