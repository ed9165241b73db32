//! What a checker says in the end, and how several sayings become one.
//!
//! It must not turn doubt into confidence. Invariant: merging never makes [`Verdict::Valid`] of anything
//! but valid parts, and no parts are [`Verdict::Unknown`].

use std::fmt;

use serde::Serialize;

use crate::history::OpId;

/// The answer of a checker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing in the history contradicts the model.
    Valid,
    /// The history contradicts the model: at least one piece of evidence.
    Invalid(Vec<Evidence>),
    /// The checker cannot tell. It is not a pass.
    Unknown(Doubt),
}

/// Why a checker cannot tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Nothing in the history is for this checker.
    Empty,
    /// No operation succeeded, so nothing was observed.
    NothingObserved,
    /// The search was given up.
    Budget {
        /// The part of the history that was searched.
        subject: String,
        /// How many steps it took until then.
        steps: u64,
    },
    /// No read came after everything else, so what is missing may be late.
    NoFinalRead,
    /// Two operations wrote what only one may write: what was read cannot be traced to one of them.
    Untraceable {
        /// What was written twice.
        subject: String,
    },
}

/// What was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Anomaly {
    /// No order of the operations explains the answers.
    NotLinearizable,
    /// A read shows what was never written, or not yet.
    Phantom,
    /// An acknowledged write is missing from then on.
    Lost,
    /// A read misses what later reads show.
    Stale,
    /// A read shows what an acknowledged delete removed.
    Resurrected,
    /// A read shows something twice.
    Duplicate,
    /// Two reads disagree about the order of a list.
    IncompatibleOrder,
    /// A transaction contradicts itself.
    Internal,
    /// G1a: a read shows the write of a transaction that failed.
    AbortedRead,
    /// G1b: a read shows a transaction half done.
    IntermediateRead,
    /// A committed write stands on that of a transaction that failed.
    DirtyUpdate,
    /// A cycle of dependencies between transactions.
    Cycle(Cycle),
    /// The sum of the balances changed.
    WrongTotal,
    /// A balance is below zero.
    NegativeBalance,
    /// A read shows other accounts than there are.
    WrongAccounts,
    /// Two reads at one index differ.
    DifferentAtIndex,
    /// A counter is below what was acknowledged.
    LostIncrement,
    /// A counter is above what can have been done, or one command had two effects.
    DoubleApply,
    /// One command of a session has two answers.
    DifferentReply,
    /// Two acknowledged writes have one index.
    SharedIndex,
    /// An operation began after another ended, and has the lower index.
    IndexOrder,
    /// A read at an index does not show the writes up to that index.
    WrongAtIndex,
    /// The black box and the log's order give different verdicts: a bug of the checkers.
    CheckersDisagree,
}

/// Which edges a cycle of transactions needs, after Adya (1999).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Cycle {
    /// Which dependencies on data.
    pub class: CycleClass,
    /// Which order beside the data's.
    pub order: CycleOrder,
}

/// The dependencies on data in a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CycleClass {
    /// Writes over writes only.
    G0,
    /// Reads of writes too.
    G1c,
    /// One write over a read.
    GSingle,
    /// Several writes over reads.
    G2Item,
}

/// The order beside the data's that a cycle needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CycleOrder {
    /// None: serializability itself is broken.
    Data,
    /// That of one process.
    Process,
    /// That of real time.
    Realtime,
}

/// One proof that a history is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// What was broken.
    pub anomaly: Anomaly,
    /// The key, set, account or session that it is about.
    pub subject: String,
    /// The operations that contradict each other, or that have no place.
    pub operations: Vec<OpId>,
    /// For a search: the longest order of operations that the model explains.
    pub prefix: Vec<OpId>,
    /// One sentence for a human.
    pub detail: String,
}

impl Evidence {
    pub(crate) fn new(
        anomaly: Anomaly,
        subject: impl Into<String>,
        operations: impl Into<Vec<OpId>>,
        detail: impl Into<String>,
    ) -> Self {
        let (subject, operations, detail) = (subject.into(), operations.into(), detail.into());
        Self { anomaly, subject, operations, prefix: Vec::new(), detail }
    }
}

impl Verdict {
    /// Returns the verdict of a checker that found `evidence`, and nothing else to doubt.
    pub(crate) fn of(evidence: Vec<Evidence>) -> Self {
        if evidence.is_empty() { Self::Valid } else { Self::Invalid(evidence) }
    }

    /// Returns the verdict on a whole whose parts were judged: wrong if a part is, valid if all are.
    #[must_use]
    pub fn merge(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().reduce(Self::and).unwrap_or(Self::Unknown(Doubt::Empty))
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Invalid(mut evidence), Self::Invalid(more)) => {
                evidence.extend(more);
                Self::Invalid(evidence)
            }
            (Self::Invalid(evidence), Self::Valid | Self::Unknown(_))
            | (Self::Valid | Self::Unknown(_), Self::Invalid(evidence)) => Self::Invalid(evidence),
            (Self::Unknown(doubt), Self::Valid | Self::Unknown(_))
            | (Self::Valid, Self::Unknown(doubt)) => Self::Unknown(doubt),
            (Self::Valid, Self::Valid) => Self::Valid,
        }
    }

    /// Returns whether the history passed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid)
    }

    /// Returns the anomalies of the evidence, each once, in their order.
    #[must_use]
    pub fn anomalies(&self) -> Vec<Anomaly> {
        let Self::Invalid(evidence) = self else { return Vec::new() };
        let mut found: Vec<Anomaly> = evidence.iter().map(|one| one.anomaly).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({}): {}", self.anomaly, self.subject, self.detail)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid => f.write_str("valid"),
            Self::Unknown(doubt) => write!(f, "unknown: {doubt:?}"),
            Self::Invalid(evidence) => {
                f.write_str("invalid")?;
                evidence.iter().try_for_each(|one| write!(f, "\n  {one}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(anomaly: Anomaly) -> Verdict {
        Verdict::Invalid(vec![Evidence::new(anomaly, "a", [], "b")])
    }

    #[test]
    fn an_invalid_part_makes_the_whole_invalid_and_all_evidence_is_kept() {
        let unknown = Verdict::Unknown(Doubt::NoFinalRead);
        let parts = [wrong(Anomaly::Lost), unknown, Verdict::Valid, wrong(Anomaly::Phantom)];
        assert_eq!(Verdict::merge(parts).anomalies(), [Anomaly::Phantom, Anomaly::Lost]);
    }

    #[test]
    fn an_unknown_part_never_becomes_valid() {
        let unknown = Verdict::Unknown(Doubt::NoFinalRead);
        for parts in [[unknown.clone(), Verdict::Valid], [Verdict::Valid, unknown.clone()]] {
            assert_eq!(Verdict::merge(parts), unknown);
        }
        assert_eq!(Verdict::merge([]), Verdict::Unknown(Doubt::Empty));
        assert_eq!(Verdict::merge([Verdict::Valid, Verdict::Valid]), Verdict::Valid);
    }

    #[test]
    fn a_verdict_reads_as_sentences() {
        assert_eq!(wrong(Anomaly::Lost).to_string(), "invalid\n  Lost (a): b");
        assert_eq!(Verdict::Valid.to_string(), "valid");
    }
}
