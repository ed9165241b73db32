//! JSON values checked against a column's type, before Arrow's decoder sees them.
//!
//! Arrow's decoder makes 1 of 1.5 for an integer column, and a date of a number. It must not be asked.
//! Invariant: a value that passes has the JSON kind of its type and no digits that the type would cut.

use alluvium_types::{DataType, Field};
use serde_json::Value;

use crate::text::is_exact;

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Another kind of value.
    Kind,
    /// More digits than the type holds.
    Digits,
    /// NULL where none may be.
    Null,
}

/// Digits that survive a 64-bit float: a JSON number with more may already be rounded.
const SAFE_DIGITS: usize = 15;

/// Checks one value of a column or of a field within one.
pub(crate) fn check(value: &Value, field: &Field) -> Result<(), Fault> {
    match (value.is_null(), field.nullable) {
        (true, true) => Ok(()),
        (true, false) => Err(Fault::Null),
        (false, _) => check_type(value, &field.data_type),
    }
}

fn check_type(value: &Value, data_type: &DataType) -> Result<(), Fault> {
    match data_type {
        DataType::Boolean => kind(value.is_boolean()),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            kind(value.is_i64())
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            kind(value.is_u64())
        }
        DataType::Float32 | DataType::Float64 => kind(value.is_number()),
        DataType::Decimal128(..) => check_decimal(value, data_type),
        DataType::Utf8 | DataType::Binary | DataType::FixedSizeBinary(_) | DataType::Date32 => {
            kind(value.is_string())
        }
        DataType::Time64Microsecond | DataType::Timestamp(..) => {
            check_digits(value.as_str().ok_or(Fault::Kind)?, data_type)
        }
        DataType::List(element) => {
            let values = value.as_array().ok_or(Fault::Kind)?;
            values.iter().try_for_each(|value| check(value, element))
        }
        DataType::Struct(fields) => check_struct(value, fields),
    }
}

fn kind(is_right: bool) -> Result<(), Fault> {
    if is_right { Ok(()) } else { Err(Fault::Kind) }
}

fn check_digits(text: &str, data_type: &DataType) -> Result<(), Fault> {
    if is_exact(text, data_type) { Ok(()) } else { Err(Fault::Digits) }
}

fn check_decimal(value: &Value, data_type: &DataType) -> Result<(), Fault> {
    match value {
        Value::String(text) => check_digits(text, data_type),
        Value::Number(number) => {
            let text = number.to_string();
            let digits = text.chars().filter(char::is_ascii_digit).count();
            let is_safe = (number.is_i64() || number.is_u64() || digits <= SAFE_DIGITS)
                && !text.contains(['e', 'E']);
            if is_safe { check_digits(&text, data_type) } else { Err(Fault::Digits) }
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(Fault::Kind),
    }
}

fn check_struct(value: &Value, fields: &[Field]) -> Result<(), Fault> {
    let object = value.as_object().ok_or(Fault::Kind)?;
    let is_unknown = |name: &String| fields.iter().all(|field| field.name != *name);
    if object.keys().any(is_unknown) {
        return Err(Fault::Kind);
    }
    fields
        .iter()
        .try_for_each(|field| check(object.get(&field.name).unwrap_or(&Value::Null), field))
}

/// Returns what a value is, for an error.
pub(crate) fn kind_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
