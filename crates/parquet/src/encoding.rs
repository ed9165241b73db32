//! Which encoding each column gets, decided by its first row group.
//!
//! A column with few values gets a dictionary. For the others the candidates are tried on the first row group
//! and the smallest wins: a dictionary of nearly distinct times or ids makes a file half as large again.
//! Must not: look at anything but rows, schema and recipe. Values under a null are never looked at, because
//! equal rows may differ there. Invariant INV-P1: equal rows, equal choice.

use std::sync::Arc;

use alluvium_stdx::HashSet;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Encoding;
use parquet::schema::types::ColumnPath;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::limits::DICTIONARY_SHARE;
use crate::recipe::Recipe;

/// How the values of one column are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A dictionary, and what follows it when it grows too large is left to the recipe.
    Dictionary,
    /// This encoding, without a dictionary.
    Direct(Encoding),
}

/// Returns the choice for every column for which there is one; others keep the recipe's default.
pub(crate) fn choose(
    schema: &SchemaRef,
    recipe: &Recipe,
    first_rows: &[RecordBatch],
) -> Result<Vec<(ColumnPath, Choice)>> {
    let mut choices = Vec::new();
    for (at, field) in schema.fields().iter().enumerate() {
        let candidates = candidates(field.data_type());
        let columns: Vec<&ArrayRef> = first_rows.iter().map(|batch| batch.column(at)).collect();
        if candidates.is_empty() || has_few_values(&columns) {
            continue;
        }
        let narrow = first_rows
            .iter()
            .map(|batch| batch.project(&[at]).map_err(Error::Join))
            .collect::<Result<Vec<_>>>()?;
        let path = ColumnPath::new(vec![field.name().clone()]);
        let best = smallest(recipe, &path, &narrow, candidates)?;
        choices.push((path, best));
    }
    Ok(choices)
}

/// The encodings worth a try, the one that reads fastest first.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not named keeps the default")]
fn candidates(data_type: &DataType) -> &'static [Choice] {
    const PLAIN: Choice = Choice::Direct(Encoding::PLAIN);
    match data_type {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(_, _) => {
            &[PLAIN, Choice::Dictionary, Choice::Direct(Encoding::DELTA_BINARY_PACKED)]
        }
        DataType::Float32 | DataType::Float64 => {
            &[PLAIN, Choice::Dictionary, Choice::Direct(Encoding::BYTE_STREAM_SPLIT)]
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
            &[PLAIN, Choice::Dictionary, Choice::Direct(Encoding::DELTA_LENGTH_BYTE_ARRAY)]
        }
        DataType::FixedSizeBinary(_) | DataType::Decimal128(_, _) => &[PLAIN, Choice::Dictionary],
        _ => &[],
    }
}

fn smallest(
    recipe: &Recipe,
    path: &ColumnPath,
    rows: &[RecordBatch],
    candidates: &[Choice],
) -> Result<Choice> {
    let mut best = None;
    for &candidate in candidates {
        let bytes = trial(recipe, path, rows, candidate)?;
        if best.is_none_or(|(fewest, _)| bytes < fewest) {
            best = Some((bytes, candidate));
        }
    }
    let (_, choice) = best.expect("the caller passes candidates");
    Ok(choice)
}

/// Returns how large a file of this column alone becomes.
fn trial(
    recipe: &Recipe,
    path: &ColumnPath,
    rows: &[RecordBatch],
    candidate: Choice,
) -> Result<usize> {
    let Some(first) = rows.first() else { return Ok(0) };
    let properties = recipe.properties(&[(path.clone(), candidate)])?;
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), first.schema(), options)
        .map_err(Error::Encode)?;
    for batch in rows {
        writer.write(batch).map_err(Error::Encode)?;
    }
    writer.finish().map_err(Error::Encode)?;
    Ok(writer.inner().len())
}

/// Returns whether at most one value in `DICTIONARY_SHARE` is new.
fn has_few_values(columns: &[&ArrayRef]) -> bool {
    let rows: usize = columns.iter().map(|column| column.len()).sum();
    let few = rows / DICTIONARY_SHARE;
    let mut seen = HashSet::default();
    columns.iter().all(|column| add_values(column, few, &mut seen))
}

/// Adds the hashes of the values that are not null; false as soon as there are more than `few`.
#[expect(clippy::wildcard_enum_match_arm, reason = "fixed-width values share one layout")]
fn add_values(column: &ArrayRef, few: usize, seen: &mut HashSet<u64>) -> bool {
    let mut add = |value: &[u8]| {
        seen.insert(xxh3_64(value));
        seen.len() <= few
    };
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().flatten().all(|v| add(v.as_bytes())),
        DataType::LargeUtf8 => {
            column.as_string::<i64>().iter().flatten().all(|v| add(v.as_bytes()))
        }
        DataType::Binary => column.as_binary::<i32>().iter().flatten().all(add),
        DataType::LargeBinary => column.as_binary::<i64>().iter().flatten().all(add),
        DataType::FixedSizeBinary(_) => column.as_fixed_size_binary().iter().flatten().all(add),
        other => {
            let width = other.primitive_width().expect("candidates are binary or primitive");
            let data = Arc::clone(column).to_data();
            let values = &data.buffers()[0].as_slice()[data.offset() * width..];
            let mut rows = values.chunks_exact(width).take(column.len()).enumerate();
            rows.all(|(row, value)| column.is_null(row) || add(value))
        }
    }
}
