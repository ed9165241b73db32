//! Records: what is written is read, golden bytes stay, and no changed byte goes unnoticed.

use proptest::prelude::*;

use super::*;

fn golden_header() -> Header {
    Header {
        kind: Kind::Entry,
        all: false,
        stream: StreamId(3),
        slot: 0,
        payload_len: 11,
        lsn: Lsn(0x0102_0304),
        segment: SegmentSeq(7),
        life: 0x1122_3344_5566_7788,
        durable: Lsn(0x0102_0303),
        index: 42,
        tag: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
        prev_hash: 0xdead_beef,
        payload_hash: payload_hash(b"hello world"),
    }
}

fn whole(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes.resize(usize_of(header.record_bytes()), 0);
    bytes
}

#[test]
fn the_bytes_of_a_record_are_pinned() {
    let golden = include_bytes!("../../../tests/testdata/wal/record-v1.bin");
    assert_eq!(whole(&golden_header(), b"hello world"), golden);
    let (header, payload) = decode(golden).expect("whole");
    assert_eq!((header, payload), (golden_header(), b"hello world".as_slice()));
}

#[test]
fn every_flipped_bit_of_a_record_is_noticed() {
    let record = whole(&golden_header(), b"hello world");
    for bit in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = decode(&flipped);
        assert!(found.is_err(), "bit {bit} went unnoticed: {found:?}");
    }
}

#[test]
fn a_record_cut_anywhere_is_noticed() {
    let record = whole(&golden_header(), b"hello world");
    for len in 0..record.len() {
        assert_eq!(decode(&record[..len]), Err(Defect::OverEnd), "cut to {len}");
    }
}

/// Changes the header and gives it a fitting checksum: what another program would write.
fn resealed(change: impl FnOnce(&mut [u8; HEADER_LEN])) -> Result<Header, Defect> {
    let mut bytes = golden_header().encode();
    change(&mut bytes);
    Header::decode(&Header::reseal(&bytes))
}

#[test]
fn an_intact_header_that_says_what_we_do_not_know_is_refused_by_name() {
    assert_eq!(resealed(|bytes| bytes[4] = 2), Err(Defect::NewerVersion(2)));
    assert_eq!(resealed(|bytes| bytes[4] = 0), Err(Defect::UnknownField));
    assert_eq!(resealed(|bytes| bytes[6] = 99), Err(Defect::UnknownField), "kind");
    assert_eq!(resealed(|bytes| bytes[7] = 2), Err(Defect::UnknownField), "flags");
    assert_eq!(resealed(|bytes| bytes[59] = 1), Err(Defect::UnknownField), "reserved");
    assert_eq!(resealed(|bytes| bytes[120] = 1), Err(Defect::UnknownField), "reserved");
    assert_eq!(resealed(|bytes| bytes[15] = 0xff), Err(Defect::UnknownField), "length");
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        (index, tag, lsn) in (any::<u64>(), any::<u128>(), any::<u64>()),
        (stream, slot) in (any::<u32>(), any::<u16>()),
    ) {
        let header = Header {
            kind: Kind::Slot,
            all: false,
            stream: StreamId(stream),
            slot,
            payload_len: u32::try_from(payload.len()).expect("short"),
            lsn: Lsn(lsn),
            index,
            tag,
            payload_hash: payload_hash(&payload),
            ..golden_header()
        };
        let bytes = whole(&header, &payload);
        prop_assert!(u64_of(bytes.len()).is_multiple_of(limits::ALIGNMENT));
        prop_assert_eq!(decode(&bytes).expect("whole"), (header, payload.as_slice()));
    }
}
