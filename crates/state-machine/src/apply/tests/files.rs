//! Seal, attest, compact, expire, swept: files from plan to sweep.

use alluvium_types::{Attested, FileFault};

use crate::record::{FileContent, FileState};

use super::*;

fn refuse(
    machine: &mut Machine,
    dataset: DatasetKey,
    file: FileId,
    outcome: AttestOutcome,
) -> String {
    match machine.run(Command::Attest(Attest { dataset, file, outcome })) {
        Outcome::Rejected(rejection) => rejection.to_string(),
        other => panic!("not rejected: {other:?}"),
    }
}

fn written(machine: &Machine, dataset: DatasetKey, file: FileId, hidden: u64) -> Attested {
    let record = machine.file(dataset, file).expect("planned");
    crate::workload::written(&machine.store, dataset, &record, hidden).expect("reads")
}

fn planned(outcome: Outcome) -> FileId {
    match outcome {
        Outcome::CompactionPlanned { file } => file,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_seal_covers_exactly_the_unsealed_deltas() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let outcome = machine.run(Command::Seal(Seal { dataset }));
    assert_eq!(outcome, Outcome::Sealed { file: None, rows: 0 });
    let first = machine.append(dataset, 2);
    machine.tombstone(dataset, &[1]);
    let last = machine.append(dataset, 3);
    let outcome = machine.run(Command::Seal(Seal { dataset }));
    let file = FileId(machine.last().0);
    assert_eq!(outcome, Outcome::Sealed { file: Some(file), rows: 5 });
    let record = machine.file(dataset, file).expect("planned");
    assert_eq!(record.content, FileContent::Seal { first, last });
    assert_eq!(record.state, FileState::Planned);
    assert_eq!(machine.delta_indexes(dataset), [first.0, last.0], "until it is attested");
    let next = machine.append(dataset, 1);
    machine.attest(dataset, file, 0);
    assert!(machine.file(dataset, file).expect("there").is_live());
    assert_eq!(machine.delta_indexes(dataset), [next.0]);
    assert_eq!(catalog::planned(&machine.store).expect("reads"), []);
    let found = catalog::sealed_in(&machine.store, dataset, last, LogIndex::MAX).expect("reads");
    assert_eq!(found.map(|record| record.file), Some(file));
    // A read as of an index before the attestation still sees the deltas.
    let before = catalog::deltas(&machine.store, dataset, next).expect("reads");
    assert_eq!(before.len(), 3);
}

#[test]
fn an_attestation_must_account_for_every_row() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    machine.append(dataset, 5);
    let file = machine.seal(dataset);
    let good = written(&machine, dataset, file, 0);
    let digest = machine.digest();
    let mut check = |outcome, expect: &str| {
        assert_eq!(refuse(&mut machine, dataset, file, outcome), expect);
        assert_eq!(machine.digest(), digest);
    };
    let of = |attested: Attested| AttestOutcome::Written(Box::new(attested));
    check(
        of(Attested { rows: 4, ..good.clone() }),
        "conservation failed: 5 rows in, 0 hidden, 4 out",
    );
    check(
        of(Attested { rows_hidden: 1, ..good.clone() }),
        "conservation failed: 5 rows in, 1 hidden, 5 out",
    );
    check(
        of(Attested { first_index: LogIndex(1), ..good.clone() }),
        "index 1 is out of range: it must be between 2 and 2",
    );
    check(
        of(Attested { last_index: LogIndex(9), ..good.clone() }),
        "index 9 is out of range: it must be between 2 and 2",
    );
    check(
        AttestOutcome::Empty { rows_hidden: 5 },
        "conservation failed: 5 rows in, 5 hidden, 0 out",
    );
    check(
        AttestOutcome::Abandoned { reason: "no".to_owned() },
        "file 3: a seal cannot be abandoned",
    );
    let outcome = AttestOutcome::Written(Box::new(good));
    let unknown = Attest { dataset, file: FileId(77), outcome };
    assert_rejected(machine.run(Command::Attest(unknown)), "file 77: it does not exist");
}

