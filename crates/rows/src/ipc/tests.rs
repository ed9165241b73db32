//! Bodies round-trip without a copy, and no damage makes the decoder panic or invent rows.

use alluvium_stdx::Prng;
use alluvium_types::DataType as T;
use arrow::array::{Array, AsArray, Int64Array};
use arrow::ipc::CompressionType;

use super::*;
use crate::samples::{column, field, schema, wide, wide_schema};
use crate::to_arrow;

/// A body at an aligned address, as it lies in a log entry.
fn aligned(body: &[u8]) -> Bytes {
    let mut room = vec![0_u8; body.len() + ALIGNMENT];
    let start = room.as_ptr().align_offset(ALIGNMENT);
    room[start..start + body.len()].copy_from_slice(body);
    Bytes::from(room).slice(start..start + body.len())
}

#[test]
fn every_type_round_trips_whole_sliced_and_empty() {
    let batch = wide(300, 5);
    for part in [batch.clone(), batch.slice(17, 101), batch.slice(3, 0)] {
        let body = encode_body(&part).expect("encoded");
        assert!(body.len().is_multiple_of(ALIGNMENT));
        let decoded = decode_body(&body, &to_arrow(&wide_schema())).expect("its own bytes");
        assert_eq!(decoded, part);
    }
}

#[test]
fn an_aligned_body_is_read_where_it_lies() {
    let body = aligned(&encode_body(&wide(64, 9)).expect("encoded"));
    let decoded = decode_body(&body, &to_arrow(&wide_schema())).expect("its own bytes");
    let within = body.as_ptr_range();
    let ids = decoded.column(0).to_data();
    let text = decoded.column_by_name("text").expect("there").to_data();
    let places = [&ids.buffers()[0], &text.buffers()[0], &text.buffers()[1]].map(|b| b.as_ptr());
    assert!(places.iter().all(|place| within.contains(place)), "a buffer was copied");
}

#[test]
fn a_body_is_refused_under_another_schema() {
    let body = encode_body(&wide(10, 2)).expect("encoded");
    let other = schema(vec![field("a", T::Int64)], &[]);
    let error = decode_body(&body, &to_arrow(&other)).expect_err("other columns");
    assert_eq!(error.kind(), alluvium_types::ErrorKind::Corrupt);
    // Numbers read as text have offsets that make no sense.
    let numbers = column("a", Arc::new(Int64Array::from(vec![-1; 8])));
    let body = encode_body(&numbers).expect("encoded");
    let text = to_arrow(&schema(vec![field("a", T::Utf8)], &[]));
    assert!(
        decode_body(&body, &text).expect_err("no text").to_string().contains("number of nodes")
    );
}

#[test]
fn compressed_truncated_and_prolonged_bodies_are_refused() {
    let batch = wide(2_000, 3);
    let arrow = to_arrow(&wide_schema());
    let options = IpcWriteOptions::try_new(64, false, MetadataVersion::V5).expect("legal");
    let options = options.try_with_compression(Some(CompressionType::ZSTD)).expect("legal");
    let (_, message) = IpcDataGenerator::default()
        .encode(&batch, &mut DictionaryTracker::new(true), &options, &mut Default::default())
        .expect("encoded");
    let mut compressed = Vec::new();
    write_message(&mut compressed, message, &options).expect("written");
    let fault = |body: &[u8]| {
        decode_body(&Bytes::copy_from_slice(body), &arrow).expect_err("refused").to_string()
    };
    assert!(fault(&compressed).contains("it is compressed"));
    let body = encode_body(&batch).expect("encoded");
    assert!(fault(&body[..body.len() - 1]).contains("ends too early"));
    assert!(fault(&[&body[..], &[0; 64]].concat()).contains("bytes follow"));
    for length in 0..200 {
        fault(&body[..length]);
    }
}

#[test]
fn thousands_of_mutations_never_panic_and_never_change_the_row_count() {
    let batch = wide(24, 7);
    let arrow = to_arrow(&wide_schema());
    let body = encode_body(&batch).expect("encoded");
    let mut prng = Prng::from_seed(0xb0d7);
    let mut refused = 0;
    for _ in 0..6_000 {
        let mut damaged = body.to_vec();
        for _ in 0..=prng.below(3) {
            // Metadata is where lengths and offsets are: hit it more often than the values.
            let end = if prng.one_in(2) { 2_048.min(damaged.len()) } else { damaged.len() };
            let at = usize::try_from(prng.below(end as u64)).expect("small");
            let extreme = [0, 1, 0x7f, 0x80, 0xff];
            damaged[at] = *prng.pick(&extreme).expect("some");
        }
        match decode_body(&Bytes::from(damaged), &arrow) {
            Ok(rows) => assert!(rows.num_rows() <= 24),
            Err(error) => {
                assert_eq!(error.kind(), alluvium_types::ErrorKind::Corrupt);
                refused += 1;
            }
        }
    }
    assert!(refused > 500, "only {refused} mutations were noticed");
}

#[test]
fn rows_and_keys_of_an_upsert_part_again() {
    let batch = wide(100, 4);
    let keys = crate::KeyEncoder::new(&wide_schema()).expect("keyed");
    let block = keys.unique_key_block(&batch).expect("unique");
    let rows = encode_body(&batch).expect("encoded");
    let body = join_keys(&rows, &block);
    let rows_bytes = u32::try_from(rows.len()).expect("small");
    assert_eq!(rows_part(&body, rows_bytes).expect("there"), rows);
    assert_eq!(keys_part(&body, rows_bytes).expect("there"), block);
    assert!(rows_part(&body, u32::MAX).is_err_and(|e| e.to_string().contains("too early")));
    assert!(keys_part(&rows, rows_bytes).is_err_and(|e| e.to_string().contains("no count")));
    let ids = decode_body(&rows, &to_arrow(&wide_schema())).expect("rows");
    assert_eq!(ids.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(99), 99);
}
