//! Damage is found and named, and never becomes a file that readers use.

use alluvium_state_machine::record::{DeltaEntry, DeltaRecord, FileContent, FileRecord};
use alluvium_types::{AttestOutcome, Entry, ErrorKind, LogIndex};
use bytes::Bytes;
use futures::executor::block_on;
use object_store::ObjectStoreExt;

use super::lake::{Lake, row};
use crate::compact::conserve;
use crate::*;

fn overwrite(lake: &Lake, record: &FileRecord, bytes: Bytes) {
    let key = object_key(lake.dataset, record.file, record.generation);
    block_on(lake.bucket.store().put(&key, bytes.into())).expect("overwritten");
}

fn damaged(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes.into()
}

fn message(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", message(source)));
    format!("{error}{}", source.unwrap_or_default())
}

#[test]
fn a_missing_or_foreign_entry_fails_the_seal_and_is_named() {
    let mut lake = Lake::new();
    lake.append(&[row(b"a", "1")]);
    let entry = LogIndex(lake.last().0);
    lake.append(&[row(b"b", "1"), row(b"c", "1")]);
    let plan = lake.plan_seal();
    let other = lake.log.0.lock().expect("no panic").get(&entry.next()).cloned().expect("there");
    let cases = [
        (None, "log entry 2 is purged"),
        (Some(other), "log entry 2 does not hold the rows"),
        (Some(Entry::blank()), "log entry 2 does not hold the rows"),
    ];
    for (replacement, expected) in cases {
        {
            let mut log = lake.log.0.lock().expect("no panic");
            log.remove(&entry);
            replacement.map(|replacement| log.insert(entry, replacement));
        }
        let error = lake.make(&plan).expect_err("an entry is wrong");
        assert!(error.to_string().starts_with(expected), "{error}");
        let key = object_key(lake.dataset, plan.file, plan.generation);
        assert!(block_on(lake.bucket.head(&key)).expect("probed").is_none());
        let report = block_on(verify_dataset(&lake.context(), lake.last())).expect("looked");
        assert_eq!(report.damage.len(), 1);
        assert!(report.damage[0].to_string().contains(expected), "{}", report.damage[0]);
    }
}

