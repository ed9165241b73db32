//! Crash-safe file operations: when one returns, what it did survives a power cut.
//!
//! A file is written beside its place, synced, renamed, and its directory synced; rename is last, so a
//! reader sees the old content or the new, never a mixture. A failed sync is final: the caller must poison
//! itself and never retry it, because the kernel marks the lost pages clean.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Syncs a directory, so that the names in it survive a power cut.
///
/// # Errors
/// The failure of open or fsync; after a failed fsync the caller must stop.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `dir` and its missing parents, syncing each parent that got a new name.
///
/// # Errors
/// The failure of mkdir or fsync.
pub fn create_dir_all(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = parent_of(dir);
    create_dir_all(&parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    sync_dir(&parent)
}

/// Replaces the content of `path` with `bytes`, whole or not at all.
///
/// # Errors
/// The failure of any step; the old content is then still in place.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = temporary_name(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&beside, path)
}

/// Renames a synced file over `to` and syncs the directory.
///
/// # Errors
/// The failure of rename or fsync.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the one place that syncs the parent after it")]
    fs::rename(from, to)?;
    sync_dir(&parent_of(to))
}

/// Removes a file and syncs its directory; a file that is not there is no error.
///
/// # Errors
/// The failure of unlink or fsync.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    sync_dir(&parent_of(path))
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// `InvalidData` when the file is larger; else the failure of open or read.
pub fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "file is larger than its limit"));
    }
    Ok(bytes)
}

/// Returns the bytes that this user may still write on the file system of `path`.
///
/// # Errors
/// The failure of statvfs.
pub fn bytes_free(path: &Path) -> io::Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    #[expect(unsafe_code, reason = "the standard library has no statvfs")]
    // SAFETY: the path is a terminated string and the buffer is a statvfs that the kernel fills.
    let stats = unsafe {
        if libc::statvfs(path.as_ptr(), stats.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        stats.assume_init()
    };
    Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
}

/// Returns the name under which `path` is written before it is renamed into place.
#[must_use]
pub fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_replaces_content_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("a/b/file");
        create_dir_all(path.parent().expect("has a parent")).expect("create");
        write(&path, b"old").expect("write");
        write(&path, b"new").expect("replace");
        assert_eq!(read_bounded(&path, 3).expect("read"), b"new");
        assert!(!temporary_name(&path).exists());
    }

    #[test]
    fn free_space_is_told_for_a_path_that_exists_alone() {
        assert!(bytes_free(Path::new("/")).expect("the root exists") > 0);
        let error = bytes_free(Path::new("/no/such/path")).expect_err("missing");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_over_its_limit_is_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("file");
        write(&path, b"four").expect("write");
        let error = read_bounded(&path, 3).expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("file");
        write(&path, b"x").expect("write");
        remove_file(&path).expect("remove");
        remove_file(&path).expect("remove again");
        assert!(!path.exists());
    }
}
