//! A port whose connections are few enough to be carried, whoever opens them.
//!
//! Guarantees: a connection on which nobody has said anything useful is closed in time; there are never more than the
//! port's limit, which leaves the process file descriptors for its log; when all places are taken, the one with the
//! least claim gives way to a newcomer, and none on which a call is open. A process without descriptors waits for one and
//! does not spin.
//!
//! Does not: look into calls, or know who makes them.
//!
//! Reading order: `port` (accepting), `guests` (who has a place), `connection` (one of them), `counted` (its calls).

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod connection;
mod counted;
mod guests;
mod port;

pub use connection::{Connection, Origin, remote_address};
pub use counted::Counted;
pub use port::{Opening, Port, Terms};
