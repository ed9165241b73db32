//! W2: transactions that append to lists and read them, against strict serializability.
//!
//! The method is that of Kingsbury and Alvaro, "Elle: inferring isolation anomalies from experimental
//! observations" (2020): values are unique, so a list that was read tells the order of the appends to it; the
//! orders tell which transaction depends on which; and a cycle of dependencies is an anomaly of Adya,
//! "Weak consistency: a generalized theory" (1999). Cycles are found as components: Tarjan (1972).
//!
//! It must not assume an order that no read shows. Invariant: evidence names transactions whose answers
//! contradict each other, whatever else happened.

mod cycles;
mod dependencies;
mod graph;
mod lists;
pub(crate) mod reads;

#[cfg(test)]
mod tests;

use crate::history::History;
use crate::verdict::{Doubt, Verdict};

use lists::Lists;
use reads::Reads;

/// Judges the transactions of `history`.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let reads = match Reads::of(history) {
        Ok(reads) => reads,
        Err(doubt) => return Verdict::Unknown(doubt),
    };
    let lists = Lists::of(&reads);
    let mut evidence = reads.evidence();
    evidence.extend(lists.evidence(&reads));
    let graph = dependencies::graph(history, &reads, &lists);
    evidence.extend(cycles::find(&graph));
    if evidence.is_empty() && reads.all.is_empty() {
        return Verdict::Unknown(Doubt::NothingObserved);
    }
    Verdict::of(evidence)
}