#[test]
fn a_second_attestation_must_name_the_same_bytes() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let file = machine.live_file(dataset, 5);
    let digest = machine.digest();
    assert_eq!(machine.attest(dataset, file, 0), Outcome::Attested { file });
    assert_eq!(machine.digest(), digest);
    let mut other = written(&machine, dataset, file, 0);
    other.digest.blake3 = [9; 32];
    let outcome = AttestOutcome::Written(Box::new(other));
    let text = refuse(&mut machine, dataset, file, outcome);
    assert_eq!(text, "file 3: it was attested with other bytes");
    let outcome = AttestOutcome::Empty { rows_hidden: 0 };
    assert_eq!(refuse(&mut machine, dataset, file, outcome), "file 3: it is not planned");
    assert_eq!(machine.digest(), digest);
}

#[test]
fn a_compaction_names_live_free_files_in_order() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let one = machine.live_file(dataset, 5);
    let two = machine.live_file(dataset, 5);
    machine.append(dataset, 1);
    let waiting = machine.seal(dataset);
    let last = machine.last();
    let large = "a compaction takes at most 1024 files in ascending order and 67108864 rows";
    for (inputs, expect) in [
        (vec![], "there is nothing to compact".to_owned()),
        (vec![two, one], large.to_owned()),
        (vec![one, one], large.to_owned()),
        (vec![FileId(2)], "file 2: it does not exist".to_owned()),
        (vec![waiting], format!("file {waiting}: it is not live")),
    ] {
        assert_rejected(machine.compact(dataset, &inputs, last), &expect);
    }
    let next = machine.last().next().0;
    let expect = format!("index {next} is out of range: it must be between 5 and {}", next - 1);
    assert_rejected(machine.compact(dataset, &[one, two], LogIndex(next)), &expect);
    let output = planned(machine.compact(dataset, &[one, two], last));
    let record = machine.file(dataset, output).expect("planned");
    assert_eq!((record.generation, record.rows_planned, record.folded_to), (1, 10, last));
    assert_eq!(machine.file(dataset, one).expect("there").reserved_by, Some(output));
    let expect = format!("file {one}: {}", FileFault::Reserved);
    assert_rejected(machine.compact(dataset, &[one], last), &expect);
}

#[test]
fn an_attested_compaction_replaces_its_inputs_at_its_index() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let one = machine.live_file(dataset, 5);
    let two = machine.live_file(dataset, 5);
    let cutoff = machine.tombstone(dataset, &[1, 2]);
    let output = planned(machine.compact(dataset, &[one, two], cutoff));
    let wrong = Attested { rows: 7, ..written(&machine, dataset, output, 2) };
    let text = refuse(&mut machine, dataset, output, AttestOutcome::Written(Box::new(wrong)));
    assert_eq!(text, "conservation failed: 10 rows in, 2 hidden, 7 out");
    let none = Attested { rows: 0, ..written(&machine, dataset, output, 10) };
    let text = refuse(&mut machine, dataset, output, AttestOutcome::Written(Box::new(none)));
    assert_eq!(text, "there is no row in it");
    assert_eq!(machine.attest(dataset, output, 2), Outcome::Attested { file: output });
    let at = machine.last();
    for input in [one, two] {
        let state = machine.file(dataset, input).expect("kept").state;
        assert!(matches!(state, FileState::Replaced { since, .. } if since == at), "{state:?}");
    }
    let live = |at| {
        let files = catalog::files(&machine.store, dataset, at).expect("reads");
        files.into_iter().filter(FileRecord::is_live).map(|f| f.file).collect::<Vec<_>>()
    };
    assert_eq!(live(LogIndex::MAX), [output]);
    assert_eq!(live(LogIndex(at.0 - 1)), [one, two]);
    // Folded everywhere, so it hides nothing any more; but the past still needs it.
    assert_eq!(machine.tombstone_indexes(dataset, LogIndex::MAX), [0_u64; 0]);
    assert_eq!(machine.tombstone_indexes(dataset, LogIndex(at.0 - 1)), [cutoff.0]);
}