#[test]
fn a_delta_with_other_counts_than_its_entry_is_refused() {
    let mut lake = Lake::new();
    lake.append(&[row(b"a", "1"), row(b"b", "1")]);
    let (schema_version, schema) = lake.schema();
    let body = lake.log.entry(lake.last()).expect("there").body().len();
    let rows_bytes = u32::try_from(body).expect("small");
    for (rows, rows_bytes, total) in
        [(1, rows_bytes, 1), (2, rows_bytes - 64, 2), (2, rows_bytes, 3)]
    {
        let entries = vec![DeltaEntry { index: lake.last(), rows, rows_bytes }];
        let delta = DeltaRecord { schema_version, rows: total, bytes: 0, entries };
        let error = read_delta(lake.log.as_ref(), &delta, lake.last(), &schema);
        assert_eq!(error.expect_err("differs").kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn other_bytes_under_the_key_are_a_conflict_and_stay_untouched() {
    let mut lake = Lake::new();
    lake.append(&[row(b"a", "1")]);
    let plan = lake.plan_seal();
    overwrite(&lake, &plan, Bytes::from_static(b"somebody else's"));
    let error = lake.make(&plan).expect_err("a conflict");
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Corrupt, false));
    assert!(
        message(&error).contains("other bytes") || message(&error).contains("already"),
        "{}",
        message(&error)
    );
    assert_eq!(lake.bytes(&plan), Bytes::from_static(b"somebody else's"));
}

#[test]
fn a_damaged_or_missing_input_fails_the_compaction_for_good() {
    let mut lake = Lake::new();
    lake.append(&[row(b"a", "1")]);
    let input = lake.seal();
    let whole = lake.bytes(&input);
    lake.append(&[row(b"b", "1")]);
    lake.seal();
    let plan = lake.plan_compaction();
    overwrite(&lake, &input, damaged(&whole));
    let error = lake.make(&plan).expect_err("damaged");
    assert!(!error.is_transient() && message(&error).contains("block 0 is damaged"), "{error}");
    let key = object_key(lake.dataset, input.file, input.generation);
    block_on(lake.bucket.delete(&key)).expect("deleted");
    assert!(message(&lake.make(&plan).expect_err("missing")).contains("is missing"));
    overwrite(&lake, &input, whole);
    let outcome = lake.make(&plan).expect("whole again");
    lake.attest(&plan, outcome);
    lake.check();
}

#[test]
fn scrub_and_verify_name_each_file_that_is_not_as_attested() {
    let mut lake = Lake::new();
    let mut files = Vec::new();
    for key in [b"a", b"b", b"c", b"d"] {
        lake.append(&[row(key, "1")]);
        files.push(lake.seal());
    }
    lake.append(&[row(b"e", "1")]);
    let context = lake.context();
    let mut throttled = 0;
    let reports = block_on(scrub(&context, lake.last(), |bytes| {
        throttled += bytes;
        std::future::ready(())
    }));
    let reports = reports.expect("looked");
    assert!(reports.iter().all(|report| report.fault.is_none()) && reports.len() == 4);
    assert_eq!(throttled, reports.iter().map(|report| report.bytes).sum::<u64>());
    let clean = block_on(verify_dataset(&context, lake.last())).expect("looked");
    assert_eq!((clean.files, clean.deltas, clean.rows, clean.damage.len()), (4, 1, 5, 0));

    overwrite(&lake, &files[0], damaged(&lake.bytes(&files[0])));
    let longer = [&lake.bytes(&files[1])[..], b"x"].concat();
    overwrite(&lake, &files[1], longer.into());
    let key = object_key(lake.dataset, files[2].file, files[2].generation);
    block_on(lake.bucket.delete(&key)).expect("deleted");
    let reports = block_on(scrub(&context, lake.last(), |_| std::future::ready(())));
    let faults: Vec<String> = reports
        .expect("looked")
        .iter()
        .map(|report| report.fault.as_ref().map_or(String::new(), |fault| message(fault)))
        .collect();
    assert!(faults[0].contains("block 0 is damaged"), "{faults:?}");
    assert!(faults[1].contains("bytes, expected"), "{faults:?}");
    assert!(faults[2].contains("is missing") && faults[3].is_empty(), "{faults:?}");
    let found = block_on(verify_dataset(&context, lake.last())).expect("looked");
    assert_eq!((found.files, found.damage.len()), (4, 3));
}

#[test]
fn rows_that_do_not_add_up_are_refused_by_count_and_by_sum() {
    let mut lake = Lake::new();
    lake.append(&[row(b"a", "1")]);
    let plan = lake.seal();
    let sums = |rows, hash_sum| Sums { rows, hash_sum };
    conserve(&plan, sums(5, 3), sums(2, u128::MAX), sums(3, 4)).expect("sums wrap");
    for (hidden, out) in
        [(sums(2, 1), sums(2, 2)), (sums(2, 1), sums(3, 3)), (sums(6, 1), sums(0, 2))]
    {
        let error = conserve(&plan, sums(5, 3), hidden, out).expect_err("does not add up");
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Internal, false));
        assert!(error.to_string().contains("conservation failed"), "{error}");
    }
}

#[test]
fn an_input_that_does_not_hold_the_attested_rows_is_named_when_they_do_not_add_up() {
    let mut lake = Lake::new();
    lake.append(&[row(b"a", "1"), row(b"b", "1")]);
    lake.seal();
    lake.append(&[row(b"c", "1")]);
    let plan = lake.plan_seal();
    let AttestOutcome::Written(mut attested) = lake.make(&plan).expect("made") else {
        panic!("there are rows")
    };
    attested.row_hash_sum = attested.row_hash_sum.wrapping_add(1);
    lake.attest(&plan, AttestOutcome::Written(attested));
    lake.tombstone(&[b"a"]);
    let compaction = lake.plan_compaction();
    let error = lake.make(&compaction).expect_err("rows out are not the attested rows in");
    assert!(matches!(error, Error::Differs { file, .. } if file == plan.file), "{error}");
    assert_eq!(lake.live().len(), 2, "readers keep the inputs");
}

#[test]
fn a_plan_of_another_kind_or_with_other_rows_is_refused() {
    let mut lake = Lake::new();
    lake.append(&[row(b"a", "1")]);
    let plan = lake.plan_seal();
    let more = FileRecord { rows_planned: 2, ..plan.clone() };
    let error = lake.make(&more).expect_err("a row is missing").to_string();
    assert!(error.contains("have 1 rows, 2 were planned"), "{error}");
    let compaction = FileContent::Compaction { inputs: vec![plan.file], cutoff: lake.last() };
    let other = FileRecord { content: compaction, ..plan };
    assert!(lake.make(&other).is_err_and(|e| matches!(e, Error::Plan { .. })));
    let unplanned = FileRecord { generation: 1, ..other };
    assert!(lake.make(&unplanned).is_err_and(|e| matches!(e, Error::Input { .. })));
}
