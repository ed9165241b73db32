//! The directory below a local bucket: containment, temporary files, publication, poisoning.
//!
//! Must not: follow a symbolic link, show a partial file under a final name, or report a name as durable
//! before its directory was synced. Invariant INV-S2: a file under a final name is complete and synced.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_stdx::durable;
use object_store::path::Path;

use crate::error::{Error, Result};
use crate::layout::check_key;

const TEMPORARY_DIR: &str = ".tmp";
/// Names tried before a temporary file is given up; a second try is already a surprise.
const TEMPORARY_NAMES_MAX: u32 = 16;

/// One step of a file operation: what an error names and where a test injects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Step {
    /// Open or prepare the bucket's root.
    #[error("open the bucket")]
    Open,
    /// Make a directory.
    #[error("make a directory")]
    MakeDir,
    /// Create a temporary file.
    #[error("create a temporary file")]
    Create,
    /// Write content.
    #[error("write")]
    Write,
    /// Sync content.
    #[error("sync a file")]
    SyncFile,
    /// Link or rename into place.
    #[error("publish a file")]
    Publish,
    /// Sync a directory.
    #[error("sync a directory")]
    SyncDir,
    /// Read content or metadata.
    #[error("read")]
    Read,
    /// Remove a file.
    #[error("remove a file")]
    Remove,
}

/// Called before each step; an error it returns is treated as the step's own failure.
pub type StepHook = Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>;

/// An opened bucket root.
pub(crate) struct Root {
    dir: PathBuf,
    temporary_dir: PathBuf,
    hook: Option<StepHook>,
    next_temporary: AtomicU64,
    /// Directories whose own name is known to be synced in its parent. A directory that merely exists may
    /// be left from a process that died before its sync.
    durable_dirs: Mutex<BTreeSet<PathBuf>>,
    /// Invariant: once true, never false again; no write is accepted then.
    poisoned: AtomicBool,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A file that is being written and has no final name yet; removed when dropped.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A leftover costs space, never correctness: the next open removes it.
        drop(fs::remove_file(&self.path));
    }
}

/// How a finished file takes its final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publish {
    /// Only when the name is free.
    Create,
    /// Whatever the name held before.
    Overwrite,
}

/// What a publication found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    Done,
    NameTaken,
}

impl Root {
    pub(crate) fn open(dir: &FsPath, hook: Option<StepHook>) -> Result<Self> {
        let at = |path: &FsPath, source| failed(Step::Open, path, source);
        durable::create_dir_all(dir).map_err(|e| at(dir, e))?;
        let dir = fs::canonicalize(dir).map_err(|e| at(dir, e))?;
        let temporary_dir = dir.join(TEMPORARY_DIR);
        durable::create_dir_all(&temporary_dir).map_err(|e| at(&temporary_dir, e))?;
        refuse_symlink(&temporary_dir)?;
        remove_leftovers(&temporary_dir)?;
        let durable_dirs = Mutex::new(BTreeSet::from([dir.clone()]));
        Ok(Self {
            dir,
            temporary_dir,
            hook,
            next_temporary: AtomicU64::new(0),
            durable_dirs,
            poisoned: AtomicBool::new(false),
        })
    }

    /// Opens what is there; every write is refused as after a failed sync.
    pub(crate) fn open_to_read(dir: &FsPath) -> Result<Self> {
        let dir = fs::canonicalize(dir).map_err(|source| failed(Step::Open, dir, source))?;
        Ok(Self {
            temporary_dir: dir.join(TEMPORARY_DIR),
            durable_dirs: Mutex::new(BTreeSet::from([dir.clone()])),
            dir,
            hook: None,
            next_temporary: AtomicU64::new(0),
            poisoned: AtomicBool::new(true),
        })
    }

    pub(crate) fn dir(&self) -> &FsPath {
        &self.dir
    }

    /// Returns the file of `key` after checking the key and every directory on the way to it.
    pub(crate) fn place(&self, key: &Path) -> Result<PathBuf> {
        check_key(key)?;
        let mut path = self.dir.clone();
        for part in key.parts() {
            refuse_symlink(&path)?;
            path.push(part.as_ref());
        }
        assert!(path.starts_with(&self.dir), "{key} leaves its bucket");
        assert!(path != self.dir, "{key} names the bucket itself");
        Ok(path)
    }

    /// Makes the directories above `path`, each durable in its parent when this returns.
    pub(crate) fn make_parents(&self, path: &FsPath) -> Result<()> {
        let below = path.strip_prefix(&self.dir).expect("a place is built below its root");
        let mut dir = self.dir.clone();
        let parents = below.parent().into_iter().flat_map(FsPath::components);
        for component in parents {
            dir.push(component);
            if self.lock_dirs().contains(&dir) {
                continue;
            }
            self.make_dir(&dir)?;
            self.lock_dirs().insert(dir.clone());
        }
        Ok(())
    }

