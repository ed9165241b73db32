//! What both benchmark programs need: medians, the machine, and the terminal.
//!
//! Guarantees: every figure that it returns was measured; what cannot be told of the machine is called unknown.
//!
//! Does not: measure anything, or know a contender.
//!
//! Reading order: `stats`, `machine`, `ui`.

#![deny(missing_docs)]

pub mod machine;
pub mod stats;
pub mod ui;
