//! The network between the nodes of a cluster: Raft's messages, snapshots and forwarded calls over gRPC.
//!
//! Guarantees: a message is decoded only after its sender showed that it belongs to this cluster and is the node that
//! it says it is; every call has a deadline, every queue a bound; entries travel as the bytes that the log holds.
//!
//! Does not: decide anything of consensus, keep state of its own, or speak to clients.
//!
//! Reading order: `identity` (who calls whom), `security` (what proves it), `convert` (messages), `network`, `send`, `call`
//! and `fetch` (asking), `host` (what the node above answers), `service`, `receive` and `door` (answering), `server` (the
//! port), `certs` (a development authority).

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod call;
mod certs;
mod convert;
mod door;
mod error;
mod fetch;
mod host;
mod identity;
pub mod limits;
mod network;
#[cfg(feature = "plant-commit-without-quorum")]
mod planted;
mod receive;
mod security;
mod send;
mod server;
mod service;

pub use call::{Change, PeerCalls};
pub use certs::{Authority, Issued};
pub use door::join;
pub use error::Error;
pub use fetch::read_snapshot;
pub use host::{FileParts, Host, NoHost, NotAdmitted};
pub use identity::{Identity, PROTOCOL};
pub use network::Peers;
pub use security::Security;
pub use server::PeerServer;
