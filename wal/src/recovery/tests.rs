//! The recovery table of `docs/formats/wal.md`, row by row. Each row names what is found and what
//! is done.

use bytes::Bytes;

use super::*;
use crate::core::Wal;
use crate::ids::{Owner, Position, StreamId};
use crate::model_records as records;
use crate::operation::Operation;
use crate::sim::{Faults, SimDisk};
use crate::storage::StorageFile;

const STREAM: StreamId = StreamId(1);

/// A log that was closed in good order, and where its records lie in the first segment.
pub(crate) struct Built {
    pub(crate) disk: SimDisk,
    /// Offset and length of each record; the first is the checkpoint of the first opening.
    pub(crate) places: Vec<(u64, u64)>,
}

impl Built {
    pub(crate) const OWNER: Owner = Owner { cluster: 3, node: 4 };

    pub(crate) fn options() -> Options {
        let mut options = Options::new(Self::OWNER);
        options.segment_bytes = limits::SEGMENT_BYTES_MIN;
        options.cache_bytes = 0;
        options
    }

    pub(crate) fn open(&self) -> Result<(Wal, Recovery), Error> {
        self.disk.kill();
        Wal::open(Arc::new(self.disk.clone()), Self::options())
    }

    fn segment(&self, seq: u64) -> (String, Vec<u8>) {
        let name = segment_name(SegmentSeq(seq));
        let content = self.disk.content(&name).expect("exists");
        (name, content)
    }

    fn flip(&self, seq: u64, byte: u64) {
        self.disk.flip_bit(&segment_name(SegmentSeq(seq)), byte * 8);
    }

    /// Turns the watermark back to what it was before anything was written: as after a crash within
    /// 10 ms.
    fn forget_watermark(&self) {
        self.disk.erase("watermark");
        let watermark = crate::watermark::Watermark {
            owner: Self::OWNER,
            generation: 2,
            lsn: Lsn(1),
            hash: self.hash_of_first_record(),
            segment: SegmentSeq(1),
        };
        let slot = watermark.encode();
        self.disk.put("watermark", &[slot, [0; 4096]].concat());
    }

    fn hash_of_first_record(&self) -> u128 {
        let (_, content) = self.segment(1);
        let header = content[4096..].first_chunk::<HEADER_LEN>().expect("long enough");
        crate::record::chain_hash(header)
    }

    fn opens_with(&self, indexes: &[u64]) -> Recovery {
        let (mut wal, report) = self.open().expect("opens");
        let records = wal.read(STREAM, 0..u64::MAX).expect("reads");
        let found: Vec<u64> = records.iter().map(|record| record.index).collect();
        assert_eq!(found, indexes);
        // M20: whatever was found, the next write works, and is there after another opening.
        let next = indexes.last().map_or(1, |last| last + 1);
        wal.commit(vec![append(next)]).expect("writes");
        drop(wal);
        let (wal, again) = self.open().expect("opens again");
        assert_eq!(wal.state(STREAM).expect("reads").last.map(|last| last.index), Some(next));
        assert_eq!(again.notices, vec![], "what was mended stays mended");
        report
    }

    /// Opening fails, and leaves every byte of every file as it was.
    fn refuses(&self) -> Error {
        let contents = || {
            let names = self.disk.files().into_iter().map(|(name, _)| name);
            names.map(|name| self.disk.content(&name)).collect::<Vec<_>>()
        };
        let before = contents();
        let error = self.open().map(|(_, report)| report).expect_err("must be refused");
        assert!(before == contents(), "a refused log was changed");
        error
    }

    fn refuses_as(&self, segment: u64, lsn: u64) -> Reason {
        let error = self.refuses();
        let Error::Corrupt { segment: found, lsn: at, reason, .. } = error else {
            panic!("named as {error}");
        };
        assert_eq!((found, at), (SegmentSeq(segment), Lsn(lsn)), "{reason}");
        reason
    }
}

pub(crate) fn append(index: u64) -> Operation {
    let payload = Bytes::from(vec![u8::try_from(index % 256).expect("a byte"); 200]);
    Operation::Append { stream: STREAM, index, tag: u128::from(index), payload }
}

