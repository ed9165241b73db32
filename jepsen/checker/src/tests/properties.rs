//! Every workload: right histories are valid for black box and oracle, and a history with one answer that is
//! provably wrong is invalid for both.

use std::collections::BTreeSet;

use alluvium_stdx::Prng;

use super::script::with_reply;
use super::simulation::{Plan, simulate};
use super::world::World;
use crate::linear::{self, Budget, Datasets, Model, Registers, Rows};
use crate::oracle::{self, Agreement};
use crate::{
    Anomaly, Call, Dataset, Evidence, History, OpId, Operation, Reply, Step, Verdict, Versioned,
};
use crate::{append, bank, sessions, sets};

const SEEDS: u64 = 600;
const PLAN: Plan = Plan { clients: 4, operations: 60, ambiguous_one_in: 16, failed_one_in: 16 };
const BUDGET: Budget<'_> = Budget { steps_max: 200_000, deadline: None };

/// A workload: how its histories are made, spoiled and judged.
struct Workload {
    make: fn(u64) -> History,
    /// A history with one wrong answer, if there is an answer that can be made wrong.
    spoil: fn(&History, &mut Prng) -> Option<History>,
    black_box: fn(&History) -> Verdict,
    oracle: fn(&History) -> Verdict,
}

impl Workload {
    fn judge(&self, history: &History) -> Agreement {
        let oracle = Verdict::merge([oracle::order(history), (self.oracle)(history)]);
        Agreement::of((self.black_box)(history), oracle)
    }

    /// Judges right and spoiled histories; returns how many were spoiled.
    fn check(&self) {
        let mut spoiled = 0;
        for seed in 0..SEEDS {
            let right = (self.make)(seed);
            let found = self.judge(&right);
            assert_eq!(found, Agreement::Agreed(Verdict::Valid), "seed {seed}");
            let mut prng = Prng::from_seed(seed ^ 0x5eed);
            let Some(wrong) = (self.spoil)(&right, &mut prng) else { continue };
            spoiled += 1;
            let found = self.judge(&wrong);
            let is_caught = matches!(found, Agreement::Agreed(Verdict::Invalid(_)));
            assert!(is_caught, "seed {seed}: {found:?}");
        }
        assert!(spoiled * 2 > SEEDS, "{spoiled} of {SEEDS} were spoiled");
    }
}

fn keyed<M: Model>(model: &M, history: &History) -> Verdict {
    linear::check(model, history, &BUDGET)
}

fn answered(history: &History) -> Vec<(&Operation, &Reply)> {
    history.operations().iter().filter_map(|op| Some((op, op.answer()?.0))).collect()
}

/// Exchanges one of the replies that `wrong` can make wrong.
fn spoil(
    history: &History,
    prng: &mut Prng,
    wrong: impl Fn(&Operation, &Reply) -> Option<Reply>,
) -> Option<History> {
    let made: Vec<(OpId, Reply)> = answered(history)
        .iter()
        .filter_map(|(op, reply)| Some((op.id, wrong(op, reply)?)))
        .collect();
    let (id, reply) = prng.pick(&made)?;
    Some(with_reply(history, *id, reply.clone()))
}

fn number(prng: &mut Prng) -> i64 {
    i64::try_from(prng.below(1 << 60)).expect("it fits")
}

fn register_client(prng: &mut Prng, world: &World) -> Call {
    let (key, value) = (prng.below(3), number(prng));
    let current = world.registers.get(&key);
    let version = current.map_or(0, |register| register.version);
    match prng.below(4) {
        0 => Call::Write { key, value },
        1 => Call::Cas { key, version, old: current.map(|register| register.value), new: value },
        _ => Call::Read { key },
    }
}

/// A value that was surely overwritten before the read.
fn overwritten(history: &History, reader: &Operation) -> Option<Reply> {
    let Call::Read { key } = reader.call else { return None };
    let write = |op: &Operation, reply: &Reply| match (&op.call, reply) {
        (Call::Write { key: to, value }, Reply::Written { version }) if *to == key => {
            Some(Versioned { value: *value, version: *version })
        }
        _ => None,
    };
    let answered = answered(history);
    let writes = || answered.iter().filter_map(|(op, reply)| Some((*op, write(op, reply)?)));
    let (_, old) = writes().find(|(first, _)| {
        writes().any(|(second, _)| first.precedes(second) && second.precedes(reader))
    })?;
    Some(Reply::Value { current: Some(old) })
}

#[test]
fn registers_are_judged_alike_with_and_without_the_log() {
    Workload {
        make: |seed| simulate(seed, PLAN, World::default(), register_client, &[]),
        spoil: |history, prng| spoil(history, prng, |op, _| overwritten(history, op)),
        black_box: |history| keyed(&Registers, history),
        oracle: |history| oracle::keyed(&Registers, history, &BUDGET),
    }
    .check();
}

