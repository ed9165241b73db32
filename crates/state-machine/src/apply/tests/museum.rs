//! Bugs that other systems shipped (`docs/TESTING.md`), at the layer that decides.

use crate::ViewError;
use crate::record::FileState;

use super::*;

#[test]
fn museum_m12_a_key_inserted_again_is_not_erased_by_a_later_compaction() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    machine.append(dataset, 1);
    let deleted = machine.tombstone(dataset, &[1]);
    let again = machine.append(dataset, 1);
    let file = machine.seal(dataset);
    machine.attest(dataset, file, 0);
    let cutoff = machine.last();
    let Outcome::CompactionPlanned { file: output } = machine.compact(dataset, &[file], cutoff)
    else {
        panic!("it is planned")
    };
    // The tombstone names rows below its own index only, and the row came back above it.
    let blocks = catalog::tombstones(&machine.store, dataset, cutoff).expect("reads");
    assert_eq!(blocks.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [deleted]);
    assert!(deleted < again);
    // A compaction that hid both rows has none left: it is not accepted as written.
    assert_rejected(machine.attest(dataset, output, 2), "there is no row in it");
    assert_eq!(machine.attest(dataset, output, 1), Outcome::Attested { file: output });
    let FileState::Live(attested) = machine.file(dataset, output).expect("live").state else {
        panic!("it is live")
    };
    assert_eq!((attested.rows, attested.last_index), (1, again));
}

#[test]
fn museum_m13_a_thousand_identical_registers_make_one_dataset_with_one_id() {
    let mut machine = Machine::new();
    let first = machine.register("flights");
    let digest = machine.digest();
    for _ in 0..1_000 {
        let outcome = machine.run(Command::Register(register("flights")));
        let schema_version = SchemaVersion(1);
        let expect = Outcome::Registered { dataset: first, schema_version, existing: true };
        assert_eq!(outcome, expect);
    }
    assert_eq!(machine.digest(), digest);
    assert_eq!(catalog::list(&machine.store, LogIndex::MAX).expect("reads").len(), 1);
}

#[test]
fn museum_m15_a_conflict_leaves_every_byte_untouched() {
    let mut machine = Machine::new();
    let dataset = machine.register("flights");
    machine.live_file(dataset, 5);
    machine.upsert(dataset, &[1]);
    let digest = machine.digest();
    for change in [
        (|command| command.bucket = "other".to_owned()) as fn(&mut Register),
        |command| command.options.seal_rows += 1,
        |command| command.schema.fields[1].data_type = DataType::Binary,
        |command| command.schema.key_columns.clear(),
        |command| drop(command.schema.fields.pop()),
    ] {
        let mut command = register("flights");
        change(&mut command);
        let expect = "dataset \"flights\" exists with another schema or other options; \
                      evolve it, or choose another name";
        assert_rejected(machine.run(Command::Register(command)), expect);
        assert_eq!(machine.digest(), digest);
    }
}

#[test]
fn museum_m18_drop_and_register_again_gives_a_new_life() {
    let mut machine = Machine::new();
    let first = machine.register("flights");
    machine.live_file(first, 5);
    machine.upsert(first, &[1, 2]);
    let before = machine.last();
    machine.drop_dataset(first);
    let second = machine.register("flights");
    assert_eq!(second.id, first.id);
    assert!(second.incarnation > first.incarnation);
    let counters = catalog::counters(&machine.store, second).expect("reads");
    assert_eq!((counters.rows_added, counters.unsealed_rows, counters.keys_hidden), (0, 0, 0));
    assert_eq!(catalog::files(&machine.store, second, LogIndex::MAX).expect("reads"), []);
    assert_eq!(machine.delta_indexes(second), [0_u64; 0]);
    let (command, body) = append(first, SchemaVersion(1), 1);
    let outcome = machine.run_with(command, &body);
    assert_rejected(outcome, &format!("dataset {first} does not exist"));
    // The past of the name is the first life.
    let name = "flights".parse().expect("a legal name");
    let found = catalog::find(&machine.store, &name, before).expect("reads");
    assert_eq!(found.map(|record| record.dataset), Some(first));
}

