//! The fuzz targets' own functions, on golden bytes that a seed changed: in every run, within seconds.
//!
//! Each test also counts what was taken and what was refused: a search that never gets past the first
//! check would find nothing.

use alluvium_stdx::Prng;

use super::{EDIT_LEN, decode, recover};
use crate::number::{u64_of, usize_of};
use crate::record::{HEADER_LEN, Header};

/// Changed inputs for the decoders, of each golden file.
const DECODED: usize = 40_000;
/// Changed logs.
const RECOVERED: usize = 2_000;

const GOLDEN: [&[u8]; 3] = [
    include_bytes!("../../../tests/testdata/wal/record-v1.bin"),
    include_bytes!("../../../tests/testdata/wal/segment-header-v1.bin"),
    include_bytes!("../../../tests/testdata/wal/watermark-v1.bin"),
];

fn below(prng: &mut Prng, bound: usize) -> usize {
    usize_of(prng.below(u64_of(bound)))
}

fn byte(prng: &mut Prng) -> u8 {
    u8::try_from(prng.below(256)).expect("a byte")
}

/// Changes a few bytes, sometimes moves some, sometimes cuts the end or makes the checksum right again.
fn change(prng: &mut Prng, bytes: &mut Vec<u8>) {
    for _ in 0..prng.below(4) {
        let at = below(prng, bytes.len());
        bytes[at] = byte(prng);
    }
    if prng.one_in(4) {
        let (from, to) = (below(prng, bytes.len()), below(prng, bytes.len()));
        let len = below(prng, bytes.len() - from.max(to) + 1);
        bytes.copy_within(from..from + len, to);
    }
    if prng.one_in(2)
        && let Some(head) = bytes.first_chunk::<HEADER_LEN>()
    {
        let sealed = Header::reseal(head);
        bytes[..HEADER_LEN].copy_from_slice(&sealed);
    }
    if prng.one_in(8) {
        bytes.truncate(below(prng, bytes.len() + 1));
    }
}

#[test]
fn golden_bytes_decode_as_one_format_each() {
    assert_eq!(GOLDEN.map(decode), [1, 1, 1]);
}

#[test]
fn no_change_of_golden_bytes_makes_a_decoder_panic_or_take_what_we_would_not_write() {
    let mut prng = Prng::from_seed(0xf022);
    for golden in GOLDEN {
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..DECODED {
            let mut bytes = golden.to_vec();
            change(&mut prng, &mut bytes);
            match decode(&bytes) {
                0 => refused += 1,
                _ => taken += 1,
            }
        }
        assert!(taken > 100 && refused > 100, "{taken} were taken, {refused} were refused");
    }
}

#[test]
fn no_edit_of_a_log_makes_opening_panic_or_open_what_cannot_be_read() {
    let mut prng = Prng::from_seed(0xf0221);
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..RECOVERED {
        let mut edits = Vec::new();
        for _ in 0..=prng.below(4) {
            // The records lie at the beginning; most places are behind them.
            let bound = if prng.one_in(4) { 1 << 16 } else { 2_048 };
            let place = u16::try_from(prng.below(bound)).expect("two bytes");
            edits.extend(place.to_le_bytes());
            edits.push(if prng.one_in(3) { 0 } else { byte(&mut prng) });
        }
        assert_eq!(edits.len() % EDIT_LEN, 0);
        match recover(&edits) {
            true => opened += 1,
            false => refused += 1,
        }
    }
    assert!(opened > 100 && refused > 100, "{opened} opened, {refused} were refused");
}

#[test]
fn a_log_without_edits_opens() {
    assert!(recover(&[]));
}
