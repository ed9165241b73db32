//! What a tombstone would hide, counted by a query: `alluvium tombstone --dry-run`.
//!
//! It must not write anything. Invariant: keys are read as the real run reads them, so what that refuses is
//! refused here, and two spellings of one key are one key.

use std::collections::BTreeSet;

use alluvium_engine::{Error as EngineError, TombstoneKeys};
use alluvium_proto::v1;
use alluvium_rows::KeyEncoder;
use alluvium_types::{DataType, Field, LogIndex, Rejection};

use super::rows::{count, quoted, schema_of};
use crate::args::Condition;
use crate::backend::Backend;
use crate::failure::Failure;

/// Values in one counting query: a statement may have some thousand words, and a value has up to three.
const VALUES_PER_QUERY: usize = 2_000;
/// Bytes of them after which a query is full: a statement may have a mebibyte.
const VALUE_BYTES_PER_QUERY: usize = 256 * 1024;

/// Refuses a condition that does not hold, as the real run does.
pub(super) fn check_condition(condition: Condition, dataset: &v1::Dataset) -> Result<(), Failure> {
    let actual = LogIndex(dataset.changed_at);
    match condition.expected_index.map(LogIndex) {
        Some(expected) if expected != actual => {
            Err(EngineError::Rejected(Rejection::ExpectedIndex { expected, actual }).into())
        }
        Some(_) | None => Ok(()),
    }
}

/// Counts the visible rows that a tombstone would hide.
pub(super) async fn count_hidden(
    dataset: &v1::Dataset,
    keys: &TombstoneKeys,
    backend: &Backend,
) -> Result<u64, Failure> {
    let schema = schema_of(dataset)?;
    let encoder = KeyEncoder::new(&schema)?;
    let table = quoted(&dataset.name, '"');
    let keys = match keys {
        TombstoneKeys::Predicate(predicate) => {
            return backend.preview(&dataset.name, predicate).await;
        }
        TombstoneKeys::Texts(texts) => keys_of_texts(&encoder, texts)?,
        TombstoneKeys::Batches(batches) => keys_of_batches(&encoder, batches)?,
    };
    let mut rows = 0;
    let mut chunk = Chunk::default();
    for key in keys {
        chunk.push(&encoder, &key)?;
        if chunk.is_full() {
            rows += count(backend, &std::mem::take(&mut chunk).query(&table, &encoder)).await?;
        }
    }
    match chunk.rows.is_empty() {
        true => Ok(rows),
        false => Ok(rows + count(backend, &chunk.query(&table, &encoder)).await?),
    }
}

fn keys_of_texts(
    encoder: &KeyEncoder,
    texts: &[Vec<String>],
) -> Result<BTreeSet<Vec<u8>>, Failure> {
    let parse = |texts: &Vec<String>| {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Ok(encoder.parse_texts(&texts)?)
    };
    texts.iter().map(parse).collect()
}

fn keys_of_batches(
    encoder: &KeyEncoder,
    batches: &[arrow::array::RecordBatch],
) -> Result<BTreeSet<Vec<u8>>, Failure> {
    let mut keys = BTreeSet::new();
    for batch in batches {
        encoder.encode_rows(batch, |_, key| {
            keys.insert(key.to_vec());
            Ok(())
        })?;
    }
    Ok(keys)
}

/// Keys of one query, as SQL writes them.
#[derive(Default)]
struct Chunk {
    rows: Vec<Vec<String>>,
    values: usize,
    bytes: usize,
}

impl Chunk {
    fn push(&mut self, encoder: &KeyEncoder, key: &[u8]) -> Result<(), Failure> {
        let texts = encoder.describe(key)?;
        let row = encoder.columns().iter().zip(&texts).map(|(field, text)| literal(field, text));
        let row: Vec<String> = row.collect();
        self.values += row.len();
        self.bytes += row.iter().map(String::len).sum::<usize>();
        self.rows.push(row);
        Ok(())
    }

    fn is_full(&self) -> bool {
        VALUES_PER_QUERY <= self.values || VALUE_BYTES_PER_QUERY <= self.bytes
    }

    /// Returns a query that counts the rows with one of the keys. Its depth does not grow with the keys: a
    /// parser and a planner need stack for depth.
    fn query(self, table: &str, encoder: &KeyEncoder) -> String {
        let columns = encoder.columns();
        if let [column] = columns {
            let (name, values) = (quoted(&column.name, '"'), self.rows.concat().join(", "));
            return format!("SELECT count(*) FROM {table} WHERE {name} IN ({values})");
        }
        let rows: Vec<String> =
            self.rows.iter().map(|row| format!("({})", row.join(", "))).collect();
        let names: Vec<String> = (0..columns.len()).map(|at| format!("\"k{at}\"")).collect();
        let tests = columns.iter().zip(&names);
        let tests = tests.map(|(field, name)| format!("t.{} = k.{name}", quoted(&field.name, '"')));
        format!(
            "SELECT count(*) FROM {table} AS t JOIN (VALUES {}) AS k ({}) ON {}",
            rows.join(", "),
            names.join(", "),
            tests.collect::<Vec<_>>().join(" AND ")
        )
    }
}

/// Returns the value of a key column as SQL writes it.
fn literal(field: &Field, text: &str) -> String {
    match &field.data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => text.to_owned(),
        DataType::Decimal128(precision, scale) => {
            format!("CAST('{text}' AS DECIMAL({precision}, {scale}))")
        }
        DataType::Binary | DataType::FixedSizeBinary(_) => {
            format!("X'{}'", text.strip_prefix("0x").unwrap_or(text))
        }
        DataType::Date32 => format!("CAST('{text}' AS DATE)"),
        DataType::Time64Microsecond => format!("arrow_cast('{text}', 'Time64(Microsecond)')"),
        DataType::Utf8
        | DataType::Timestamp(..)
        | DataType::Float32
        | DataType::Float64
        | DataType::List(_)
        | DataType::Struct(_) => quoted(text, '\''),
    }
}
