//! Columns as people type them: `name:type[:not-null]`.
//!
//! It must read every type that `Display` of a type writes. Invariant: nesting is bounded by recursion on a
//! shorter text.

use alluvium_types::{DataType, Field, FieldId, TimeUnit};

use crate::failure::Failure;

const HINT: &str = "types: boolean, int8 to int64, uint8 to uint64, float32, float64, utf8 (or text), \
                    binary, date, time, timestamp(s|ms|us|ns[, zone]), decimal(precision, scale), \
                    fixed_size_binary(bytes), list<type>";

/// Reads `name:type` with an optional `:not-null` (or `:null`) behind it.
pub(crate) fn column(text: &str) -> Result<Field, Failure> {
    let bad = || {
        Failure::usage(format!("{text:?} is not a column"))
            .with_hint(format!("name:type[:not-null]; {HINT}"))
    };
    let (rest, nullable) = match text.strip_suffix(":not-null") {
        Some(rest) => (rest, false),
        None => (text.strip_suffix(":null").unwrap_or(text), true),
    };
    let (name, type_text) = rest.split_once(':').ok_or_else(bad)?;
    if name.is_empty() {
        return Err(bad());
    }
    let data_type = data_type(type_text)?;
    Ok(Field { id: FieldId(0), name: name.to_owned(), data_type, nullable })
}

/// Reads a type.
pub(crate) fn data_type(text: &str) -> Result<DataType, Failure> {
    parse(text.trim())
        .ok_or_else(|| Failure::usage(format!("{text:?} is not a type")).with_hint(HINT))
}

fn parse(text: &str) -> Option<DataType> {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("list<") {
        let data_type = parse(text.get(5..)?.strip_suffix('>')?.trim())?;
        let item = Field { id: FieldId(0), name: "item".to_owned(), data_type, nullable: true };
        return Some(DataType::List(Box::new(item)));
    }
    let (name, inner) = match text.split_once('(') {
        Some((name, rest)) => (name.trim().to_ascii_lowercase(), Some(rest.strip_suffix(')')?)),
        None => (lower, None),
    };
    match inner {
        None => scalar(&name),
        Some(inner) => with_parameters(&name, inner),
    }
}

fn scalar(name: &str) -> Option<DataType> {
    Some(match name {
        "boolean" | "bool" => DataType::Boolean,
        "int8" | "tinyint" => DataType::Int8,
        "int16" | "smallint" => DataType::Int16,
        "int32" | "int" | "integer" => DataType::Int32,
        "int64" | "bigint" => DataType::Int64,
        "uint8" => DataType::UInt8,
        "uint16" => DataType::UInt16,
        "uint32" => DataType::UInt32,
        "uint64" => DataType::UInt64,
        "float32" | "real" | "float" => DataType::Float32,
        "float64" | "double" => DataType::Float64,
        "utf8" | "text" | "string" | "varchar" => DataType::Utf8,
        "binary" | "bytes" => DataType::Binary,
        "date" | "date32" => DataType::Date32,
        "time" => DataType::Time64Microsecond,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => return None,
    })
}

fn with_parameters(name: &str, inner: &str) -> Option<DataType> {
    let (first, second) = match inner.split_once(',') {
        Some((first, second)) => (first.trim(), Some(second.trim())),
        None => (inner.trim(), None),
    };
    match (name, second) {
        ("timestamp", zone) => Some(DataType::Timestamp(unit(first)?, zone.map(str::to_owned))),
        ("time64", None) if first == "us" => Some(DataType::Time64Microsecond),
        ("fixed_size_binary", None) => Some(DataType::FixedSizeBinary(first.parse().ok()?)),
        ("decimal" | "decimal128", Some(scale)) => {
            Some(DataType::Decimal128(first.parse().ok()?, scale.parse().ok()?))
        }
        _ => None,
    }
}

fn unit(text: &str) -> Option<TimeUnit> {
    let units =
        [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    units.into_iter().find(|unit| unit.symbol() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_type_displays_is_read_back() {
        let item = |data_type, nullable| {
            let name = "item".to_owned();
            Box::new(Field { id: FieldId(0), name, data_type, nullable })
        };
        for data_type in [
            DataType::Boolean,
            DataType::UInt64,
            DataType::Float32,
            DataType::Utf8,
            DataType::Binary,
            DataType::FixedSizeBinary(16),
            DataType::Date32,
            DataType::Time64Microsecond,
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            DataType::Timestamp(TimeUnit::Millisecond, Some("+02:00".to_owned())),
            DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".to_owned())),
            DataType::Decimal128(38, 10),
            DataType::List(item(DataType::Decimal128(5, 2), true)),
        ] {
            let text = format!("x:{data_type}:not-null");
            let field = column(&text).expect("valid");
            assert_eq!((field.data_type, field.nullable), (data_type, false), "{text}");
        }
    }

    #[test]
    fn what_is_no_column_is_refused_with_the_types_that_there_are() {
        for bad in ["", "x", ":int64", "x:", "x:complex", "x:decimal(1)", "x:list<", "x:int64(é)"]
        {
            let failure = column(bad).expect_err(bad);
            assert!(failure.hint.expect("a hint").contains("list<type>"), "{bad:?}");
        }
    }
}
