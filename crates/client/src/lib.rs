//! The client of an Alluvium cluster.
//!
//! ```text
//! let client = Client::connect(["http://10.0.0.1:7171", "http://10.0.0.2:7171"], Options::named("meter"))?;
//! let written = client.append("readings", Rows::kept(&[batch])?, WriteOptions::default()).await?;
//! let options = QueryOptions { level: Level::Seen, ..QueryOptions::default() };
//! let answer = client.query_all("SELECT count(*) FROM readings", options).await?;
//! assert!(written.index <= answer.index);
//! ```
//!
//! A client is given some or all nodes of a cluster. Any node takes any call; writes go to the leader where it is known,
//! reads to each node in turn.
//!
//! # What it promises
//!
//! - **A write takes effect at most once**, however often it is sent: it keeps one session, opened by the first write,
//!   and every try of a command carries the same session, sequence and bytes.
//! - **An outcome is never guessed.** A call ends with its answer; or definitely without effect ([`Error::Refused`],
//!   [`Error::Unavailable`] and the others); or as [`Error::Ambiguous`], which then has the command as a [`Pending`] one,
//!   to be resumed under its number. A doubt that one try leaves stays until a server settles it.
//! - **It tries again** after a broken connection, a lost leader or a node that is silent, on another node first, with
//!   waits that grow and are spread, as long as the call's limit allows, and as slowly as the server asks.
//! - **Every call has a limit**, and is cancelled when its future is dropped. A write that is dropped may have happened.
//! - **What it has seen stays seen**: [`Level::Seen`] reads at any node what this client wrote or read before, without
//!   asking a quorum.
//! - **An answer is whole or an error.** Rows that end in an error cancel their append; nothing of it is visible.
//!
//! # What it does not do
//!
//! - Repeat what could happen twice: [`Client::append_once`] sends rows that cannot be had again, and
//!   [`Client::change_members`] has no number.
//! - Renew a session while the program holds a command of it. A session that expired cannot tell what became of its
//!   commands; a retried one is then told as ambiguous, and never sent under another number.
//! - Start tasks, read the clock of the machine, or remember anything beyond the process.
//!
//! Which error says what is one table: [`verdict`].

pub mod answer;
pub mod answers;
mod book;
mod call;
mod client;
pub mod columns;
mod command;
pub mod error;
pub mod limits;
mod nodes;
pub mod options;
mod pending;
mod read;
mod retry;
mod rows;
mod session;
pub mod verdict;
mod write;

pub use alluvium_proto::v1;
pub use alluvium_rows::{from_arrow, to_arrow};
pub use alluvium_types::{
    DataType, DatasetOptions, ErrorKind, Field, LogIndex, Schema, SchemaChange, Sequence,
    SessionId, SessionRef,
};
pub use answer::{Collected, Rowset};
pub use answers::{Answer, Compacted, Registered, Sealed, Written};
pub use client::Client;
pub use command::Keys;
pub use error::{Error, Failure};
pub use options::{Level, OnRetry, Options, QueryOptions, Retry, WriteOptions};
pub use pending::Pending;
pub use read::MemberChange;
pub use rows::{BatchStream, BoxError, Rows};
pub use write::RegisterOptions;