/// Makes a log of one commit per element of `batches`, and closes it.
pub(crate) fn build(batches: &[Vec<Operation>]) -> Built {
    let built = Built { disk: SimDisk::new(1), places: Vec::new() };
    let (mut wal, _) = built.open().expect("a fresh directory opens");
    for batch in batches {
        wal.commit(batch.clone()).expect("writes");
    }
    wal.close().expect("closes");
    let (_, content) = built.segment(1);
    let place = |(offset, len): (usize, usize)| (u64_of(offset), u64_of(len));
    let places = records(&content).into_iter().map(place).collect();
    Built { places, ..built }
}

fn three() -> Built {
    build(&[vec![append(1)], vec![append(2)], vec![append(3)]])
}

/// A log of two sealed segments and an open one, with live entries in each.
fn three_segments() -> Built {
    let built = Built { disk: SimDisk::new(1), places: Vec::new() };
    let (mut wal, _) = built.open().expect("a fresh directory opens");
    for index in 1..=6 {
        wal.commit(vec![append(index)]).expect("writes");
        if index.is_multiple_of(2) && index < 6 {
            wal.rotate().expect("rotates");
        }
    }
    wal.close().expect("closes");
    built
}

#[test]
fn row_fresh_directory_opens_empty() {
    let built = Built { disk: SimDisk::new(1), places: Vec::new() };
    let report = built.opens_with(&[]);
    assert_eq!((report.records, report.opens, report.notices.len()), (0, 1, 0));
}

#[test]
fn row_clean_log_opens_whole_and_without_notice() {
    assert_eq!(three().opens_with(&[1, 2, 3]).notices, vec![]);
}

#[test]
fn row_bad_record_at_or_below_the_watermark_is_damage() {
    let built = three();
    for (record, lsn) in [(1, 2), (2, 3), (3, 4)] {
        built.flip(1, built.places[record].0 + 128);
        assert_eq!(built.refuses_as(1, lsn), Reason::Record(Defect::PayloadHash));
        built.flip(1, built.places[record].0 + 128);
    }
}

#[test]
fn row_bad_record_above_the_watermark_that_a_later_record_vouches_for_is_damage() {
    let built = three();
    built.forget_watermark();
    built.flip(1, built.places[2].0 + 128);
    assert_eq!(built.refuses_as(1, 3), Reason::Record(Defect::PayloadHash));
}

#[test]
fn row_bad_last_record_above_the_watermark_is_a_torn_tail_and_cut_with_a_notice() {
    let built = three();
    built.forget_watermark();
    built.flip(1, built.places[3].0 + 128);
    let notices = built.opens_with(&[1, 2]).notices;
    let torn = notices.iter().any(|notice| {
        matches!(notice, Notice::TornTail { segment: SegmentSeq(1), lsn: Lsn(4), .. })
    });
    assert!(torn, "{notices:?}");
}

#[test]
fn row_later_records_of_the_same_unsynced_batch_do_not_vouch_and_are_wiped() {
    let built = build(&[vec![append(1)], vec![append(2), append(3), append(4)]]);
    built.forget_watermark();
    built.flip(1, built.places[2].0 + 128);
    let notices = built.opens_with(&[1]).notices;
    assert!(
        notices.iter().any(|n| matches!(n, Notice::TornTail { lsn: Lsn(3), .. })),
        "{notices:?}"
    );
}

#[test]
fn row_a_cut_batch_never_joins_the_chain_even_when_its_first_record_is_written_again() {
    let built = build(&[vec![append(1)], vec![append(2), append(3), append(4), append(5)]]);
    built.forget_watermark();
    let (name, torn) = built.segment(1);
    built.flip(1, built.places[2].0);
    let (mut wal, _) = built.open().expect("opens");
    wal.commit(vec![append(2)]).expect("writes the same first record again");
    wal.commit(Vec::new()).expect("writes nothing");
    drop(wal);
    // The wiped records come back, as if the wiping had never reached the disk.
    let (_, mut content) = built.segment(1);
    let place = usize_of(built.places[4].0);
    assert!(content[place..place + HEADER_LEN].iter().all(|&byte| byte == 0), "wiped");
    content[place..].copy_from_slice(&torn[place..]);
    built.disk.put(&name, &content);
    let (wal, _) = built.open().expect("opens");
    let last = wal.state(STREAM).expect("reads").last;
    assert_eq!(last, Some(Position { index: 2, tag: 2 }));
}

