//! A history by hand for each way to contradict the log, and what two verdicts say together.

use std::ops::Range;

use alluvium_stdx::Prng;

use super::*;
use crate::linear::{Budget, Registers};
use crate::tests::script::{Line, history, info, ok};
use crate::tests::simulation::{Plan, simulate};
use crate::tests::world::World;
use crate::{Call, Reply, Step, Versioned};

fn write(process: u64, time: Range<u64>, value: i64, index: u64) -> Line {
    ok(process, time, Call::Write { key: 1, value }, Reply::Written { version: index }, index)
}

fn read(process: u64, time: Range<u64>, seen: Option<(i64, u64)>, index: u64) -> Line {
    let current = seen.map(|(value, version)| Versioned { value, version });
    ok(process, time, Call::Read { key: 1 }, Reply::Value { current }, index)
}

fn registers(lines: impl IntoIterator<Item = Line>) -> Vec<Anomaly> {
    keyed(&Registers, &history(lines), &Budget::steps(1_000)).anomalies()
}

#[test]
fn two_writes_at_one_index() {
    let lines = [write(0, 1..4, 1, 1), write(1, 2..5, 2, 1)];
    assert_eq!(order(&history(lines)).anomalies(), [Anomaly::SharedIndex]);
}

#[test]
fn an_index_that_contradicts_real_time() {
    let later = |lines: [Line; 2]| order(&history(lines)).anomalies();
    assert_eq!(later([write(0, 1..2, 1, 2), write(1, 3..4, 2, 1)]), [Anomaly::IndexOrder]);
    assert_eq!(later([write(0, 1..2, 1, 2), read(1, 3..4, None, 1)]), [Anomaly::IndexOrder]);
    assert_eq!(later([read(0, 1..2, None, 2), write(1, 3..4, 1, 2)]), [Anomaly::IndexOrder]);
    assert_eq!(later([write(0, 1..2, 1, 2), read(1, 3..4, Some((1, 2)), 2)]), []);
    assert_eq!(later([write(0, 1..3, 1, 2), write(1, 3..4, 2, 1)]), []);
}

#[test]
fn a_command_that_is_sent_again_keeps_its_index() {
    let increment = |sequence| Call::Increment { session: 1, sequence };
    let counted = |count| Reply::Incremented { count };
    let start =
        [ok(0, 1..2, increment(1), counted(1), 1), ok(0, 3..4, increment(2), counted(2), 2)];
    let resend =
        |index| start.iter().cloned().chain([ok(1, 5..6, increment(1), counted(1), index)]);
    assert_eq!(order(&history(resend(1))), Verdict::Valid);
    assert_eq!(sessions(&history(resend(1))), Verdict::Valid);
    assert_eq!(sessions(&history(resend(3))).anomalies(), [Anomaly::DifferentReply]);
}

#[test]
fn a_read_does_not_show_the_write_of_its_index() {
    let slow = || write(0, 1..9, 1, 3);
    assert_eq!(registers([slow(), read(1, 2..8, Some((1, 3)), 3)]), []);
    assert_eq!(registers([slow(), read(1, 2..8, None, 2)]), []);
    assert_eq!(registers([slow(), read(1, 2..8, None, 3)]), [Anomaly::WrongAtIndex]);
    assert_eq!(registers([slow(), read(1, 2..8, Some((1, 3)), 2)]), [Anomaly::WrongAtIndex]);
}

#[test]
fn an_ambiguous_write_is_above_what_was_known_before_it() {
    let lines = [
        write(0, 1..2, 1, 5),
        info(1, 3.., Call::Write { key: 1, value: 2 }),
        read(2, 1..9, Some((2, 4)), 4),
    ];
    assert_eq!(registers(lines), [Anomaly::WrongAtIndex]);
}

#[test]
fn two_reads_at_one_index_that_differ() {
    let lines = [
        info(1, 1.., Call::Write { key: 1, value: 2 }),
        read(2, 2..9, None, 4),
        read(3, 2..9, Some((2, 3)), 4),
    ];
    assert_eq!(registers(lines), [Anomaly::DifferentAtIndex]);
}

fn append(value: u64) -> Call {
    Call::Transact { steps: vec![Step::Append { key: 1, value }] }
}

fn appended(process: u64, value: u64, index: u64) -> Line {
    ok(process, 1..9, append(value), Reply::Transacted { lists: vec![None] }, index)
}

fn list(process: u64, values: &[u64], index: u64) -> Line {
    let call = Call::Transact { steps: vec![Step::Read { key: 1 }] };
    ok(process, 1..9, call, Reply::Transacted { lists: vec![Some(values.to_vec())] }, index)
}

#[test]
fn a_list_at_an_index_has_the_appends_up_to_it() {
    let check = |read: Line| lists(&history([appended(0, 7, 2), appended(1, 8, 4), read]));
    assert_eq!(check(list(2, &[7], 3)), Verdict::Valid);
    assert_eq!(check(list(2, &[], 3)).anomalies(), [Anomaly::WrongAtIndex]);
    assert_eq!(check(list(2, &[7, 8], 3)).anomalies(), [Anomaly::WrongAtIndex]);
    assert_eq!(check(list(2, &[8, 7], 4)).anomalies(), [Anomaly::WrongAtIndex]);
}

