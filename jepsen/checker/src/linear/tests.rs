//! Histories by hand for each model, and the search against one that tries all orders.

use alluvium_stdx::{ManualClock, Prng};

use super::*;
use crate::call::{Dataset, Versioned};
use crate::history::OpId;
use crate::tests::script::{Line, fail, history, info, ok, with_reply};
use crate::tests::simulation::{Plan, simulate};
use crate::tests::world::World;

const BUDGET: Budget<'_> = Budget { steps_max: 1_000_000, deadline: None };

fn valid(model: &impl Model, lines: impl IntoIterator<Item = Line>) {
    let verdict = check(model, &history(lines), &BUDGET);
    assert_eq!(verdict, Verdict::Valid);
}

/// Asserts that the history is wrong, and which operations had no place.
fn invalid(model: &impl Model, lines: impl IntoIterator<Item = Line>, unplaced: &[usize]) {
    let verdict = check(model, &history(lines), &BUDGET);
    let Verdict::Invalid(evidence) = verdict else { panic!("found {verdict}") };
    let [one] = evidence.as_slice() else { panic!("one subject is wrong: {evidence:?}") };
    let expected: Vec<OpId> = unplaced.iter().copied().map(OpId).collect();
    assert_eq!(one.operations, expected, "{one}");
}

fn write(value: i64) -> Call {
    Call::Write { key: 1, value }
}

fn written(version: u64) -> Reply {
    Reply::Written { version }
}

fn read() -> Call {
    Call::Read { key: 1 }
}

fn value(value: i64, version: u64) -> Reply {
    Reply::Value { current: Some(Versioned { value, version }) }
}

fn nothing() -> Reply {
    Reply::Value { current: None }
}

fn cas(version: u64, new: i64) -> Call {
    Call::Cas { key: 1, version, old: None, new }
}

#[test]
fn reads_beside_a_write_may_see_it_or_not_but_not_turn_back() {
    let first = |seen: Reply| ok(1, 2..3, read(), seen, 1);
    let second = |seen: Reply| ok(1, 4..5, read(), seen, 1);
    let slow = || ok(0, 1..9, write(7), written(1), 1);
    valid(&Registers, [slow(), first(nothing()), second(value(7, 1))]);
    valid(&Registers, [slow(), first(value(7, 1)), second(value(7, 1))]);
    invalid(&Registers, [slow(), first(value(7, 1)), second(nothing())], &[2]);
}

#[test]
fn a_stale_read_is_not_linearizable() {
    let lines = [
        ok(0, 1..2, write(1), written(1), 1),
        ok(0, 3..4, write(2), written(2), 2),
        ok(1, 5..6, read(), value(1, 1), 2),
    ];
    invalid(&Registers, lines, &[2]);
}

#[test]
fn a_lost_update_is_not_linearizable() {
    let lines = [
        ok(0, 1..2, write(1), written(1), 1),
        ok(0, 3..6, cas(1, 2), written(2), 2),
        ok(1, 4..7, cas(1, 3), written(3), 3),
    ];
    let verdict = check(&Registers, &history(lines), &BUDGET);
    let Verdict::Invalid(evidence) = verdict else { panic!("found {verdict}") };
    assert_eq!(evidence[0].prefix.len(), 2);
    assert_eq!(evidence[0].subject, "register 1");
}

#[test]
fn a_swap_is_refused_only_if_the_version_is_another() {
    let first = || ok(0, 1..2, write(1), written(1), 1);
    valid(&Registers, [first(), ok(0, 3..4, cas(0, 2), Reply::Refused, 2)]);
    invalid(&Registers, [first(), ok(0, 3..4, cas(1, 2), Reply::Refused, 2)], &[1]);
}

#[test]
fn a_version_that_does_not_rise_is_not_linearizable() {
    for version in [4, 5] {
        let lines =
            [ok(0, 1..2, write(1), written(5), 1), ok(0, 3..4, write(2), written(version), 2)];
        invalid(&Registers, lines, &[1]);
    }
}

#[test]
fn a_swap_after_an_ambiguous_write_may_be_refused_whatever_it_expects() {
    let lines = [
        info(0, 1.., write(1)),
        ok(1, 2..3, cas(0, 2), Reply::Refused, 2),
        ok(1, 4..5, cas(1, 2), Reply::Refused, 3),
        ok(1, 6..7, read(), value(1, 1), 3),
    ];
    invalid(&Registers, lines.clone(), &[3]);
    let later = ok(1, 6..7, read(), value(1, 9), 3);
    valid(&Registers, lines.into_iter().take(3).chain([later]));
}