fn dataset_client(prng: &mut Prng, world: &World) -> Call {
    let name = format!("d{}", prng.below(2));
    match prng.below(4) {
        0 => Call::Register { name, spec: prng.below(1 << 60) },
        1 => {
            let incarnation = world.incarnation(&name);
            Call::Drop { name, incarnation }
        }
        _ => Call::Describe { name },
    }
}

/// A dataset that was surely dropped before it is described.
fn resurrected(history: &History, reader: &Operation) -> Option<Reply> {
    let Call::Describe { name } = &reader.call else { return None };
    answered(history).iter().find_map(|(op, reply)| {
        let Call::Drop { name: dropped, incarnation } = &op.call else { return None };
        let is_gone = *reply == &Reply::Done && dropped == name && op.precedes(reader);
        let dataset = Some(Dataset { spec: 0, incarnation: *incarnation });
        is_gone.then_some(Reply::Described { dataset })
    })
}

#[test]
fn datasets_are_judged_alike_with_and_without_the_log() {
    Workload {
        make: |seed| simulate(seed, PLAN, World::default(), dataset_client, &[]),
        spoil: |history, prng| spoil(history, prng, |op, _| resurrected(history, op)),
        black_box: |history| keyed(&Datasets, history),
        oracle: |history| oracle::keyed(&Datasets, history, &BUDGET),
    }
    .check();
}

fn row_client(prng: &mut Prng, _: &World) -> Call {
    let (key, value) = (prng.below(3), number(prng));
    match prng.below(5) {
        0 | 1 => Call::Upsert { key, value },
        2 => Call::Tombstone { key },
        _ => Call::Get { key },
    }
}

/// A row that was surely replaced or hidden before it is read.
fn replaced(history: &History, reader: &Operation) -> Option<Reply> {
    let Call::Get { key } = reader.call else { return None };
    let answered = answered(history);
    let value = |op: &Operation| {
        if let Call::Upsert { key: to, value } = op.call {
            return (to == key).then_some(Some(value));
        }
        (op.call == Call::Tombstone { key }).then_some(None)
    };
    let writes = || answered.iter().filter_map(|(op, _)| Some((*op, value(op)?)));
    let (_, old) = writes().find(|(first, old)| {
        let is_over = |second: &Operation| first.precedes(second) && second.precedes(reader);
        old.is_some() && writes().any(|(second, _)| is_over(second))
    })?;
    Some(Reply::Row { value: old })
}

#[test]
fn rows_are_judged_alike_with_and_without_the_log() {
    Workload {
        make: |seed| simulate(seed, PLAN, World::default(), row_client, &[]),
        spoil: |history, prng| spoil(history, prng, |op, _| replaced(history, op)),
        black_box: |history| keyed(&Rows, history),
        oracle: |history| oracle::keyed(&Rows, history, &BUDGET),
    }
    .check();
}