#[test]
fn an_ambiguous_append_has_one_index() {
    let check = |reads: [Line; 2]| {
        let writes = [appended(0, 7, 2), appended(1, 8, 4), info(3, 1.., append(9))];
        lists(&history(writes.into_iter().chain(reads))).anomalies()
    };
    assert_eq!(check([list(4, &[7], 2), list(5, &[7, 9, 8], 4)]), []);
    assert_eq!(check([list(4, &[7], 3), list(5, &[7, 9, 8], 4)]), [Anomaly::WrongAtIndex]);
}

fn scan(process: u64, elements: &[u64], index: u64) -> Line {
    let reply = Reply::Elements { elements: elements.to_vec() };
    ok(process, 1..9, Call::Scan { set: 1 }, reply, index)
}

#[test]
fn an_element_is_in_the_scans_between_its_add_and_its_delete() {
    let check = |scans: &[Line]| {
        let updates = [
            ok(0, 1..9, Call::Add { set: 1, element: 7 }, Reply::Done, 2),
            ok(1, 1..9, Call::Delete { set: 1, element: 7 }, Reply::Done, 5),
        ];
        sets(&history(updates.iter().chain(scans).cloned())).anomalies()
    };
    let wrong = [Anomaly::WrongAtIndex];
    assert_eq!(check(&[scan(2, &[], 1), scan(3, &[7], 2), scan(4, &[7], 4), scan(5, &[], 5)]), []);
    assert_eq!(check(&[scan(2, &[7], 1)]), wrong);
    assert_eq!(check(&[scan(2, &[], 2)]), wrong);
    assert_eq!(check(&[scan(2, &[7], 5)]), wrong);
    assert_eq!(check(&[scan(2, &[7], 2), scan(3, &[], 4)]), wrong);
    assert_eq!(check(&[scan(2, &[8], 1)]), wrong);
    let differing = check(&[scan(2, &[7], 4), scan(3, &[], 4)]);
    assert_eq!(differing, [Anomaly::DifferentAtIndex]);
}

#[test]
fn a_counter_at_an_index_is_the_number_of_commands() {
    let check = |count: u64, index: u64| {
        let increment = |sequence| Call::Increment { session: sequence, sequence };
        sessions(&history([
            ok(0, 1..9, increment(1), Reply::Incremented { count: 1 }, 2),
            info(1, 1.., increment(2)),
            ok(2, 1..9, Call::Count, Reply::Counted { count }, index),
        ]))
    };
    for (count, index) in [(0, 1), (1, 1), (1, 2), (2, 2)] {
        let is_early = (count, index) == (1, 1);
        // Whoever was counted first made the next one the second.
        assert_eq!(check(count, index).is_valid(), !is_early, "{count} at {index}");
    }
    assert_eq!(check(3, 4).anomalies(), [Anomaly::WrongAtIndex]);
    assert_eq!(check(0, 4).anomalies(), [Anomaly::WrongAtIndex]);
}

#[test]
fn an_ambiguous_command_counts_above_what_was_known_before_it() {
    let increment = |session| Call::Increment { session, sequence: 1 };
    let count = |index, count| ok(2, 1..9, Call::Count, Reply::Counted { count }, index);
    let start =
        [ok(0, 1..2, increment(1), Reply::Incremented { count: 1 }, 5), info(1, 3.., increment(2))];
    let check = |read| sessions(&history(start.iter().cloned().chain([read]))).anomalies();
    assert_eq!(check(count(4, 1)), [Anomaly::WrongAtIndex]);
    assert_eq!(check(count(6, 2)), []);
}

#[test]
fn verdicts_agree_or_one_of_the_checkers_is_wrong() {
    let wrong = |anomaly| Verdict::Invalid(vec![Evidence::new(anomaly, "a", [], "b")]);
    let both = Agreement::of(wrong(Anomaly::Lost), wrong(Anomaly::WrongAtIndex));
    assert_eq!(both.verdict().anomalies(), [Anomaly::Lost, Anomaly::WrongAtIndex]);
    assert_eq!(Agreement::of(Verdict::Valid, Verdict::Valid), Agreement::Agreed(Verdict::Valid));
    for (black_box, oracle) in
        [(Verdict::Valid, wrong(Anomaly::Lost)), (wrong(Anomaly::Lost), Verdict::Valid)]
    {
        let verdict = Agreement::of(black_box, oracle).verdict();
        assert_eq!(verdict.anomalies(), [Anomaly::Lost, Anomaly::CheckersDisagree]);
    }
    let unknown = Verdict::Unknown(Doubt::NoFinalRead);
    let undecided = Agreement::of(unknown.clone(), Verdict::Valid);
    assert_eq!(undecided.verdict(), unknown);
    let undecided = Agreement::of(wrong(Anomaly::Lost), unknown);
    assert_eq!(undecided.verdict().anomalies(), [Anomaly::Lost]);
}

#[test]
fn twenty_thousand_operations_are_replayed_once() {
    let plan = Plan { clients: 20, operations: 20_000, ambiguous_one_in: 400, failed_one_in: 50 };
    let client = |prng: &mut Prng, _: &World| {
        let key = prng.below(50);
        let value = i64::try_from(prng.below(1 << 60)).expect("it fits");
        if prng.one_in(3) { Call::Write { key, value } } else { Call::Read { key } }
    };
    let history = simulate(3, plan, World::default(), client, &[]);
    assert_eq!(order(&history), Verdict::Valid);
    // For each of the keys: its operations, and what is tried in vain of the few ambiguous ones.
    assert_eq!(keyed(&Registers, &history, &Budget::steps(600)), Verdict::Valid);
}
