//! W3: sets to which each element is added once, and from which it is deleted at most once.
//!
//! Every scan has an interval that its effect lies in: between call and answer, and narrowed by what it saw.
//! What was in the set before a scan's interval and was not deleted must be in it; what was deleted before
//! must not. The idea is that of Jepsen's set-full checker, with deletes; the rules are our own.
//!
//! It must not search. So it sees every anomaly of one element, and of pairs of elements that are never
//! deleted; an order of deletes that two scans see differently is left to the log's order. Invariant: a
//! bound of an interval holds in every order that explains the answers.

mod members;
mod scans;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use crate::call::Call;
use crate::history::History;
use crate::verdict::{Doubt, Verdict};

pub(crate) use members::{Members, Scan};
use scans::Scans;

/// The verdict on all sets, and how late elements became visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetReport {
    /// What is wrong.
    pub verdict: Verdict,
    /// Elements that a scan missed and a later one showed.
    pub stale_elements: u64,
    /// The longest time from the moment that an element was surely there to a scan that missed it.
    pub stale_ns_max: u64,
}

/// Judges the sets of `history`.
#[must_use]
pub fn check(history: &History) -> SetReport {
    let mut report =
        SetReport { verdict: Verdict::Unknown(Doubt::Empty), stale_elements: 0, stale_ns_max: 0 };
    let mut verdicts = Vec::new();
    for members in sets(history).values() {
        match members {
            Ok(members) => verdicts.push(judge(members, &mut report)),
            Err(doubt) => verdicts.push(Verdict::Unknown(doubt.clone())),
        }
    }
    SetReport { verdict: Verdict::merge(verdicts), ..report }
}

/// The operations of each set, or why its elements cannot be traced.
pub(crate) fn sets(history: &History) -> BTreeMap<u64, Result<Members<'_>, Doubt>> {
    let mut sets: BTreeMap<u64, Result<Members<'_>, Doubt>> = BTreeMap::new();
    for operation in history.operations() {
        let (Call::Add { set, .. } | Call::Delete { set, .. } | Call::Scan { set }) =
            &operation.call
        else {
            continue;
        };
        let members = sets.entry(*set).or_insert_with(|| Ok(Members::of(*set)));
        if let Ok(known) = members
            && let Err(doubt) = known.take(operation)
        {
            *members = Err(doubt);
        }
    }
    sets
}

fn judge(members: &Members<'_>, report: &mut SetReport) -> Verdict {
    if members.scans.is_empty() {
        return Verdict::Unknown(Doubt::NothingObserved);
    }
    let scans = Scans::of(members);
    let evidence = scans.evidence(members);
    let (elements, longest_ns) = scans.staleness(members);
    report.stale_elements += elements;
    report.stale_ns_max = report.stale_ns_max.max(longest_ns);
    if evidence.is_empty() && !members.has_final_scan() {
        return Verdict::Unknown(Doubt::NoFinalRead);
    }
    Verdict::of(evidence)
}
