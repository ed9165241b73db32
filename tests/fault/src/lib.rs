//! Real processes under real faults: a workload that a seed decides, the model of what it must leave behind,
//! and the shim that kills or fails system calls by number.
//!
//! The model is a plain vector of rows. It shares no code with the engine.

pub mod model;
pub mod replay;
pub mod shim;
pub mod worker;

pub use model::{Model, Operation, operations};
pub use shim::{Fault, Shim};
pub use worker::{Ended, run_retention, run_worker};