#[test]
fn museum_m37_zeroed_tail_above_the_watermark_is_cut_and_below_it_refused() {
    let built = three();
    let (name, mut zeroed) = built.segment(1);
    zeroed[usize_of(built.places[3].0)..].fill(0);
    built.disk.put(&name, &zeroed);
    let reason = built.refuses_as(1, 4);
    assert_eq!(reason, Reason::EndsBeforeWatermark { watermark: Lsn(4) });
    built.forget_watermark();
    built.opens_with(&[1, 2]);
}

#[test]
fn museum_m37_zeroed_middle_is_refused() {
    let built = three();
    built.forget_watermark();
    let (name, mut content) = built.segment(1);
    let (offset, len) = built.places[2];
    content[usize_of(offset)..usize_of(offset + len)].fill(0);
    built.disk.put(&name, &content);
    assert_eq!(built.refuses_as(1, 3), Reason::Record(Defect::NoMagic));
}

#[test]
fn row_bad_record_in_a_sealed_segment_is_damage_whatever_the_watermark_says() {
    let built = three_segments();
    built.flip(1, 4096 + 128 + 130);
    assert_eq!(built.refuses_as(1, 2), Reason::Record(Defect::PayloadHash));
}

#[test]
fn museum_m37_zero_byte_segment_is_named_wherever_it_stands() {
    for seq in 1..=3 {
        let built = three_segments();
        built.disk.put(&segment_name(SegmentSeq(seq)), &[]);
        let reason = built.refuses_as(seq, 0);
        assert_eq!(reason, Reason::Truncated { len: 0, expected: 4096 });
    }
}

#[test]
fn row_truncated_segment_is_named() {
    let built = three_segments();
    let (name, content) = built.segment(2);
    built.disk.put(&name, &content[..10_000]);
    let reason = built.refuses_as(2, 0);
    assert_eq!(reason, Reason::Truncated { len: 10_000, expected: 16_384 });
}

#[test]
fn row_damaged_segment_header_is_named() {
    let built = three_segments();
    built.flip(2, 40);
    let reason = built.refuses_as(2, 0);
    assert_eq!(reason, Reason::Header(crate::segment::HeaderDefect::Checksum));
}

#[test]
fn row_missing_segment_is_named_first_middle_and_last() {
    for seq in 1..=3 {
        let built = three_segments();
        built.disk.erase(&segment_name(SegmentSeq(seq)));
        let error = built.refuses();
        assert!(
            matches!(error, Error::MissingSegment { segment } if segment == SegmentSeq(seq)),
            "{seq}: {error}"
        );
    }
}

#[test]
fn row_all_segments_missing_is_no_fresh_directory() {
    let built = three_segments();
    for seq in 1..=3 {
        built.disk.erase(&segment_name(SegmentSeq(seq)));
    }
    assert!(matches!(built.refuses(), Error::MissingSegment { segment: SegmentSeq(3) }));
}

#[test]
fn row_duplicate_and_swapped_segments_are_named() {
    let built = three_segments();
    let (first, second) = (built.segment(1), built.segment(2));
    built.disk.put(&first.0, &second.1);
    let copied = built.refuses_as(1, 0);
    assert_eq!(copied, Reason::WrongSegment { found: SegmentSeq(2) });
    built.disk.put(&second.0, &first.1);
    let swapped = built.refuses_as(1, 0);
    assert_eq!(swapped, Reason::WrongSegment { found: SegmentSeq(2) });
}

#[test]
fn row_segment_or_watermark_of_another_owner_is_refused() {
    let (built, other) = (three_segments(), SimDisk::new(2));
    let stranger = Owner { node: 5, ..Built::OWNER };
    let options = Options { owner: stranger, ..Built::options() };
    drop(Wal::open(Arc::new(other.clone()), options).expect("opens"));
    let name = segment_name(SegmentSeq(1));
    built.disk.put(&name, &other.content(&name).expect("made"));
    assert!(matches!(built.refuses(), Error::Foreign { found, .. } if found == stranger));
    built.disk.put("watermark", &other.content("watermark").expect("made"));
    assert!(matches!(built.refuses(), Error::Foreign { file, .. } if file == "watermark"));
}

