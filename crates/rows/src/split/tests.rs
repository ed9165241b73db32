//! Pieces fit their limit, keep every row in order, and a row that fits nowhere is named.

use std::sync::Arc;

use alluvium_types::DataType as T;
use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::compute::concat_batches;

use super::*;
use crate::samples::{column, field, key, schema, wide, wide_schema};
use crate::{conform, decode_body, keys_part, rows_part, to_arrow};

#[test]
fn pieces_fit_and_joined_are_the_batch_again() {
    let batch = wide(5_000, 11);
    let arrow = to_arrow(&wide_schema());
    let encoder = KeyEncoder::new(&wide_schema()).expect("keyed");
    for (limit, keys) in [(64 * 1024, None), (100_000, Some(&encoder)), (BODY_BYTES_MAX, None)] {
        let pieces = split_within(&batch, keys, limit).expect("split");
        let mut parts = Vec::new();
        let mut next = 0;
        for piece in &pieces {
            assert!(piece.body.len() <= limit as usize);
            assert_eq!(piece.first_row, next);
            next += piece.rows as usize;
            let rows = rows_part(&piece.body, piece.rows_bytes).expect("there");
            parts.push(decode_body(&rows, &arrow).expect("rows"));
            if keys.is_some() {
                let block = keys_part(&piece.body, piece.rows_bytes).expect("there");
                assert_eq!((block.len(), Some(&block)), (piece.rows, piece.keys.as_ref()));
            }
        }
        assert_eq!(concat_batches(&arrow, &parts).expect("one schema"), batch);
        assert_eq!(pieces.len() == 1, limit == BODY_BYTES_MAX);
    }
}

#[test]
fn one_row_too_large_for_any_entry_is_named_with_limit_and_size() {
    let text: Vec<String> = vec!["a".into(), "b".repeat(20_000), "c".into()];
    let batch = column("t", Arc::new(StringArray::from(text)) as ArrayRef);
    let error = split_within(&batch, None, 16_384).expect_err("too large").to_string();
    assert!(error.starts_with("row 2 has 20") && error.ends_with("16384"), "{error}");
}

#[test]
fn skewed_rows_are_halved_until_they_fit() {
    let text: Vec<String> = (0..100).map(|n| "x".repeat(if n == 99 { 9_000 } else { 1 })).collect();
    let batch = column("t", Arc::new(StringArray::from(text)) as ArrayRef);
    let pieces = split_within(&batch, None, 10_240).expect("split");
    let rows: u32 = pieces.iter().map(|piece| piece.rows).sum();
    assert_eq!(rows, 100);
}

#[test]
fn a_key_twice_is_named_by_its_rows_in_the_batch() {
    let keyed = schema(vec![key("k", T::Int64), field("v", T::Int64)], &["k"]);
    let ids = Arc::new(Int64Array::from(vec![1, 2, 3, 2])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("k", Arc::clone(&ids)), ("v", ids)]).expect("columns");
    let batch = conform(&batch, &keyed).expect("fits");
    let encoder = KeyEncoder::new(&keyed).expect("keyed");
    let error = split(&batch, Some(&encoder)).expect_err("twice").to_string();
    assert!(error.contains("rows 2 and 4"), "{error}");
}
