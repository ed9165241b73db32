//! Keys never collide, keep their order, and damaged blocks are refused.

use alluvium_stdx::Prng;

use super::*;

fn key(values: &[KeyValue<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(values.iter().copied(), &mut out);
    out
}

fn block(keys: &[&[u8]]) -> KeyBlock {
    let mut builder = KeyBlockBuilder::default();
    for (row, key) in keys.iter().enumerate() {
        builder.push(key.to_vec(), row as u64).expect("short keys");
    }
    builder.build_set().expect("few keys")
}

#[test]
fn the_encoding_is_pinned() {
    let values = [KeyValue::Int(-1), KeyValue::Utf8("a\0b"), KeyValue::Bool(true)];
    let expect = b"\x10\x7f\xff\xff\xff\xff\xff\xff\xff\x20a\0\xffb\0\x02";
    assert_eq!(key(&values), expect);
}

#[test]
fn museum_m30_binary_keys_never_collide() {
    let mut prng = Prng::from_seed(30);
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..20_000 {
        // Short strings of few letters, so that prefixes, zeros and 0xFF meet often.
        let letters = [0, 1, 0xff, 0xfe, b'a'];
        let mut draw = || {
            let length = prng.below(4);
            (0..length).filter_map(|_| prng.pick(&letters).copied()).collect::<Vec<u8>>()
        };
        let pair = (draw(), draw());
        let encoded = key(&[KeyValue::Bytes(&pair.0), KeyValue::Bytes(&pair.1)]);
        let earlier = seen.insert(encoded, pair.clone());
        assert!(earlier.is_none() || earlier == Some(pair.clone()), "{earlier:?} and {pair:?}");
    }
    // The encoding keeps the order of the values too.
    let values: Vec<_> = seen.into_values().collect();
    assert!(values.is_sorted());
}

#[test]
fn integers_sort_by_value_and_keep_their_key_when_widened() {
    let numbers = [i64::MIN, -5, -1, 0, 1, i64::MAX];
    let keys: Vec<_> = numbers.iter().map(|&n| key(&[KeyValue::Int(n)])).collect();
    assert!(keys.is_sorted());
    assert_eq!(key(&[KeyValue::Int(i64::from(-5_i8))]), keys[1]);
}

#[test]
fn a_block_round_trips_sorted_and_without_repeats() {
    let built = block(&[b"b", b"a", b"b", b""]);
    let parsed = KeyBlock::parse(built.as_bytes().clone()).expect("its own bytes");
    assert_eq!(parsed.iter().collect::<Vec<_>>(), [&b""[..], b"a", b"b"]);
    assert!(parsed.contains(b"a") && !parsed.contains(b"c"));
    assert_eq!(parsed.bounds(), Some((&b""[..], &b"b"[..])));
}

#[test]
fn an_upsert_that_repeats_a_key_names_both_rows() {
    let mut builder = KeyBlockBuilder::default();
    for (row, key) in [b"x", b"y", b"x"].iter().enumerate() {
        builder.push(key.to_vec(), row as u64).expect("short keys");
    }
    assert_eq!(builder.build_unique(), Err(Error::DuplicateKey { first: 0, second: 2 }));
}

#[test]
fn every_flipped_byte_and_every_cut_is_refused_or_reads_as_another_valid_block() {
    let good = block(&[b"aa", b"bb", b"cc"]).as_bytes().to_vec();
    for cut in 0..good.len() {
        let error = KeyBlock::parse(Bytes::copy_from_slice(&good[..cut]));
        assert!(error.is_err(), "cut at {cut}");
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            if let Ok(block) = KeyBlock::parse(Bytes::from(bad)) {
                let keys: Vec<_> = block.iter().collect();
                assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "unsorted: {keys:?}");
            }
        }
    }
}
