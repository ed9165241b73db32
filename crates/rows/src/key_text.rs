//! Keys as people type and read them.
//!
//! It must not round what was typed to something else that exists. Invariant: `parse(describe(key))` is the
//! key again.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow has forty types; those without a place in a dataset share one arm"
)]

use std::sync::Arc;

use alluvium_types as types;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Int32Array,
    Int64Array, StringArray,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;

use crate::Error;
use crate::schema::arrow_type;

const UTC: &str = "+00:00";

/// Returns an array of one value, of the key column's type.
pub(crate) fn parse(field: &types::Field, text: &str) -> Result<ArrayRef, Error> {
    let refused = || Error::KeyText {
        column: field.name.clone(),
        text: text.to_owned(),
        data_type: Box::new(field.data_type.clone()),
    };
    let parsed: Option<ArrayRef> = match &field.data_type {
        types::DataType::Boolean => {
            text.parse().ok().map(|value: bool| Arc::new(BooleanArray::from(vec![value])) as _)
        }
        types::DataType::Utf8 => Some(Arc::new(StringArray::from(vec![text]))),
        types::DataType::Binary => {
            unhex(text).map(|bytes| Arc::new(BinaryArray::from(vec![bytes.as_slice()])) as _)
        }
        types::DataType::FixedSizeBinary(width) => unhex(text)
            .filter(|bytes| bytes.len() == usize::from(*width))
            .and_then(|bytes| FixedSizeBinaryArray::try_from_iter([bytes].into_iter()).ok())
            .map(|array| Arc::new(array) as _),
        types::DataType::Decimal128(precision, scale) => decimal(text, *precision, *scale),
        types::DataType::Time64Microsecond => timed(field, text, types::TimeUnit::Microsecond),
        types::DataType::Timestamp(unit, _) => timed(field, text, *unit),
        types::DataType::Int8
        | types::DataType::Int16
        | types::DataType::Int32
        | types::DataType::Int64
        | types::DataType::UInt8
        | types::DataType::UInt16
        | types::DataType::UInt32
        | types::DataType::UInt64
        | types::DataType::Date32 => from_text(text, &arrow_type(&field.data_type)),
        // A validated schema has no such key.
        types::DataType::Float32
        | types::DataType::Float64
        | types::DataType::List(_)
        | types::DataType::Struct(_) => None,
    };
    parsed.ok_or_else(refused)
}

/// Arrow's own parser, which refuses what is no value.
fn from_text(text: &str, target: &DataType) -> Option<ArrayRef> {
    let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&array, target, &options).ok().filter(|array| array.null_count() == 0)
}

/// A time, unless it has more digits of a second than its column keeps: Arrow would cut them off.
fn timed(field: &types::Field, text: &str, unit: types::TimeUnit) -> Option<ArrayRef> {
    let kept = match unit {
        types::TimeUnit::Second => 0,
        types::TimeUnit::Millisecond => 3,
        types::TimeUnit::Microsecond => 6,
        types::TimeUnit::Nanosecond => 9,
    };
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit);
    if digits.enumerate().any(|(position, digit)| kept <= position && digit != b'0') {
        return None;
    }
    from_text(text, &without_zone_name(&arrow_type(&field.data_type)))
}

/// An instant does not depend on its zone's name, which this build has no database for.
fn without_zone_name(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some(UTC.into())),
        other => other.clone(),
    }
}

fn decimal(text: &str, precision: u8, scale: i8) -> Option<ArrayRef> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let scale_digits = usize::try_from(scale).ok()?;
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_exact = fraction.len() <= scale_digits && !(whole.is_empty() && fraction.is_empty());
    if !is_exact || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let unscaled: i128 = format!("{sign}{whole}{fraction:0<scale_digits$}").parse().ok()?;
    let array = Decimal128Array::from(vec![unscaled]).with_precision_and_scale(precision, scale);
    let array = array.ok()?;
    array.validate_decimal_precision(precision).ok()?;
    Some(Arc::new(array))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(value(*high)? << 4 | value(*low)?),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// Takes one value from the front of an encoded key and returns its text.
pub(crate) fn describe(field: &types::Field, rest: &mut &[u8]) -> Result<String, Error> {
    let (&tag, after) = rest.split_first().ok_or(Error::KeyBytes)?;
    *rest = after;
    match tag {
        0x01 => Ok("false".to_owned()),
        0x02 => Ok("true".to_owned()),
        0x10 => {
            let word = take::<8>(rest)?;
            show_integer(field, i64::from_be_bytes(word) ^ i64::MIN)
        }
        0x11 => Ok(u64::from_be_bytes(take::<8>(rest)?).to_string()),
        0x20 => String::from_utf8(unescape(rest)?).map_err(|_not_text| Error::KeyBytes),
        0x21 => Ok(hex(&unescape(rest)?)),
        0x30 => {
            let number = i128::from_be_bytes(take::<16>(rest)?) ^ i128::MIN;
            show(&(Arc::new(Decimal128Array::from(vec![number])) as _), field)
        }
        _ => Err(Error::KeyBytes),
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Error> {
    let (word, after) = rest.split_first_chunk::<N>().ok_or(Error::KeyBytes)?;
    *rest = after;
    Ok(*word)
}

/// Zero bytes are followed by 0xFF; a lone zero is the end.
fn unescape(rest: &mut &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    loop {
        let (&byte, after) = rest.split_first().ok_or(Error::KeyBytes)?;
        *rest = after;
        if byte != 0 {
            bytes.push(byte);
            continue;
        }
        match rest.split_first() {
            Some((0xff, after)) => {
                bytes.push(0);
                *rest = after;
            }
            Some(_) | None => return Ok(bytes),
        }
    }
}

fn show_integer(field: &types::Field, number: i64) -> Result<String, Error> {
    if let types::DataType::Date32 = field.data_type {
        let days = i32::try_from(number).map_err(|_large| Error::KeyBytes)?;
        return show(&(Arc::new(Int32Array::from(vec![days])) as _), field);
    }
    show(&(Arc::new(Int64Array::from(vec![number])) as _), field)
}

fn show(array: &ArrayRef, field: &types::Field) -> Result<String, Error> {
    let failed = Error::arrow("show a key");
    let target = without_zone_name(&arrow_type(&field.data_type));
    let array = match (array.data_type(), &target) {
        (DataType::Decimal128(_, _), DataType::Decimal128(_, _)) => {
            let data = array.to_data().into_builder().data_type(target).build();
            arrow::array::make_array(data.map_err(&failed)?)
        }
        _ => cast(array, &target).map_err(&failed)?,
    };
    array_value_to_string(&array, 0).map_err(&failed)
}
