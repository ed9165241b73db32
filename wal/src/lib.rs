//! A log of bytes in segments: many streams, one file, one sync for all who wait.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod bases;
mod batch;
mod core;
mod error;
mod fields;
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
pub use crate::service::WalService;
pub use crate::shared::Callback;
pub use crate::storage::fs::FsStorage;
pub use crate::storage::{Access, Storage, StorageFile};

#[cfg(test)]
pub(crate) use crate::model::records as model_records;