fn list_client() -> impl FnMut(&mut Prng, &World) -> Call {
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

/// A list without a value that was surely appended before the read, and without all behind it.
fn shortened(history: &History, reader: &Operation, reply: &Reply) -> Option<Reply> {
    let (Call::Transact { steps }, Reply::Transacted { lists }) = (&reader.call, reply) else {
        return None;
    };
    let [Step::Read { key }] = steps.as_slice() else { return None };
    let list = lists.first()?.as_ref()?;
    let is_before = |value: &u64| {
        let append = Step::Append { key: *key, value: *value };
        answered(history).iter().any(|(op, _)| {
            matches!(&op.call, Call::Transact { steps } if steps.contains(&append))
                && op.precedes(reader)
        })
    };
    let at = list.iter().rposition(is_before)?;
    Some(Reply::Transacted { lists: vec![Some(list.get(..at)?.to_vec())] })
}

#[test]
fn lists_are_judged_alike_with_and_without_the_log() {
    Workload {
        make: |seed| {
            let last: Vec<Call> =
                (0..3).map(|key| Call::Transact { steps: vec![Step::Read { key }] }).collect();
            simulate(seed, PLAN, World::default(), list_client(), &last)
        },
        spoil: |history, prng| spoil(history, prng, |op, reply| shortened(history, op, reply)),
        black_box: append::check,
        oracle: oracle::lists,
    }
    .check();
}

/// A scan without an element that was surely added before and never deleted, or with one that was surely
/// deleted after it was surely added.
fn mistaken(history: &History, reader: &Operation, reply: &Reply) -> Option<Reply> {
    let Reply::Elements { elements } = reply else { return None };
    let mut elements: BTreeSet<u64> = elements.iter().copied().collect();
    let operations = history.operations();
    let is_acked = |op: &&Operation| op.answer().is_some() && op.precedes(reader);
    let delete_of = |element| {
        let call = Call::Delete { set: 1, element };
        operations.iter().find(move |op| op.call == call)
    };
    let added = operations.iter().filter(is_acked).find_map(|add| {
        let Call::Add { element, .. } = add.call else { return None };
        let is_changeable = delete_of(element)
            .is_none_or(|delete| add.precedes(delete) && Some(delete).filter(is_acked).is_some());
        is_changeable.then_some(element)
    })?;
    if !elements.remove(&added) {
        elements.insert(added);
    }
    Some(Reply::Elements { elements: elements.into_iter().collect() })
}

#[test]
fn sets_are_judged_alike_with_and_without_the_log() {
    Workload {
        make: |seed| {
            let last = [Call::Scan { set: 1 }];
            simulate(seed, PLAN, World::default(), sets::tests::client(3), &last)
        },
        spoil: |history, prng| spoil(history, prng, |op, reply| mistaken(history, op, reply)),
        black_box: |history| sets::check(history).verdict,
        oracle: oracle::sets,
    }
    .check();
}

#[test]
fn the_bank_is_judged_alike_with_and_without_the_log() {
    Workload {
        make: |seed| {
            let plan = Plan { ambiguous_one_in: 40, ..PLAN };
            simulate(seed, plan, bank::tests::world(), bank::tests::client, &[Call::Balances])
        },
        spoil: |history, prng| {
            spoil(history, prng, |_, reply| {
                let Reply::Balances { balances } = reply else { return None };
                let mut balances = balances.clone();
                *balances.get_mut(&1)? += 1;
                Some(Reply::Balances { balances })
            })
        },
        black_box: |history| bank::check(&bank::tests::bank(), history),
        oracle: |history| oracle::keyed(&bank::tests::bank(), history, &BUDGET),
    }
    .check();
}

/// A counter below the commands that were surely done.
fn forgotten(history: &History, reader: &Operation, reply: &Reply) -> Option<Reply> {
    let Reply::Counted { .. } = reply else { return None };
    let mut done = BTreeSet::new();
    for (op, _) in answered(history) {
        if let Call::Increment { session, sequence } = op.call
            && op.precedes(reader)
        {
            done.insert((session, sequence));
        }
    }
    Some(Reply::Counted { count: (done.len() as u64).checked_sub(1)? })
}

#[test]
fn sessions_are_judged_alike_with_and_without_the_log() {
    Workload {
        make: |seed| {
            simulate(seed, PLAN, World::default(), sessions::tests::client(), &[Call::Count])
        },
        spoil: |history, prng| spoil(history, prng, |op, reply| forgotten(history, op, reply)),
        black_box: sessions::check,
        oracle: oracle::sessions,
    }
    .check();
}

/// An order that the log shows is an order: what the oracle finds valid the search must too.
#[test]
fn what_the_oracle_finds_valid_has_an_order() {
    let mut valid = 0;
    for seed in 0..3_000 {
        let plan = Plan { clients: 4, operations: 14, ambiguous_one_in: 8, failed_one_in: 16 };
        let right = simulate(seed, plan, World::default(), register_client, &[]);
        let mut prng = Prng::from_seed(seed ^ 0x5eed);
        let replies: Vec<Reply> =
            answered(&right).into_iter().map(|(_, reply)| reply.clone()).collect();
        let other = prng.pick(&replies).cloned();
        let fits = |op: &Operation| other.clone().filter(|reply| op.call.accepts(reply));
        let Some(history) = spoil(&right, &mut prng, |op, _| fits(op)) else { continue };
        let oracle =
            Verdict::merge([oracle::order(&history), oracle::keyed(&Registers, &history, &BUDGET)]);
        if oracle.is_valid() {
            valid += 1;
            assert_eq!(keyed(&Registers, &history), Verdict::Valid, "seed {seed}");
        }
    }
    assert!(valid > 300, "{valid} were valid");
}

#[test]
fn a_wrong_index_with_right_answers_is_a_disagreement() {
    let history = simulate(1, PLAN, World::default(), register_client, &[]);
    let reads = answered(&history);
    let (reader, reply) = reads.iter().rfind(|(op, _)| op.call.is_read()).expect("there are reads");
    let outcome = crate::Outcome::Ok { reply: (*reply).clone(), index: crate::LogIndex(0) };
    let wrong = super::script::with_outcome(&history, reader.id, &outcome);
    let agreement = Agreement::of(keyed(&Registers, &wrong), oracle::order(&wrong));
    assert!(matches!(agreement, Agreement::Disagreed { .. }), "{agreement:?}");
    let Verdict::Invalid(evidence) = agreement.verdict() else { panic!("it is invalid") };
    let anomalies: Vec<Anomaly> = evidence.iter().map(|one: &Evidence| one.anomaly).collect();
    assert_eq!(anomalies, [Anomaly::CheckersDisagree, Anomaly::IndexOrder]);
}
