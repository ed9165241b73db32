//! Text cells as typed values: parsed by Arrow, refused when parsing would round or cut.
//!
//! It must not slice text at a byte it did not get from `char` boundaries. Invariant: a value that is
//! returned is the one that the text says.

use std::sync::Arc;

use alluvium_types::{DataType, Field, TimeUnit};
use arrow::array::{Array, ArrayRef, StringArray};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};

use crate::{Error, Location};

/// Characters of a value that an error shows.
const EXCERPT_CHARS: usize = 40;

/// Returns the start of a text, for an error.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Says whether cells of text can be read as the column's type.
pub(crate) fn has_text_form(field: &Field) -> bool {
    let nested = !field.data_type.children().is_empty();
    !nested && can_cast_types(&arrow::datatypes::DataType::Utf8, &arrow_type(field))
}

fn arrow_type(field: &Field) -> arrow::datatypes::DataType {
    let schema = alluvium_types::Schema { fields: vec![field.clone()], key_columns: Vec::new() };
    alluvium_rows::to_arrow(&schema).field(0).data_type().clone()
}

/// Parses cells as the column's type; a NULL cell stays NULL.
pub(crate) fn parse_cells(
    cells: &StringArray,
    field: &Field,
    locate: impl Fn(usize) -> Location,
) -> Result<ArrayRef, Error> {
    if field.data_type == DataType::Utf8 {
        return Ok(Arc::new(cells.clone()));
    }
    let at = |row: usize| (locate(row), field.name.clone(), excerpt(cells.value(row)));
    let exact = |row: usize| cells.is_null(row) || is_exact(cells.value(row), &field.data_type);
    if let Some(row) = (0..cells.len()).find(|row| !exact(*row)) {
        let ((at, column, text), expected) = (at(row), field.data_type.clone());
        return Err(Error::Inexact { at, column, text, expected });
    }
    // Safe casts make NULL of what they cannot parse: each of those is an error, and this finds the first.
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let column = cast_with_options(cells, &arrow_type(field), &options)
        .map_err(|source| Error::Rows { at: locate(0), source: cast_failed(source) })?;
    match (0..cells.len()).find(|row| column.is_null(*row) && cells.is_valid(*row)) {
        Some(row) => {
            let ((at, column, text), expected) = (at(row), field.data_type.clone());
            Err(Error::Value { at, column, text, expected })
        }
        None => Ok(column),
    }
}

fn cast_failed(source: arrow::error::ArrowError) -> alluvium_rows::Error {
    alluvium_rows::Error::Arrow { operation: "parse a column", source }
}

/// Says whether the text has no more digits after the point than the type holds.
pub(crate) fn is_exact(text: &str, data_type: &DataType) -> bool {
    let digits = match data_type {
        DataType::Decimal128(_, scale) => usize::from(scale.unsigned_abs()),
        DataType::Timestamp(TimeUnit::Second, _) => 0,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 3,
        DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Time64Microsecond => 6,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 9,
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
        | DataType::Binary
        | DataType::FixedSizeBinary(_)
        | DataType::Date32
        | DataType::List(_)
        | DataType::Struct(_) => return true,
    };
    fraction_digits(text) <= digits
}

fn fraction_digits(text: &str) -> usize {
    let Some((_, fraction)) = text.split_once('.') else { return 0 };
    let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    fraction.get(..end).unwrap_or_default().trim_end_matches('0').len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn museum_m42_an_excerpt_never_cuts_a_character() {
        for filler in ["a", "é", "航", "😀", "e\u{301}"] {
            let text = filler.repeat(100);
            let short = excerpt(&text);
            assert!(short.ends_with("...") && short.chars().count() == 43, "{short}");
        }
        assert_eq!(excerpt("short"), "short");
    }

    #[test]
    fn digits_that_a_type_would_cut_are_seen() {
        let cents = DataType::Decimal128(10, 2);
        assert!(is_exact("1.10", &cents) && is_exact("1.1000", &cents) && is_exact("7", &cents));
        assert!(!is_exact("1.101", &cents));
        let seconds = DataType::Timestamp(TimeUnit::Second, None);
        assert!(!is_exact("2020-01-01T00:00:00.5Z", &seconds));
        assert!(is_exact("2020-01-01T00:00:00.000Z", &seconds));
    }
}
