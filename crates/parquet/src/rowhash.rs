//! Row hashes whose sum proves conservation: rows in, minus rows hidden, are the rows out.
//!
//! Must not: depend on row order, batching, dictionaries, views, offset widths or integer widths. NaNs are
//! one value; -0.0 and 0.0 are two, as they are in the file. Times count in their column's unit, so both sides
//! of a comparison must have one schema. Invariant INV-P3: the encoding of a row is prefix-free, so that
//! different rows have different encodings.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray,
    LargeBinaryArray, LargeListArray, LargeStringArray, ListArray, PrimitiveArray, RecordBatch,
    StringArray, StringViewArray, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Error, Result};
use crate::schema::UnsupportedType;

const NULL: u8 = 0;
const PRESENT: u8 = 1;
const NAN_BITS: u64 = 0x7ff8_0000_0000_0000;

/// Returns the hash of each row over all columns of `batch`.
///
/// # Errors
/// `Unsupported` for a type that a dataset cannot hold.
pub fn row_hashes(batch: &RecordBatch) -> Result<Vec<u128>> {
    let schema = batch.schema();
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| Encoder::new(field.name(), column))
        .collect::<Result<Vec<_>>>()?;
    let mut encoded = Vec::new();
    let hash = |row| {
        encoded.clear();
        for column in &columns {
            column.append(row, &mut encoded);
        }
        xxh3_128(&encoded)
    };
    Ok((0..batch.num_rows()).map(hash).collect())
}

/// Returns the wrapping sum of the row hashes: equal for equal multisets of rows.
///
/// # Errors
/// As [`row_hashes`].
pub fn row_hash_sum(batch: &RecordBatch) -> Result<u128> {
    Ok(row_hashes(batch)?.into_iter().fold(0, u128::wrapping_add))
}

/// One column, with everything resolved that does not change from row to row.
enum Encoder {
    Boolean(BooleanArray),
    Signed(PrimitiveArray<Int64Type>),
    Unsigned(PrimitiveArray<UInt64Type>),
    Float(PrimitiveArray<Float64Type>),
    Decimal(PrimitiveArray<Decimal128Type>),
    Utf8(StringArray),
    LargeUtf8(LargeStringArray),
    Utf8View(StringViewArray),
    Binary(BinaryArray),
    LargeBinary(LargeBinaryArray),
    BinaryView(BinaryViewArray),
    FixedBinary(FixedSizeBinaryArray),
    List(ListArray, Box<Encoder>),
    LargeList(LargeListArray, Box<Encoder>),
    Struct(Option<NullBuffer>, Vec<Encoder>),
}

