//! The model test: random work and random faults against a plain map, seed by seed.
//!
//! After every reopening the log must hold what was acknowledged, byte for byte, and of the one
//! append that was under way at most a part from its front. Damage to durable bytes must be refused
//! and leave every byte as it is. Planted bugs prove that it bites.

mod damage;
mod oracle;
mod run;
mod tests;

pub(crate) use damage::records;
