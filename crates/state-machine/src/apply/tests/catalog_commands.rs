//! Register, evolve, drop, and the index that a caller expects.

use super::*;

#[test]
fn a_new_dataset_gets_ids_in_order_and_starts_empty() {
    let mut machine = Machine::new();
    machine.open_session(0);
    let dataset = machine.register("a");
    assert_eq!(dataset.incarnation.0, 2, "the index of its entry");
    let record = machine.dataset(dataset);
    assert_eq!((record.schema_version, record.next_field), (SchemaVersion(1), 5));
    let schema = catalog::schema(&machine.store, dataset, SchemaVersion(1), LogIndex::MAX);
    let schema = schema.expect("reads");
    let ids: Vec<u32> = schema.fields.iter().map(|field| field.id.0).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(schema.fields[2].data_type.children()[0].id.0, 4);
    let counters = catalog::counters(&machine.store, dataset).expect("reads");
    assert_eq!((counters.changed_at, counters.rows_added), (LogIndex(2), 0));
}

#[test]
fn the_same_registration_is_the_same_dataset_even_after_it_evolved() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    machine.evolve(dataset, vec![SchemaChange::Add(field("more", DataType::Utf8, true))]);
    let again = machine.run(Command::Register(register("a")));
    let schema_version = SchemaVersion(2);
    assert_eq!(again, Outcome::Registered { dataset, schema_version, existing: true });
    // Ids in the request mean nothing.
    let mut numbered = register("a");
    numbered.schema.fields[1].id = FieldId(99);
    let again = machine.run(Command::Register(numbered));
    assert_eq!(again, Outcome::Registered { dataset, schema_version, existing: true });
}

#[test]
fn illegal_registrations_are_refused_in_words() {
    let mut machine = Machine::new();
    let mut refuse = |change: fn(&mut Register), expect: &str| {
        let mut command = register("a");
        change(&mut command);
        assert_rejected(machine.run(Command::Register(command)), expect);
    };
    refuse(
        |command| command.schema.fields.clear(),
        "illegal register command: a schema must have at least one column",
    );
    refuse(
        |command| command.schema.fields[0].nullable = true,
        "illegal register command: key column \"id\" must not be nullable: a NULL key cannot be \
         named by a tombstone",
    );
    refuse(
        |command| command.options.recipe.row_group_rows = 0,
        "illegal register command: a row group has between 1,024 and 16,777,216 rows",
    );
    refuse(
        |command| command.options.recipe.codec = alluvium_types::Codec::Zstd { level: 23 },
        "illegal register command: a Zstandard level is between 1 and 22",
    );
    refuse(
        |command| command.options.recipe.writer_version = 2,
        "illegal register command: the writer has no such version",
    );
    refuse(
        |command| command.options.seal_bytes = u64::MAX,
        "illegal register command: a file is cut at 1 byte to 1.5 GiB and at one row or more",
    );
    refuse(
        |command| command.bucket = "b".repeat(300),
        "illegal register command: the bucket name of an entry has 300 bytes, the limit is 256",
    );
}

#[test]
fn evolve_names_columns_as_they_were_before_and_keeps_their_ids() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let rename = |column: &str, to: &str| SchemaChange::Rename {
        column: column.to_owned(),
        to: to.to_owned(),
    };
    let widen = |column: &str, to| SchemaChange::Widen { column: column.to_owned(), to };
    let outcome = machine.evolve(
        dataset,
        vec![
            rename("id", "text"),
            rename("text", "id"),
            widen("id", DataType::Int64),
            SchemaChange::Drop { column: "place".to_owned() },
            SchemaChange::Add(field("place", DataType::Boolean, true)),
        ],
    );
    assert_eq!(outcome, Outcome::Evolved { schema_version: SchemaVersion(2) });
    let schema = catalog::schema(&machine.store, dataset, SchemaVersion(2), LogIndex::MAX);
    let schema = schema.expect("reads");
    let fields: Vec<_> =
        schema.fields.iter().map(|f| (f.name.as_str(), f.id.0, f.data_type.clone())).collect();
    let expect =
        [("text", 1, DataType::Int64), ("id", 2, DataType::Utf8), ("place", 5, DataType::Boolean)];
    assert_eq!(fields, expect);
    assert_eq!(schema.key_columns, ["text"]);
    assert_eq!(machine.dataset(dataset).next_field, 6);
    // The schema before is still there for the files that have it.
    let before = catalog::schema(&machine.store, dataset, SchemaVersion(1), LogIndex::MAX);
    assert_eq!(before.expect("reads").fields[0].name, "id");
}

