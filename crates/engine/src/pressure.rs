//! Back-pressure: how much may be on its way into the log at once, and when writes are refused.
//!
//! Nothing here is durable and nothing here decides what is true: a refused write never entered the log.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alluvium_types::CommandKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::node::Node;
use crate::{Config, Error};

/// Bytes of entries that may wait for their fsync at once.
const IN_FLIGHT_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Bytes that must be free on the disk beside two segments of the log for rows to be accepted: room for a flush
/// of the metadata, a snapshot and the removal of files.
const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// An entry takes at most this part of a segment, as a divisor: the rest is for the header, a checkpoint of the log, and the
/// heads of records.
const SEGMENT_SHARE: u64 = 2;

/// What the maintenance loop measured last, and the room that is left for entries in flight.
#[derive(Debug)]
pub(crate) struct Pressure {
    room: Arc<Semaphore>,
    log_bytes: AtomicU64,
    closed_bytes: AtomicU64,
    disk_free: AtomicU64,
    proposed_bytes: AtomicU64,
    /// The last measurement failed: how much room there is, is not known.
    unmeasured: AtomicBool,
    /// Where the disk is measured.
    path: PathBuf,
    /// Bytes that must be free for rows to be accepted.
    needed: u64,
    /// Bytes of log at which rows are refused.
    backlog_max: u64,
}

/// Bytes of log at which sealing starts.
fn log_limit(config: &Config) -> u64 {
    config.log_bytes_max.max(config.segment_bytes.saturating_mul(4))
}

/// Says whether a command brings rows that the log must keep until they are in a file.
pub(crate) fn carries_rows(command: CommandKind) -> bool {
    matches!(command, CommandKind::Stage | CommandKind::Append | CommandKind::Upsert)
}

/// Says whether a command can make room, or ends something that was begun. Its entry is small and fits into the
/// log's segment, which has its room already.
fn makes_room(command: CommandKind) -> bool {
    match command {
        CommandKind::Expire
        | CommandKind::Swept
        | CommandKind::Drop
        | CommandKind::Attest
        | CommandKind::Seal
        | CommandKind::Compact
        | CommandKind::Checkpoint => true,
        CommandKind::OpenSession
        | CommandKind::Register
        | CommandKind::Evolve
        | CommandKind::Stage
        | CommandKind::Append
        | CommandKind::Upsert
        | CommandKind::Tombstone => false,
    }
}

impl Pressure {
    pub(crate) fn new(config: &Config) -> Self {
        // A log that cannot have its next segment ends the node, so two of them are never given away.
        let needed = config.segment_bytes.saturating_mul(2).saturating_add(DISK_RESERVE_BYTES);
        Self {
            path: config.data_dir.clone(),
            needed,
            // Twice the size at which sealing starts: sealing had a whole log's time to keep up.
            backlog_max: log_limit(config).saturating_mul(2),
            room: Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX as usize)),
            log_bytes: AtomicU64::new(0),
            closed_bytes: AtomicU64::new(0),
            disk_free: AtomicU64::new(u64::MAX),
            proposed_bytes: AtomicU64::new(0),
            unmeasured: AtomicBool::new(false),
        }
    }

    /// Records what the maintenance loop measured.
    pub(crate) fn measured(&self, (log_bytes, closed_bytes): (u64, u64), disk_free: u64) {
        self.log_bytes.store(log_bytes, Ordering::Relaxed);
        self.closed_bytes.store(closed_bytes, Ordering::Relaxed);
        self.disk_free.store(disk_free, Ordering::Relaxed);
        self.unmeasured.store(false, Ordering::Relaxed);
    }

    /// Records that the maintenance loop could not measure.
    pub(crate) fn not_measured(&self) {
        self.unmeasured.store(true, Ordering::Relaxed);
    }

    /// Refuses a command that the disk has no room for.
    pub(crate) fn check(&self, command: CommandKind) -> Result<(), Error> {
        let path = || self.path.clone();
        if self.unmeasured.load(Ordering::Relaxed) {
            return Err(Error::Unmeasured { path: path() });
        }
        let (available, needed) = (self.disk_free.load(Ordering::Relaxed), self.needed);
        match available < needed && !makes_room(command) {
            true => Err(Error::DiskFull { path: path(), available, needed }),
            false => Ok(()),
        }
    }

    /// Returns the bytes of entries proposed since the node was opened.
    pub(crate) fn proposed_bytes(&self) -> u64 {
        self.proposed_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// Says whether the log holds more than sealing can keep up with.
    pub(crate) fn is_behind(&self) -> bool {
        self.backlog_max < self.closed_bytes.load(Ordering::Relaxed)
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

    /// Refuses a command that the node could not carry to the end.
    ///
    /// What makes room is taken longer than what takes it: a disk that is full must be freed through the log.
    pub(crate) fn check_writable(&self, command: CommandKind) -> Result<(), Error> {
        self.check_tasks()?;
        self.pressure().check(command)
    }

    /// Returns the bytes that were free at the last measurement.
    pub(crate) fn disk_free(&self) -> u64 {
        self.pressure().disk_free.load(Ordering::Relaxed)
    }

    /// Says whether the disk has room for a flush of the metadata and a snapshot; without it both would fail, and
    /// a failed one ends the node.
    pub(crate) fn has_room_to_flush(&self) -> bool {
        DISK_RESERVE_BYTES <= self.disk_free()
    }

    /// Fails when a task of the node has died.
    pub(crate) fn check_tasks(&self) -> Result<(), Error> {
        match self.failed_task() {
            Some(task) => Err(Error::TaskFailed { task }),
            None => Ok(()),
        }
    }

    /// Returns the size of the log at which everything is sealed; a log of a few segments cannot be kept shorter.
    pub(crate) fn log_limit(&self) -> u64 {
        log_limit(self.config())
    }

    /// Returns the bytes of an entry that a segment of the log holds beside what the log itself writes.
    pub(crate) fn entry_bytes_max(&self) -> u64 {
        self.config().segment_bytes / SEGMENT_SHARE
    }

    /// Refuses rows while the log holds too much that could not be put into files.
    pub(crate) fn check_backlog(&self) -> Result<(), Error> {
        let (bytes, limit) = (self.pressure().log_bytes(), self.pressure().backlog_max);
        match self.pressure().is_behind() {
            true => Err(Error::Backlog { bytes, limit }),
            false => Ok(()),
        }
    }
}
