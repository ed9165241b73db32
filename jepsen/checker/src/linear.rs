//! Linearizability: is there one order of the operations that explains every answer?
//!
//! The search is that of Wing and Gong, "Testing and verifying concurrent objects" (1993), with the memory of
//! Lowe, "Testing for linearizability" (2017). Each subject (register, row, dataset) is searched on its
//! own: Horn and Kroening, "Faster linearizability checking via P-compositionality" (2015), show that
//! the whole is linearizable if every part is.
//!
//! It must not give up as valid: a search that runs out of its budget is [`Verdict::Unknown`]. Invariant: an
//! ambiguous operation may be placed anywhere after its invocation, or nowhere.

mod datasets;
mod placed;
mod registers;
mod rows;
mod search;
mod token;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;

use alluvium_stdx::Clock;

use crate::call::{Call, Reply};
use crate::history::{History, Operation};
use crate::verdict::{Anomaly, Doubt, Evidence, Verdict};

pub use datasets::Datasets;
pub use registers::Registers;
pub use rows::Rows;
pub(crate) use search::{Entry, Found, search};

/// A sequential object: what each call may answer in each state.
pub trait Model {
    /// What one subject remembers.
    type State: Clone + Eq + Hash + fmt::Debug;

    /// Returns the part of the object that `call` is about, or nothing if it is about another object.
    fn subject(&self, call: &Call) -> Option<String>;

    /// Returns the state before the first call.
    fn initial(&self) -> Self::State;

    /// Returns the state after `call`, or nothing if it cannot answer `reply` in `state`.
    ///
    /// Without a reply the call is ambiguous, and takes effect now; one that would have no effect may
    /// answer nothing, since it need not be placed.
    fn step(&self, state: &Self::State, call: &Call, reply: Option<&Reply>) -> Option<Self::State>;
}

/// When to give up.
#[derive(Debug, Clone, Copy)]
pub struct Budget<'a> {
    /// How many times the model may be asked, for each subject.
    pub steps_max: u64,
    /// A clock, and its monotonic time after which no search goes on.
    pub deadline: Option<(&'a dyn Clock, u64)>,
}

impl Budget<'_> {
    /// Returns a budget of steps alone: the same verdict on every machine.
    #[must_use]
    pub fn steps(steps_max: u64) -> Self {
        Self { steps_max, deadline: None }
    }

    /// Whether to give up after `steps`. The clock is read now and then only.
    fn is_spent(&self, steps: u64) -> bool {
        const STEPS_BETWEEN_READS: u64 = 1_024;
        let is_late = || self.deadline.is_some_and(|(clock, end)| clock.monotonic_ns() >= end);
        steps >= self.steps_max || (steps.is_multiple_of(STEPS_BETWEEN_READS) && is_late())
    }
}

/// Judges the operations of `model` in `history`.
pub fn check<M: Model>(model: &M, history: &History, budget: &Budget<'_>) -> Verdict {
    let subjects = partition(model, history);
    Verdict::merge(subjects.iter().map(|(subject, operations)| {
        let entries = operations.iter().map(|operation| Entry::of(operation)).collect();
        let found = search(model, entries, budget);
        verdict(subject, found)
    }))
}

/// The operations of each subject. A failed one had no effect, and an ambiguous read has none.
pub(crate) fn partition<'a, M: Model>(
    model: &M,
    history: &'a History,
) -> BTreeMap<String, Vec<&'a Operation>> {
    let mut subjects: BTreeMap<String, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations() {
        let is_silent = operation.is_ambiguous() && operation.call.is_read();
        if operation.is_failed() || is_silent {
            continue;
        }
        if let Some(subject) = model.subject(&operation.call) {
            subjects.entry(subject).or_default().push(operation);
        }
    }
    subjects
}

fn verdict(subject: &str, found: Found) -> Verdict {
    match found {
        Found::Order => Verdict::Valid,
        Found::Spent { steps } => {
            Verdict::Unknown(Doubt::Budget { subject: subject.to_owned(), steps })
        }
        Found::Stuck { prefix, unplaced } => {
            let detail = format!(
                "{} operations can be ordered, then none of {} fits",
                prefix.len(),
                unplaced.len()
            );
            let evidence = Evidence::new(Anomaly::NotLinearizable, subject, unplaced, detail);
            Verdict::Invalid(vec![Evidence { prefix, ..evidence }])
        }
    }
}
