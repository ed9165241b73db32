//! The watermark's slots.

use super::*;
use crate::sim::SimDisk;

const OWNER: Owner = Owner { cluster: 9, node: 1 };

fn golden() -> Watermark {
    Watermark { owner: OWNER, generation: 6, lsn: Lsn(77), hash: 0xabc, segment: SegmentSeq(3) }
}

#[test]
fn the_bytes_of_a_slot_are_pinned() {
    let bytes = include_bytes!("../../../tests/testdata/wal/watermark-v1.bin");
    assert_eq!(&golden().encode(), bytes);
    assert_eq!(Watermark::decode(bytes), SlotContent::Valid(golden()));
}

#[test]
fn every_flipped_bit_of_a_slot_is_noticed() {
    let slot = golden().encode();
    for bit in 0..SLOT_LEN * 8 {
        let mut flipped = slot;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Watermark::decode(&flipped), SlotContent::Damaged, "bit {bit}");
    }
}

#[test]
fn a_torn_write_of_one_slot_leaves_the_other() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let mut file = WatermarkFile::create(&disk, OWNER).expect("creates");
        file.advance(Lsn(5), 55, SegmentSeq(1)).expect("writes");
        let crash_at = Some(disk.operations() + 1 + seed % 2);
        disk.set_faults(crate::sim::Faults { crash_at, ..Default::default() });
        file.advance(Lsn(9), 99, SegmentSeq(1)).expect_err("the power goes");
        disk.crash();
        let found = read(&disk, OWNER).expect("reads").watermark.expect("one slot is whole");
        assert!(found.lsn == Lsn(5) || found.lsn == Lsn(9), "{found:?}");
    }
}

#[test]
fn another_owners_watermark_is_refused_by_name() {
    let disk = SimDisk::new(0);
    WatermarkFile::create(&disk, OWNER).expect("creates");
    let error = read(&disk, Owner { node: 2, ..OWNER }).expect_err("foreign");
    assert!(matches!(error, Error::Foreign { file, .. } if file == "watermark"));
}
