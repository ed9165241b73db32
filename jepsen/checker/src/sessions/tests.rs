//! A history by hand for each anomaly, and histories of a right store.

use std::collections::BTreeMap;
use std::ops::Range;

use alluvium_stdx::Prng;

use super::*;
use crate::call::Call;
use crate::linear::Model;
use crate::tests::comparison::{Comparison, with_changed_reply};
use crate::tests::script::{Line, fail, history, info, ok};
use crate::tests::simulation::{Plan, simulate};
use crate::tests::world::World;

fn command(session: u64, sequence: u64) -> Call {
    Call::Increment { session, sequence }
}

fn increment(process: u64, time: Range<u64>, (session, sequence): (u64, u64), count: u64) -> Line {
    ok(process, time, command(session, sequence), Reply::Incremented { count }, count)
}

fn count(process: u64, time: Range<u64>, count: u64) -> Line {
    ok(process, time, Call::Count, Reply::Counted { count }, count)
}

fn valid(lines: impl IntoIterator<Item = Line>) {
    assert_eq!(check(&history(lines)), Verdict::Valid);
}

fn invalid(lines: impl IntoIterator<Item = Line>, expected: &[Anomaly]) {
    let verdict = check(&history(lines));
    assert_eq!(verdict.anomalies(), expected, "{verdict}");
}

#[test]
fn a_command_that_is_sent_again_has_one_effect_and_one_answer() {
    valid([
        increment(0, 1..2, (1, 1), 1),
        increment(0, 3..4, (1, 1), 1),
        increment(1, 3..6, (2, 1), 2),
        count(0, 7..8, 2),
    ]);
}

#[test]
fn unknown_commands_may_count_or_not() {
    for total in [1, 2] {
        valid([increment(0, 1..2, (1, 1), 1), info(1, 1.., command(2, 1)), count(0, 7..8, total)]);
    }
}

#[test]
fn a_double_apply() {
    invalid(
        [increment(0, 1..2, (1, 1), 1), increment(0, 3..4, (1, 1), 1), count(0, 7..8, 2)],
        &[Anomaly::DoubleApply],
    );
    invalid(
        [increment(0, 1..2, (1, 1), 1), fail(1, 1..3, command(2, 1)), count(0, 7..8, 2)],
        &[Anomaly::DoubleApply],
    );
}

#[test]
fn a_resend_with_another_answer() {
    invalid(
        [
            increment(0, 1..2, (1, 1), 1),
            increment(2, 1..6, (1, 2), 2),
            increment(0, 3..4, (1, 1), 2),
            count(0, 7..8, 2),
        ],
        &[Anomaly::DifferentReply],
    );
}

#[test]
fn a_lost_increment() {
    let lines = [increment(0, 1..2, (1, 1), 1), count(0, 7..8, 0)];
    invalid(lines, &[Anomaly::LostIncrement]);
}

#[test]
fn what_touches_is_concurrent() {
    valid([increment(0, 1..4, (1, 1), 1), count(1, 4..5, 0), count(1, 6..7, 1)]);
}

#[test]
fn two_commands_that_make_the_same_number() {
    invalid(
        [
            increment(0, 1..4, (1, 1), 1),
            increment(1, 2..5, (2, 1), 1),
            info(2, 1.., command(3, 1)),
            count(0, 7..8, 2),
        ],
        &[Anomaly::LostIncrement],
    );
}

#[test]
fn a_counter_that_falls() {
    invalid(
        [info(0, 1.., command(1, 1)), count(1, 2..3, 1), count(1, 4..5, 0)],
        &[Anomaly::LostIncrement],
    );
}

#[test]
fn a_counter_that_nobody_read_in_the_end_is_unknown() {
    assert_eq!(check(&history([])), Verdict::Unknown(Doubt::Empty));
    let lines = [count(1, 1..3, 0), increment(0, 2..4, (1, 1), 1)];
    assert_eq!(check(&history(lines)), Verdict::Unknown(Doubt::NoFinalRead));
}

/// The counter and its sessions as one object, for the search.
struct Counter;

impl Model for Counter {
    type State = BTreeMap<(u64, u64), u64>;

    fn subject(&self, _: &Call) -> Option<String> {
        Some("counter".to_owned())
    }

    fn initial(&self) -> Self::State {
        BTreeMap::new()
    }

    fn step(&self, state: &Self::State, call: &Call, reply: Option<&Reply>) -> Option<Self::State> {
        let Call::Increment { session, sequence } = call else {
            let count = state.len() as u64;
            return (reply == Some(&Reply::Counted { count })).then(|| state.clone());
        };
        let mut next = state.clone();
        let new = state.len() as u64 + 1;
        let count = *next.entry((*session, *sequence)).or_insert(new);
        let fits = reply.is_none_or(|reply| *reply == Reply::Incremented { count });
        fits.then_some(next)
    }
}

/// Sends commands, often again, from few sessions; each session goes on when it likes.
pub(crate) fn client() -> impl FnMut(&mut Prng, &World) -> Call {
    let mut sequences = [0_u64; 4];
    move |prng, _| {
        if prng.one_in(3) {
            return Call::Count;
        }
        let session = prng.below(4);
        let sequence = &mut sequences[usize::try_from(session).expect("small")];
        if *sequence == 0 || prng.one_in(2) {
            *sequence += 1;
        }
        command(session, *sequence)
    }
}

#[test]
fn histories_of_a_right_store_are_valid() {
    let plan = Plan { clients: 5, operations: 80, ambiguous_one_in: 8, failed_one_in: 12 };
    for seed in 0..1_000 {
        let history = simulate(seed, plan, World::default(), client(), &[Call::Count]);
        let verdict = check(&history);
        assert_eq!(verdict, Verdict::Valid, "seed {seed}");
    }
}

#[test]
fn what_is_invalid_here_has_no_order() {
    let plan = Plan { clients: 3, operations: 9, ambiguous_one_in: 10, failed_one_in: 12 };
    let mut comparison = Comparison::default();
    for seed in 0..4_000 {
        let right = simulate(seed, plan, World::default(), client(), &[Call::Count]);
        let change = |prng: &mut Prng, _: &crate::Operation, reply: &Reply| {
            let count = prng.below(6);
            let is_increment = matches!(reply, Reply::Incremented { .. });
            Some(if is_increment { Reply::Incremented { count } } else { Reply::Counted { count } })
        };
        let mut prng = Prng::from_seed(seed ^ 0x5eed);
        if let Some(history) = with_changed_reply(&right, &mut prng, change) {
            comparison.judge(seed, &Counter, &history, &check(&history));
        }
    }
    assert!(comparison.caught > 2_000, "{comparison:?}");
    assert!(comparison.right > 100, "{comparison:?}");
    assert!(comparison.missed * 200 < comparison.caught, "{comparison:?}");
}

#[test]
fn twenty_thousand_operations_are_judged() {
    let plan = Plan { clients: 20, operations: 20_000, ambiguous_one_in: 400, failed_one_in: 50 };
    let history = simulate(3, plan, World::default(), client(), &[Call::Count]);
    assert_eq!(check(&history), Verdict::Valid);
}
