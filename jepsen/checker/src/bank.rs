//! W4: transfers between accounts. The total never changes, and no balance is below zero.
//!
//! It must not ask which transfers took effect: the model for that is [`Bank`], for the search. Invariant: each
//! read is judged on its own.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use crate::call::{Call, Reply};
use crate::history::{History, OpId};
use crate::linear::Model;
use crate::verdict::{Anomaly, Doubt, Evidence, Verdict};

/// The accounts, as they were before the first transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bank {
    /// By account.
    pub initial: BTreeMap<u64, i64>,
}

/// Judges the reads of all accounts in `history`.
#[must_use]
pub fn check(bank: &Bank, history: &History) -> Verdict {
    let reads = history.operations().iter().filter_map(|operation| {
        let (Reply::Balances { balances }, _) = operation.answer()? else { return None };
        Some((operation.id, balances))
    });
    let reads: Vec<_> = reads.collect();
    let is_banking = |call: &Call| matches!(call, Call::Transfer { .. } | Call::Balances);
    if !history.operations().iter().any(|operation| is_banking(&operation.call)) {
        return Verdict::Unknown(Doubt::Empty);
    }
    if reads.is_empty() {
        return Verdict::Unknown(Doubt::NothingObserved);
    }
    Verdict::of(reads.iter().flat_map(|(id, balances)| bank.judge(*id, balances)).collect())
}

impl Bank {
    fn judge(&self, id: OpId, balances: &BTreeMap<u64, i64>) -> Vec<Evidence> {
        let mut found = Vec::new();
        let mut add = |anomaly, detail: String| {
            found.push(Evidence::new(anomaly, "bank", [id], detail));
        };
        if !balances.keys().eq(self.initial.keys()) {
            add(Anomaly::WrongAccounts, format!("{} accounts are shown", balances.len()));
        }
        let (expected, total) = (total(&self.initial), total(balances));
        if total != expected {
            add(Anomaly::WrongTotal, format!("the total is {total}, not {expected}"));
        }
        for (account, balance) in balances.iter().filter(|(_, balance)| **balance < 0) {
            add(Anomaly::NegativeBalance, format!("account {account} has {balance}"));
        }
        found
    }
}

fn total(balances: &BTreeMap<u64, i64>) -> i128 {
    balances.values().map(|balance| i128::from(*balance)).sum()
}

impl Model for Bank {
    type State = BTreeMap<u64, i64>;

    fn subject(&self, call: &Call) -> Option<String> {
        matches!(call, Call::Transfer { .. } | Call::Balances).then(|| "bank".to_owned())
    }

    fn initial(&self) -> Self::State {
        self.initial.clone()
    }

    fn step(&self, state: &Self::State, call: &Call, reply: Option<&Reply>) -> Option<Self::State> {
        let Call::Transfer { from, to, amount } = call else {
            let fits = matches!(reply, Some(Reply::Balances { balances }) if balances == state);
            return fits.then(|| state.clone());
        };
        let is_enough = state.get(from).is_some_and(|balance| balance >= amount);
        if matches!(reply, Some(Reply::Refused)) {
            return (!is_enough).then(|| state.clone());
        }
        let mut next = state.clone();
        *next.get_mut(from)? -= amount;
        *next.get_mut(to)? += amount;
        is_enough.then_some(next)
    }
}