#[test]
fn an_ambiguous_write_takes_effect_late_or_never() {
    let lost = || info(0, 1.., write(1));
    let nobody = || ok(1, 2..3, read(), nothing(), 0);
    valid(&Registers, [lost(), nobody()]);
    valid(&Registers, [lost(), nobody(), ok(1, 4..5, read(), value(1, 1), 1)]);
    let back = ok(1, 6..7, read(), nothing(), 1);
    invalid(&Registers, [lost(), nobody(), ok(1, 4..5, read(), value(1, 1), 1), back], &[3]);
}

#[test]
fn an_ambiguous_write_takes_effect_once_and_not_before_its_call() {
    let twice = [
        info(0, 1.., write(1)),
        ok(1, 2..3, read(), value(1, 1), 1),
        ok(1, 4..5, write(2), written(2), 2),
        ok(1, 6..7, read(), value(1, 3), 3),
    ];
    invalid(&Registers, twice, &[3]);
    invalid(&Registers, [ok(1, 2..3, read(), value(1, 1), 1), info(0, 4.., write(1))], &[0]);
}

#[test]
fn a_failed_write_is_never_seen() {
    let lines = [fail(0, 1..2, write(1)), ok(1, 3..4, read(), value(1, 1), 1)];
    invalid(&Registers, lines, &[1]);
}

#[test]
fn what_touches_is_concurrent() {
    valid(&Registers, [ok(0, 1..4, write(1), written(1), 1), ok(1, 4..5, read(), nothing(), 0)]);
    let lines = [ok(0, 1..4, write(1), written(1), 1), ok(1, 5..6, read(), nothing(), 0)];
    invalid(&Registers, lines, &[1]);
}

fn register(spec: u64) -> Call {
    Call::Register { name: "a".to_owned(), spec }
}

fn registered(incarnation: u64) -> Reply {
    Reply::Registered { incarnation }
}

fn describe() -> Call {
    Call::Describe { name: "a".to_owned() }
}

fn described(spec: u64, incarnation: u64) -> Reply {
    Reply::Described { dataset: Some(Dataset { spec, incarnation }) }
}

fn dropping(incarnation: u64) -> Call {
    Call::Drop { name: "a".to_owned(), incarnation }
}

#[test]
fn a_name_is_registered_once_until_it_is_dropped() {
    let twice =
        |reply| [ok(0, 1..4, register(7), registered(1), 1), ok(1, 2..5, register(8), reply, 2)];
    valid(&Datasets, twice(Reply::Refused));
    let verdict = check(&Datasets, &history(twice(registered(2))), &BUDGET);
    assert_eq!(verdict.anomalies(), [Anomaly::NotLinearizable]);
    let again = [
        ok(0, 1..2, register(7), registered(1), 1),
        ok(0, 3..4, dropping(1), Reply::Done, 2),
        ok(0, 5..6, register(8), registered(3), 3),
        ok(1, 7..8, describe(), described(8, 3), 3),
        ok(1, 9..10, dropping(1), Reply::Refused, 4),
    ];
    valid(&Datasets, again);
}

#[test]
fn a_resurrected_dataset_is_not_linearizable() {
    let lines = [
        ok(0, 1..2, register(7), registered(1), 1),
        ok(0, 3..4, dropping(1), Reply::Done, 2),
        ok(1, 5..6, describe(), described(7, 1), 2),
    ];
    invalid(&Datasets, lines, &[2]);
}

#[test]
fn a_drop_of_an_earlier_life_ends_no_later_one() {
    let lines = [
        ok(0, 1..2, register(7), registered(1), 1),
        ok(0, 3..4, dropping(1), Reply::Done, 2),
        ok(0, 5..6, register(7), registered(3), 3),
        ok(0, 7..8, dropping(1), Reply::Done, 4),
    ];
    invalid(&Datasets, lines, &[3]);
}

#[test]
fn a_dataset_is_dropped_once() {
    let lines = [
        ok(0, 1..2, register(7), registered(1), 1),
        ok(0, 3..4, dropping(1), Reply::Done, 2),
        ok(0, 5..6, dropping(1), Reply::Done, 3),
    ];
    invalid(&Datasets, lines, &[2]);
}

