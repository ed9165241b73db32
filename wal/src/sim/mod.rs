//! A disk that behaves as badly as disks may, from a seed: the other real implementation of
//! [`Storage`].
//!
//! What was written but not synced is in its cache: [`SimDisk::crash`] keeps any subset of those
//! sectors, in any order, and of the names that were not synced. [`Faults`] adds failures to chosen
//! operations. Everything it does follows from the seed and the calls. It must not read the clock
//! or touch a file. Invariant: what was synced with success is there after a crash, unless a fault
//! says that the sync lies.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{Access, Storage, StorageFile};

mod disk;
mod inode;

use disk::Disk;
pub use disk::Faults;

/// A simulated directory. Clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk {
    // Shared and locked, since a disk is one thing that many open files and a test's damage act
    // upon.
    disk: Arc<Mutex<Disk>>,
    /// The power cycle that holds the lock; zero for none.
    locked: Arc<AtomicU64>,
}

impl SimDisk {
    /// Returns an empty disk whose misbehavior follows `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let disk = Arc::new(Mutex::new(Disk::new(seed)));
        Self { disk, locked: Arc::new(AtomicU64::new(0)) }
    }

    /// Replaces the faults to come. Operations are counted from when the disk was made.
    pub fn set_faults(&self, faults: Faults) {
        self.lock_disk().faults = faults;
    }

    /// Returns how many operations that change the disk were asked for.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock_disk().operations
    }

    /// Returns how many reads were asked for.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.lock_disk().reads
    }

    /// Returns a hash of all operations and their outcomes: equal for equal runs.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.lock_disk().trace
    }

    /// Cuts the power and restores it: what was not synced may be lost. Open files are dead, faults
    /// are over.
    pub fn crash(&self) {
        self.lock_disk().crash();
        self.locked.store(0, Ordering::SeqCst);
    }

    /// Ends the process alone: the cache survives. Open files are dead, faults are over.
    pub fn kill(&self) {
        self.lock_disk().restart();
        self.locked.store(0, Ordering::SeqCst);
    }

    /// Returns the names of all files with their lengths.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        self.lock_disk().files()
    }

    /// Returns the content of a file, or nothing when there is none.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.lock_disk().content(name)
    }

    /// Replaces a file, in the cache and on the disk: damage, or a file put back by hand.
    pub fn put(&self, name: &str, content: &[u8]) {
        self.lock_disk().put(name, content);
    }

    /// Removes a file, in the cache and on the disk.
    pub fn erase(&self, name: &str) {
        self.lock_disk().erase(name);
    }

    /// Flips one bit of a file, in the cache and on the disk.
    ///
    /// # Panics
    /// If there is no such file or no such bit: the test aims at nothing.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        self.lock_disk().flip_bit(name, bit);
    }

    fn lock_disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, number: u64, access: Access) -> Arc<dyn StorageFile> {
        let cycle = self.lock_disk().cycle;
        Arc::new(SimFile { disk: Arc::clone(&self.disk), number, cycle, access })
    }
}

/// Holds the simulated lock.
struct LockGuard {
    locked: Arc<AtomicU64>,
    cycle: u64,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // The guard of a process that was killed must not free the lock of its successor. A guard
        // whose cycle is over finds another number, and leaves it.
        match self.locked.compare_exchange(self.cycle, 0, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) | Err(_) => {}
        }
    }
}

impl Storage for SimDisk {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let cycle = self.lock_disk().cycle;
        match self.locked.compare_exchange(0, cycle, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Ok(Box::new(LockGuard { locked: Arc::clone(&self.locked), cycle })),
            Err(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.lock_disk().list()
    }

    fn create(&self, name: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let number = self.lock_disk().create(name)?;
        Ok(self.file(number, access))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let number = self.lock_disk().open(name)?;
        Ok(self.file(number, access))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.lock_disk().rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock_disk().remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.lock_disk().sync_dir()
    }
}

/// An open file of the simulated disk.
#[derive(Debug)]
struct SimFile {
    // Shared with the disk itself: a write through one file shows at once through all others.
    disk: Arc<Mutex<Disk>>,
    number: u64,
    /// The power cycle in which it was opened.
    cycle: u64,
    access: Access,
}

impl SimFile {
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.cycle == self.cycle {
            Ok(disk)
        } else {
            Err(io::Error::other("the process that opened this file is gone"))
        }
    }
}

impl StorageFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.disk()?.len(self.number)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk()?.read(self.number, offset, buffer)
    }

    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        if self.access == Access::Read {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut bytes = Vec::new();
        slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        let mut disk = self.disk()?;
        disk.write(self.number, offset, &bytes)?;
        match self.access {
            Access::WriteThrough => disk.sync(self.number),
            Access::Read | Access::Write => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk()?.sync(self.number)
    }
}

#[cfg(test)]
mod tests;
