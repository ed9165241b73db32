//! Rows for tests: every type a dataset can hold, with NULLs, empty values and extremes.

use std::sync::Arc;

use alluvium_stdx::Prng;
use alluvium_types as types;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryBuilder,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int32Builder, Int64Array,
    ListBuilder, RecordBatch, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array,
    UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field};

use crate::schema::{arrow_field, to_arrow};

pub(crate) fn field(name: &str, data_type: types::DataType) -> types::Field {
    types::Field { id: types::FieldId(0), name: name.to_owned(), data_type, nullable: true }
}

pub(crate) fn key(name: &str, data_type: types::DataType) -> types::Field {
    types::Field { nullable: false, ..field(name, data_type) }
}

pub(crate) fn schema(fields: Vec<types::Field>, keys: &[&str]) -> types::Schema {
    let key_columns = keys.iter().map(|&name| name.to_owned()).collect();
    let mut schema = types::Schema { fields, key_columns };
    for (id, field) in (1..).zip(&mut schema.fields) {
        field.id = types::FieldId(id);
    }
    schema.validate().expect("a legal schema");
    schema
}

/// Every type there is.
pub(crate) fn wide_schema() -> types::Schema {
    use types::DataType as T;
    let nested = vec![field("x", T::Int32), field("y", T::Utf8)];
    let list = T::List(Box::new(field("item", T::Int32)));
    let fields = vec![
        key("id", T::Int64),
        field("b", T::Boolean),
        field("i8", T::Int8),
        field("i16", T::Int16),
        field("i32", T::Int32),
        field("u8", T::UInt8),
        field("u16", T::UInt16),
        field("u32", T::UInt32),
        field("u64", T::UInt64),
        field("f32", T::Float32),
        field("f64", T::Float64),
        field("text", T::Utf8),
        field("bytes", T::Binary),
        field("fixed", T::FixedSizeBinary(3)),
        field("day", T::Date32),
        field("time", T::Time64Microsecond),
        field("ts", T::Timestamp(types::TimeUnit::Millisecond, None)),
        field("tz", T::Timestamp(types::TimeUnit::Nanosecond, Some("Europe/Berlin".to_owned()))),
        field("dec", T::Decimal128(20, 4)),
        field("list", list),
        field("pair", T::Struct(nested)),
    ];
    schema(fields, &["id"])
}

/// `rows` rows of [`wide_schema`], from a seed.
pub(crate) fn wide(rows: usize, seed: u64) -> RecordBatch {
    let mut prng = Prng::from_seed(seed);
    let mut some = || (!prng.one_in(4)).then(|| prng.next_u64());
    let values: Vec<Option<u64>> = (0..rows).map(|_| some()).collect();
    let text = |value: &Option<u64>| value.map(|v| "ä\u{0}🌊".repeat(usize::from(low(v) % 4)));
    let days = |value: &Option<u64>| value.map(|v| i32::from(low(v)) - 100);
    let micros = |value: &Option<u64>| value.map(|v| i64::from(low(v)) * 1_000_003);
    let mut fixed = FixedSizeBinaryBuilder::new(3);
    let mut bytes = BinaryBuilder::new();
    let mut list = ListBuilder::new(Int32Builder::new());
    for value in &values {
        match value {
            Some(v) => {
                fixed.append_value([low(*v), 0, 255]).expect("three bytes");
                bytes.append_value(&v.to_le_bytes()[..usize::from(low(*v) % 9)]);
                (0..i32::from(low(*v) % 3)).for_each(|n| list.values().append_value(n));
                list.append(true);
            }
            None => {
                fixed.append_null();
                bytes.append_null();
                list.append(false);
            }
        }
    }
    let nulls: NullBuffer = values.iter().map(Option::is_some).collect();
    let x: ArrayRef = Arc::new(values.iter().map(days).collect::<Int32Array>());
    let y: ArrayRef = Arc::new(values.iter().map(text).collect::<StringArray>());
    let schema = wide_schema();
    let pair = arrow_field(schema.field("pair").expect("there"));
    let DataType::Struct(pair) = pair.data_type().clone() else { panic!("{pair} is a struct") };
    let ids = i64::try_from(rows).expect("few");
    let columns: Vec<ArrayRef> = vec![
        Arc::new((0..ids).map(Some).collect::<Int64Array>()),
        Arc::new(values.iter().map(|v| v.map(|v| v % 2 == 0)).collect::<BooleanArray>()),
        Arc::new(values.iter().map(|v| v.map(|v| low(v).cast_signed())).collect::<Int8Array>()),
        Arc::new(values.iter().map(|v| v.map(|v| i16::from(low(v)))).collect::<Int16Array>()),
        Arc::clone(&x),
        Arc::new(values.iter().map(|v| v.map(low)).collect::<UInt8Array>()),
        Arc::new(values.iter().map(|v| v.map(|v| u16::from(low(v)))).collect::<UInt16Array>()),
        Arc::new(values.iter().map(|v| v.map(|v| u32::from(low(v)))).collect::<UInt32Array>()),
        Arc::new(values.iter().copied().collect::<UInt64Array>()),
        Arc::new(values.iter().map(|v| v.map(|v| f32::from(low(v)))).collect::<Float32Array>()),
        Arc::new(values.iter().map(|v| v.map(f64::from_bits)).collect::<Float64Array>()),
        Arc::clone(&y),
        Arc::new(bytes.finish()),
        Arc::new(fixed.finish()),
        Arc::new(values.iter().map(days).collect::<Date32Array>()),
        Arc::new(values.iter().map(micros).collect::<Time64MicrosecondArray>()),
        Arc::new(values.iter().map(micros).collect::<TimestampMillisecondArray>()),
        Arc::new(
            values
                .iter()
                .map(micros)
                .collect::<TimestampNanosecondArray>()
                .with_timezone("Europe/Berlin"),
        ),
        Arc::new(
            values
                .iter()
                .map(|v| v.map(i128::from))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(20, 4)
                .expect("legal"),
        ),
        Arc::new(list.finish()),
        Arc::new(StructArray::new(pair, vec![x, y], Some(nulls))),
    ];
    RecordBatch::try_new(to_arrow(&schema), columns).expect("columns of the schema")
}

fn low(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

/// One nullable column.
pub(crate) fn column(name: &str, array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([(name, array, true)]).expect("one column")
}

pub(crate) fn arrow_schema(fields: Vec<Field>) -> arrow::datatypes::Schema {
    arrow::datatypes::Schema::new(fields)
}
