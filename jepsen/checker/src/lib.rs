//! Histories of what clients did and saw, and the checkers that judge them: the jepsen harness without
//! its processes and faults.
//!
//! Guarantees: a verdict is a function of the history and the budget alone; what a checker cannot tell is
//! [`Verdict::Unknown`], never a pass; [`Verdict::Invalid`] names the operations that prove it.
//!
//! Does not: start processes, touch the network, read a clock of its own, or use the log's indexes in a
//! black-box checker.
//!
//! Reading order: [`call`], [`history`], [`verdict`], then the checkers: [`linear`] (W1, W5, rows), [`append`]
//! (W2), [`sets`] (W3), [`bank`] (W4), [`sessions`] (W6); and [`oracle`],
//! the second opinion.

pub mod append;
pub mod bank;
pub mod call;
pub mod configs;
pub mod error;
pub mod history;
pub mod linear;
pub mod oracle;
pub mod sessions;
pub mod sets;
pub mod verdict;

pub use call::{Call, Dataset, Reply, Step, Versioned};
pub use error::Error;
pub use history::{Action, Event, History, LogIndex, NodeId, OpId, Operation, Outcome, ProcessId};
pub use verdict::{Anomaly, Cycle, CycleClass, CycleOrder, Doubt, Evidence, Verdict};

#[cfg(test)]
mod tests;
