//! The seams between Alluvium and the machine it runs on: time, chance, tasks and durable files.
//!
//! Everything that could differ between two runs of the same seed enters through this crate, so that the
//! simulator can replace it. `.clippy.toml` bans the standard library's own doors.
//!
//! Guarantees: [`Prng`] gives the same sequence for the same seed on every platform; [`HashMap`] and
//! [`HashSet`] iterate in the same order for the same insertions; [`durable`] functions return only after
//! file and directory are synced.
//!
//! Does not: know anything of logs, tables or rows.

pub mod allowance;
pub mod clock;
pub mod durable;
pub mod hash;
pub mod invariant;
#[cfg(feature = "planted")]
pub mod plant;
pub mod prng;
pub mod spawn;

pub use clock::{Clock, ManualClock, SystemClock};
pub use hash::{FixedState, HashMap, HashSet};
pub use prng::Prng;
pub use spawn::{Spawner, ThreadSpawner};
