//! A history by hand for each anomaly, and histories of a right store.

use std::collections::BTreeMap;
use std::ops::Range;

use alluvium_stdx::Prng;

use super::*;
use crate::linear::{self, Budget, Model};
use crate::tests::script::{Line, fail, history, info, ok, with_reply};
use crate::tests::simulation::{Plan, simulate};
use crate::tests::world::World;
use crate::{Anomaly, Call, Cycle, CycleClass, CycleOrder, OpId, Reply, Step};

type Part = (Step, Option<Vec<u64>>);

fn a(key: u64, value: u64) -> Part {
    (Step::Append { key, value }, None)
}

fn r(key: u64, list: &[u64]) -> Part {
    (Step::Read { key }, Some(list.to_vec()))
}

fn call(parts: &[Part]) -> Call {
    Call::Transact { steps: parts.iter().map(|(step, _)| step.clone()).collect() }
}

/// A transaction that succeeded. The black box does not look at indexes.
fn t(process: u64, time: Range<u64>, parts: &[Part]) -> Line {
    let lists = parts.iter().map(|(_, list)| list.clone()).collect();
    ok(process, time, call(parts), Reply::Transacted { lists }, 0)
}

fn valid(lines: impl IntoIterator<Item = Line>) {
    assert_eq!(check(&history(lines)), Verdict::Valid);
}

fn invalid(lines: impl IntoIterator<Item = Line>, expected: &[Anomaly]) {
    let verdict = check(&history(lines));
    assert_eq!(verdict.anomalies(), expected, "{verdict}");
}

fn cycle(class: CycleClass, order: CycleOrder) -> Anomaly {
    Anomaly::Cycle(Cycle { class, order })
}

#[test]
fn transactions_one_after_the_other_are_valid() {
    valid([
        t(0, 1..2, &[a(1, 1), a(2, 1)]),
        t(0, 3..4, &[r(1, &[1]), a(1, 2), r(1, &[1, 2])]),
        t(1, 5..6, &[r(1, &[1, 2]), r(2, &[1]), r(3, &[])]),
    ]);
}

#[test]
fn g0_two_transactions_write_over_each_other() {
    invalid(
        [
            t(0, 1..9, &[a(1, 1), a(2, 1)]),
            t(1, 1..9, &[a(1, 2), a(2, 2)]),
            t(2, 1..9, &[r(1, &[1, 2])]),
            t(3, 1..9, &[r(2, &[2, 1])]),
        ],
        &[cycle(CycleClass::G0, CycleOrder::Data)],
    );
}

#[test]
fn g1a_an_aborted_read() {
    invalid([fail(0, 1..2, call(&[a(1, 1)])), t(1, 1..9, &[r(1, &[1])])], &[Anomaly::AbortedRead]);
}

#[test]
fn g1b_an_intermediate_read() {
    invalid(
        [t(0, 1..9, &[a(1, 1), a(1, 2)]), t(1, 1..9, &[r(1, &[1])])],
        &[Anomaly::IntermediateRead, cycle(CycleClass::GSingle, CycleOrder::Data)],
    );
}

#[test]
fn g1c_two_transactions_read_each_other() {
    invalid(
        [t(0, 1..9, &[a(1, 1), r(2, &[1])]), t(1, 1..9, &[a(2, 1), r(1, &[1])])],
        &[cycle(CycleClass::G1c, CycleOrder::Data)],
    );
}

#[test]
fn g_single_a_read_skew() {
    let verdict = check(&history([
        t(0, 1..9, &[a(1, 1), a(2, 1)]),
        t(1, 1..9, &[r(1, &[1]), r(2, &[])]),
        t(2, 1..9, &[r(2, &[1])]),
    ]));
    assert_eq!(verdict.anomalies(), [cycle(CycleClass::GSingle, CycleOrder::Data)]);
    let Verdict::Invalid(evidence) = verdict else { panic!("it is invalid") };
    assert_eq!(evidence[0].operations, [OpId(1), OpId(0)]);
    assert_eq!(evidence[0].detail, "0 -wr(list 1, value 1)-> 1 -rw(list 2, value 1)-> 0");
}

