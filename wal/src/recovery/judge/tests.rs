//! The judgment alone: what is found, what is said.

use super::*;
use crate::ids::{SegmentSeq, StreamId};
use crate::record::Kind;

/// An intact header behind the bad record.
fn header(lsn: u64, durable: u64) -> (u64, Header) {
    let header = Header {
        kind: Kind::Entry,
        all: false,
        stream: StreamId(0),
        slot: 0,
        payload_len: 0,
        lsn: Lsn(lsn),
        segment: SegmentSeq(1),
        life: 1,
        durable: Lsn(durable),
        index: 0,
        tag: 0,
        prev_hash: 0,
        payload_hash: 0,
    };
    (8192, header)
}

/// Judges a bad record at position 10.
fn check(reason: Reason, headers: Vec<(u64, Header)>, watermark: u64, expect: Verdict) {
    let remains = Remains { lsn: Lsn(10), reason, headers };
    assert_eq!(judge(&remains, Lsn(watermark)), expect, "{remains:?}");
}

const NOTHING: Reason = Reason::Record(Defect::NoMagic);
const BAD_PAYLOAD: Reason = Reason::Record(Defect::PayloadHash);

#[test]
fn nothing_behind_the_end_is_clean() {
    check(NOTHING, vec![], 9, Verdict::Clean);
    check(Reason::StaleRecord, vec![], 9, Verdict::Clean);
    check(Reason::Record(Defect::OverEnd), vec![], 0, Verdict::Clean);
}

#[test]
fn a_write_that_was_begun_and_never_acknowledged_is_torn() {
    check(BAD_PAYLOAD, vec![], 9, Verdict::Torn);
    check(NOTHING, vec![header(11, 9), header(12, 9)], 9, Verdict::Torn);
    check(NOTHING, vec![header(11, 0)], 0, Verdict::Torn);
}

#[test]
fn a_position_that_anything_vouches_for_is_damaged() {
    check(BAD_PAYLOAD, vec![], 10, Verdict::Damaged(BAD_PAYLOAD));
    check(BAD_PAYLOAD, vec![header(11, 10)], 0, Verdict::Damaged(BAD_PAYLOAD));
    check(NOTHING, vec![header(12, 9), header(30, 25)], 9, Verdict::Damaged(NOTHING));
}

#[test]
fn an_end_below_the_watermark_says_so() {
    let watermark = Lsn(12);
    check(NOTHING, vec![], 12, Verdict::Damaged(Reason::EndsBeforeWatermark { watermark }));
    check(NOTHING, vec![header(11, 9)], 12, Verdict::Damaged(NOTHING));
}
