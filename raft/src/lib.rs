//! Consensus: openraft on our log and our state machine.
//!
//! Guarantees: an answered proposal is synced on a quorum and applied once; a restart continues where the disk
//! says, or refuses; a fault of the disk ends the node and is told by its cause.
//!
//! Does not: interpret commands, open files of the log or the store, speak a network protocol.
//!
//! Reading order: `type_config`, `frame` and `encoding` (what travels), `log_store` (the log on the WAL), `applier`
//! and `snapshots` (the state), `recovery` (what a start checks), `node` and `log_access` (what the engine calls),
//! `network` (the seam to peers), `peers` (what they ask), `members` (who they are), `offline` (a log without a node).

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod alone;
mod applier;
mod checkpoints;
mod config;
mod encoding;
mod error;
mod frame;
mod health;
pub mod limits;
mod log_access;
mod log_store;
mod members;
mod network;
mod node;
mod offline;
mod peers;
mod quarantine;
mod recovery;
mod refound;
mod reinstall;
mod snapshots;
mod status;
#[cfg(test)]
mod support;
mod thread;
mod type_config;

pub use applier::{AppliedState, EffectSender};
pub use checkpoints::Divergence;
pub use config::{RaftConfig, Timings};
pub use error::{
    EntryFault, Error, Fault, LeaderHint, MembershipFault, MessageFault, SnapshotFault,
};
pub use frame::Frame;
pub use members::Progress;
pub use network::{NoPeers, PeerNetwork};
pub use node::{Leadership, RaftNode};
pub use offline::{OfflineLog, restore};
pub use peers::{ReceivedSnapshot, check_append, encode_membership_of};
pub use refound::{Refounded, refound};
pub use reinstall::{members_of, replace_snapshots};
pub use snapshots::{CheckedSnapshot, SnapshotFile, check_snapshots};
pub use status::{LogBounds, Role, Status};
pub use type_config::{
    Address, LogId, Membership, RaftEntry, Runtime, SnapshotMeta, TypeConfig, Vote,
};
