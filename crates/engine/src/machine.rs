//! The seam to the machine that a node runs on: its clock, its chance, its disk and its object stores.
//!
//! It must not hold logic of a node. The metadata store and the snapshots stay on the real file system; they are
//! caches of the log, and what a lost one costs is tested by removing it.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use alluvium_stdx::{Clock, Prng, SystemClock, durable};
use alluvium_storage::{Bucket, BucketKind, DurableLocal};
use alluvium_wal::{FsStorage, Storage};

use crate::Error;

/// What a node asks of its machine. [`RealMachine`] is the one of production; a simulator has another.
pub trait Machine: Debug + Send + Sync {
    /// Returns the clock of proposals, leases and timeouts.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Returns a source of numbers for ids that no other node may draw.
    fn prng(&self) -> Prng;

    /// Returns the storage of the log, which lives in `directory`.
    ///
    /// # Errors
    /// The failure of the disk.
    fn log_storage(&self, directory: &Path) -> std::io::Result<Arc<dyn Storage>>;

    /// Returns the bucket `name`, which lives below `root`; its identity is checked by the node.
    ///
    /// # Errors
    /// The failure of the store.
    fn bucket(&self, name: &str, root: &Path) -> Result<Bucket, Error>;
}

/// The machine that this process runs on.
#[derive(Debug)]
pub struct RealMachine {
    clock: Arc<dyn Clock>,
}

impl Default for RealMachine {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock::new()) }
    }
}

impl Machine for RealMachine {
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    fn prng(&self) -> Prng {
        Prng::from_machine()
    }

    fn log_storage(&self, directory: &Path) -> std::io::Result<Arc<dyn Storage>> {
        durable::create_dir_all(directory)?;
        Ok(Arc::new(FsStorage::open(directory)?))
    }

    fn bucket(&self, name: &str, root: &Path) -> Result<Bucket, Error> {
        Ok(Bucket::over(name, Arc::new(DurableLocal::open(root)?), BucketKind::PerNode))
    }
}
