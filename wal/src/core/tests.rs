//! The log in one thread: what a commit costs and accepts.

use super::*;
use crate::ids::Position;
use crate::recovery::tests::{Built, append, build};
use crate::sim::SimDisk;

const STREAM: StreamId = StreamId(1);

#[test]
fn a_commit_is_one_write_and_one_sync_however_many_operations_it_has() {
    let built = build(&[]);
    let (mut wal, _) = built.open().expect("opens");
    let before = built.disk.operations();
    wal.commit((1..=20).map(append).collect()).expect("writes");
    assert_eq!(built.disk.operations() - before, 2);
}

#[test]
fn what_can_never_fit_a_segment_is_refused_and_harms_nothing() {
    let (mut wal, _) = build(&[]).open().expect("opens");
    let error = wal.commit((1..=80).map(append).collect()).expect_err("too much at once");
    assert!(matches!(error, Error::TooLarge { limit: "segment_bytes", .. }), "{error}");
    wal.commit(vec![append(1)]).expect("works on");
}

#[test]
fn slots_that_would_not_leave_room_in_a_segment_are_refused() {
    let (mut wal, _) = build(&[]).open().expect("opens");
    let slot = |slot| {
        let value = Bytes::from(vec![1; 3_000]);
        vec![Operation::Slot { stream: STREAM, slot, value }]
    };
    wal.commit(slot(0)).expect("fits");
    let error = wal.commit(slot(1)).expect_err("half a segment is the limit");
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    for _ in 0..20 {
        wal.commit(slot(0)).expect("replaces, over several segments");
    }
    assert_eq!(wal.slot(STREAM, 0).expect("reads").map(|value| value.len()), Some(3_000));
    assert_eq!(wal.slot(STREAM, 1).expect("reads"), None);
}

#[test]
fn a_log_of_slots_alone_does_not_grow() {
    let built = build(&[]);
    let (mut wal, _) = built.open().expect("opens");
    for round in 0..500_u32 {
        let value = Bytes::copy_from_slice(&round.to_le_bytes());
        wal.commit(vec![Operation::Slot { stream: STREAM, slot: 2, value }]).expect("writes");
    }
    let files = built.disk.files().len();
    assert!(files <= 6, "old segments go: {files} files");
    drop(wal);
    let (wal, _) = built.open().expect("opens");
    let value = wal.slot(STREAM, 2).expect("reads");
    assert_eq!(value.as_deref(), Some(499_u32.to_le_bytes().as_slice()));
}

#[test]
fn one_slow_stream_keeps_the_segments_it_needs_and_no_others() {
    let built = build(&[]);
    let (mut wal, _) = built.open().expect("opens");
    let slow = StreamId(2);
    let (payload, tag) = (Bytes::from_static(b"slow"), 0);
    wal.commit(vec![Operation::Append { stream: slow, index: 1, tag, payload }]).expect("writes");
    for index in 1..=200 {
        wal.commit(vec![append(index)]).expect("writes");
    }
    let upto = Position { index: 200, tag: 200 };
    wal.commit(vec![Operation::Purge { stream: STREAM, upto }]).expect("purges");
    let segments = || built.disk.files().iter().filter(|(name, _)| name.starts_with("seg")).count();
    assert!(segments() > 3, "the first segment is needed, and the chain to it");
    assert_eq!(wal.read(slow, 0..9).expect("reads").len(), 1);
    let upto = Position { index: 1, tag: 0 };
    wal.commit(vec![Operation::Purge { stream: slow, upto }]).expect("purges");
    assert_eq!(segments(), 1);
}

/// The service marks its log as closed and then lets it turn idle: that must not look like a fault.
#[test]
fn a_closed_log_still_writes_the_watermark_of_what_it_accepted() {
    let (mut wal, _) = build(&[]).open().expect("opens");
    wal.commit(vec![append(1)]).expect("writes");
    assert!(wal.watermark_trails(), "else this shows nothing");
    wal.gate.lock().closed = true;
    wal.write_watermark().expect("a close is no fault");
    assert!(!wal.watermark_trails());
}

#[test]
fn a_second_opening_while_the_first_lives_is_refused() {
    let disk = SimDisk::new(1);
    let first = Wal::open(Arc::new(disk.clone()), Built::options()).expect("opens");
    let second = Wal::open(Arc::new(disk), Built::options()).map(|_| ()).expect_err("taken");
    assert!(matches!(second, Error::Io { operation: crate::IoOperation::Lock, .. }), "{second}");
    drop(first);
}
