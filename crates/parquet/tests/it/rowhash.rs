//! Row hashes add up however the rows are cut, ordered and encoded, and differ when a row does.

use std::sync::Arc;

use alluvium_parquet::{row_hash_sum, row_hashes};
use arrow::array::{
    Array, ArrayRef, BinaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    UInt64Array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;

use crate::rows::{disguised, random};

fn batch_of(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields = columns
        .iter()
        .enumerate()
        .map(|(at, column)| Field::new(format!("c{at}"), column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns).expect("batch")
}

fn texts(columns: &[&[Option<&str>]]) -> Vec<u128> {
    let columns = columns.iter().map(|c| Arc::new(StringArray::from(c.to_vec())) as ArrayRef);
    row_hashes(&batch_of(columns.collect())).expect("hash")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_sum_does_not_depend_on_batches_encodings_or_order(seed in any::<u64>(), rows in 0_usize..1_000) {
        let batch = random(seed, rows);
        let expected = row_hash_sum(&batch).expect("hash");
        let parts = disguised(seed, &batch);
        let sum = parts.iter().fold(0_u128, |sum, part| sum.wrapping_add(row_hash_sum(part).expect("hash")));
        prop_assert_eq!(sum, expected);
        let reversed: UInt64Array = (0..rows as u64).rev().map(Some).collect();
        let reversed = take_record_batch(&batch, &reversed).expect("take");
        prop_assert_eq!(row_hash_sum(&reversed).expect("hash"), expected);
    }

    #[test]
    fn museum_m30_two_binary_rows_collide_only_when_equal(
        a in proptest::collection::vec(any::<u8>(), 0..6), b in proptest::collection::vec(any::<u8>(), 0..6),
    ) {
        let hashes = row_hashes(&batch_of(vec![Arc::new(BinaryArray::from(vec![a.as_slice(), b.as_slice()]))]));
        let hashes = hashes.expect("hash");
        prop_assert_eq!(hashes[0] == hashes[1], a == b);
    }
}

#[test]
fn bytes_do_not_move_between_neighbouring_columns() {
    let a = texts(&[&[Some("ab"), None, Some("")], &[Some("c"), Some(""), None]]);
    let b = texts(&[&[Some("a"), Some(""), None], &[Some("bc"), None, Some("")]]);
    assert_ne!(a[0], b[0]);
    assert_ne!(a[1], b[1]);
    assert_ne!(a[1], a[2]);
}

#[test]
fn integer_width_does_not_count_and_null_is_not_zero() {
    let narrow =
        row_hashes(&batch_of(vec![Arc::new(Int32Array::from(vec![Some(0), None, Some(-7)]))]));
    let wide =
        row_hashes(&batch_of(vec![Arc::new(Int64Array::from(vec![Some(0), None, Some(-7)]))]));
    let (narrow, wide) = (narrow.expect("hash"), wide.expect("hash"));
    assert_eq!(narrow, wide);
    assert_ne!(narrow[0], narrow[1]);
}

#[test]
fn all_nans_are_one_value_and_the_zeros_are_two() {
    let other_nan = f64::from_bits(0xfff8_0000_0000_0001);
    let floats = Float64Array::from(vec![f64::NAN, other_nan, 0.0, -0.0]);
    let hashes = row_hashes(&batch_of(vec![Arc::new(floats)])).expect("hash");
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[2], hashes[3]);
}

#[test]
fn a_type_without_canonical_form_is_refused() {
    let nulls = arrow::array::new_null_array(&DataType::Null, 1);
    let refused = row_hashes(&batch_of(vec![nulls])).map_err(|error| error.to_string());
    assert_eq!(refused, Err("column c0 has type Null, which a dataset cannot hold".to_owned()));
}

#[test]
fn row_hashes_are_pinned_because_replicas_compare_them() {
    let sum = row_hash_sum(&random(1, 100)).expect("hash");
    assert_eq!(format!("{sum:032x}"), PINNED);
}

const PINNED: &str = "e8165988e597cc8b333ca6495a434d23";