impl Encoder {
    fn new(column: &str, array: &ArrayRef) -> Result<Self> {
        let canonical = |source| Error::Canonical { column: column.to_owned(), source };
        let to = |target: &DataType| cast(array, target).map_err(canonical);
        let signed = |array: &ArrayRef| Self::Signed(array.as_primitive().clone());
        Ok(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::Date32 | DataType::Time32(_) => {
                let narrow = to(&DataType::Int32)?;
                signed(&cast(&narrow, &DataType::Int64).map_err(canonical)?)
            }
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date64
            | DataType::Time64(_)
            | DataType::Timestamp(_, _) => signed(&to(&DataType::Int64)?),
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Self::Unsigned(to(&DataType::UInt64)?.as_primitive().clone())
            }
            DataType::Float32 | DataType::Float64 => {
                Self::Float(to(&DataType::Float64)?.as_primitive().clone())
            }
            DataType::Decimal128(_, _) => Self::Decimal(array.as_primitive().clone()),
            DataType::Utf8 => Self::Utf8(array.as_string().clone()),
            DataType::LargeUtf8 => Self::LargeUtf8(array.as_string().clone()),
            DataType::Utf8View => Self::Utf8View(array.as_string_view().clone()),
            DataType::Binary => Self::Binary(array.as_binary().clone()),
            DataType::LargeBinary => Self::LargeBinary(array.as_binary().clone()),
            DataType::BinaryView => Self::BinaryView(array.as_binary_view().clone()),
            DataType::FixedSizeBinary(_) => Self::FixedBinary(array.as_fixed_size_binary().clone()),
            DataType::Dictionary(_, value) => Self::new(column, &to(value)?)?,
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Self::List(list.clone(), Box::new(Self::new(column, list.values())?))
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                Self::LargeList(list.clone(), Box::new(Self::new(column, list.values())?))
            }
            DataType::Struct(_) => Self::fields(column, array.as_struct())?,
            DataType::Null
            | DataType::Float16
            | DataType::Duration(_)
            | DataType::Interval(_)
            | DataType::ListView(_)
            | DataType::FixedSizeList(_, _)
            | DataType::LargeListView(_)
            | DataType::Union(_, _)
            | DataType::Decimal32(_, _)
            | DataType::Decimal64(_, _)
            | DataType::Decimal256(_, _)
            | DataType::Map(_, _)
            | DataType::RunEndEncoded(_, _) => {
                return Err(unsupported(column, array.data_type()));
            }
        })
    }

    fn fields(column: &str, array: &StructArray) -> Result<Self> {
        let fields = array.columns().iter().map(|field| Self::new(column, field));
        Ok(Self::Struct(array.nulls().cloned(), fields.collect::<Result<Vec<_>>>()?))
    }

    fn append(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Boolean(a) => fixed(out, a, row, || [u8::from(a.value(row))]),
            Self::Signed(a) => fixed(out, a, row, || a.value(row).to_le_bytes()),
            Self::Unsigned(a) => fixed(out, a, row, || a.value(row).to_le_bytes()),
            Self::Float(a) => fixed(out, a, row, || {
                let value = a.value(row);
                if value.is_nan() { NAN_BITS.to_le_bytes() } else { value.to_bits().to_le_bytes() }
            }),
            Self::Decimal(a) => fixed(out, a, row, || a.value(row).to_le_bytes()),
            Self::Utf8(a) => sized(out, a, row, || a.value(row).as_bytes()),
            Self::LargeUtf8(a) => sized(out, a, row, || a.value(row).as_bytes()),
            Self::Utf8View(a) => sized(out, a, row, || a.value(row).as_bytes()),
            Self::Binary(a) => sized(out, a, row, || a.value(row)),
            Self::LargeBinary(a) => sized(out, a, row, || a.value(row)),
            Self::BinaryView(a) => sized(out, a, row, || a.value(row)),
            Self::FixedBinary(a) => sized(out, a, row, || a.value(row)),
            Self::List(a, items) => {
                let range = a.is_valid(row).then(|| (a.value_offsets()[row], a.value_length(row)));
                elements(out, items, range.map(|(start, len)| (i64::from(start), i64::from(len))));
            }
            Self::LargeList(a, items) => {
                let range = a.is_valid(row).then(|| (a.value_offsets()[row], a.value_length(row)));
                elements(out, items, range);
            }
            Self::Struct(nulls, fields) => {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    out.push(NULL);
                    return;
                }
                out.push(PRESENT);
                fields.iter().for_each(|field| field.append(row, out));
            }
        }
    }
}

fn fixed<const N: usize>(
    out: &mut Vec<u8>,
    array: &dyn Array,
    row: usize,
    value: impl FnOnce() -> [u8; N],
) {
    if array.is_null(row) {
        out.push(NULL);
        return;
    }
    out.push(PRESENT);
    out.extend_from_slice(&value());
}

fn sized<'a>(out: &mut Vec<u8>, array: &dyn Array, row: usize, value: impl FnOnce() -> &'a [u8]) {
    if array.is_null(row) {
        out.push(NULL);
        return;
    }
    let value = value();
    out.push(PRESENT);
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value);
}

fn elements(out: &mut Vec<u8>, items: &Encoder, range: Option<(i64, i64)>) {
    let Some((start, len)) = range else {
        out.push(NULL);
        return;
    };
    out.push(PRESENT);
    out.extend_from_slice(&len.to_le_bytes());
    let start = usize::try_from(start).expect("an offset is not negative");
    let len = usize::try_from(len).expect("a length is not negative");
    (start..start + len).for_each(|row| items.append(row, out));
}

fn unsupported(column: &str, data_type: &DataType) -> Error {
    UnsupportedType { column: column.to_owned(), data_type: data_type.clone() }.into()
}
