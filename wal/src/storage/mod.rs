//! The seam to the disk: the few operations that the log needs, with what each promises after a
//! power cut.
//!
//! Three implementations: [`FsStorage`](fs::FsStorage), the simulator's
//! [`SimDisk`](crate::sim::SimDisk), and changes in memory over either of them. All pass the suite
//! in `suite.rs`. It must not know records or segments. Invariant: bytes are durable when
//! `sync_data` returned success after their write, and a name is durable when `sync_dir` returned
//! success after it was given; nothing else is.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::sync::Arc;

pub mod fs;
pub(crate) mod overlay;
#[cfg(test)]
pub(crate) mod suite;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading alone.
    Read,
    /// Reading and writing.
    Write,
    /// Reading and writing, where each write returns when it is durable (`O_DSYNC`).
    WriteThrough,
}

/// A directory that holds one log. One process uses it at a time; its threads share it.
pub trait Storage: Send + Sync + Debug {
    /// Takes the directory for this process, until the value is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it; else the failure of the storage.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;

    /// Returns the names of all files, in order.
    ///
    /// # Errors
    /// The failure of the storage.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file. Its name is durable after [`Storage::sync_dir`].
    ///
    /// # Errors
    /// `AlreadyExists`, or the failure of the storage.
    fn create(&self, name: &str, access: Access) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens a file that exists.
    ///
    /// # Errors
    /// `NotFound`, or the failure of the storage.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StorageFile>>;

    /// Gives a file another name, which no file has. Open files stay open.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound`, or the failure of the storage.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. Open files stay readable.
    ///
    /// # Errors
    /// `NotFound`, or the failure of the storage.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns how many threads may read at once to advantage. One by default: then the order of
    /// reads is the same each time, which the simulator needs.
    fn read_workers(&self) -> usize {
        1
    }

    /// Makes all names durable.
    ///
    /// # Errors
    /// The failure of the storage. After it the caller must stop.
    fn sync_dir(&self) -> io::Result<()>;
}

/// An open file. Reads may come from many threads; one thread writes.
pub trait StorageFile: Send + Sync + Debug {
    /// Returns the bytes in the file.
    ///
    /// # Errors
    /// The failure of the storage.
    fn len(&self) -> io::Result<u64>;

    /// Says whether the file has no bytes.
    ///
    /// # Errors
    /// The failure of the storage.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset` with one read.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; else the failure of the storage.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `slices`, one after the other, from `offset`. The slices are used up.
    ///
    /// # Errors
    /// The failure of the storage; any part may then be written.
    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Makes all that was written, and the length, durable.
    ///
    /// # Errors
    /// The failure of the storage. After it the caller must stop: asking again may lie.
    fn sync_data(&self) -> io::Result<()>;
}
