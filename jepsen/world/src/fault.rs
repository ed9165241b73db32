//! What is known about one fault: that it was installed, what it was seen to do, and that it was healed.
//!
//! Must not take an installation for an effect. Invariant: [`Observation::Observed`] says by what the effect was
//! seen, from outside of the code that installed it.

use std::fmt;

use crate::mode::Mode;
use crate::world::NodeId;

/// Whether a fault was seen to have an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// It was, and this is what was seen.
    Observed {
        /// What was seen.
        how: String,
    },
    /// It was not, or cannot be told yet: the caller does not count it.
    Indeterminate {
        /// What was not seen.
        why: String,
    },
}

impl Observation {
    /// Whether the effect was seen.
    #[must_use]
    pub const fn is_observed(&self) -> bool {
        matches!(self, Self::Observed { .. })
    }

    pub(crate) fn of(seen: bool, what: impl Into<String>) -> Self {
        match seen {
            true => Self::Observed { how: what.into() },
            false => Self::Indeterminate { why: what.into() },
        }
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Observed { how } => write!(f, "observed: {how}"),
            Self::Indeterminate { why } => write!(f, "indeterminate: {why}"),
        }
    }
}

/// Names one installation of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(pub(crate) u64);

/// A fault that is in place, or that was done in one stroke.
#[derive(Debug, Clone)]
pub struct Installed {
    /// Its name in this world.
    pub id: FaultId,
    /// What it is.
    pub mode: Mode,
    /// The nodes that it was done to.
    pub nodes: Vec<NodeId>,
    /// What exactly was done, for the report.
    pub detail: String,
    /// What was seen right after; counters may need traffic, so [`Healed`] says it again.
    pub observation: Observation,
    /// When it was begun and in place, by the clock of the configuration.
    pub begun_ns: u64,
    /// See above.
    pub installed_ns: u64,
}

/// A fault that is over.
#[derive(Debug, Clone)]
pub struct Healed {
    /// Its name in this world.
    pub id: FaultId,
    /// What it was.
    pub mode: Mode,
    /// What was done to undo it.
    pub detail: String,
    /// The final word on whether it had an effect.
    pub observation: Observation,
    /// What a node did against its promise while the fault was in place, as far as the world itself can tell: each
    /// fails the run.
    pub broken: Vec<String>,
    /// When the healing was begun and done, by the clock of the configuration.
    pub begun_ns: u64,
    /// See above.
    pub healed_ns: u64,
}