#[test]
fn an_ambiguous_registration_is_told_by_what_is_described() {
    let lost = || info(0, 1.., register(7));
    valid(&Datasets, [lost(), ok(1, 2..3, describe(), described(7, 4), 4)]);
    valid(&Datasets, [lost(), ok(1, 2..3, register(8), Reply::Refused, 4)]);
    invalid(&Datasets, [lost(), ok(1, 2..3, describe(), described(8, 4), 4)], &[1]);
}

fn upsert(value: i64) -> Call {
    Call::Upsert { key: 1, value }
}

fn row(value: Option<i64>) -> Reply {
    Reply::Row { value }
}

#[test]
fn a_resurrected_row_is_not_linearizable() {
    let (get, hide) = (Call::Get { key: 1 }, Call::Tombstone { key: 1 });
    let start = [
        ok(0, 1..2, upsert(7), Reply::Done, 1),
        ok(0, 3..4, hide.clone(), Reply::Done, 2),
        ok(1, 5..6, get.clone(), row(None), 2),
    ];
    let inserted_again = [
        ok(0, 7..8, upsert(8), Reply::Done, 3),
        info(0, 9.., hide),
        ok(1, 10..11, get.clone(), row(Some(8)), 3),
        ok(1, 12..13, get.clone(), row(None), 4),
    ];
    valid(&Rows, start.iter().chain(&inserted_again).cloned());
    let resurrected = [ok(1, 7..8, get, row(Some(7)), 2)];
    invalid(&Rows, start.into_iter().chain(resurrected), &[3]);
}

#[test]
fn subjects_are_judged_one_by_one_and_one_wrong_makes_the_whole_wrong() {
    let other = ok(2, 1..9, Call::Read { key: 2 }, value(9, 9), 1);
    let lines = [ok(0, 1..2, write(1), written(1), 1), ok(1, 3..4, read(), value(1, 1), 1), other];
    let verdict = check(&Registers, &history(lines), &BUDGET);
    let Verdict::Invalid(evidence) = verdict else { panic!("found {verdict}") };
    assert_eq!(evidence.len(), 1);
    assert_eq!(evidence[0].subject, "register 2");
}

#[test]
fn a_history_of_other_objects_is_unknown() {
    let lines = [ok(0, 1..2, write(1), written(1), 1)];
    assert_eq!(check(&Rows, &history(lines), &BUDGET), Verdict::Unknown(Doubt::Empty));
}

#[test]
fn a_spent_budget_is_unknown_whatever_the_history_is() {
    let right = [ok(0, 1..2, write(1), written(1), 1), ok(1, 3..4, read(), value(1, 1), 1)];
    let doubt = Doubt::Budget { subject: "register 1".to_owned(), steps: 1 };
    assert_eq!(
        check(&Registers, &history(right.clone()), &Budget::steps(1)),
        Verdict::Unknown(doubt)
    );
    let clock = ManualClock::starting_at(0);
    let late = Budget { steps_max: 1_000, deadline: Some((&clock, 0)) };
    let doubt = Doubt::Budget { subject: "register 1".to_owned(), steps: 0 };
    assert_eq!(check(&Registers, &history(right), &late), Verdict::Unknown(doubt));
}

/// Many writes that nobody can tell apart by time, and a read of what none wrote.
#[test]
fn the_memory_keeps_a_hopeless_search_small() {
    let mut lines: Vec<Line> = (0..12)
        .map(|i| ok(i, 1..9, Call::Upsert { key: 1, value: 5 }, Reply::Done, i + 1))
        .collect();
    lines.push(ok(20, 10..11, Call::Get { key: 1 }, row(Some(6)), 20));
    // 12! orders, and 2^12 configurations of 12 candidates each.
    let verdict = check(&Rows, &history(lines), &Budget::steps(4_096 * 13));
    assert_eq!(verdict.anomalies(), [Anomaly::NotLinearizable]);
}

