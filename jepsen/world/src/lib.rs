//! The system side of the jepsen harness: real nodes as real processes, each with a network, a disk and a control
//! group of its own, and the faults that are done to them.
//!
//! Guarantees: nothing leaves the namespaces that [`enter`] made, so the machine's network, mounts and clock stay as
//! they were, and whatever ends the harness ends every node with it; a fault counts only as far as it was
//! [observed](Observation); chance comes from the seed.
//!
//! Does not: run clients, judge histories, or use anything of the product but its program.
//!
//! Reading order: [`enter`], [`World`], [`Mode`], then `wire`, `disk`, `served`, `cgroup` and `store`, which they stand on.

mod cgroup;
mod command;
mod disk;
pub mod enter;
pub mod error;
pub mod fault;
pub mod limits;
pub mod mode;
mod nemesis;
mod node;
mod operator;
mod served;
mod shim;
mod store;
mod sys;
pub mod wire;
pub mod world;

pub use disk::Disks;
pub use enter::{Inside, enter};
pub use error::Error;
pub use fault::{FaultId, Healed, Installed, Observation};
pub use mode::{Family, Mode};
pub use served::Loss;
pub use store::BucketReport;
pub use world::{
    Convergence, Digest, Happening, LogLine, NodeId, Replaced, Scrub, World, WorldConfig,
};