#[test]
fn g_single_a_lost_update() {
    invalid(
        [
            t(0, 1..9, &[r(1, &[]), a(1, 1)]),
            t(1, 1..9, &[r(1, &[]), a(1, 2)]),
            t(2, 1..9, &[r(1, &[1, 2])]),
        ],
        &[cycle(CycleClass::GSingle, CycleOrder::Data)],
    );
}

#[test]
fn g2_item_a_write_skew() {
    invalid(
        [
            t(0, 1..9, &[r(1, &[]), a(2, 1)]),
            t(1, 1..9, &[r(2, &[]), a(1, 1)]),
            t(2, 1..9, &[r(1, &[1]), r(2, &[1])]),
        ],
        &[cycle(CycleClass::G2Item, CycleOrder::Data)],
    );
}

#[test]
fn g_single_realtime_a_stale_read() {
    invalid(
        [t(0, 1..2, &[a(1, 1)]), t(1, 3..4, &[r(1, &[])]), t(2, 3..4, &[r(1, &[1])])],
        &[cycle(CycleClass::GSingle, CycleOrder::Realtime)],
    );
}

#[test]
fn g_single_process_a_client_does_not_read_its_own_write() {
    invalid(
        [t(0, 1..2, &[a(1, 1)]), t(0, 3..4, &[r(1, &[])]), t(2, 1..9, &[r(1, &[1])])],
        &[cycle(CycleClass::GSingle, CycleOrder::Process)],
    );
}

#[test]
fn g0_realtime_appends_in_the_wrong_order() {
    invalid(
        [t(0, 1..2, &[a(1, 1)]), t(1, 3..4, &[a(1, 2)]), t(2, 1..9, &[r(1, &[2, 1])])],
        &[cycle(CycleClass::G0, CycleOrder::Realtime)],
    );
}

#[test]
fn g1c_realtime_a_read_of_the_future() {
    invalid(
        [t(1, 1..2, &[r(1, &[1])]), t(0, 3..4, &[a(1, 1)])],
        &[cycle(CycleClass::G1c, CycleOrder::Realtime)],
    );
}

#[test]
fn g2_item_process_a_long_fork() {
    invalid(
        [
            t(0, 1..20, &[a(1, 1)]),
            t(1, 1..20, &[a(2, 1)]),
            t(2, 2..3, &[r(1, &[1])]),
            t(2, 4..5, &[r(2, &[])]),
            t(3, 2..3, &[r(2, &[1])]),
            t(3, 4..5, &[r(1, &[])]),
        ],
        &[cycle(CycleClass::G2Item, CycleOrder::Process)],
    );
}

#[test]
fn g2_item_realtime_a_read_misses_what_an_acknowledged_write_was_missed_by() {
    invalid(
        [
            t(0, 1..2, &[a(2, 1)]),
            t(1, 1..9, &[r(2, &[]), a(1, 1)]),
            t(2, 3..4, &[r(1, &[])]),
            t(3, 5..9, &[r(1, &[1]), r(2, &[1])]),
        ],
        &[cycle(CycleClass::G2Item, CycleOrder::Realtime)],
    );
}

#[test]
fn g0_process_and_g1c_process_a_client_is_reordered() {
    invalid(
        [t(0, 1..2, &[a(1, 1)]), t(0, 3..4, &[a(1, 2)]), t(2, 1..9, &[r(1, &[2, 1])])],
        &[cycle(CycleClass::G0, CycleOrder::Process)],
    );
    invalid(
        [t(0, 1..2, &[r(1, &[1])]), t(0, 3..4, &[a(1, 1)])],
        &[cycle(CycleClass::G1c, CycleOrder::Process)],
    );
}

#[test]
fn incompatible_orders_of_one_list() {
    invalid(
        [
            t(0, 1..9, &[a(1, 1)]),
            t(1, 1..9, &[a(1, 2)]),
            t(2, 1..9, &[r(1, &[1, 2])]),
            t(3, 1..9, &[r(1, &[2])]),
        ],
        &[Anomaly::IncompatibleOrder],
    );
}

