//! Keys are exact, NULL is none, and text goes both ways.

use std::sync::Arc;

use alluvium_stdx::Prng;
use alluvium_types::DataType as T;
use arrow::array::{ArrayRef, BinaryArray, Int16Array, LargeStringArray, StringArray};

use super::*;
use crate::samples::{column, field, key, schema, wide, wide_schema};

fn encoder(types: &[T]) -> KeyEncoder {
    let names: Vec<String> = (0..types.len()).map(|n| format!("k{n}")).collect();
    let fields = names.iter().zip(types).map(|(name, t)| key(name, t.clone())).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    KeyEncoder::new(&schema(fields, &names)).expect("keyed")
}

fn rows(batch: &RecordBatch, keys: &KeyEncoder) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let push = |_, key: &[u8]| {
        found.push(key.to_vec());
        Ok(())
    };
    keys.encode_rows(batch, push).expect("keys");
    found
}

#[test]
fn museum_m11_empty_zero_and_extreme_keys_differ_and_null_is_refused() {
    let values: Vec<&[u8]> = vec![b"", b"\0", b"\0\0", b"\xff", b"\0\xff", b"\xff\0", b"\0\x01"];
    let batch = column("k0", Arc::new(BinaryArray::from(values.clone())));
    let keys = encoder(&[T::Binary]);
    assert_eq!(keys.unique_key_block(&batch).expect("all differ").len(), 7);
    assert_eq!(keys.key_block(&batch).expect("all differ").len(), 7);
    let with_null = column("k0", Arc::new(BinaryArray::from(vec![Some(b"".as_slice()), None])));
    for error in [keys.from_key_batch(&with_null), keys.unique_key_block(&with_null)] {
        let error = error.expect_err("NULL is no key").to_string();
        assert_eq!(error, "column \"k0\" is NULL in row 2, and may not be");
    }
}

#[test]
fn museum_m30_random_bytes_split_over_two_columns_never_collide() {
    let mut prng = Prng::from_seed(30);
    let mut pairs = std::collections::BTreeSet::new();
    for _ in 0..3_000 {
        let mut bytes = [0; 3];
        prng.fill(&mut bytes);
        bytes.iter_mut().for_each(|byte| *byte %= 3);
        let cut = usize::try_from(prng.below(4)).expect("small");
        pairs.insert((bytes[..cut].to_vec(), [&bytes[cut..], &bytes].concat()[..3].to_vec()));
        pairs.insert((prng.next_u64().to_le_bytes().to_vec(), vec![0xff, 0]));
    }
    let (a, b): (Vec<_>, Vec<_>) = pairs.iter().map(|(a, b)| (a.as_slice(), b.as_slice())).unzip();
    let columns: [ArrayRef; 2] = [Arc::new(BinaryArray::from(a)), Arc::new(BinaryArray::from(b))];
    let batch = RecordBatch::try_from_iter(["k0", "k1"].into_iter().zip(columns)).expect("columns");
    let block = encoder(&[T::Binary, T::Binary]).unique_key_block(&batch).expect("no collision");
    assert_eq!(block.len() as usize, pairs.len());
}

#[test]
fn a_key_does_not_depend_on_the_representation_or_width_of_its_column() {
    let text = column("k0", Arc::new(StringArray::from(vec!["ä", ""])));
    let large = column("k0", Arc::new(LargeStringArray::from(vec!["ä", ""])));
    let keys = encoder(&[T::Utf8]);
    assert_eq!(rows(&text, &keys), rows(&large, &keys));
    let narrow = column("k0", Arc::new(Int16Array::from(vec![-5])));
    let wide = encoder(&[T::Int64]).parse_texts(&["-5"]).expect("a number");
    assert_eq!(rows(&narrow, &encoder(&[T::Int16])), [wide]);
}

#[test]
fn a_key_batch_has_the_key_columns_and_no_other() {
    let keys = encoder(&[T::Utf8]);
    let other = column("x", Arc::new(StringArray::from(vec!["a"])));
    let error = keys.from_key_batch(&other).expect_err("foreign");
    assert_eq!(error.to_string(), "column \"x\" is not part of the schema");
    let narrow = column("k0", Arc::new(Int16Array::from(vec![1])));
    assert!(keys.from_key_batch(&narrow).is_err_and(|e| e.to_string().contains("Int16")));
    let keyless = schema(vec![field("a", T::Int64)], &[]);
    assert!(KeyEncoder::new(&keyless).is_err_and(|e| e.to_string().contains("no key")));
}

