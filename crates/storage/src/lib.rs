//! Buckets: where data files live, how they are named, and why a reader may believe their bytes.
//!
//! Guarantees: an object is put whole or not at all, and is durable when the put returns ([`DurableLocal`]);
//! an object that exists is never replaced by other bytes ([`Bucket::put_new`]); a reader behind
//! [`VerifiedStore`] sees bytes whose block hashes were checked, or an error that names the bucket, the key
//! and the block; one data file has one key and one key one data file ([`DataFileName`]).
//!
//! Does not: decide which files must exist, or read a listing to find out. The log decides; objects are a
//! cache of it. An error on a probe is an error, never "absent".
//!
//! In reading order: [`layout`] names objects, [`bucket`] puts and reads them, [`durable_local`] is the
//! local backend, [`blocks`] and [`verified`] check bytes, [`retry`] bounds how long a writer insists,
//! [`fault_store`] breaks a store on purpose and [`suite`] says what every store must do.

pub mod blocks;
pub mod bucket;
pub mod durable_local;
pub mod error;
pub mod fault_store;
pub mod identity;
pub mod layout;
pub mod limits;
pub mod retry;
pub mod s3;
pub mod suite;
pub mod verified;

mod local_read;
mod local_root;
mod local_upload;

pub use blocks::{BlockHasher, FileDigest};
pub use bucket::{Bucket, BucketConfig, BucketKind, Opening, Put};
pub use durable_local::DurableLocal;
pub use error::{Error, KeyFault, Operation, Result};
pub use fault_store::{FaultCounts, FaultRates, FaultStore};
pub use identity::BucketIdentity;
pub use layout::DataFileName;
pub use local_root::{Step, StepHook};
pub use retry::RetryPolicy;
pub use verified::{Registry, VerifiedFile, VerifiedStore};