#[test]
fn museum_m24_a_hundred_retries_advance_the_version_once() {
    let mut machine = Machine::new();
    let session = machine.open_session(0);
    let dataset = machine.register("flights");
    let add = SchemaChange::Add(field("more", DataType::Utf8, true));
    let command = Command::Evolve(Evolve { dataset, changes: vec![add] });
    let first = machine.in_session(session, 1, command.clone());
    let digest = machine.digest();
    for _ in 0..100 {
        assert_eq!(machine.in_session(session, 1, command.clone()), first);
    }
    assert_eq!(machine.dataset(dataset).schema_version, SchemaVersion(2));
    assert_eq!(machine.digest(), digest);
}

#[test]
fn museum_m44_upserts_of_one_key_hide_each_other_in_log_order() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let indexes: Vec<u64> = (0..10).map(|_| machine.upsert(dataset, &[7]).0).collect();
    assert_eq!(machine.delta_indexes(dataset), indexes);
    let blocks = catalog::tombstones(&machine.store, dataset, LogIndex::MAX).expect("reads");
    let visible = indexes.iter().filter(|&&row| {
        let hides = |(index, block): &(LogIndex, KeyBlock)| {
            index.0 > row && block.contains(block.bounds().expect("one key").0)
        };
        !blocks.iter().any(hides)
    });
    assert_eq!(visible.collect::<Vec<_>>(), [&indexes[9]]);
    // Two rows of one key in one entry are refused: neither would be the later one.
    let mut twice = Vec::from(2_u32.to_le_bytes());
    let key = block(&[7]).bounds().expect("one key").0.to_vec();
    for offset in [0, key.len(), 2 * key.len()] {
        twice.extend_from_slice(&u32::try_from(offset).expect("small").to_le_bytes());
    }
    twice.extend_from_slice(&key);
    twice.extend_from_slice(&key);
    let mut body = vec![7; 128];
    body.extend_from_slice(&twice);
    let source = RowSource::Inline { rows: 2, rows_bytes: 100 };
    let command = Upsert { dataset, schema_version: SchemaVersion(1), source };
    assert_rejected(
        machine.run_with(Command::Upsert(command), &body.into()),
        "illegal upsert command: a key block is damaged: its keys do not strictly ascend",
    );
}

#[test]
fn museum_m16_what_one_dataset_has_expired_closes_no_other() {
    let mut machine = Machine::new();
    let (expired, other) = (machine.register("expired"), machine.register("other"));
    let before = machine.append(expired, 1);
    // The first expire writes a record, and the second prunes the one before it.
    machine.append(other, 1);
    machine.expire(expired, before.0 + 1);
    let floor = machine.append(other, 1);
    machine.expire(expired, floor.0);
    assert_eq!(catalog::dataset(&machine.store, expired, before).expect("reads"), None);
    let name = |name: &str| name.parse().expect("legal");
    let found = catalog::find(&machine.store, &name("expired"), before);
    let below = matches!(
        &found,
        Err(ViewError::BelowFloor { dataset, asked, floor: lowest })
            if dataset == "expired" && *asked == before && *lowest == floor
    );
    assert!(below, "{found:?}");
    let found = catalog::find(&machine.store, &name("other"), before).expect("reads");
    assert_eq!(found.map(|record| record.dataset), Some(other));
    let listed = catalog::list(&machine.store, before).expect("reads");
    assert_eq!(listed.iter().map(|record| record.dataset).collect::<Vec<_>>(), [other]);
    assert_eq!(catalog::names(&machine.store, before).expect("reads").len(), 2);
    assert_eq!(catalog::list(&machine.store, floor).expect("reads").len(), 2);
}
