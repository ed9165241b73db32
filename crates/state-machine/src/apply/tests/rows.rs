//! Append, upsert, tombstone, and their staged forms.

use alluvium_types::{Stage, StageContent, UploadId};

use super::*;

pub(super) const UPLOAD: UploadId = UploadId(9);

pub(super) fn stage(dataset: DatasetKey, part: u32, content: StageContent) -> Command {
    Command::Stage(Stage { dataset, upload: UPLOAD, part, content })
}

pub(super) fn rows_part(dataset: DatasetKey, part: u32) -> Command {
    let content = StageContent::Rows { schema_version: SchemaVersion(1), rows: 10 + part };
    stage(dataset, part, content)
}

pub(super) fn staged_append(dataset: DatasetKey, parts: u32) -> Command {
    let source = RowSource::Staged { upload: UPLOAD, parts, content_hash: 0 };
    Command::Append(Append { dataset, schema_version: SchemaVersion(1), source })
}

pub(super) fn body(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 64])
}

fn fault(text: &str) -> String {
    format!("upload {UPLOAD}: {text}")
}

#[test]
fn an_append_is_a_delta_at_its_index() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let index = machine.append(dataset, 3);
    let deltas = catalog::deltas(&machine.store, dataset, LogIndex::MAX).expect("reads");
    assert_eq!(deltas.len(), 1);
    let (at, delta) = &deltas[0];
    assert_eq!((*at, delta.rows, delta.bytes, delta.entries.len()), (index, 3, 100, 1));
    assert_eq!(delta.entries[0].index, index);
    let before = catalog::deltas(&machine.store, dataset, LogIndex(index.0 - 1));
    assert_eq!(before.expect("reads"), []);
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let mut refuse = |rows, rows_bytes, expect: &str| {
        let source = RowSource::Inline { rows, rows_bytes };
        let schema_version = SchemaVersion(1);
        let command = Command::Append(Append { dataset, schema_version, source });
        assert_rejected(machine.run_with(command, &body(1)), expect);
    };
    refuse(0, 64, "there is no row in it");
    refuse(1, 65, "illegal append command: its rows are not in its body");
    refuse(1, 0, "illegal append command: its rows are not in its body");
    refuse(1_048_577, 64, "illegal append command: an entry has at most 1,048,576 rows");
}

#[test]
fn an_upsert_adds_rows_and_hides_older_ones_at_one_index() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let index = machine.upsert(dataset, &[3, 1]);
    assert_eq!(machine.delta_indexes(dataset), [index.0]);
    let blocks = catalog::tombstones(&machine.store, dataset, LogIndex::MAX).expect("reads");
    assert_eq!(blocks, [(index, block(&[1, 3]))]);
    let after = catalog::tombstones_after(&machine.store, dataset, index, LogIndex::MAX);
    assert_eq!(after.expect("reads"), []);
}

#[test]
fn keys_are_checked_in_apply() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let outcome = machine.run_with(tombstone(dataset), &Bytes::from_static(b"abc"));
    assert_rejected(outcome, "illegal tombstone command: a key block is damaged: it has no count");
    let outcome = machine.run_with(tombstone(dataset), block(&[]).as_bytes());
    assert_rejected(outcome, "illegal tombstone command: it names no key");
    let (command, body) = upsert(dataset, &[1, 2]);
    let Command::Upsert(mut command) = command else { panic!("an upsert") };
    command.source = RowSource::Inline { rows: 3, rows_bytes: 100 };
    let outcome = machine.run_with(Command::Upsert(command), &body);
    assert_rejected(outcome, "illegal upsert command: an upsert has one key a row");
    let mut keyless = register("b");
    keyless.schema.key_columns.clear();
    let outcome = machine.run(Command::Register(keyless));
    let Outcome::Registered { dataset, .. } = outcome else { panic!("{outcome:?}") };
    let expect = "the dataset has no key columns, so no row of it can be named";
    assert_rejected(machine.run_with(tombstone(dataset), block(&[1]).as_bytes()), expect);
    let (command, body) = upsert(dataset, &[1]);
    assert_rejected(machine.run_with(command, &body), expect);
}