#[test]
fn a_lost_append() {
    invalid(
        [t(0, 1..2, &[a(1, 1)]), t(1, 3..4, &[r(1, &[])])],
        &[Anomaly::Lost, cycle(CycleClass::GSingle, CycleOrder::Realtime)],
    );
    valid([info(0, 1.., call(&[a(1, 1)])), t(1, 3..4, &[r(1, &[])])]);
    valid([fail(0, 1..2, call(&[a(1, 1)])), t(1, 3..4, &[r(1, &[])])]);
}

#[test]
fn a_duplicate_append() {
    let lines = [t(0, 1..2, &[a(1, 1)]), t(1, 3..4, &[r(1, &[1, 1])])];
    invalid(lines, &[Anomaly::Duplicate, Anomaly::Internal]);
}

#[test]
fn a_phantom_value() {
    invalid([t(0, 1..2, &[a(1, 1)]), t(1, 3..4, &[r(1, &[1, 7])])], &[Anomaly::Phantom]);
}

#[test]
fn a_dirty_update_stands_on_an_append_that_failed() {
    invalid(
        [fail(0, 1..2, call(&[a(1, 1)])), t(1, 3..4, &[a(1, 2)]), t(2, 5..6, &[r(1, &[1, 2])])],
        &[Anomaly::AbortedRead, Anomaly::DirtyUpdate],
    );
}

#[test]
fn a_transaction_that_contradicts_itself() {
    invalid([t(0, 1..2, &[a(1, 1), r(1, &[])])], &[Anomaly::Internal]);
    invalid([t(0, 1..2, &[r(1, &[1]), a(1, 1)])], &[Anomaly::Internal]);
    let lines = [t(0, 1..9, &[a(1, 1)]), t(1, 1..9, &[r(1, &[]), r(1, &[1])])];
    invalid(lines, &[Anomaly::Internal]);
}

#[test]
fn appends_of_one_transaction_out_of_order() {
    invalid(
        [t(0, 1..9, &[a(1, 1), a(1, 2)]), t(1, 1..9, &[r(1, &[2, 1])])],
        &[Anomaly::Internal, Anomaly::IntermediateRead],
    );
}

#[test]
fn a_fractured_read_of_an_ambiguous_transaction() {
    let both = || info(0, 1.., call(&[a(1, 1), a(2, 1)]));
    valid([both(), t(1, 2..3, &[r(1, &[]), r(2, &[])]), t(1, 4..5, &[r(1, &[1]), r(2, &[1])])]);
    invalid(
        [both(), t(1, 2..3, &[r(1, &[1]), r(2, &[])])],
        &[cycle(CycleClass::GSingle, CycleOrder::Data)],
    );
}

#[test]
fn a_value_appended_twice_cannot_be_traced() {
    let lines = [t(0, 1..2, &[a(1, 1)]), t(0, 3..4, &[a(1, 1)]), t(1, 5..6, &[r(1, &[1])])];
    let doubt = Doubt::Untraceable { subject: "value 1 of list 1".to_owned() };
    assert_eq!(check(&history(lines)), Verdict::Unknown(doubt));
}

#[test]
fn what_nobody_read_is_unknown() {
    assert_eq!(check(&history([])), Verdict::Unknown(Doubt::Empty));
    let lines = [t(0, 1..2, &[a(1, 1)])];
    assert_eq!(check(&history(lines)), Verdict::Unknown(Doubt::NothingObserved));
}

/// All lists as one object, for the search.
struct AllLists;

impl Model for AllLists {
    type State = BTreeMap<u64, Vec<u64>>;

    fn subject(&self, call: &Call) -> Option<String> {
        matches!(call, Call::Transact { .. }).then(|| "lists".to_owned())
    }

    fn initial(&self) -> Self::State {
        BTreeMap::new()
    }