#[test]
fn tombstones_stay_while_a_file_or_delta_may_have_rows_below_them() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let one = machine.live_file(dataset, 5);
    let two = machine.live_file(dataset, 5);
    let old = machine.append(dataset, 1);
    let cutoff = machine.tombstone(dataset, &[1]);
    let late = machine.tombstone(dataset, &[2]);
    // Another live file is not compacted: the tombstone is still needed for it.
    let output = planned(machine.compact(dataset, &[one], cutoff));
    machine.attest(dataset, output, 0);
    assert_eq!(machine.tombstone_indexes(dataset, LogIndex::MAX), [cutoff.0, late.0]);
    // Now all files are folded, but the delta below is not.
    let output = planned(machine.compact(dataset, &[two, output], cutoff));
    machine.attest(dataset, output, 0);
    assert_eq!(machine.tombstone_indexes(dataset, LogIndex::MAX), [cutoff.0, late.0]);
    // Its file has it folded; the later tombstone was not.
    let file = machine.seal(dataset);
    machine.attest(dataset, file, 0);
    assert_eq!(machine.file(dataset, file).expect("live").folded_to, old);
    let output = planned(machine.compact(dataset, &[output, file], cutoff));
    machine.attest(dataset, output, 0);
    assert_eq!(machine.tombstone_indexes(dataset, LogIndex::MAX), [late.0]);
}

#[test]
fn a_tombstone_below_every_row_that_is_left_goes_even_if_it_was_not_folded() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    machine.append(dataset, 1);
    let folded = machine.tombstone(dataset, &[1]);
    machine.tombstone(dataset, &[2]);
    let kept = machine.append(dataset, 1);
    let file = machine.seal(dataset);
    machine.attest(dataset, file, 0);
    let output = planned(machine.compact(dataset, &[file], folded));
    let attested = written(&machine, dataset, output, 1);
    let outcome = AttestOutcome::Written(Box::new(Attested { first_index: kept, ..attested }));
    machine.run(Command::Attest(Attest { dataset, file: output, outcome }));
    assert_eq!(machine.tombstone_indexes(dataset, LogIndex::MAX), [0_u64; 0]);
}

#[test]
fn an_empty_compaction_leaves_no_file() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let one = machine.live_file(dataset, 5);
    let cutoff = machine.tombstone(dataset, &[1]);
    let output = planned(machine.compact(dataset, &[one], cutoff));
    let text = refuse(&mut machine, dataset, output, AttestOutcome::Empty { rows_hidden: 4 });
    assert_eq!(text, "conservation failed: 5 rows in, 4 hidden, 0 out");
    let outcome = AttestOutcome::Empty { rows_hidden: 5 };
    let outcome = machine.run(Command::Attest(Attest { dataset, file: output, outcome }));
    assert_eq!(outcome, Outcome::Attested { file: output });
    assert_eq!(machine.file(dataset, output), None);
    assert!(!machine.file(dataset, one).expect("kept").is_live());
    assert_eq!(machine.tombstone_indexes(dataset, LogIndex::MAX), [0_u64; 0]);
    assert_eq!(catalog::planned(&machine.store).expect("reads"), []);
}

#[test]
fn an_abandoned_compaction_releases_its_inputs_and_sweeps_its_object() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let one = machine.live_file(dataset, 5);
    let last = machine.last();
    let output = planned(machine.compact(dataset, &[one], last));
    let outcome = AttestOutcome::Abandoned { reason: "superseded".to_owned() };
    machine.run(Command::Attest(Attest { dataset, file: output, outcome }));
    assert_eq!(machine.file(dataset, output), None);
    let input = machine.file(dataset, one).expect("there");
    assert!(input.is_live() && input.reserved_by.is_none(), "{input:?}");
    assert_eq!(machine.sweepable(), [output]);
    planned(machine.compact(dataset, &[one], last));
}