#[test]
fn staged_parts_become_visible_together_at_the_index_of_their_command() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    for part in 0..3 {
        let outcome = machine.run_with(rows_part(dataset, part), &body(1));
        assert_eq!(outcome, Outcome::Staged { upload: UPLOAD, part });
    }
    assert_eq!(machine.delta_indexes(dataset), [0_u64; 0]);
    let retained = catalog::retained_from(&machine.store, LogIndex::MAX).expect("reads");
    assert_eq!(retained, Some(LogIndex(2)), "the parts are needed");
    let outcome = machine.run(staged_append(dataset, 3));
    assert_eq!(outcome, Outcome::Appended { rows: 33 });
    let deltas = catalog::deltas(&machine.store, dataset, LogIndex::MAX).expect("reads");
    let (at, delta) = &deltas[0];
    assert_eq!(*at, LogIndex(5));
    let entries: Vec<_> = delta.entries.iter().map(|e| (e.index.0, e.rows)).collect();
    assert_eq!(entries, [(2, 10), (3, 11), (4, 12)]);
    let retained = catalog::retained_from(&machine.store, LogIndex::MAX).expect("reads");
    assert_eq!(retained, Some(LogIndex(2)), "the entries are below the visible index");
    assert_rejected(
        machine.run(staged_append(dataset, 3)),
        &fault("it is not open; it may have expired"),
    );
}

#[test]
fn a_repeated_part_is_accepted_once_and_conflicts_are_refused() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    machine.run_with(rows_part(dataset, 0), &body(1));
    let digest = machine.digest();
    let again = machine.run_with(rows_part(dataset, 0), &body(1));
    assert_eq!(again, Outcome::Staged { upload: UPLOAD, part: 0 });
    assert_eq!(machine.digest(), digest);
    let order = fault("its parts do not follow each other");
    assert_rejected(machine.run_with(rows_part(dataset, 0), &body(2)), &order);
    assert_rejected(machine.run_with(rows_part(dataset, 2), &body(1)), &order);
    let mixed = fault("its parts are of another kind, schema or dataset");
    let other = stage(dataset, 1, StageContent::Keys);
    assert_rejected(machine.run_with(other, block(&[1]).as_bytes()), &mixed);
    let elsewhere = machine.register("b");
    assert_rejected(machine.run_with(rows_part(elsewhere, 1), &body(1)), &mixed);
    assert_rejected(machine.run(staged_append(elsewhere, 1)), &mixed);
    let count = fault("it has another number of parts");
    assert_rejected(machine.run(staged_append(dataset, 2)), &count);
    let many = fault("it has too many parts");
    assert_rejected(machine.run_with(rows_part(dataset, 1_024), &body(1)), &many);
    assert_eq!(machine.run(staged_append(dataset, 1)), Outcome::Appended { rows: 10 });
}

#[test]
fn staged_keys_ascend_from_part_to_part() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let mut keys = |part, keys: &[i64]| {
        let body = block(keys).as_bytes().clone();
        machine.run_with(stage(dataset, part, StageContent::Keys), &body)
    };
    keys(0, &[1, 5]);
    let order = fault("its keys do not ascend from part to part");
    assert_rejected(keys(1, &[5, 9]), &order);
    assert_eq!(keys(1, &[6, 9]), Outcome::Staged { upload: UPLOAD, part: 1 });
    let source = TombstoneSource::Staged { upload: UPLOAD, parts: 2, content_hash: 0 };
    let command = Tombstone { dataset, source, predicate: None };
    let outcome = machine.run(Command::Tombstone(command));
    assert_eq!(outcome, Outcome::Tombstoned { keys: 4 });
    let index = machine.last();
    let blocks = catalog::tombstones(&machine.store, dataset, LogIndex::MAX).expect("reads");
    assert_eq!(blocks, [(index, block(&[1, 5])), (index, block(&[6, 9]))]);
    let left = catalog::keys(&machine.store, Table::UploadKeys, &Key::empty());
    assert_eq!(left.expect("reads"), []);
}

#[test]
fn a_staged_upsert_has_rows_and_keys_in_each_part() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    for (part, keys) in [(0, [1, 2]), (1, [3, 4])] {
        let (_, body) = upsert(dataset, &keys);
        let schema_version = SchemaVersion(1);
        let content = StageContent::KeyedRows { schema_version, rows: 2, rows_bytes: 100 };
        let outcome = machine.run_with(stage(dataset, part, content), &body);
        assert_eq!(outcome, Outcome::Staged { upload: UPLOAD, part });
    }
    let source = RowSource::Staged { upload: UPLOAD, parts: 2, content_hash: 0 };
    let command = Upsert { dataset, schema_version: SchemaVersion(1), source };
    assert_eq!(machine.run(Command::Upsert(command)), Outcome::Upserted { rows: 4 });
    let index = machine.last().0;
    assert_eq!(machine.delta_indexes(dataset), [index]);
    assert_eq!(machine.tombstone_indexes(dataset, LogIndex::MAX), [index, index]);
}

