//! Inspecting and scrubbing logs, whole and damaged.

use super::*;
use crate::recovery::tests::{Built, append, build};
use crate::sim::SimDisk;

fn findings(disk: &SimDisk) -> Vec<Finding> {
    let inspection = inspect(Arc::new(disk.clone()), Built::OWNER).expect("readable");
    inspection.map(|finding| finding.expect("readable")).collect()
}

fn damage(findings: &[Finding]) -> Vec<(u64, Option<Lsn>, bool)> {
    let one = |finding: &Finding| match finding {
        Finding::Damage { error: Error::Corrupt { lsn, .. }, until, acknowledged } => {
            Some((lsn.0, *until, *acknowledged))
        }
        Finding::Damage { .. }
        | Finding::Segment(_)
        | Finding::Record { .. }
        | Finding::End { .. } => None,
    };
    findings.iter().filter_map(one).collect()
}

#[test]
fn a_whole_log_is_shown_record_by_record_and_not_changed() {
    let built = build(&[vec![append(1), append(2)], vec![append(3)]]);
    let before = built.disk.content(&segment_name(SegmentSeq(1)));
    let found = findings(&built.disk);
    let mut indexes = Vec::new();
    for finding in &found {
        if let Finding::Record { header, .. } = finding
            && header.kind == crate::record::Kind::Entry
        {
            indexes.push(header.index);
        }
    }
    assert_eq!((indexes, damage(&found)), (vec![1, 2, 3], vec![]));
    assert!(matches!(found.last(), Some(Finding::End { segment: SegmentSeq(1), .. })));
    assert_eq!(built.disk.content(&segment_name(SegmentSeq(1))), before);
}

#[test]
fn damage_in_the_middle_is_reported_and_what_follows_is_shown() {
    let built = build(&[vec![append(1)], vec![append(2)], vec![append(3)], vec![append(4)]]);
    let place = built.places[2];
    built.disk.flip_bit(&segment_name(SegmentSeq(1)), (place.0 + 130) * 8);
    let found = findings(&built.disk);
    assert_eq!(damage(&found), [(3, Some(Lsn(4)), true)]);
    assert!(matches!(found.last(), Some(Finding::End { next: Lsn(6), .. })));
}

#[test]
fn a_scrub_finds_the_damaged_record_of_a_sealed_segment() {
    let built = build(&[vec![append(1)], vec![append(2)]]);
    let (mut wal, _) = built.open().expect("opens");
    wal.rotate().expect("rotates");
    let clean = scrub(&wal.reader()).expect("reads");
    assert_eq!((clean.segments, clean.records > 2, clean.damage.len()), (1, true, 0));
    built.disk.flip_bit(&segment_name(SegmentSeq(1)), (built.places[1].0 + 130) * 8);
    let found = scrub(&wal.reader()).expect("reads").damage;
    assert!(matches!(found[..], [Error::Corrupt { lsn: Lsn(2), .. }]), "{found:?}");
}