#[test]
fn expire_moves_the_floor_prunes_and_gives_up_replaced_files() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let one = machine.live_file(dataset, 5);
    let cutoff = machine.tombstone(dataset, &[1]);
    let output = planned(machine.compact(dataset, &[one], cutoff));
    machine.attest(dataset, output, 1);
    let replaced_at = machine.last().0;
    let outcome = machine.expire(dataset, replaced_at - 1);
    assert!(matches!(outcome, Outcome::Expired { more: false, .. }), "{outcome:?}");
    assert_eq!(machine.sweepable(), [] as [FileId; 0], "a read at the floor still uses it");
    assert_eq!(machine.effects, []);
    let outcome = machine.expire(dataset, replaced_at);
    let Outcome::Expired { floor, versions_pruned, more } = outcome else { panic!("{outcome:?}") };
    assert_eq!((floor, more), (LogIndex(replaced_at), false));
    assert!(versions_pruned > 0, "deltas, tombstones and states of files");
    assert_eq!(machine.sweepable(), [one]);
    assert_eq!(machine.effects, [Effect::Sweep { dataset }]);
    assert_eq!(machine.dataset(dataset).floor, LogIndex(replaced_at));
    let next = machine.last().next().0;
    let range = |index, low, high| {
        format!("index {index} is out of range: it must be between {low} and {high}")
    };
    let outcome = machine.expire(dataset, replaced_at - 1);
    assert_rejected(outcome, &range(replaced_at - 1, replaced_at, next - 1));
    assert_rejected(machine.expire(dataset, next + 1), &range(next + 1, replaced_at, next));
    assert_eq!(machine.swept(dataset, &[one]), Outcome::Swept { files: 1 });
    let expect = format!("file {one}: it is not waiting to be swept");
    assert_rejected(machine.swept(dataset, &[one]), &expect);
}

#[test]
fn pruning_changes_no_read_at_or_above_the_floor() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    for round in 0..4 {
        machine.upsert(dataset, &[round, round + 1]);
        machine.live_file(dataset, 2);
    }
    let last = machine.last();
    let read = |machine: &Machine, at| {
        let store = &machine.store;
        let files = catalog::files(store, dataset, at).expect("reads");
        let deltas = catalog::deltas(store, dataset, at).expect("reads");
        (files, deltas, machine.tombstone_indexes(dataset, at))
    };
    let floor = 9;
    let before: Vec<_> = (floor..=last.0).map(|at| read(&machine, LogIndex(at))).collect();
    machine.expire(dataset, floor);
    let after: Vec<_> = (floor..=last.0).map(|at| read(&machine, LogIndex(at))).collect();
    assert_eq!(before, after);
}

#[test]
fn no_expire_prunes_without_bound() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    // Versions of many keys at once, as if many entries had written them.
    let count = limits::EXPIRE_VERSIONS_MAX as u64 + 10;
    let mut mutations = Vec::new();
    for number in 0..count {
        let key = Key::delta(dataset, LogIndex(number));
        let operation = crate::Operation::Delete;
        mutations.push(crate::Mutation { table: Table::Delta, key, operation });
    }
    let index = machine.last().next();
    let raft = crate::record::RaftRecord { applied: Some(entry_id(index)), membership: vec![] };
    let batch = crate::CommitBatch { mutations: vec![(index, mutations)], raft };
    machine.store.commit(batch).expect("commits");
    let floor = LogIndex(index.0);
    let expired = |versions_pruned, more| Outcome::Expired { floor, versions_pruned, more };
    assert_eq!(machine.expire(dataset, floor.0), expired(65_536, true));
    assert_eq!(machine.expire(dataset, floor.0), expired(10, false));
    assert_eq!(machine.expire(dataset, floor.0), expired(0, false));
}