#[test]
fn uploads_expire_by_log_time_and_are_bounded() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let begin = |upload| {
        let content = StageContent::Rows { schema_version: SchemaVersion(1), rows: 1 };
        Command::Stage(Stage { dataset, upload: UploadId(upload), part: 0, content })
    };
    for upload in 100..356 {
        let outcome = machine.run_with(begin(upload), &body(1));
        assert_eq!(outcome, Outcome::Staged { upload: UploadId(upload), part: 0 });
    }
    assert_rejected(machine.run_with(begin(356), &body(1)), "256 uploads are open already");
    machine.now_ms += limits::UPLOAD_TTL_MS + 1;
    let outcome = machine.run_with(begin(356), &body(1));
    assert_eq!(outcome, Outcome::Staged { upload: UploadId(356), part: 0 });
    // Expired uploads hold nothing back, removed or not.
    let retained = catalog::retained_from(&machine.store, LogIndex::MAX).expect("reads");
    assert_eq!(retained, Some(machine.last()));
    let source = RowSource::Staged { upload: UploadId(300), parts: 1, content_hash: 0 };
    let command = Append { dataset, schema_version: SchemaVersion(1), source };
    assert_rejected(
        machine.run(Command::Append(command)),
        "upload 0000000000000000000000000000012c: it is not open; it may have expired",
    );
    // The id can be used again.
    let outcome = machine.run_with(begin(300), &body(2));
    assert_eq!(outcome, Outcome::Staged { upload: UploadId(300), part: 0 });
}

#[test]
fn files_are_cut_by_bytes_rows_or_deltas() {
    let mut machine = Machine::new();
    for (name, seal_bytes, seal_rows, appends) in
        [("a", 250, 1_000, 3), ("b", 1_000_000, 5, 3), ("c", 1, 1, 1)]
    {
        let mut command = register(name);
        command.options.seal_bytes = seal_bytes;
        command.options.seal_rows = seal_rows;
        let outcome = machine.run(Command::Register(command));
        let Outcome::Registered { dataset, .. } = outcome else { panic!("{outcome:?}") };
        for append in 1..=appends {
            assert_eq!(catalog::planned(&machine.store).expect("reads"), []);
            let index = machine.append(dataset, 2);
            let due = append == appends;
            let file = FileId(index.0);
            assert_eq!(machine.effects.contains(&Effect::WriteFile { dataset, file }), due);
        }
        let counters = catalog::counters(&machine.store, dataset).expect("reads");
        assert_eq!((counters.unsealed_rows, counters.unsealed_first), (0, LogIndex(0)));
        let planned = catalog::planned(&machine.store).expect("reads");
        assert_eq!(planned, [(dataset, FileId(machine.last().0))]);
        machine.attest(dataset, planned[0].1, 0);
    }
}

/// A view in which the command of an upload is applied when the first scan ends.
struct Moving {
    machine: std::cell::RefCell<Machine>,
    command: std::cell::Cell<Option<Command>>,
}

impl View for Moving {
    fn get_at(&self, table: Table, key: &Key, at: LogIndex) -> Result<Option<Vec<u8>>, ViewError> {
        self.machine.borrow().store.get_at(table, key, at)
    }

    fn scan_at(
        &self,
        range: &crate::view::ScanRange<'_>,
        at: LogIndex,
    ) -> Result<Vec<(Key, Vec<u8>)>, ViewError> {
        let found = self.machine.borrow().store.scan_at(range, at);
        if let Some(command) = self.command.take() {
            let outcome = self.machine.borrow_mut().run(command);
            assert!(matches!(outcome, Outcome::Appended { .. }), "{outcome:?}");
        }
        found
    }

    fn versions(&self, table: Table, key: &Key) -> Result<Vec<crate::view::Version>, ViewError> {
        self.machine.borrow().store.versions(table, key)
    }

    fn prunable(
        &self,
        range: &crate::view::ScanRange<'_>,
        floor: LogIndex,
    ) -> Result<Vec<(Key, u64)>, ViewError> {
        self.machine.borrow().store.prunable(range, floor)
    }
}

#[test]
fn an_upload_that_becomes_visible_while_the_log_s_need_is_read_is_still_needed() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let outcome = machine.run_with(rows_part(dataset, 0), &body(1));
    assert!(matches!(outcome, Outcome::Staged { .. }), "{outcome:?}");
    let first = machine.last();
    let command = std::cell::Cell::new(Some(staged_append(dataset, 1)));
    let moving = Moving { machine: std::cell::RefCell::new(machine), command };
    let retained = catalog::retained_from(&moving, LogIndex::MAX).expect("reads");
    assert!(moving.command.take().is_none(), "it was applied in between");
    assert_eq!(retained, Some(first));
}
