//! A log of bytes in segments: many streams, one sequence of records, one sync for all who wait.
//!
//! **Guarantees.** What was acknowledged is there after any crash or power cut, byte for byte, or
//! opening says what is damaged and changes nothing. A write that was torn is cut and reported.
//! What is read was verified. A full disk refuses appends and harms nothing. A failed sync is
//! final.
//!
//! **Does not** know Raft, rows or time; repair damage (a peer has the bytes, `inspect` says
//! which); retry; keep a purged entry, though its bytes stay in a spare until that is overwritten.
//!
//! ```text
//! let storage = Arc::new(FsStorage::open(&dir)?);
//! let (wal, recovery) = Wal::open(storage, Options::new(owner))?;
//! let (handle, service) = WalService::start(wal)?;
//! let entry = Operation::Append { stream, index: 1, tag, payload };
//! handle.append(vec![entry], Box::new(|result| { /* durable, or failed for good */ })).await?;
//! let records = handle.read(stream, 1..2)?; // readable at once, durable or not
//! service.shutdown()?;
//! ```
//!
//! **Reading order.** `ids`, `operation`: the vocabulary. [`record`], [`segment`], [`watermark`]:
//! the bytes, as `docs/formats/wal.md` has them. [`storage`], [`sim`]: the disk, real and
//! simulated. `bases`: what a record may do to its stream. `shared`: the door, where an append is
//! accepted. `batch`, `writer`, `spares`: the way to the disk. `core`: one thread's view;
//! `service`, `handle`: everyone's. `index`, `reader`: the way back. `recovery`: opening, and the
//! judgment over the end. `inspect`: looking without touching. `model`: the test that decides.
//! [`fuzz`]: what the fuzz targets call.
//!
//! **Errors.** [`Error::is_corruption`]: fetch from a peer. [`Error::Poisoned`]: end the process.
//! [`Error::Full`], [`Error::Busy`]: later. The others name a mistake of the caller; nothing was
//! accepted.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod bases;
mod batch;
mod core;
mod error;
mod fields;
pub mod fuzz;
mod handle;
mod ids;
mod index;
pub mod inspect;
pub mod limits;
#[cfg(test)]
mod model;
mod number;
mod operation;
mod planted;
mod reader;
pub mod record;
mod recovery;
pub mod segment;
mod service;
mod shared;
pub mod sim;
mod spares;
pub mod storage;
pub mod watermark;
mod writer;

pub use crate::core::Wal;
pub use crate::error::{Error, IoOperation, Reason};
pub use crate::handle::WalHandle;
pub use crate::ids::{Lsn, Owner, Position, SegmentSeq, StreamId};
pub use crate::operation::{Durable, Operation, Options, Record, StreamState};
pub use crate::reader::Reader;
pub use crate::recovery::{Notice, Recovery};
pub use crate::segment::SEGMENT_PREFIX;
pub use crate::service::WalService;
pub use crate::shared::Callback;
pub use crate::storage::fs::FsStorage;
pub use crate::storage::{Access, Storage, StorageFile};

#[cfg(test)]
pub(crate) use crate::model::records as model_records;