#[test]
fn typed_text_becomes_a_key_and_is_described_alike() {
    let ms = T::Timestamp(types::TimeUnit::Millisecond, None);
    let zoned = T::Timestamp(types::TimeUnit::Second, Some("Europe/Berlin".to_owned()));
    let cases = [
        (T::Boolean, "true", "true"),
        (T::Int8, "-128", "-128"),
        (T::UInt64, "18446744073709551615", "18446744073709551615"),
        (T::Utf8, "it's\0 ä", "it's\0 ä"),
        (T::Binary, "0x00FF00", "0x00ff00"),
        (T::Binary, "0x", "0x"),
        (T::FixedSizeBinary(2), "0x0001", "0x0001"),
        (T::Date32, "2024-02-29", "2024-02-29"),
        (T::Time64Microsecond, "12:30:00.000001", "12:30:00.000001"),
        (ms, "2024-01-01T00:00:00.5", "2024-01-01T00:00:00.500"),
        (zoned, "2024-01-01T01:00:00+01:00", "2024-01-01T00:00:00Z"),
        (T::Decimal128(10, 2), "-1.5", "-1.50"),
        (T::Decimal128(38, 0), "7", "7"),
    ];
    for (data_type, text, shown) in cases {
        let keys = encoder(&[data_type.clone(), T::Int64]);
        let key = keys.parse_texts(&[text, "1"]).expect("a value");
        let described = keys.describe(&key).expect("its own bytes");
        assert_eq!(described, [shown, "1"], "{data_type}");
        let again: Vec<&str> = described.iter().map(String::as_str).collect();
        assert_eq!(keys.parse_texts(&again).expect("a value"), key, "{data_type}");
    }
}

#[test]
fn text_that_is_no_exact_value_is_refused_with_its_column() {
    let cases = [
        (T::Int8, "128"),
        (T::Int64, "1.0"),
        (T::Int64, ""),
        (T::UInt8, "-1"),
        (T::Boolean, "yes"),
        (T::Binary, "00"),
        (T::Binary, "0x0"),
        (T::Binary, "0x+1"),
        (T::FixedSizeBinary(2), "0x00"),
        (T::Date32, "2023-02-29"),
        (T::Timestamp(types::TimeUnit::Second, None), "2024-01-01T00:00:00.5"),
        (T::Time64Microsecond, "12:00:00.0000001"),
        (T::Decimal128(10, 2), "1.234"),
        (T::Decimal128(4, 2), "100"),
        (T::Decimal128(4, 2), "--1"),
        (T::Decimal128(4, 2), "."),
    ];
    for (data_type, text) in cases {
        let error =
            encoder(std::slice::from_ref(&data_type)).parse_texts(&[text]).expect_err("no value");
        assert!(error.to_string().starts_with("key column \"k0\""), "{data_type} {text}: {error}");
    }
    let error = encoder(&[T::Int8]).parse_texts(&["1", "2"]).expect_err("too many");
    assert_eq!(error.to_string(), "a key has 1 columns, 2 values were given");
}

#[test]
fn damaged_key_bytes_are_refused_and_never_panic() {
    let keys = encoder(&[T::Utf8, T::Int64, T::Date32]);
    let key = keys.parse_texts(&["a\0b", "5", "2024-01-01"]).expect("a key");
    for cut in 0..key.len() {
        assert!(keys.describe(&key[..cut]).is_err_and(|e| matches!(e, Error::KeyBytes)));
    }
    let mut prng = Prng::from_seed(1);
    for _ in 0..2_000 {
        let mut damaged = key.clone();
        let at = usize::try_from(prng.below(key.len() as u64)).expect("small");
        damaged[at] = prng.next_u64().to_le_bytes()[0];
        if let Ok(texts) = keys.describe(&damaged) {
            assert_eq!(texts.len(), 3);
        }
    }
}

#[test]
fn keys_of_a_whole_batch_are_those_of_its_rows() {
    let batch = wide(1_000, 8);
    let keys = KeyEncoder::new(&wide_schema()).expect("keyed");
    let block = keys.unique_key_block(&batch).expect("unique");
    assert!(rows(&batch, &keys).iter().all(|key| block.contains(key)));
    assert_eq!(block.len(), 1_000);
}