#[test]
fn row_older_copy_of_the_last_segment_is_refused() {
    let built = three();
    let (name, older) = built.segment(1);
    let (mut wal, _) = built.open().expect("opens");
    wal.commit(vec![append(4)]).expect("writes");
    wal.close().expect("closes");
    built.disk.put(&name, &older);
    let reason = built.refuses_as(1, 5);
    assert!(matches!(reason, Reason::EndsBeforeWatermark { .. }), "{reason}");
}

#[test]
fn row_one_bad_watermark_slot_is_a_notice_and_two_are_refused() {
    for slot in 0..2 {
        let built = three();
        built.disk.flip_bit("watermark", (slot * 4096 + 60) * 8);
        let notices = built.open().map(|(_, report)| report).expect("opens").notices;
        assert_eq!(notices, [Notice::WatermarkSlotDamaged]);
    }
    let built = three();
    built.disk.flip_bit("watermark", 60 * 8);
    built.disk.flip_bit("watermark", (4096 + 60) * 8);
    assert!(matches!(built.refuses(), Error::CorruptWatermark));
    built.disk.erase("watermark");
    assert!(matches!(built.refuses(), Error::CorruptWatermark));
}

#[test]
fn row_newer_format_is_named_and_not_called_damage() {
    let built = three();
    let (name, mut content) = built.segment(1);
    content[8] = 2;
    let crc = crc32c::crc32c(&content[..4092]).to_le_bytes();
    content[4092..4096].copy_from_slice(&crc);
    built.disk.put(&name, &content);
    let error = built.refuses();
    assert!(matches!(&error, Error::NewerFormat { version: 2, file } if *file == name), "{error}");
    assert!(!error.is_corruption());
}

#[test]
fn row_unknown_files_are_left_alone_with_a_notice() {
    let built = three();
    built.disk.put("segment-00000000000000000001.wal.orig", b"a copy by hand");
    let notices = built.open().map(|(_, report)| report).expect("opens").notices;
    let name = "segment-00000000000000000001.wal.orig".to_owned();
    assert_eq!(notices, [Notice::UnknownFile { name: name.clone() }]);
    assert_eq!(built.disk.content(&name).expect("still there"), b"a copy by hand");
}

#[test]
fn row_stale_records_of_a_recycled_file_are_never_live() {
    let built = Built { disk: SimDisk::new(1), places: Vec::new() };
    let (mut wal, _) = built.open().expect("opens");
    // Many lives of few files: purged segments come back as spares, full of records of the same
    // shape.
    for index in 1..=400 {
        wal.commit(vec![append(index)]).expect("writes");
        if index.is_multiple_of(20) {
            let upto = Position { index: index - 1, tag: u128::from(index - 1) };
            wal.commit(vec![Operation::Purge { stream: STREAM, upto }]).expect("purges");
        }
    }
    drop(wal);
    let files = built.disk.files().len();
    assert!(files <= 7, "segments are recycled or removed: {files} files");
    let report = built.opens_with(&[400]);
    assert_eq!(report.notices, vec![], "stale records are no torn tail");
}

#[test]
fn row_a_purged_segment_whose_name_came_back_is_given_back() {
    let built = three_segments();
    let (name, content) = built.segment(1);
    let (mut wal, _) = built.open().expect("opens");
    let upto = Position { index: 5, tag: 5 };
    wal.commit(vec![Operation::Purge { stream: STREAM, upto }]).expect("purges");
    wal.close().expect("closes");
    built.disk.put(&name, &content);
    let report = built.opens_with(&[6]);
    assert_eq!(report.notices, [Notice::LeftoverSegment { name: name.clone() }]);
    assert_eq!(built.disk.content(&name), None);
}

#[test]
fn row_records_read_back_after_a_failed_sync_are_written_again_before_they_count() {
    for seed in 0..40 {
        let built = Built { disk: SimDisk::new(seed), places: Vec::new() };
        let (mut wal, _) = built.open().expect("opens");
        wal.commit(vec![append(1)]).expect("writes");
        let fail_at = Some(built.disk.operations() + 2);
        built.disk.set_faults(Faults { fail_at, ..Faults::default() });
        let error = wal.commit(vec![append(2)]).expect_err("the sync fails");
        assert!(matches!(error, Error::Poisoned { operation: IoOperation::SyncRecords, .. }));
        drop(wal);
        // The cache still shows entry 2. Once opening has told of it, no power cut may take it
        // away.
        let (wal, _) = built.open().expect("opens");
        let last = wal.state(STREAM).expect("reads").last;
        drop(wal);
        built.disk.crash();
        let (wal, _) = built.open().expect("opens");
        assert_eq!(wal.state(STREAM).expect("reads").last, last, "seed {seed}");
    }
}

