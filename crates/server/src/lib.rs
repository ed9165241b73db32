//! A node behind one port: gRPC, health and reflection.
//!
//! Guarantees: every call has a deadline and every message a limit; rows from clients are validated before
//! they are used; every error is mapped by one table ([`failures::TABLE`], `docs/ERRORS.md`).
//!
//! Does not: decide anything that the engine decides, start tasks of its own, or listen beyond this machine
//! unless it is told that nobody is checked.
//!
//! Reading order: `serving` (the port), `transport` (how requests end), `service` (the calls), `streams`
//! (rows in and out), `failures`, `deadline`, `convert` (messages and our own types).

#![deny(missing_docs)]

pub mod convert;
mod deadline;
mod error;
pub mod failures;
mod health;
pub mod limits;
pub mod replies;
mod service;
mod serving;
mod streams;
mod transport;

pub use error::Error;
pub use serving::{ServeOptions, Server};
