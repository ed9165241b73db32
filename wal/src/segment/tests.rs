//! Segment headers and names.

use super::*;

fn golden() -> SegmentHeader {
    SegmentHeader {
        owner: Owner { cluster: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, node: 5 },
        seq: SegmentSeq(7),
        first_lsn: Lsn(1_000),
        segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
        prev_hash: 0xfeed,
    }
}

#[test]
fn the_bytes_of_a_segment_header_are_pinned() {
    let bytes = include_bytes!("../../../tests/testdata/wal/segment-header-v1.bin");
    assert_eq!(&golden().encode(), bytes);
    assert_eq!(SegmentHeader::decode(bytes), Ok(golden()));
}

#[test]
fn every_flipped_bit_of_a_segment_header_is_noticed() {
    let header = golden().encode();
    for bit in 0..HEADER_LEN * 8 {
        let mut flipped = header;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHeader::decode(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn each_life_of_a_file_has_its_own_fingerprint() {
    let next = SegmentHeader { seq: SegmentSeq(8), ..golden() };
    assert_ne!(next.life(), golden().life());
}

#[test]
fn only_names_that_we_write_are_ours() {
    assert_eq!(classify(&segment_name(SegmentSeq(12))), FileKind::Segment(SegmentSeq(12)));
    assert_eq!(classify(&spare_name(3)), FileKind::Spare(3));
    assert_eq!(classify("watermark"), FileKind::Watermark);
    for name in [
        "segment-12.wal",
        "segment-00000000000000000012.wal.bak",
        "spare-.wal",
        "x",
        "segment-+0000000000000000012.wal",
        "segment-99999999999999999999.wal",
    ] {
        assert_eq!(classify(name), FileKind::Unknown, "{name}");
    }
}

#[test]
fn genesis_differs_between_owners() {
    let owner = golden().owner;
    let others = [Owner { node: 6, ..owner }, Owner { cluster: 1, ..owner }];
    assert!(others.iter().all(|other| genesis_hash(*other) != genesis_hash(owner)));
}
