//! The file system: plain files in one directory, `pread`, `pwritev` in effect, and `fdatasync`.
//!
//! No mapping of files into memory: an I/O error would be a signal instead of an error. Invariant:
//! only this file and `stdx::durable` touch the operating system's files for the log.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_stdx::{durable, spawn};

use crate::storage::{Access, Storage, StorageFile};

/// The name of the file whose lock says that a process has the directory.
pub const LOCK_NAME: &str = "LOCK";

/// A directory of the file system.
#[derive(Debug)]
pub struct FsStorage {
    dir: PathBuf,
}

impl FsStorage {
    /// Returns the storage in `dir`, which is created durably if it is not there.
    ///
    /// # Errors
    /// The failure of mkdir or fsync.
    pub fn open(dir: &Path) -> io::Result<Self> {
        durable::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_path_buf() })
    }

    /// Returns the storage in `dir` for reading what is there; creates nothing.
    #[must_use]
    pub fn existing(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Storage for FsStorage {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(self.path(LOCK_NAME))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            // A name that is not UTF-8 is not one of ours; its lossy form says so to the reader.
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != LOCK_NAME {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let file = options_for(access).create_new(true).open(self.path(name))?;
        Ok(Arc::new(FsFile::new(file)))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(FsFile::new(options_for(access).open(self.path(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if self.path(to).try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the log syncs the directory in its own time"
        )]
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    /// Two at most: each holds the headers of a whole segment until its turn comes.
    fn read_workers(&self) -> usize {
        spawn::workers().min(2)
    }

    fn sync_dir(&self) -> io::Result<()> {
        durable::sync_dir(&self.dir)
    }
}

fn options_for(access: Access) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    match access {
        Access::Read => {}
        Access::Write => {
            options.write(true);
        }
        Access::WriteThrough => {
            options.write(true).custom_flags(libc::O_DSYNC);
        }
    }
    options
}

/// A file, with a lock around its position: the standard library has no vectored write at an
/// offset, and a seek costs nothing beside the write.
#[derive(Debug)]
struct FsFile {
    file: File,
    position: Mutex<()>,
}

impl FsFile {
    fn new(file: File) -> Self {
        Self { file, position: Mutex::new(()) }
    }
}

impl StorageFile for FsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let guard = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        let mut rest = slices;
        while rest.iter().any(|slice| !slice.is_empty()) {
            match file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        drop(guard);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_passes_the_storage_suite() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut number = 0_u32;
        crate::storage::suite::run(&mut || {
            number += 1;
            let path = dir.path().join(number.to_string());
            Arc::new(FsStorage::open(&path).expect("create"))
        });
    }

    #[test]
    fn a_second_process_is_refused_the_directory_until_the_first_lets_go() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let storage = FsStorage::open(dir.path()).expect("create");
        let lock = storage.lock().expect("free");
        let refused = FsStorage::existing(dir.path()).lock().map(|_| ()).expect_err("taken");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        FsStorage::existing(dir.path()).lock().expect("free again");
    }
}
