//! A replicated lakehouse node in your own program.
//!
//! [`Node::open`] starts a node in a directory. Rows go in through the Raft log and come out through SQL.
//!
//! # What it guarantees
//!
//! - When a write returns, it is fsynced on a quorum and every later query sees it.
//! - After a crash the node recovers from its metadata and its log alone, without any helper.
//! - A query reads at one index, and its answer names it.
//! - Nothing is purged from the log before the files that hold its rows were read back and attested.
//!
//! # What it does not do
//!
//! It listens on no port for clients (the server crate does), parses no files (the ingest crate does), and never
//! decides what is true: the log does.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use alluvium_engine::{Caller, Config, Node, RegisterOptions, SqlOptions, TombstoneKeys};
//! use arrow::array::{Int64Array, RecordBatch, StringArray};
//! use arrow::datatypes::{DataType, Field, Schema};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let directory = tempfile::tempdir()?;
//! let node = Node::open(Config::single(directory.path().join("lake"))).await?;
//! let caller = Caller::named("example");
//!
//! let schema = Arc::new(Schema::new(vec![
//!     Field::new("origin", DataType::Utf8, false),
//!     Field::new("delay", DataType::Int64, true),
//! ]));
//! node.register(&caller, "flights", Arc::clone(&schema), RegisterOptions::keyed(&["origin"])).await?;
//! let origins = Arc::new(StringArray::from(vec!["ATL", "SFO", "ATL"]));
//! let delays = Arc::new(Int64Array::from(vec![Some(5), None, Some(12)]));
//! let batch = RecordBatch::try_new(schema, vec![origins, delays])?;
//! node.append(&caller, "flights", vec![batch]).await?;
//!
//! let atlanta = TombstoneKeys::Texts(vec![vec!["ATL".to_owned()]]);
//! node.tombstone(&caller, "flights", atlanta).await?;
//! let answer = node.sql("SELECT * FROM flights", SqlOptions::default()).await?.collect().await?;
//! assert_eq!(answer.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
//! node.shutdown().await?;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # Reading order
//!
//! `api` (what callers give and get), `machine` (the seam below), `opening` and `node` (the parts), `cluster` (being one of several),
//! `write`, `appender`, `work` (proposing), `read`, `log`, `verify` (answering), `offline` (a directory without a node),
//! `jobs` (effects), `replica` (the files of this node), `maintain` (the log's length), `scrub`, `pressure`, `leases`,
//! `dir`, `tasks`.
//!
//! # Errors
//!
//! One [`Error`]; [`Error::kind`] says what the caller can do, and is what every protocol maps.

#![deny(missing_docs)]

mod agreement;
mod api;
mod appender;
mod buckets;
mod cluster;
mod dir;
mod error;
mod jobs;
mod keys;
mod leases;
mod log;
mod machine;
mod maintain;
mod membership;
mod node;
mod offline;
mod opening;
mod pressure;
mod read;
mod reinstall;
mod replica;
mod scrub;
mod tasks;
mod verify;
mod work;
mod write;

pub use alluvium_peer::Security;
pub use alluvium_storage::s3::open as open_s3;
pub use api::{
    Caller, CompactReport, Config, DEFAULT_BUCKET, DatasetInfo, LogRecord, RegisterOptions,
    Registered, SealReport, SqlOptions, Status, TombstoneKeys, VerifyReport, Written,
};
pub use appender::Appender;
pub use cluster::PeerConfig;
pub use error::Error;
pub use machine::{Machine, RealMachine};
pub use membership::Member;
pub use node::Node;
pub use offline::{Recovered, recover_directory, verify_directory};
pub use read::QueryStream;
pub use reinstall::Reinstall;
