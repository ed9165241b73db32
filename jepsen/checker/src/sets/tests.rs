//! A history by hand for each anomaly, and histories of a right store.

use std::collections::BTreeSet;
use std::ops::Range;

use alluvium_stdx::Prng;

use super::*;
use crate::linear::Model;
use crate::tests::comparison::{Comparison, with_changed_reply};
use crate::tests::script::{Line, fail, history, info, ok};
use crate::tests::simulation::{Plan, simulate};
use crate::tests::world::World;
use crate::{Anomaly, Reply};

const SET: u64 = 1;

fn adding(element: u64) -> Call {
    Call::Add { set: SET, element }
}

fn deleting(element: u64) -> Call {
    Call::Delete { set: SET, element }
}

fn add(process: u64, time: Range<u64>, element: u64) -> Line {
    ok(process, time, adding(element), Reply::Done, 0)
}

fn delete(process: u64, time: Range<u64>, element: u64) -> Line {
    ok(process, time, deleting(element), Reply::Done, 0)
}

fn scan(process: u64, time: Range<u64>, elements: &[u64]) -> Line {
    let elements = elements.to_vec();
    ok(process, time, Call::Scan { set: SET }, Reply::Elements { elements }, 0)
}

fn valid(lines: impl IntoIterator<Item = Line>) {
    assert_eq!(check(&history(lines)).verdict, Verdict::Valid);
}

fn invalid(lines: impl IntoIterator<Item = Line>, expected: &[Anomaly]) {
    let verdict = check(&history(lines)).verdict;
    assert_eq!(verdict.anomalies(), expected, "{verdict}");
}

#[test]
fn a_set_that_shows_what_was_done_is_valid() {
    valid([
        add(0, 1..2, 1),
        scan(1, 3..4, &[1]),
        add(0, 5..9, 2),
        scan(1, 6..7, &[1, 2]),
        delete(0, 10..11, 1),
        scan(1, 12..13, &[2]),
    ]);
}

#[test]
fn a_lost_element() {
    invalid([add(0, 1..2, 1), scan(1, 3..4, &[])], &[Anomaly::Lost]);
    invalid(
        [add(0, 1..2, 1), delete(2, 5..6, 1), scan(1, 3..4, &[]), scan(1, 7..8, &[])],
        &[Anomaly::Lost],
    );
}

#[test]
fn an_element_that_was_shown_is_lost_though_its_add_was_ambiguous() {
    let lines = [info(0, 1.., adding(1)), scan(1, 2..3, &[1]), scan(1, 4..5, &[])];
    invalid(lines, &[Anomaly::Lost]);
    valid([info(0, 1.., adding(1)), scan(1, 2..3, &[]), scan(1, 4..5, &[1])]);
}

#[test]
fn a_resurrected_element() {
    invalid([add(0, 1..2, 1), delete(0, 3..4, 1), scan(1, 5..6, &[1])], &[Anomaly::Resurrected]);
    valid([add(0, 1..2, 1), delete(0, 3..8, 1), scan(1, 5..6, &[1]), scan(1, 9..10, &[])]);
}

#[test]
fn an_ambiguous_delete_that_was_seen_is_not_undone() {
    let gone = [add(0, 1..2, 1), info(0, 3.., deleting(1)), scan(1, 4..5, &[])];
    valid(gone.clone());
    invalid(gone.into_iter().chain([scan(1, 6..7, &[1])]), &[Anomaly::Resurrected]);
}

#[test]
fn a_delete_that_may_have_come_before_the_add_resurrects_nothing() {
    valid([info(0, 1.., adding(1)), delete(1, 2..3, 1), scan(1, 4..5, &[1])]);
}

#[test]
fn a_phantom_element() {
    invalid([add(0, 1..2, 1), scan(1, 3..4, &[1, 7])], &[Anomaly::Phantom]);
    invalid([fail(0, 1..2, adding(1)), scan(1, 3..4, &[1])], &[Anomaly::Phantom]);
    invalid([scan(1, 1..2, &[1]), add(0, 3..4, 1), scan(1, 5..6, &[1])], &[Anomaly::Phantom]);
}

#[test]
fn a_duplicate_element() {
    invalid([add(0, 1..2, 1), scan(1, 3..4, &[1, 1])], &[Anomaly::Duplicate]);
}

#[test]
fn a_stale_scan_is_measured() {
    let lines = [add(0, 1..2, 1), scan(1, 30..31, &[]), scan(1, 40..41, &[1])];
    let report = check(&history(lines));
    assert_eq!(report.verdict.anomalies(), [Anomaly::Stale]);
    assert_eq!((report.stale_elements, report.stale_ns_max), (1, 28));
}

#[test]
fn two_scans_that_saw_two_orders_of_adds() {
    invalid(
        [add(0, 1..20, 1), add(1, 1..20, 2), scan(2, 2..9, &[1]), scan(3, 2..9, &[2])],
        &[Anomaly::IncompatibleOrder],
    );
}