    fn step(&self, state: &Self::State, call: &Call, reply: Option<&Reply>) -> Option<Self::State> {
        let Call::Transact { steps } = call else { return None };
        let mut state = state.clone();
        for (position, step) in steps.iter().enumerate() {
            match (step, reply) {
                (Step::Append { key, value }, _) => state.entry(*key).or_default().push(*value),
                (Step::Read { key }, Some(Reply::Transacted { lists })) => {
                    let current = state.get(key).cloned().unwrap_or_default();
                    if lists[position].as_ref() != Some(&current) {
                        return None;
                    }
                }
                (Step::Read { .. }, _) => {}
            }
        }
        Some(state)
    }
}

/// One to three steps over few lists; values never repeat.
fn client() -> impl FnMut(&mut Prng, &World) -> Call {
    let mut next = 0;
    move |prng, _| {
        let steps = 0..=prng.below(3);
        let step = |_| {
            let key = prng.below(3);
            next += 1;
            if prng.one_in(2) { Step::Read { key } } else { Step::Append { key, value: next } }
        };
        Call::Transact { steps: steps.map(step).collect() }
    }
}

#[test]
fn histories_of_a_right_store_are_valid() {
    let plan = Plan { clients: 5, operations: 60, ambiguous_one_in: 8, failed_one_in: 12 };
    for seed in 0..1_000 {
        let history = simulate(seed, plan, World::default(), client(), &[]);
        let verdict = check(&history);
        assert!(!matches!(verdict, Verdict::Invalid(_)), "seed {seed}: {verdict}");
    }
}

/// Exchanges the list of one read; returns nothing if there is no other list to take.
fn with_another_list(history: &History, prng: &mut Prng) -> Option<History> {
    let answered: Vec<_> =
        history.operations().iter().filter_map(|op| Some((op.id, op.answer()?.0))).collect();
    let lists_of = |reply: &Reply| {
        let Reply::Transacted { lists } = reply else { return Vec::new() };
        lists.clone()
    };
    let all: Vec<Vec<u64>> =
        answered.iter().flat_map(|(_, reply)| lists_of(reply)).flatten().collect();
    let (id, reply) = *prng.pick(&answered)?;
    let mut lists = lists_of(reply);
    let position = lists.iter().position(Option::is_some)?;
    let other = prng.pick(&all).filter(|other| lists[position].as_ref() != Some(other))?;
    lists[position] = Some(other.clone());
    Some(with_reply(history, id, Reply::Transacted { lists }))
}

#[test]
fn what_is_invalid_here_has_no_order_and_most_without_an_order_is_invalid_here() {
    let plan = Plan { clients: 3, operations: 9, ambiguous_one_in: 10, failed_one_in: 12 };
    let (mut caught, mut missed) = (0, 0);
    for seed in 0..4_000 {
        let right = simulate(seed, plan, World::default(), client(), &[]);
        let mut prng = Prng::from_seed(seed ^ 0x5eed);
        let Some(history) = with_another_list(&right, &mut prng) else { continue };
        let budget = Budget::steps(100_000);
        let is_ordered = linear::check(&AllLists, &history, &budget).is_valid();
        let verdict = check(&history);
        let is_invalid = matches!(verdict, Verdict::Invalid(_));
        assert!(!(is_ordered && is_invalid), "seed {seed}: a false alarm: {verdict}");
        caught += u32::from(is_invalid);
        missed += u32::from(!is_ordered && !is_invalid);
    }
    assert!(caught > 1_000, "{caught} were caught");
    assert_eq!(missed, 0, "{caught} were caught");
}

#[test]
fn twenty_thousand_transactions_over_fifty_lists_are_judged() {
    let plan = Plan { clients: 20, operations: 20_000, ambiguous_one_in: 400, failed_one_in: 50 };
    let mut next = 0;
    let client = move |prng: &mut Prng, _: &World| {
        next += 1;
        let key = prng.below(50);
        let append = Step::Append { key, value: next };
        let steps = if prng.one_in(4) { vec![append] } else { vec![Step::Read { key }] };
        Call::Transact { steps }
    };
    let history = simulate(3, plan, World::default(), client, &[]);
    assert_eq!(check(&history), Verdict::Valid);
}
