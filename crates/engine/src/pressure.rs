//! Back-pressure: how much may be on its way into the log at once, and when writes are refused.
//!
//! Nothing here is durable and nothing here decides what is true: a refused write never entered the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;
use crate::node::Node;

/// Bytes of entries that may wait for their fsync at once.
const IN_FLIGHT_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Bytes that must be free on the disk for a write to be accepted: room for a segment, a flush of the
/// metadata and a file in the making would need more, but these fail cleanly; the reserve keeps them rare.
const DISK_RESERVE_BYTES: u64 = 32 * 1024 * 1024;

/// What the maintenance loop measured last, and the room that is left for entries in flight.
#[derive(Debug)]
pub(crate) struct Pressure {
    room: Arc<Semaphore>,
    log_bytes: AtomicU64,
    disk_free: AtomicU64,
    proposed_bytes: AtomicU64,
}

impl Pressure {
    pub(crate) fn new() -> Self {
        Self {
            room: Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX as usize)),
            log_bytes: AtomicU64::new(0),
            disk_free: AtomicU64::new(u64::MAX),
            proposed_bytes: AtomicU64::new(0),
        }
    }

    /// Records what the maintenance loop measured.
    pub(crate) fn measured(&self, log_bytes: u64, disk_free: u64) {
        self.log_bytes.store(log_bytes, Ordering::Relaxed);
        self.disk_free.store(disk_free, Ordering::Relaxed);
    }

    /// Returns the bytes of entries proposed since the node was opened.
    pub(crate) fn proposed_bytes(&self) -> u64 {
        self.proposed_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }
}

impl Node {
    /// Waits until an entry of that size may be on its way.
    pub(crate) async fn reserve(&self, bytes: usize) -> OwnedSemaphorePermit {
        self.pressure().proposed_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let bytes = u32::try_from(bytes).unwrap_or(IN_FLIGHT_BYTES_MAX).min(IN_FLIGHT_BYTES_MAX);
        let room = Arc::clone(&self.pressure().room);
        room.acquire_many_owned(bytes).await.expect("the semaphore is never closed")
    }

    /// Refuses a write that the node could not carry to the end.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        if let Some(task) = self.failed_task() {
            return Err(Error::TaskFailed { task });
        }
        let pressure = self.pressure();
        let available = pressure.disk_free.load(Ordering::Relaxed);
        if available < DISK_RESERVE_BYTES {
            let path = self.config().data_dir.clone();
            return Err(Error::DiskFull { path, available, needed: DISK_RESERVE_BYTES });
        }
        Ok(())
    }

    /// Refuses rows while the log holds too much that could not be put into files.
    pub(crate) fn check_backlog(&self) -> Result<(), Error> {
        // Twice the size at which sealing starts: sealing had a whole log's time to keep up.
        let limit = self.config().log_bytes_max.saturating_mul(2);
        let bytes = self.pressure().log_bytes();
        match bytes > limit {
            true => Err(Error::Backlog { bytes, limit }),
            false => Ok(()),
        }
    }
}
