//! Reading from disk, where nothing is in memory.

use super::*;
use crate::recovery::tests::{append, build};
use crate::{SegmentSeq, StreamId};

const STREAM: StreamId = StreamId(1);

#[test]
fn an_entry_on_disk_costs_one_read_and_is_aligned() {
    let built = build(&[vec![append(1), append(2)]]);
    let (wal, _) = built.open().expect("opens");
    let before = built.disk.reads();
    let record = wal.reader().read_record(STREAM, 2).expect("reads");
    assert_eq!(built.disk.reads() - before, 1);
    assert_eq!(record.payload.as_ref(), [2; 200]);
    assert_eq!(record.payload.as_ptr().align_offset(64), 0);
}

#[test]
fn damage_under_an_open_log_is_named_and_never_handed_out() {
    let built = build(&[vec![append(1), append(2)]]);
    let (wal, _) = built.open().expect("opens");
    let (offset, _) = built.places[2];
    for byte in [0, 60, 100, 128, 327] {
        built.disk.flip_bit(&segment_name(SegmentSeq(1)), (offset + byte) * 8);
        let error = wal.reader().read_record(STREAM, 2).expect_err("damaged");
        let Error::Corrupt { segment, offset: place, .. } = error else {
            panic!("byte {byte}: {error}");
        };
        assert_eq!((segment, place), (SegmentSeq(1), offset));
        built.disk.flip_bit(&segment_name(SegmentSeq(1)), (offset + byte) * 8);
    }
    wal.reader().read_record(STREAM, 2).expect("whole again");
}

#[test]
fn a_limited_read_returns_at_least_one_entry_and_stops_at_the_limit() {
    let built = build(&[(1..=5).map(append).collect()]);
    let (wal, _) = built.open().expect("opens");
    let count =
        |bytes_max| wal.reader().read_limited(STREAM, 0..9, bytes_max).expect("reads").len();
    assert_eq!([count(0), count(200), count(399), count(400), count(u64::MAX)], [1, 1, 1, 2, 5]);
}

#[test]
fn what_is_not_there_is_not_found() {
    let built = build(&[vec![append(3)]]);
    let (wal, _) = built.open().expect("opens");
    for index in [0, 2, 4, u64::MAX] {
        let error = wal.reader().read_record(STREAM, index).expect_err("absent");
        assert!(matches!(error, Error::NotFound { .. }), "{index}: {error}");
    }
    assert_eq!(wal.read(StreamId(99), 0..u64::MAX).expect("reads"), vec![]);
}
