//! Random rows of every supported type, and the many forms in which the same rows can arrive.

use std::sync::Arc;

use alluvium_stdx::Prng;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, LargeStringArray, ListBuilder, RecordBatch, StringArray, StringBuilder,
    StructArray, Time32MillisecondArray, Time64NanosecondArray, TimestampMicrosecondArray,
    TimestampSecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array, make_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// Returns `rows` random rows; every column but `id` and `_log_index` holds nulls.
pub(crate) fn random(seed: u64, rows: usize) -> RecordBatch {
    let mut prng = Prng::from_seed(seed);
    let mut columns = numbers(&mut prng, rows);
    columns.extend(texts_and_times(&mut prng, rows));
    columns.extend(nested(&mut prng, rows));
    let log_index: UInt64Array = (0..rows as u64).map(|row| Some(100 + row / 7)).collect();
    columns.push(("_log_index", Arc::new(log_index)));
    let fields = columns.iter().enumerate().map(|(at, (name, column))| {
        let nullable = !["id", "_log_index"].contains(name);
        let id = [("PARQUET:field_id".to_owned(), (at + 1).to_string())];
        Field::new(*name, column.data_type().clone(), nullable).with_metadata(id.into())
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(schema, columns).expect("batch")
}

type Named = (&'static str, ArrayRef);

fn maybe<T>(prng: &mut Prng, value: impl FnOnce(&mut Prng) -> T) -> Option<T> {
    if prng.one_in(5) { None } else { Some(value(prng)) }
}

fn column<T, A: FromIterator<Option<T>> + Array + 'static>(
    prng: &mut Prng,
    rows: usize,
    mut value: impl FnMut(&mut Prng) -> T,
) -> ArrayRef {
    Arc::new((0..rows).map(|_| maybe(prng, &mut value)).collect::<A>())
}

#[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
fn numbers(prng: &mut Prng, rows: usize) -> Vec<Named> {
    let id: Int64Array = (0..rows).map(|row| Some(row as i64 * 3)).collect();
    let float = |p: &mut Prng| p.below(2_000) as f64 / 8.0 - 100.0;
    vec![
        ("id", Arc::new(id)),
        ("i8", column::<_, Int8Array>(prng, rows, |p| p.next_u64() as i8)),
        ("i16", column::<_, Int16Array>(prng, rows, |p| p.next_u64() as i16)),
        ("i32", column::<_, Int32Array>(prng, rows, |p| p.below(50) as i32 - 25)),
        ("i64", column::<_, Int64Array>(prng, rows, |p| p.next_u64() as i64 >> 12)),
        ("u8", column::<_, UInt8Array>(prng, rows, |p| p.next_u64() as u8)),
        ("u16", column::<_, UInt16Array>(prng, rows, |p| p.next_u64() as u16)),
        ("u32", column::<_, UInt32Array>(prng, rows, |p| p.next_u64() as u32)),
        ("u64", column::<_, UInt64Array>(prng, rows, |p| p.next_u64() >> 12)),
        ("f32", column::<_, Float32Array>(prng, rows, move |p| float(p) as f32)),
        ("f64", column::<_, Float64Array>(prng, rows, float)),
        ("flag", column::<_, BooleanArray>(prng, rows, |p| p.one_in(2))),
        ("money", decimal(prng, rows)),
    ]
}

fn decimal(prng: &mut Prng, rows: usize) -> ArrayRef {
    let values: Decimal128Array =
        (0..rows).map(|_| maybe(prng, |p| i128::from(p.below(1 << 50)) - (1 << 49))).collect();
    Arc::new(values.with_precision_and_scale(20, 4).expect("precision"))
}

fn texts_and_times(prng: &mut Prng, rows: usize) -> Vec<Named> {
    const NAMES: [&str; 6] = ["", "ATL", "ÅÄÖ", "a longer name than the others", "x\u{0}y", "🜃"];
    let name = |p: &mut Prng| (*p.pick(&NAMES).expect("some")).to_owned();
    let blob = |p: &mut Prng| {
        let mut bytes = vec![0; usize::try_from(p.below(9)).expect("small")];
        p.fill(&mut bytes);
        bytes
    };
    let time = |p: &mut Prng| 1_700_000_000_000 + i64::try_from(p.below(1 << 40)).expect("fits");
    let fixed = (0..rows).map(|_| maybe(prng, |p| p.next_u64().to_le_bytes()));
    let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed, 8).expect("fixed");
    let zoned: TimestampMicrosecondArray = (0..rows).map(|_| maybe(prng, time)).collect();
    vec![
        ("name", column::<_, StringArray>(prng, rows, name)),
        ("unique", column::<_, LargeStringArray>(prng, rows, |p| p.next_u64().to_string())),
        ("blob", column::<_, BinaryArray>(prng, rows, blob)),
        ("fixed", Arc::new(fixed)),
        (
            "day",
            column::<_, Date32Array>(prng, rows, |p| i32::try_from(p.below(30_000)).expect("fits")),
        ),
        (
            "day_ms",
            column::<_, Date64Array>(prng, rows, |p| {
                86_400_000 * i64::try_from(p.below(9_000)).expect("fits")
            }),
        ),
        (
            "at_ms",
            column::<_, Time32MillisecondArray>(prng, rows, |p| {
                i32::try_from(p.below(86_400_000)).expect("fits")
            }),
        ),
        (
            "at_ns",
            column::<_, Time64NanosecondArray>(prng, rows, |p| {
                i64::try_from(p.below(1 << 46)).expect("fits")
            }),
        ),
        ("ts", column::<_, TimestampMicrosecondArray>(prng, rows, time)),
        ("ts_utc", Arc::new(zoned.with_timezone("UTC"))),
        (
            "ts_s",
            column::<_, TimestampSecondArray>(prng, rows, |p| {
                i64::try_from(p.below(1 << 31)).expect("fits")
            }),
        ),
    ]
}

fn nested(prng: &mut Prng, rows: usize) -> Vec<Named> {
    let mut tags = ListBuilder::new(StringBuilder::new());
    for _ in 0..rows {
        let kept = !prng.one_in(5);
        for _ in 0..if kept { prng.below(4) } else { 0 } {
            let tag = maybe(prng, |p| format!("tag{}", p.below(9)));
            tags.values().append_option(tag);
        }
        tags.append(kept);
    }
    let inner: ArrayRef = column::<_, Float64Array>(prng, rows, |p| p.below(100) as f64);
    let label: ArrayRef = column::<_, StringArray>(prng, rows, |p| format!("p{}", p.below(3)));
    let nulls: NullBuffer = (0..rows).map(|_| !prng.one_in(5)).collect();
    let field = |name, array: &ArrayRef| Field::new(name, array.data_type().clone(), true);
    let fields = vec![field("x", &inner), field("label", &label)];
    let point = StructArray::try_new(fields.into(), vec![inner, label], Some(nulls));
    vec![("tags", Arc::new(tags.finish())), ("point", Arc::new(point.expect("struct")))]
}

/// Returns the rows of `batch` in another form: cut at random, some slices copied, some columns encoded
/// otherwise, and null masks added that mark nothing.
pub(crate) fn disguised(seed: u64, batch: &RecordBatch) -> Vec<RecordBatch> {
    let mut prng = Prng::from_seed(seed);
    let mut parts = Vec::new();
    let mut at = 0;
    while at < batch.num_rows() {
        let longest = (batch.num_rows() - at).min(1 << prng.below(16));
        let rows = usize::try_from(1 + prng.below(longest as u64)).expect("small");
        parts.push(disguise(&mut prng, &batch.slice(at, rows)));
        if prng.one_in(4) {
            parts.push(batch.slice(0, 0));
        }
        at += rows;
    }
    parts
}

fn disguise(prng: &mut Prng, batch: &RecordBatch) -> RecordBatch {
    let columns: Vec<ArrayRef> =
        batch.columns().iter().map(|column| other_form(prng, column)).collect();
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(&columns).map(|(field, column)| {
        let field = field.as_ref().clone().with_data_type(column.data_type().clone());
        field.with_nullable(true)
    });
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns).expect("batch")
}

fn other_form(prng: &mut Prng, column: &ArrayRef) -> ArrayRef {
    let to = |target: &DataType| cast(column, target).expect("cast");
    let dictionary =
        |value: &DataType| DataType::Dictionary(Box::new(DataType::Int32), Box::new(value.clone()));
    match (column.data_type(), prng.below(4)) {
        (DataType::Utf8 | DataType::LargeUtf8, 0) => to(&DataType::Utf8View),
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Int32, 1) => {
            to(&dictionary(column.data_type()))
        }
        (DataType::Binary, 0) => to(&DataType::BinaryView),
        (DataType::Utf8, 2) => to(&DataType::LargeUtf8),
        _ if column.null_count() == 0 => {
            let mask = NullBuffer::new_valid(column.len());
            let data = column.to_data().into_builder().nulls(Some(mask));
            make_array(data.build().expect("valid"))
        }
        _ => Arc::clone(column),
    }
}
