//! Inspecting and scrubbing logs, whole and damaged.

use super::*;
use crate::recovery::Notice;
use crate::recovery::tests::{Built, append, build};
use crate::sim::SimDisk;
use crate::storage::Access;

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
    let clean = scrub(&wal.reader(), &mut |_| ControlFlow::Continue(())).expect("reads");
    assert_eq!((clean.segments, clean.records > 2, clean.damage.len()), (1, true, 0));
    built.disk.flip_bit(&segment_name(SegmentSeq(1)), (built.places[1].0 + 130) * 8);
    let found = scrub(&wal.reader(), &mut |_| ControlFlow::Continue(())).expect("reads").damage;
    assert!(matches!(found[..], [Error::Corrupt { lsn: Lsn(2), .. }]), "{found:?}");
}

#[test]
fn a_torn_log_opens_in_memory_as_it_would_on_the_disk_and_stays_as_it_was() {
    let built = build(&[vec![append(1)], vec![append(2)]]);
    let (mut wal, _) = built.open().expect("opens");
    wal.commit(vec![append(3)]).expect("writes");
    drop(wal);
    built.disk.kill();
    let name = segment_name(SegmentSeq(1));
    let content = built.disk.content(&name).expect("exists");
    let (last, _) = *crate::model_records(&content).last().expect("has records");
    // The watermark does not cover it and nothing follows: a write that nobody was told of.
    built.disk.flip_bit(&name, (crate::number::u64_of(last) + 130) * 8);
    let contents = || {
        let names = built.disk.files().into_iter().map(|(name, _)| name);
        names.map(|name| (built.disk.content(&name), name)).collect::<Vec<_>>()
    };
    let before = contents();
    for _ in 0..2 {
        let opened = open_in_memory(Arc::new(built.disk.clone()), Built::options());
        let (wal, recovery) = opened.expect("opens");
        let records = wal.read(crate::ids::StreamId(1), 0..u64::MAX).expect("reads");
        assert_eq!(records.iter().map(|record| record.index).collect::<Vec<_>>(), [1, 2]);
        let torn =
            matches!(recovery.notices[..], [Notice::TornTail { segment: SegmentSeq(1), .. }]);
        assert!(torn, "{:?}", recovery.notices);
    }
    assert!(before == contents(), "a log that was opened in memory was changed");
    let (_, recovery) = built.open().expect("opens");
    assert_eq!(recovery.notices.len(), 1, "the disk still has the torn write");
}

/// A disk that may be read alone.
#[derive(Debug)]
struct ReadOnly(SimDisk);

impl ReadOnly {
    fn refused<T>() -> std::io::Result<T> {
        Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl Storage for ReadOnly {
    fn lock(&self) -> std::io::Result<Box<dyn Send + Sync>> {
        Self::refused()
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, _name: &str, _access: Access) -> std::io::Result<Arc<dyn StorageFile>> {
        Self::refused()
    }

    fn open(&self, name: &str, access: Access) -> std::io::Result<Arc<dyn StorageFile>> {
        match access {
            Access::Read => self.0.open(name, access),
            Access::Write | Access::WriteThrough => Self::refused(),
        }
    }

    fn rename(&self, _from: &str, _to: &str) -> std::io::Result<()> {
        Self::refused()
    }

    fn remove(&self, _name: &str) -> std::io::Result<()> {
        Self::refused()
    }

    fn sync_dir(&self) -> std::io::Result<()> {
        Self::refused()
    }
}

#[test]
fn a_log_that_may_be_read_alone_is_inspected_and_opened_in_memory() {
    let built = build(&[vec![append(1)], vec![append(2)]]);
    built.disk.kill();
    let disk = || Arc::new(ReadOnly(built.disk.clone()));
    let inspection = inspect(disk(), Built::OWNER).expect("readable");
    let found: Vec<_> = inspection.map(|finding| finding.expect("readable")).collect();
    assert_eq!((found.len() > 3, damage(&found)), (true, vec![]));
    let (wal, _) = open_in_memory(disk(), Built::options()).expect("opens");
    let records = wal.read(crate::ids::StreamId(1), 0..u64::MAX).expect("reads");
    assert_eq!(records.len(), 2);
}

#[test]
fn a_scrub_asks_for_each_byte_that_it_reads_and_stops_when_it_is_told_to() {
    let mut options = Built::options();
    options.segment_bytes = 4 * limits::MIB;
    let (mut wal, _) = Wal::open(Arc::new(SimDisk::new(1)), options).expect("opens");
    let payload = Bytes::from(vec![7; 700_000]);
    for index in 1..=12 {
        let (stream, payload) = (crate::ids::StreamId(1), payload.clone());
        let tag = u128::from(index);
        let entry = crate::operation::Operation::Append { stream, index, tag, payload };
        wal.commit(vec![entry]).expect("writes");
    }
    wal.rotate().expect("rotates");
    let mut asked = Vec::new();
    let all = scrub(&wal.reader(), &mut |bytes| {
        asked.push(bytes);
        ControlFlow::Continue(())
    });
    let all = all.expect("reads");
    // Five entries fit a segment: two full ones and the rest.
    assert_eq!((all.segments, all.damage.len()), (3, 0));
    let largest = limits::SCAN_BYTES + 700_000 + limits::SEGMENT_HEADER_BYTES;
    assert!(asked.iter().all(|&bytes| bytes <= largest), "{asked:?}");
    let entries = 12 * 700_000;
    let total = asked.iter().sum::<u64>();
    assert!(
        entries < total && total < entries + 3 * limits::SEGMENT_HEADER_BYTES + 12_000,
        "{total}"
    );
    let first = scrub(&wal.reader(), &mut |_| ControlFlow::Break(())).expect("reads");
    assert_eq!((first.segments, first.records < all.records), (0, true));
}