/// Whether some order of the answered operations and of any ambiguous ones explains the answers: tries them
/// all, and remembers nothing.
fn brute<M: Model>(model: &M, state: &M::State, left: &[&Operation]) -> bool {
    if left.iter().all(|operation| operation.is_ambiguous()) {
        return true;
    }
    left.iter().enumerate().any(|(position, operation)| {
        let comes_first = !left.iter().any(|other| other.precedes(operation));
        let reply = operation.answer().map(|(reply, _)| reply);
        comes_first
            && model.step(state, &operation.call, reply).is_some_and(|next| {
                let mut rest = left.to_vec();
                rest.remove(position);
                brute(model, &next, &rest)
            })
    })
}

/// A history of few operations, with a reply exchanged now and then.
fn small(seed: u64, client: fn(&mut Prng, &World) -> Call) -> History {
    let plan = Plan { clients: 3, operations: 8, ambiguous_one_in: 6, failed_one_in: 12 };
    let right = simulate(seed, plan, World::default(), client, &[]);
    let mut prng = Prng::from_seed(seed ^ 0x5eed);
    let replies: Vec<(&Operation, &Reply)> =
        right.operations().iter().filter_map(|op| Some((op, op.answer()?.0))).collect();
    for _ in 0..4 {
        let (Some((one, old)), Some((_, new))) = (prng.pick(&replies), prng.pick(&replies)) else {
            continue;
        };
        if old != new && one.call.accepts(new) {
            return with_reply(&right, one.id, (*new).clone());
        }
    }
    right
}

fn agrees_with_brute_force<M: Model>(model: &M, client: fn(&mut Prng, &World) -> Call) {
    let mut wrong = 0;
    for seed in 0..3_000 {
        let history = small(seed, client);
        let subjects = partition(model, &history);
        if subjects.is_empty() {
            continue;
        }
        let expected = subjects.values().all(|left| brute(model, &model.initial(), left));
        let found = check(model, &history, &BUDGET);
        assert_eq!(found.is_valid(), expected, "seed {seed}: {found}");
        wrong += u32::from(!expected);
    }
    assert!((50..2_950).contains(&wrong), "both verdicts are tried: {wrong} were wrong");
}

fn register_client(prng: &mut Prng, world: &World) -> Call {
    let (key, value) = (1, i64::try_from(prng.below(1 << 40)).expect("small"));
    match prng.below(4) {
        0 => Call::Write { key, value },
        1 => {
            let current = world.registers.get(&key);
            let version = current.map_or(0, |register| register.version);
            Call::Cas { key, version, old: current.map(|register| register.value), new: value }
        }
        _ => Call::Read { key },
    }
}

fn dataset_client(prng: &mut Prng, world: &World) -> Call {
    let name = "a".to_owned();
    match prng.below(3) {
        0 => Call::Register { name, spec: prng.below(1 << 40) },
        1 => {
            let incarnation = world.incarnation(&name);
            Call::Drop { name, incarnation }
        }
        _ => Call::Describe { name },
    }
}

fn row_client(prng: &mut Prng, _: &World) -> Call {
    let key = 1;
    match prng.below(4) {
        0 | 1 => Call::Upsert { key, value: i64::try_from(prng.below(9)).expect("small") },
        2 => Call::Tombstone { key },
        _ => Call::Get { key },
    }
}

#[test]
fn the_search_for_registers_agrees_with_trying_all_orders() {
    agrees_with_brute_force(&Registers, register_client);
}

#[test]
fn the_search_for_datasets_agrees_with_trying_all_orders() {
    agrees_with_brute_force(&Datasets, dataset_client);
}

#[test]
fn the_search_for_rows_agrees_with_trying_all_orders() {
    agrees_with_brute_force(&Rows, row_client);
}

#[test]
fn twenty_thousand_operations_over_fifty_keys_take_few_steps() {
    let plan = Plan { clients: 20, operations: 20_000, ambiguous_one_in: 400, failed_one_in: 50 };
    let client = |prng: &mut Prng, world: &World| {
        let key = prng.below(50);
        let value = i64::try_from(prng.below(1 << 40)).expect("small");
        let version = world.registers.get(&key).map_or(0, |register| register.version);
        match prng.below(4) {
            0 => Call::Write { key, value },
            1 => Call::Cas { key, version, old: None, new: value },
            _ => Call::Read { key },
        }
    };
    let history = simulate(11, plan, World::default(), client, &[]);
    assert!(history.operations().len() == 20_000);
    let verdict = check(&Registers, &history, &Budget::steps(20_000));
    assert_eq!(verdict, Verdict::Valid);
}
