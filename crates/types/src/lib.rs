//! The vocabulary of the log: ids, names, schemas, commands, responses, limits, and their one encoding.
//!
//! Guarantees: every type here encodes to the same bytes on every machine ([`codec`] holds the frame, the
//! version and the golden tests); a [`DatasetName`], [`Schema`] or [`KeyBlock`] that exists is valid.
//!
//! Does not: read clocks, draw random numbers, touch Arrow, do input or output.
//!
//! Reading order: `ids`, `name`, `schema`, `keys`, `command`, `response`, `codec`, `limits`.

#![deny(missing_docs)]

pub mod codec;
mod command;
mod error;
mod ids;
mod keys;
pub mod limits;
mod name;
mod recipe;
mod response;
mod schema;
mod script;

pub use codec::{Entry, EntryKind};
pub use command::{
    Append, Attest, AttestOutcome, Attested, Checkpoint, ColumnStats, Command, CommandKind,
    Compact, Drop, Envelope, Evolve, Expire, FileDigest, OpenSession, Register, RowSource, Seal,
    SessionRef, Stage, StageContent, StatValue, Swept, Tombstone, TombstoneSource, Upsert,
};
pub use error::Error;
pub use ids::{
    DatasetId, DatasetKey, FieldId, FileId, Incarnation, LogIndex, NodeId, SchemaVersion, Sequence,
    SessionId, Term, UploadId,
};
pub use keys::{KeyBlock, KeyBlockBuilder, KeyValue, encode_key};
pub use name::DatasetName;
pub use recipe::{Codec, Recipe};
pub use response::{ErrorKind, FileFault, Outcome, Rejection, Response, UploadFault};
pub use schema::{DataType, DatasetOptions, Field, Schema, SchemaChange, TimeUnit};
