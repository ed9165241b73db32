//! The second opinion: the log itself says in which order writes took effect, and at which index each read was
//! served. So nothing is searched for, and a history is replayed in one pass.
//!
//! It must not replace the black box: a store that lies about its indexes would pass. Invariant: both must
//! come to the same verdict, and [`Agreement`] says when they do not.

mod keyed;
mod lists;
mod sessions;
mod sets;
mod timeline;

#[cfg(test)]
mod tests;

use crate::history::History;
use crate::verdict::{Anomaly, Doubt, Evidence, Verdict};

pub use keyed::keyed;
pub use lists::lists;
pub use sessions::sessions;
pub use sets::sets;
use timeline::Timeline;

/// Judges the indexes alone, of all operations of all workloads: no two writes share one, and what began after
/// another operation ended is not before it.
#[must_use]
pub fn order(history: &History) -> Verdict {
    if history.operations().iter().all(|operation| operation.answer().is_none()) {
        return Verdict::Unknown(Doubt::NothingObserved);
    }
    Verdict::of(Timeline::of(history).evidence)
}

/// What the black box and the log's order say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// Both say so.
    Agreed(Verdict),
    /// One of them cannot tell.
    Undecided {
        /// Without the log's indexes.
        black_box: Verdict,
        /// With them.
        oracle: Verdict,
    },
    /// One says valid, the other invalid: a bug of a checker. If the oracle is the one that found something, the
    /// store may also have named wrong indexes for right answers.
    Disagreed {
        /// Without the log's indexes.
        black_box: Verdict,
        /// With them.
        oracle: Verdict,
    },
}

impl Agreement {
    /// Compares two verdicts on one history.
    #[must_use]
    pub fn of(black_box: Verdict, oracle: Verdict) -> Self {
        match (&black_box, &oracle) {
            (Verdict::Valid, Verdict::Valid) => Self::Agreed(Verdict::Valid),
            (Verdict::Invalid(_), Verdict::Invalid(_)) => {
                Self::Agreed(Verdict::merge([black_box, oracle]))
            }
            (Verdict::Unknown(_), _) | (_, Verdict::Unknown(_)) => {
                Self::Undecided { black_box, oracle }
            }
            (Verdict::Valid, Verdict::Invalid(_)) | (Verdict::Invalid(_), Verdict::Valid) => {
                Self::Disagreed { black_box, oracle }
            }
        }
    }

    /// Returns the verdict of both. A disagreement is evidence of its own.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Agreed(verdict) => verdict,
            Self::Undecided { black_box, oracle } => Verdict::merge([black_box, oracle]),
            Self::Disagreed { black_box, oracle } => {
                let who = if black_box.is_valid() { "the black box" } else { "the oracle" };
                let detail = format!("{who} finds the history valid, the other does not");
                let evidence = Evidence::new(Anomaly::CheckersDisagree, "checkers", [], detail);
                Verdict::merge([Verdict::Invalid(vec![evidence]), black_box, oracle])
            }
        }
    }
}