    fn make_dir(&self, dir: &FsPath) -> Result<()> {
        self.step(Step::MakeDir, dir, || match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        })?;
        refuse_symlink(dir)?;
        self.sync_parent(dir)
    }

    pub(crate) fn temporary(&self) -> Result<Temporary> {
        self.refuse_poisoned()?;
        for _ in 0..TEMPORARY_NAMES_MAX {
            let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
            let path = self.temporary_dir.join(format!("{number:016x}"));
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o640);
            match self.step(Step::Create, &path, || options.open(&path)) {
                Ok(file) => return Ok(Temporary { path, file }),
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(failed(Step::Create, &self.temporary_dir, io::ErrorKind::AlreadyExists.into()))
    }

    /// Syncs `temporary` and gives it the name `path`; the name is durable when this returns.
    ///
    /// A failed file sync is not final: the pages it lost belong to a file that is removed, and a retry
    /// writes them again to another. A failed directory sync is: the name may be visible and not durable.
    pub(crate) fn publish(
        &self,
        temporary: Temporary,
        path: &FsPath,
        how: Publish,
    ) -> Result<Published> {
        self.refuse_poisoned()?;
        self.step(Step::SyncFile, &temporary.path, || temporary.file.sync_all())?;
        let named = self.step(Step::Publish, path, || match how {
            Publish::Create => fs::hard_link(&temporary.path, path),
            Publish::Overwrite =>
            {
                #[expect(clippy::disallowed_methods, reason = "sync_parent follows as a step")]
                fs::rename(&temporary.path, path)
            }
        });
        let taken = match named {
            Ok(()) => false,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => true,
            Err(error) => return Err(error),
        };
        // Also when the name was taken: the winner may not have synced it yet, and the caller may
        // acknowledge on the strength of what it finds there.
        self.sync_parent(path)?;
        Ok(if taken { Published::NameTaken } else { Published::Done })
    }

    pub(crate) fn remove(&self, path: &FsPath) -> Result<()> {
        self.refuse_poisoned()?;
        let removed = self.step(Step::Remove, path, || fs::remove_file(path));
        match removed {
            Ok(()) => self.sync_parent(path),
            Err(Error::Io { source, .. }) if is_absent(&source) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Opens the file of `key` for reading; `None` when it is not there.
    pub(crate) fn open_file(&self, key: &Path) -> Result<Option<(File, PathBuf)>> {
        let path = match self.place(key) {
            Ok(path) => path,
            Err(Error::Io { source, .. }) if is_absent(&source) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        match self.step(Step::Read, &path, || options.open(&path)) {
            Ok(file) => Ok(Some((file, path))),
            Err(Error::Io { source, .. }) if is_absent(&source) => Ok(None),
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ELOOP) => {
                Err(Error::SymbolicLink { path })
            }
            Err(error) => Err(error),
        }
    }

    /// Runs one step with its hook, and types its failure.
    pub(crate) fn step<T>(
        &self,
        step: Step,
        path: &FsPath,
        work: impl FnOnce() -> io::Result<T>,
    ) -> Result<T> {
        let hooked = self.hook.as_ref().map_or(Ok(()), |hook| hook(step));
        hooked.and_then(|()| work()).map_err(|source| failed(step, path, source))
    }

    pub(crate) fn refuse_poisoned(&self) -> Result<()> {
        if self.poisoned.load(Ordering::SeqCst) {
            return Err(Error::Poisoned { root: self.dir.clone() });
        }
        Ok(())
    }

    fn sync_parent(&self, path: &FsPath) -> Result<()> {
        let parent = path.parent().expect("a place has its root above it");
        let synced = self.step(Step::SyncDir, parent, || durable::sync_dir(parent));
        if synced.is_err() {
            self.poisoned.store(true, Ordering::SeqCst);
        }
        synced
    }

    fn lock_dirs(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns true for the two ways in which a file system says that a name leads nowhere.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

pub(crate) fn failed(step: Step, path: &FsPath, source: io::Error) -> Error {
    let path = path.to_path_buf();
    match source.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Error::Full { step, path, source },
        Some(_) | None => Error::Io { step, path, source },
    }
}

fn refuse_symlink(path: &FsPath) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {
            Err(Error::SymbolicLink { path: path.to_path_buf() })
        }
        Ok(_) => Ok(()),
        // What is not there yet is no link; the caller makes it or reports it absent.
        Err(error) if is_absent(&error) => Ok(()),
        Err(source) => Err(failed(Step::Read, path, source)),
    }
}

fn remove_leftovers(dir: &FsPath) -> Result<()> {
    let entries = fs::read_dir(dir).map_err(|e| failed(Step::Open, dir, e))?;
    for entry in entries {
        let path = entry.map_err(|e| failed(Step::Open, dir, e))?.path();
        fs::remove_file(&path).map_err(|e| failed(Step::Remove, &path, e))?;
    }
    durable::sync_dir(dir).map_err(|e| failed(Step::SyncDir, dir, e))
}