#[test]
fn an_evolve_that_fails_in_its_last_step_changes_nothing() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    machine.append(dataset, 3);
    let digest = machine.digest();
    let good = SchemaChange::Add(field("more", DataType::Utf8, true));
    let column = || "text".to_owned();
    for (bad, expect) in [
        (SchemaChange::Drop { column: "none".to_owned() }, "column \"none\" does not exist"),
        (SchemaChange::Drop { column: "id".to_owned() }, "column \"id\" is part of the key"),
        (
            SchemaChange::Add(field("x", DataType::Utf8, false)),
            "column \"x\" must be nullable: rows that are there already have no value for it",
        ),
        (
            SchemaChange::Widen { column: column(), to: DataType::Int64 },
            "column \"text\" of type utf8 cannot become int64: some values would not fit",
        ),
        (
            SchemaChange::Widen { column: "id".to_owned(), to: DataType::Float64 },
            "illegal evolve command: key column \"id\" has type float64, which has no exact \
             equality",
        ),
        (
            SchemaChange::Rename { column: column(), to: "ID".to_owned() },
            "illegal evolve command: column \"ID\" occurs twice (column names differ by more than \
             case)",
        ),
    ] {
        assert_rejected(machine.evolve(dataset, vec![good.clone(), bad]), expect);
        assert_eq!(machine.digest(), digest);
    }
    assert_eq!(machine.dataset(dataset).schema_version, SchemaVersion(1));
}

#[test]
fn evolve_cuts_what_has_the_old_schema() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    machine.append(dataset, 3);
    let add = SchemaChange::Add(field("more", DataType::Utf8, true));
    machine.evolve(dataset, vec![add]);
    let file = FileId(machine.last().0);
    let record = machine.file(dataset, file).expect("planned");
    assert_eq!((record.schema_version, record.rows_planned), (SchemaVersion(1), 3));
    assert_eq!(machine.effects, [Effect::WriteFile { dataset, file }]);
    let (old, body) = append(dataset, SchemaVersion(1), 1);
    let outcome = machine.run_with(old, &body);
    assert_rejected(outcome, "the rows have schema 1, the dataset has 2");
}

#[test]
fn the_expected_index_is_that_of_the_last_change_users_see() {
    let mut machine = Machine::new();
    let expecting = |machine: &mut Machine, command, expected| {
        let mut envelope = machine.envelope(command);
        envelope.expected_index = Some(LogIndex(expected));
        machine.send(&envelope, &Bytes::new()).outcome
    };
    let new = Command::Register(register("a"));
    let outcome = expecting(&mut machine, new.clone(), 5);
    assert_rejected(outcome, "the dataset last changed at index 0, not at 5");
    let outcome = expecting(&mut machine, new.clone(), 0);
    let Outcome::Registered { dataset, .. } = outcome else { panic!("{outcome:?}") };
    let outcome = expecting(&mut machine, new, 0);
    assert_rejected(outcome, "the dataset last changed at index 2, not at 0");
    let appended = machine.append(dataset, 1);
    // A seal moves rows; it changes none.
    let file = machine.seal(dataset);
    machine.attest(dataset, file, 0);
    let outcome = expecting(&mut machine, Command::Drop(Drop { dataset }), appended.0 + 1);
    assert_rejected(outcome, "the dataset last changed at index 4, not at 5");
    let outcome = expecting(&mut machine, Command::Drop(Drop { dataset }), appended.0);
    assert_eq!(outcome, Outcome::Dropped);
    let outcome = expecting(&mut machine, Command::Drop(Drop { dataset }), 0);
    assert_rejected(outcome, &format!("dataset {dataset} does not exist"));
}

#[test]
fn drop_ends_everything_and_schedules_every_object() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let live = machine.live_file(dataset, 2);
    machine.upsert(dataset, &[1, 2]);
    let planned = machine.seal(dataset);
    machine.append(dataset, 1);
    let before = machine.last();
    assert_eq!(machine.drop_dataset(dataset), Outcome::Dropped);
    assert_eq!(machine.sweepable(), [live, planned]);
    assert_eq!(machine.effects, [Effect::Sweep { dataset }]);
    assert_eq!(catalog::planned(&machine.store).expect("reads"), []);
    let counters = catalog::keys(&machine.store, Table::Counters, &Key::empty());
    assert_eq!(counters.expect("reads"), []);
    assert_eq!(machine.delta_indexes(dataset), [0_u64; 0]);
    assert_eq!(machine.tombstone_indexes(dataset, LogIndex::MAX), [0_u64; 0]);
    assert_eq!(catalog::list(&machine.store, LogIndex::MAX).expect("reads"), []);
    assert_eq!(catalog::list(&machine.store, before).expect("reads").len(), 1);
    assert_eq!(catalog::retained_from(&machine.store, LogIndex::MAX).expect("reads"), None);
    let outcome = machine.run(Command::Seal(Seal { dataset }));
    assert_rejected(outcome, &format!("dataset {dataset} does not exist"));
    assert_eq!(machine.swept(dataset, &[live, planned]), Outcome::Swept { files: 2 });
    // Its past goes when expire says so.
    let last = machine.last().0;
    let outcome = machine.expire(dataset, last);
    assert!(matches!(outcome, Outcome::Expired { more: false, .. }), "{outcome:?}");
    for table in [Table::Delta, Table::File, Table::Tombstone, Table::Schema] {
        let prefix = Key::dataset(dataset);
        let range = crate::ScanRange { table, prefix: &prefix, from: None, limit: usize::MAX };
        assert_eq!(machine.store.prunable(&range, LogIndex::MAX).expect("reads"), []);
    }
}
