//! Damaged and random files: every one is read or refused, none ends the program.

use std::sync::Arc;

use alluvium_stdx::Prng;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use crate::formats::parquet_file;
use crate::{TestFile, parcels};

/// Pieces that text parsers trip over: quotes, separators, multi-byte characters, halves of them.
const PIECES: [&[u8]; 20] = [
    b"id",
    b",",
    b"\"",
    b"\n",
    b"\r\n",
    b"{",
    b"}",
    b":",
    b"1",
    b"-9.5e3",
    "é".as_bytes(),
    "航".as_bytes(),
    "😀".as_bytes(),
    "e\u{301}".as_bytes(),
    b"\xc3",
    b"\xf0\x9f",
    b"\0",
    b"city",
    b"\xef\xbb\xbf",
    b"null",
];

#[test]
fn museum_m42_text_cut_anywhere_is_read_or_refused() {
    let mut prng = Prng::from_seed(42);
    let mut refused = 0;
    for _ in 0..300 {
        let mut text = if prng.one_in(2) { b"id,city\n".to_vec() } else { Vec::new() };
        for _ in 0..prng.below(60) {
            text.extend_from_slice(prng.pick(&PIECES).expect("pieces"));
        }
        for name in ["a.csv", "a.ndjson"] {
            let file = TestFile::new(name, &text);
            for schema in [None, Some(&parcels())] {
                if let Err(error) = file.read(schema) {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 200, "only {refused} were refused: the pieces are too tame");
}

#[test]
fn museum_m42_binary_files_with_flipped_or_missing_bytes_are_read_or_refused() {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
    let cities: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..100).map(|i| format!("é{i}"))));
    let batch = RecordBatch::try_from_iter([("id", ids), ("city", cities)]).expect("columns");
    let mut stream =
        arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).expect("writer");
    stream.write(&batch).expect("write");
    let stream = stream.into_inner().expect("finish");
    let mut prng = Prng::from_seed(7);
    // The decoders' own panics are expected here, and caught: their reports would hide a real one.
    std::panic::set_hook(Box::new(|_| {}));
    let mut refused = 0;
    for whole in [parquet_file(&batch), stream] {
        for _ in 0..150 {
            let mut bytes = whole.clone();
            let at = usize::try_from(prng.below(bytes.len() as u64)).expect("small");
            if prng.one_in(3) {
                bytes.truncate(at.max(8))
            } else {
                bytes[at] ^= 1 << prng.below(8)
            }
            let file = TestFile::new("a.bin", &bytes);
            refused += u32::from(file.read(Some(&parcels())).is_err());
        }
    }
    drop(std::panic::take_hook());
    assert!(refused > 50, "only {refused} were refused");
}