#[test]
fn a_scan_that_shows_a_later_add_and_misses_an_earlier_one() {
    let lines = [scan(2, 1..20, &[2]), add(0, 2..3, 1), add(1, 5..6, 2), scan(2, 21..22, &[1, 2])];
    invalid(lines, &[Anomaly::Stale]);
}

#[test]
fn a_scan_that_shows_what_was_deleted_was_over_before_the_delete() {
    let lines = [
        add(0, 1..2, 1),
        info(1, 1.., adding(2)),
        scan(2, 3..20, &[1, 2]),
        delete(0, 5..6, 1),
        scan(3, 8..9, &[]),
    ];
    invalid(lines, &[Anomaly::Lost]);
}

#[test]
fn what_was_not_looked_at_in_the_end_is_unknown() {
    assert_eq!(check(&history([])).verdict, Verdict::Unknown(Doubt::Empty));
    let lines = [add(0, 1..2, 1)];
    assert_eq!(check(&history(lines)).verdict, Verdict::Unknown(Doubt::NothingObserved));
    let lines = [scan(1, 1..3, &[]), add(0, 2..4, 1)];
    assert_eq!(check(&history(lines)).verdict, Verdict::Unknown(Doubt::NoFinalRead));
    let lines = [add(0, 1..2, 1), add(0, 3..4, 1), scan(1, 5..6, &[1])];
    let doubt = Doubt::Untraceable { subject: "element 1 of set 1".to_owned() };
    assert_eq!(check(&history(lines)).verdict, Verdict::Unknown(doubt));
}

/// A set as one object, for the search.
struct WholeSet;

impl Model for WholeSet {
    type State = BTreeSet<u64>;

    fn subject(&self, _: &Call) -> Option<String> {
        Some("set".to_owned())
    }

    fn initial(&self) -> Self::State {
        BTreeSet::new()
    }

    fn step(&self, state: &Self::State, call: &Call, reply: Option<&Reply>) -> Option<Self::State> {
        let mut next = state.clone();
        if let Call::Add { element, .. } = call {
            next.insert(*element);
        }
        if let Call::Delete { element, .. } = call {
            next.remove(element);
        }
        let Some(Reply::Elements { elements }) = reply else { return Some(next) };
        elements.iter().eq(state).then_some(next)
    }
}

/// Adds and scans; deletes what was added, at any time after the add was sent.
pub(crate) fn client(scans: u64) -> impl FnMut(&mut Prng, &World) -> Call {
    let (mut next, mut left) = (0, Vec::new());
    move |prng, _| {
        if prng.one_in(scans) {
            return Call::Scan { set: SET };
        }
        if prng.one_in(3) && !left.is_empty() {
            let at = usize::try_from(prng.below(left.len() as u64)).expect("small");
            return deleting(left.swap_remove(at));
        }
        next += 1;
        left.push(next);
        adding(next)
    }
}

#[test]
fn histories_of_a_right_store_are_valid() {
    let plan = Plan { clients: 5, operations: 80, ambiguous_one_in: 8, failed_one_in: 12 };
    let last = [Call::Scan { set: SET }];
    for seed in 0..1_000 {
        let history = simulate(seed, plan, World::default(), client(3), &last);
        let report = check(&history);
        assert_eq!(report.verdict, Verdict::Valid, "seed {seed}");
        assert_eq!((report.stale_elements, report.stale_ns_max), (0, 0));
    }
}

#[test]
fn what_is_invalid_here_has_no_order() {
    let plan = Plan { clients: 3, operations: 10, ambiguous_one_in: 10, failed_one_in: 12 };
    let last = [Call::Scan { set: SET }];
    let mut comparison = Comparison::default();
    for seed in 0..4_000 {
        let right = simulate(seed, plan, World::default(), client(2), &last);
        let change = |prng: &mut Prng, _: &crate::Operation, reply: &Reply| {
            let Reply::Elements { elements } = reply else { return None };
            let mut elements: BTreeSet<u64> = elements.iter().copied().collect();
            let element = 1 + prng.below(5);
            if !elements.insert(element) {
                elements.remove(&element);
            }
            Some(Reply::Elements { elements: elements.into_iter().collect() })
        };
        let mut prng = Prng::from_seed(seed ^ 0x5eed);
        if let Some(history) = with_changed_reply(&right, &mut prng, change) {
            comparison.judge(seed, &WholeSet, &history, &check(&history).verdict);
        }
    }
    assert!(comparison.caught > 2_000, "{comparison:?}");
    assert!(comparison.right > 100, "{comparison:?}");
    assert!(comparison.missed * 200 < comparison.caught, "{comparison:?}");
}

#[test]
fn twenty_thousand_operations_are_judged() {
    let plan = Plan { clients: 20, operations: 20_000, ambiguous_one_in: 400, failed_one_in: 50 };
    let last = [Call::Scan { set: SET }];
    let history = simulate(3, plan, World::default(), client(200), &last);
    assert_eq!(check(&history).verdict, Verdict::Valid);
}