#[test]
fn museum_m24_opening_many_times_changes_nothing_but_the_count() {
    let built = three();
    for opens in 2..40 {
        let (wal, report) = built.open().expect("opens");
        assert_eq!((report.opens, report.notices.len()), (opens, 0));
        assert_eq!(wal.read(STREAM, 0..9).expect("reads").len(), 3);
    }
}

/// What one may do to a file by hand or by bad luck.
fn harm(disk: &SimDisk, name: &str, how: u64) {
    let content = disk.content(name).expect("listed");
    match how {
        0 => disk.erase(name),
        1 => disk.put(name, &[]),
        2 => disk.put(name, &vec![0; content.len()]),
        3 => disk.flip_bit(name, 45 * 8),
        4 => disk.put(&format!("{name}.copy"), &content),
        _ => {
            disk.erase(name);
            disk.put(&format!("{name}.moved"), &content);
        }
    }
}

#[test]
fn museum_m21_any_file_harmed_in_any_way_is_survived_or_named() {
    let names: Vec<String> =
        three_segments().disk.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 4, "three segments and the watermark: {names:?}");
    for name in &names {
        for how in 0..6 {
            let built = three_segments();
            harm(&built.disk, name, how);
            match built.open() {
                Ok((wal, report)) => {
                    assert_eq!(wal.read(STREAM, 0..99).expect("reads").len(), 6, "{name} {how}");
                    assert_eq!(report.notices.len(), 1, "{name} {how}: {:?}", report.notices);
                }
                Err(error) => {
                    assert!(error.is_corruption(), "{name} {how}: {error}");
                    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
                    let number = digits.trim_start_matches('0');
                    let named = error.to_string();
                    let names_it = if name == "watermark" { "watermark" } else { number };
                    assert!(named.contains(names_it), "{name} {how}: {named}");
                }
            }
        }
    }
}

/// A disk that several threads read at once.
#[derive(Debug)]
struct Shared(SimDisk);

impl Storage for Shared {
    fn lock(&self) -> std::io::Result<Box<dyn Send + Sync>> {
        self.0.lock()
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, name: &str, access: Access) -> std::io::Result<Arc<dyn StorageFile>> {
        self.0.create(name, access)
    }

    fn open(&self, name: &str, access: Access) -> std::io::Result<Arc<dyn StorageFile>> {
        self.0.open(name, access)
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.0.remove(name)
    }

    fn read_workers(&self) -> usize {
        3
    }

    fn sync_dir(&self) -> std::io::Result<()> {
        self.0.sync_dir()
    }
}

#[test]
fn segments_read_side_by_side_are_judged_in_their_order() {
    let batches = || (1..=150).map(|index| vec![append(index)]).collect::<Vec<_>>();
    let built = build(&batches());
    let (open, shared) = (
        |built: &Built| built.open().map(|(wal, report)| (wal.read(STREAM, 0..u64::MAX), report)),
        |built: &Built| {
            built.disk.kill();
            let disk = Arc::new(Shared(built.disk.clone()));
            Wal::open(disk, Built::options())
                .map(|(wal, report)| (wal.read(STREAM, 0..u64::MAX), report))
        },
    );
    let (records, report) = shared(&built).expect("opens");
    assert!(4 < report.segments, "{} segments show nothing", report.segments);
    let (again, _) = open(&built).expect("opens");
    assert_eq!(records.expect("reads"), again.expect("reads"));
    // Damage in several segments of one window: the first of them is named, whoever reads.
    for damaged in [[2, 3], [3, 4], [1, 4]] {
        let built = build(&batches());
        for segment in damaged {
            built.flip(segment, 9_000);
        }
        let errors = [open(&built), shared(&built)].map(|opened| opened.expect_err("damaged"));
        let named = errors.map(|error| {
            let Error::Corrupt { segment, offset, lsn, reason } = error else {
                panic!("named as {error}")
            };
            (segment, offset, lsn, reason)
        });
        assert_eq!(named[0], named[1]);
        assert_eq!(named[0].0, SegmentSeq(damaged[0]));
    }
}
