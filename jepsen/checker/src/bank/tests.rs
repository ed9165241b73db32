//! A history by hand for each anomaly, and histories of a right store.

use std::ops::Range;

use alluvium_stdx::Prng;

use super::*;
use crate::linear::{self, Budget};
use crate::tests::script::{Line, fail, history, info, ok};
use crate::tests::simulation::{Plan, simulate};
use crate::tests::world::World;

/// Three accounts with ten each.
pub(crate) fn bank() -> Bank {
    Bank { initial: (1..=3).map(|account| (account, 10)).collect() }
}

fn transfer(from: u64, to: u64, amount: i64) -> Call {
    Call::Transfer { from, to, amount }
}

fn read(process: u64, time: Range<u64>, balances: &[i64]) -> Line {
    let balances = (1..).zip(balances.iter().copied()).collect();
    ok(process, time, Call::Balances, Reply::Balances { balances }, 0)
}

fn invalid(lines: impl IntoIterator<Item = Line>, expected: &[Anomaly]) {
    let verdict = check(&bank(), &history(lines));
    assert_eq!(verdict.anomalies(), expected, "{verdict}");
}

#[test]
fn money_that_moves_is_valid() {
    let lines = [
        ok(0, 1..2, transfer(1, 2, 4), Reply::Done, 1),
        read(1, 3..4, &[6, 14, 10]),
        ok(0, 5..6, transfer(1, 2, 7), Reply::Refused, 2),
        info(0, 7.., transfer(3, 1, 10)),
        fail(2, 7..8, transfer(2, 1, 14)),
        read(1, 9..10, &[16, 14, 0]),
    ];
    let history = history(lines);
    assert_eq!(check(&bank(), &history), Verdict::Valid);
    assert_eq!(linear::check(&bank(), &history, &Budget::steps(100)), Verdict::Valid);
}

#[test]
fn a_torn_transfer_changes_the_total() {
    let lines = [ok(0, 1..2, transfer(1, 2, 4), Reply::Done, 1), read(1, 1..4, &[6, 10, 10])];
    invalid(lines, &[Anomaly::WrongTotal]);
}

#[test]
fn a_negative_balance() {
    let lines = [ok(0, 1..2, transfer(1, 2, 14), Reply::Done, 1), read(1, 3..4, &[-4, 24, 10])];
    invalid(lines, &[Anomaly::NegativeBalance]);
}

#[test]
fn a_missing_account() {
    invalid([read(1, 3..4, &[10, 20])], &[Anomaly::WrongAccounts]);
    invalid([read(1, 3..4, &[10, 10])], &[Anomaly::WrongTotal, Anomaly::WrongAccounts]);
}

#[test]
fn a_total_is_not_enough_for_the_search() {
    let lines = [ok(0, 1..2, transfer(1, 2, 4), Reply::Done, 1), read(1, 3..4, &[10, 10, 10])];
    let history = history(lines);
    assert_eq!(check(&bank(), &history), Verdict::Valid);
    let verdict = linear::check(&bank(), &history, &Budget::steps(100));
    assert_eq!(verdict.anomalies(), [Anomaly::NotLinearizable]);
}

#[test]
fn a_transfer_is_refused_only_for_want_of_money() {
    let refused = |amount| history([ok(0, 1..2, transfer(1, 2, amount), Reply::Refused, 1)]);
    let check = |amount| linear::check(&bank(), &refused(amount), &Budget::steps(100));
    assert_eq!(check(11), Verdict::Valid);
    assert_eq!(check(10).anomalies(), [Anomaly::NotLinearizable]);
}

#[test]
fn a_bank_that_nobody_looked_at_is_unknown() {
    assert_eq!(check(&bank(), &history([])), Verdict::Unknown(Doubt::Empty));
    let lines = [ok(0, 1..2, transfer(1, 2, 4), Reply::Done, 1)];
    assert_eq!(check(&bank(), &history(lines)), Verdict::Unknown(Doubt::NothingObserved));
}

/// Transfers between the accounts of `bank`, and reads.
pub(crate) fn client(prng: &mut Prng, _: &World) -> Call {
    if prng.one_in(2) {
        return Call::Balances;
    }
    let from = 1 + prng.below(3);
    let to = 1 + (from + prng.below(2)) % 3;
    transfer(from, to, i64::try_from(1 + prng.below(12)).expect("small"))
}

/// A store with the accounts of `bank`.
pub(crate) fn world() -> World {
    let mut world = World::default();
    world.balances = bank().initial;
    world
}

#[test]
fn histories_of_a_right_store_are_valid() {
    let plan = Plan { clients: 4, operations: 40, ambiguous_one_in: 20, failed_one_in: 12 };
    let mut decided = 0;
    for seed in 0..500 {
        let history = simulate(seed, plan, world(), client, &[Call::Balances]);
        assert_eq!(check(&bank(), &history), Verdict::Valid, "seed {seed}");
        let found = linear::check(&bank(), &history, &Budget::steps(200_000));
        assert!(!matches!(found, Verdict::Invalid(_)), "seed {seed}: {found}");
        decided += u32::from(found.is_valid());
    }
    assert!(decided > 490, "{decided} of 500 were decided");
}
