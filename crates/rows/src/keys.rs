//! The keys of rows, as the bytes by which tombstones and upserts name them.
//!
//! It must not accept a NULL as a key, or turn two different keys into the same bytes. Invariant: a key's
//! bytes depend on its values alone, never on the representation of its column.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow has forty types; those without a place in a dataset share one arm"
)]

use alluvium_types as types;
use alluvium_types::{KeyBlock, KeyBlockBuilder, KeyValue, encode_key};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray,
    Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use crate::Error;
use crate::conform::conform_column;
use crate::key_text;

/// Encodes the keys of one schema's rows.
#[derive(Debug, Clone)]
pub struct KeyEncoder {
    columns: Vec<types::Field>,
}

impl KeyEncoder {
    /// Returns the encoder of a dataset's keys.
    ///
    /// # Errors
    /// [`Error::Keyless`].
    pub fn new(schema: &types::Schema) -> Result<Self, Error> {
        let columns: Vec<types::Field> = schema.key_fields().into_iter().cloned().collect();
        if columns.is_empty() { Err(Error::Keyless) } else { Ok(Self { columns }) }
    }

    /// Returns the key columns, in key order.
    #[must_use]
    pub fn columns(&self) -> &[types::Field] {
        &self.columns
    }

    /// Gives each row's number and encoded key to `f`, in order. The batch may have other columns too.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Type`], [`Error::Null`] for the first bad key column, or what `f` returns.
    pub fn encode_rows(
        &self,
        batch: &RecordBatch,
        mut f: impl FnMut(usize, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let columns = self.columns.iter().map(|field| resolve(batch, field));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let mut key = Vec::new();
        for row in 0..batch.num_rows() {
            key.clear();
            encode_key(columns.iter().map(|column| column.value(row)), &mut key);
            f(row, &key)?;
        }
        Ok(())
    }

    /// Returns the distinct keys of a batch, as a tombstone wants them.
    ///
    /// # Errors
    /// As [`KeyEncoder::encode_rows`]; too many or too long keys.
    pub fn key_block(&self, batch: &RecordBatch) -> Result<KeyBlock, Error> {
        Ok(self.collect(batch, 0)?.build_set()?)
    }

    /// Returns the keys of a batch, one for each row, as an upsert wants them.
    ///
    /// # Errors
    /// As [`KeyEncoder::key_block`]; the same key in two rows.
    pub fn unique_key_block(&self, batch: &RecordBatch) -> Result<KeyBlock, Error> {
        self.unique_block_from(batch, 0)
    }

    /// As [`KeyEncoder::unique_key_block`], for a slice whose first row is number `first_row`.
    pub(crate) fn unique_block_from(
        &self,
        batch: &RecordBatch,
        first_row: u64,
    ) -> Result<KeyBlock, Error> {
        Ok(self.collect(batch, first_row)?.build_unique()?)
    }

    /// Returns the distinct keys of a batch of exactly the key columns, in any order.
    ///
    /// # Errors
    /// As [`KeyEncoder::key_block`], and [`Error::Unexpected`] for another column.
    pub fn from_key_batch(&self, batch: &RecordBatch) -> Result<KeyBlock, Error> {
        let schema = batch.schema();
        let is_foreign = |name: &str| self.columns.iter().all(|column| column.name != name);
        if let Some(foreign) = schema.fields().iter().find(|field| is_foreign(field.name())) {
            return Err(Error::Unexpected { column: foreign.name().clone() });
        }
        self.key_block(batch)
    }

    fn collect(&self, batch: &RecordBatch, first_row: u64) -> Result<KeyBlockBuilder, Error> {
        let mut builder = KeyBlockBuilder::default();
        self.encode_rows(
            batch,
            |row, key| Ok(builder.push(key.to_vec(), first_row + row as u64)?),
        )?;
        Ok(builder)
    }

    /// Returns the key that a person typed, one text for each key column: numbers and dates as usual,
    /// timestamps in ISO 8601 (UTC unless they say otherwise), bytes in hexadecimal after `0x`.
    ///
    /// # Errors
    /// [`Error::KeyParts`], or [`Error::KeyText`] naming the column.
    pub fn parse_texts(&self, texts: &[&str]) -> Result<Vec<u8>, Error> {
        let (expected, found) = (self.columns.len(), texts.len());
        if expected != found {
            return Err(Error::KeyParts { expected, found });
        }
        let mut key = Vec::new();
        for (field, text) in self.columns.iter().zip(texts) {
            let array = key_text::parse(field, text)?;
            encode_key([KeyColumn::new(&array)?.value(0)], &mut key);
        }
        Ok(key)
    }

    /// Returns the values of an encoded key as [`KeyEncoder::parse_texts`] takes them.
    ///
    /// # Errors
    /// [`Error::KeyBytes`] when the bytes are no key of these columns.
    pub fn describe(&self, key: &[u8]) -> Result<Vec<String>, Error> {
        let mut rest = key;
        let texts = self.columns.iter().map(|field| key_text::describe(field, &mut rest));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        if rest.is_empty() { Ok(texts) } else { Err(Error::KeyBytes) }
    }
}

fn resolve(batch: &RecordBatch, field: &types::Field) -> Result<KeyColumn, Error> {
    let missing = || Error::Missing { column: field.name.clone() };
    let column = batch.column_by_name(&field.name).ok_or_else(missing)?;
    // Files of before a key column was widened are adapted first, so the type is the schema's.
    KeyColumn::new(&conform_column(column, &types::Field { nullable: false, ..field.clone() })?)
}

/// A key column at the width in which keys are encoded.
enum KeyColumn {
    Bool(BooleanArray),
    Int(Int64Array),
    UInt(UInt64Array),
    Utf8(StringArray),
    Binary(BinaryArray),
    Fixed(FixedSizeBinaryArray),
    Decimal(Decimal128Array),
}

impl KeyColumn {
    fn new(array: &ArrayRef) -> Result<Self, Error> {
        let wide = |array: &ArrayRef, to: &DataType| {
            cast(array, to).map_err(Error::arrow("widen a key column"))
        };
        Ok(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Utf8 => Self::Utf8(array.as_string().clone()),
            DataType::Binary => Self::Binary(array.as_binary().clone()),
            DataType::FixedSizeBinary(_) => Self::Fixed(array.as_fixed_size_binary().clone()),
            DataType::Decimal128(_, _) => Self::Decimal(array.as_primitive().clone()),
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Self::UInt(wide(array, &DataType::UInt64)?.as_primitive().clone())
            }
            DataType::Date32 => {
                let days = wide(array, &DataType::Int32)?;
                Self::Int(wide(&days, &DataType::Int64)?.as_primitive().clone())
            }
            _ => Self::Int(wide(array, &DataType::Int64)?.as_primitive().clone()),
        })
    }

    fn value(&self, row: usize) -> KeyValue<'_> {
        match self {
            Self::Bool(array) => KeyValue::Bool(array.value(row)),
            Self::Int(array) => KeyValue::Int(array.value(row)),
            Self::UInt(array) => KeyValue::UInt(array.value(row)),
            Self::Utf8(array) => KeyValue::Utf8(array.value(row)),
            Self::Binary(array) => KeyValue::Bytes(array.value(row)),
            Self::Fixed(array) => KeyValue::Bytes(array.value(row)),
            Self::Decimal(array) => KeyValue::Decimal(array.value(row)),
        }
    }
}

#[cfg(test)]
mod tests;
