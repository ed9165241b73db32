//! Damaged bytes are a typed error: never a panic, never fewer rows.

use alluvium_parquet::{Error, ParquetTableWriter, Projection, Recipe, read_file, verify};
use alluvium_stdx::Prng;
use bytes::Bytes;

use crate::rows::random;

fn file(rows: usize) -> Bytes {
    let batch = random(8, rows);
    ParquetTableWriter::write_all(&batch.schema(), &Recipe::standard(), [&batch])
        .expect("write")
        .bytes
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = file(500);
    let mut prng = Prng::from_seed(1);
    for round in 0..400 {
        let len = if round < 20 {
            round
        } else {
            usize::try_from(prng.below(whole.len() as u64)).expect("small")
        };
        let refused = read_file(whole.slice(..len), &Projection::All);
        let typed =
            matches!(refused, Err(Error::Decode(_) | Error::Page(_) | Error::DecoderPanicked));
        assert!(typed, "cut at {len}");
    }
}

#[test]
fn flipped_bytes_never_yield_fewer_rows_in_silence() {
    let whole = file(500);
    let mut prng = Prng::from_seed(2);
    let mut refused = 0;
    for _ in 0..600 {
        let mut damaged = whole.to_vec();
        for _ in 0..1 + prng.below(4) {
            let at = usize::try_from(prng.below(damaged.len() as u64)).expect("small");
            damaged[at] ^= 1 << prng.below(8);
        }
        match verify(damaged.into(), 500) {
            // Values may have changed: that is what block hashes are for. The count may not.
            Ok(verified) => assert_eq!(verified.rows, 500),
            Err(_) => refused += 1,
        }
    }
    assert!(100 < refused, "{refused} of 600 noticed");
}

#[test]
fn garbage_and_nothing_are_refused() {
    for bytes in [&b""[..], b"PAR1", b"PAR1PAR1", b"PAR1\xff\xff\xff\xffPAR1", &[7; 4096]] {
        let refused = read_file(Bytes::copy_from_slice(bytes), &Projection::All);
        assert!(matches!(refused, Err(Error::Decode(_))), "{bytes:?}");
    }
}

#[test]
fn a_wrong_row_count_is_named() {
    let refused = verify(file(10), 11);
    assert!(matches!(refused, Err(Error::Rows { expected: 11, found: 10 })), "{refused:?}");
}

#[test]
fn a_projection_reads_its_columns_and_refuses_unknown_ones() {
    let read = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        read_file(file(10), &Projection::Columns(names))
    };
    let batches = read(&["name", "id"]).expect("read");
    let schema = batches[0].schema();
    let found: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(found, ["id", "name"]);
    let refused = read(&["nope"]);
    assert!(matches!(refused, Err(Error::NoSuchColumn { ref column }) if column == "nope"));
}
