//! What the tests of all checkers share: histories by hand, and a store that is right by construction.
//!
//! Property tests over every workload are in `properties`.

pub(crate) mod comparison;
mod properties;
pub(crate) mod script;
pub(crate) mod simulation;
pub(crate) mod world;
