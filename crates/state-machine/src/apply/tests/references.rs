//! Which log entries a state refers to, told by the rows of its snapshot alone.

use std::collections::BTreeSet;

use alluvium_types::{StageContent, TombstoneSource, UploadId};
use proptest::prelude::*;

use super::rows::{UPLOAD, body, rows_part, stage, staged_append};
use super::sequences::record;
use super::*;
use crate::record::UploadPartRecord;
use crate::view::decode_record;
use crate::{SnapshotError, StoreError, references};

fn found(store: &MemoryStore) -> Vec<u64> {
    let mut stream = Vec::new();
    let exported = store.export(&mut stream).expect("exports");
    let (meta, found) = references(&mut stream.as_slice()).expect("reads");
    assert_eq!(meta, exported, "the stream was verified");
    found.into_iter().map(|index| index.0).collect()
}

#[test]
fn inline_rows_are_referred_to_until_their_file_is_attested() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    assert_eq!(found(&machine.store), [0_u64; 0]);
    let appended = machine.append(dataset, 3);
    let upserted = machine.upsert(dataset, &[1, 2]);
    machine.tombstone(dataset, &[1]);
    assert_eq!(found(&machine.store), [appended.0, upserted.0], "a tombstone's keys are state");
    let file = machine.seal(dataset);
    let later = machine.append(dataset, 1);
    let all = [appended.0, upserted.0, later.0];
    assert_eq!(found(&machine.store), all, "a planned file has no rows yet");
    machine.attest(dataset, file, 0);
    assert_eq!(found(&machine.store), [later.0]);
    assert_eq!(machine.drop_dataset(dataset), Outcome::Dropped);
    assert_eq!(found(&machine.store), [0_u64; 0]);
}

#[test]
fn the_parts_of_an_upload_are_referred_to_while_it_is_open_and_as_rows_of_its_delta() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    machine.run_with(rows_part(dataset, 0), &body(1));
    let other = machine.register("b");
    machine.run_with(rows_part(dataset, 1), &body(1));
    assert_eq!(found(&machine.store), [2, 4]);
    assert_eq!(machine.run(staged_append(dataset, 2)), Outcome::Appended { rows: 21 });
    assert_eq!(found(&machine.store), [2, 4], "the entry that made them visible has no rows");
    let file = machine.seal(dataset);
    machine.attest(dataset, file, 0);
    assert_eq!(found(&machine.store), [0_u64; 0]);

    let first = machine.last().next();
    machine.run_with(stage(other, 0, StageContent::Keys), block(&[1]).as_bytes());
    machine.run_with(stage(other, 1, StageContent::Keys), block(&[2]).as_bytes());
    assert_eq!(found(&machine.store), [first.0, first.0 + 1]);
    let source = TombstoneSource::Staged { upload: UPLOAD, parts: 2, content_hash: 0 };
    machine.run(Command::Tombstone(Tombstone { dataset: other, source, predicate: None }));
    assert_eq!(found(&machine.store), [0_u64; 0], "the keys are state now");
}

#[test]
fn an_upload_that_expired_or_whose_dataset_was_dropped_refers_to_nothing() {
    let mut machine = Machine::new();
    let (kept, dropped) = (machine.register("a"), machine.register("b"));
    machine.run_with(rows_part(kept, 0), &body(1));
    let upload = UploadId(UPLOAD.0 + 1);
    let content = StageContent::Rows { schema_version: SchemaVersion(1), rows: 1 };
    let stage = alluvium_types::Stage { dataset: dropped, upload, part: 0, content };
    machine.run_with(Command::Stage(stage), &body(2));
    assert_eq!(found(&machine.store), [3, 4]);
    machine.drop_dataset(dropped);
    assert_eq!(found(&machine.store), [3]);
    machine.now_ms += limits::UPLOAD_TTL_MS + 1;
    machine.open_session(0);
    let left = catalog::keys(&machine.store, Table::UploadPart, &Key::empty()).expect("reads");
    assert_eq!(left.len(), 1, "it expired and is still there");
    assert_eq!(found(&machine.store), [0_u64; 0]);
}

/// What a state refers to, by the reads that everyone else uses.
fn by_catalog(store: &MemoryStore) -> BTreeSet<LogIndex> {
    let mut expect = BTreeSet::new();
    for record in catalog::list(store, LogIndex::MAX).expect("reads") {
        for (_, delta) in catalog::deltas(store, record.dataset, LogIndex::MAX).expect("reads") {
            expect.extend(delta.entries.iter().map(|entry| entry.index));
        }
    }
    let now_ms = catalog::clock(store).expect("reads");
    for (id, value) in
        store.scan_prefix(Table::Upload, &Key::empty(), LogIndex::MAX).expect("reads")
    {
        let upload: crate::record::UploadRecord =
            decode_record(Table::Upload, &value).expect("decodes");
        for (_, part) in store.scan_prefix(Table::UploadPart, &id, LogIndex::MAX).expect("reads") {
            let part: UploadPartRecord = decode_record(Table::UploadPart, &part).expect("decodes");
            if upload.is_open(now_ms) {
                expect.insert(part.index);
            }
        }
    }
    expect
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_rows_of_a_snapshot_tell_what_catalog_and_retention_tell(
        seed: u64,
        length in 1_usize..200,
    ) {
        let (machine, _, _) = record(seed, length);
        let expect = by_catalog(&machine.store);
        let retained = catalog::retained_from(&machine.store, LogIndex::MAX).expect("reads");
        prop_assert_eq!(expect.first().copied(), retained);
        let expect: Vec<u64> = expect.into_iter().map(|index| index.0).collect();
        prop_assert_eq!(found(&machine.store), expect);
    }
}

#[test]
fn a_damaged_stream_tells_nothing() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    machine.append(dataset, 3);
    let mut stream = Vec::new();
    machine.store.export(&mut stream).expect("exports");
    let cut = &stream[..stream.len() - 1];
    let error = references(&mut { cut }).expect_err("cut");
    let is_cut = matches!(error, StoreError::Snapshot { source: SnapshotError::Read { .. } });
    assert!(is_cut, "{error:?}");
}
