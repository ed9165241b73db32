//! Bounds hold for every value, or are not given.

use std::sync::Arc;

use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, ListArray,
    StringArray, Time32SecondArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Int32Type};
use proptest::prelude::*;

use super::*;

fn stats_of(chunks: &[ArrayRef]) -> ColumnStats {
    let field = Field::new("c", chunks[0].data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    let mut collector = StatsCollector::new(&schema);
    for chunk in chunks {
        let columns = vec![Arc::clone(chunk)];
        collector.observe(&RecordBatch::try_new(Arc::clone(&schema), columns).expect("batch"));
    }
    collector.finish().remove(0)
}

fn check(array: impl Array + 'static, min: StatValue, max: StatValue) {
    let stats = stats_of(&[Arc::new(array)]);
    assert_eq!((stats.min, stats.max), (Some(min), Some(max)));
}

#[test]
fn every_ordered_type_has_its_bounds() {
    use StatValue as V;
    check(BooleanArray::from(vec![Some(true), None]), V::Bool(true), V::Bool(true));
    check(Int32Array::from(vec![Some(-5), None, Some(3)]), V::I64(-5), V::I64(3));
    check(UInt64Array::from(vec![u64::MAX, 1]), V::U64(1), V::U64(u64::MAX));
    check(Float64Array::from(vec![1.5, -2.5]), V::F64(-2.5), V::F64(1.5));
    check(Date32Array::from(vec![10, -10]), V::I64(-10), V::I64(10));
    check(Time32SecondArray::from(vec![5, 4]), V::I64(4), V::I64(5));
    check(TimestampMicrosecondArray::from(vec![7, -7]), V::I64(-7), V::I64(7));
    check(Decimal128Array::from(vec![1_i128 << 100, -1]), V::I128(-1), V::I128(1 << 100));
    check(StringArray::from(vec!["b", "a"]), V::Str("a".into()), V::Str("b".into()));
    let bytes = BinaryArray::from(vec![b"\xff".as_slice(), b""]);
    check(bytes, V::Bytes(vec![]), V::Bytes(vec![0xff]));
}

#[test]
fn bounds_cover_all_chunks_and_nulls_are_counted() {
    let chunk = |values: Vec<Option<i32>>| Arc::new(Int32Array::from(values)) as ArrayRef;
    let stats = stats_of(&[chunk(vec![None, Some(2)]), chunk(vec![None]), chunk(vec![Some(-1)])]);
    assert_eq!(stats.null_count, 2);
    assert_eq!(stats.min, Some(StatValue::I64(-1)));
    assert_eq!(stats.max, Some(StatValue::I64(2)));
}

#[test]
fn a_nan_anywhere_leaves_no_bound() {
    let chunk = |values: Vec<f64>| Arc::new(Float64Array::from(values)) as ArrayRef;
    let stats = stats_of(&[chunk(vec![1.0]), chunk(vec![f64::NAN]), chunk(vec![2.0])]);
    assert_eq!((stats.min, stats.max), (None, None));
}

#[test]
fn a_zero_bound_covers_both_zeros() {
    for zeros in [vec![0.0], vec![-0.0], vec![0.0, -0.0]] {
        let stats = stats_of(&[Arc::new(Float64Array::from(zeros))]);
        let bits = |value: Option<StatValue>| match value {
            Some(StatValue::F64(value)) => value.to_bits(),
            other => panic!("{other:?}"),
        };
        assert_eq!(bits(stats.min), (-0.0_f64).to_bits());
        assert_eq!(bits(stats.max), 0.0_f64.to_bits());
    }
}

#[test]
fn nested_and_empty_columns_have_no_bounds() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)]), None]);
    let stats = stats_of(&[Arc::new(list)]);
    assert_eq!((stats.null_count, stats.min, stats.max), (1, None, None));
    let stats = stats_of(&[Arc::new(Int32Array::from(vec![None, None]))]);
    assert_eq!((stats.null_count, stats.min, stats.max), (2, None, None));
}

#[test]
fn a_bound_that_cannot_be_rounded_up_is_left_out() {
    let top = vec![u8::MAX; STAT_BYTES_MAX + 1];
    let stats = stats_of(&[Arc::new(BinaryArray::from(vec![top.as_slice()]))]);
    assert_eq!(stats.max, None);
    let top = char::MAX.to_string().repeat(STAT_BYTES_MAX);
    let stats = stats_of(&[Arc::new(StringArray::from(vec![top.as_str()]))]);
    assert_eq!(stats.max, None);
}

proptest! {
    #[test]
    fn cut_text_bounds_still_hold(texts in proptest::collection::vec(long_text(), 1..5)) {
        let stats = stats_of(&[Arc::new(StringArray::from(texts.clone()))]);
        let Some(StatValue::Str(min)) = stats.min else { panic!("no min") };
        prop_assert!(min.len() <= STAT_BYTES_MAX);
        for text in &texts {
            prop_assert!(&min <= text);
            if let Some(StatValue::Str(max)) = &stats.max {
                prop_assert!(text <= max && max.len() <= STAT_BYTES_MAX);
            }
        }
    }

    #[test]
    fn cut_binary_bounds_still_hold(
        values in proptest::collection::vec(proptest::collection::vec(250_u8.., 60..70), 1..5),
    ) {
        let array = BinaryArray::from_iter_values(&values);
        let stats = stats_of(&[Arc::new(array)]);
        let Some(StatValue::Bytes(min)) = stats.min else { panic!("no min") };
        for value in &values {
            prop_assert!(&min <= value);
            if let Some(StatValue::Bytes(max)) = &stats.max {
                prop_assert!(value <= max);
            }
        }
    }
}

fn long_text() -> impl Strategy<Value = String> {
    let odd = prop_oneof![
        Just('a'),
        Just('\u{7f}'),
        Just('\u{7ff}'),
        Just('\u{d7ff}'),
        Just('\u{ffff}'),
        Just(char::MAX)
    ];
    proptest::collection::vec(odd, 10..70).prop_map(|chars| chars.into_iter().collect())
}
