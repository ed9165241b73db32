//! The snapshot files of a node: written whole or not at all, verified before anyone believes them.
//!
//! A file is named after the last entry in it and holds a snapshot stream of the state machine, and the log entries
//! that this state refers to. It must not apply anything. Invariant: a file under its final name was complete and
//! synced; `current` was read back and verified.

mod carried;
mod check;
mod format;
mod write;

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_state_machine::{MetaStore, SnapshotMeta, StateDigest};
use alluvium_stdx::durable;
use alluvium_types::LogIndex;
use alluvium_wal::{Reader, Record};

use crate::encoding::{decode_kept_membership, log_id_of_applied};
use crate::error::{Error, Fault};
use crate::limits;
use crate::log_access::read_record;
use crate::type_config::{LogId, SnapshotMeta as RaftSnapshotMeta};

use check::Checked;
use write::Unfinished;

pub(crate) use carried::Carried;
pub(crate) use check::open_state;

pub(crate) const SUFFIX: &str = ".alvs";
const BUILDING: &str = "building.tmp";
const ADOPTING: &str = "adopting.tmp";
/// What is received of a snapshot: kept over a break and over a restart, believed only when it is whole.
const RECEIVING: &str = ".part";
/// What a damaged snapshot is renamed to: kept for whoever asks why, never read again.
const DAMAGED: &str = "damaged";

/// A snapshot in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The digest of its rows. With the last entry and the length it tells one snapshot from another.
    pub digest: StateDigest,
}

/// A verified snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) meta: SnapshotMeta,
    pub(crate) file: SnapshotFile,
    pub(crate) carried: Arc<Carried>,
}

/// What reading a snapshot file to its end found.
#[derive(Debug)]
pub struct CheckedSnapshot {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What it holds, or why it cannot be believed.
    pub found: Result<SnapshotMeta, Fault>,
}

/// Reads every snapshot in a directory, the oldest first, and checks its rows against its digest and the entries that
/// it carries against its rows; changes nothing.
///
/// `pace` is called with the number of bytes that were read since it was called last, and may wait; when it breaks,
/// the file that is read is left out and the rest too. A file that is removed meanwhile is passed over.
///
/// # Errors
/// When the directory cannot be listed. What is wrong with a file is in the list.
pub fn check_snapshots(
    dir: &Path,
    pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Vec<CheckedSnapshot>, Fault> {
    let mut names = match fs::exists(dir) {
        Ok(false) => Vec::new(),
        Ok(true) => list(dir)?,
        Err(source) => return Err(file_fault(dir, source)),
    };
    names.retain(|name| name.ends_with(SUFFIX));
    names.sort();
    let mut checked = Vec::new();
    for name in names {
        let path = dir.join(name);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(|source| file_fault(&path, source))?,
        };
        let bytes = file.metadata().map_err(|source| file_fault(&path, source))?.len();
        let mut paced = Paced { file, pace: &mut *pace, unpaid: 0, is_stopped: false };
        let found = check::read_to_end(&mut BufReader::new(&mut paced)).map(|(meta, _)| meta);
        if paced.is_stopped || paced.settle().is_break() {
            break;
        }
        checked.push(CheckedSnapshot { path, bytes, found });
    }
    Ok(checked)
}

/// Reads a file as fast as it is let.
struct Paced<'a> {
    file: File,
    pace: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    unpaid: u64,
    is_stopped: bool,
}

impl Paced<'_> {
    fn settle(&mut self) -> ControlFlow<()> {
        match std::mem::take(&mut self.unpaid) {
            0 => ControlFlow::Continue(()),
            unpaid => (self.pace)(unpaid),
        }
    }
}

impl Read for Paced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if limits::CHECK_BYTES <= self.unpaid && self.settle().is_break() {
            self.is_stopped = true;
            return Err(io::Error::other("the reader was told to stop"));
        }
        let read = self.file.read(buffer)?;
        self.unpaid = self.unpaid.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }
}

/// The directory of snapshots. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    dir: PathBuf,
    /// Shared by the builder, which openraft runs beside apply, and by those who send the snapshot.
    current: Arc<Mutex<Option<Current>>>,
}

impl Snapshots {
    /// Opens the directory: drops unfinished files and verifies the newest snapshot, falling back to the one before.
    pub(crate) fn open(dir: &Path) -> Result<Self, Fault> {
        durable::create_dir_all(dir).map_err(|source| file_fault(dir, source))?;
        let mut names = list(dir)?;
        for name in names.extract_if(.., |name| name.ends_with(".tmp")) {
            let path = dir.join(name);
            durable::remove_file(&path).map_err(|source| file_fault(&path, source))?;
        }
        names.retain(|name| name.ends_with(SUFFIX));
        names.sort();
        let mut current = None;
        for name in names.into_iter().rev() {
            if current.is_some() {
                break;
            }
            current = verified_or_set_aside(&dir.join(name))?;
        }
        Ok(Self { dir: dir.to_path_buf(), current: Arc::new(Mutex::new(current)) })
    }

    /// Returns the newest verified snapshot.
    pub(crate) fn current(&self) -> Option<Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the entries that the newest verified snapshot carries.
    pub(crate) fn carried(&self) -> Option<Arc<Carried>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|current| Arc::clone(&current.carried))
    }

    /// Writes the state of `store`, and the entries of `log` that it refers to, as a snapshot and makes it the current
    /// one. Returns a newer one, if that was installed meanwhile and took the log away.
    ///
    /// Entries that the log purged come from the current snapshot. It has them: a purge stops behind it, and an entry
    /// at or below it that the state refers to now, the state referred to then.
    pub(crate) fn build(&self, store: &dyn MetaStore, log: &Reader) -> Result<Current, Fault> {
        // Flushed first, so that the log behind the snapshot may go as soon as it stands.
        store.flush().map_err(Fault::Store)?;
        let path = self.dir.join(BUILDING);
        let unfinished = Unfinished::export(&path, store)?;
        let applied = unfinished.applied();
        let entry = |index| read_record(log, || self.carried(), index);
        let fault = match unfinished.carry(&entry) {
            Ok(finished) => return self.publish(&path, finished),
            Err(fault) => fault,
        };
        let newer = self.current().filter(|current| applied < current.meta.applied);
        let newer = newer.filter(|_| matches!(fault, Fault::Uncarried { .. })).ok_or(fault)?;
        tracing::info!(path = %newer.file.path.display(), "a newer snapshot was installed");
        durable::remove_file(&path).map_err(|source| file_fault(&path, source))?;
        Ok(newer)
    }

    /// Verifies a snapshot that came from elsewhere and makes it the current one.
    pub(crate) fn adopt(&self, file: &SnapshotFile) -> Result<Current, Fault> {
        let path = self.dir.join(ADOPTING);
        let failed = |source| file_fault(&path, source);
        if file.path.parent() == Some(self.dir.as_path()) {
            return match is_snapshot_name(&file.path) {
                true => self.verify_own(file),
                false => self.publish_received(file),
            };
        }
        fs::copy(&file.path, &path).map_err(failed)?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(failed)?;
        self.publish(&path, check::open(&path)?)
    }

    fn verify_own(&self, file: &SnapshotFile) -> Result<Current, Fault> {
        let Checked { meta, carried } = check::open(&file.path)?;
        let current = Current { meta, file: file.clone(), carried: Arc::new(carried) };
        self.set_current(current.clone());
        Ok(current)
    }

    /// Makes a file that was received into the directory a snapshot.
    fn publish_received(&self, file: &SnapshotFile) -> Result<Current, Fault> {
        let failed = |source| file_fault(&file.path, source);
        File::open(&file.path).and_then(|file| file.sync_all()).map_err(failed)?;
        self.publish(&file.path, check::open(&file.path)?)
    }

    /// Returns the path for a snapshot that is being received, and removes what was received of others.
    pub(crate) fn receiving(&self, name: &str) -> Result<PathBuf, Fault> {
        let name = format!("{name}{RECEIVING}");
        let mut others = list(&self.dir)?;
        others.retain(|other| other.ends_with(RECEIVING) && *other != name);
        for other in others {
            let path = self.dir.join(other);
            durable::remove_file(&path).map_err(|source| file_fault(&path, source))?;
        }
        Ok(self.dir.join(name))
    }

    fn publish(&self, temporary: &Path, checked: Checked) -> Result<Current, Fault> {
        let Checked { meta, carried } = checked;
        let path = self.dir.join(name_of(&meta));
        durable::rename(temporary, &path).map_err(|source| file_fault(&path, source))?;
        let metadata = fs::metadata(&path).map_err(|source| file_fault(&path, source))?;
        assert!(metadata.len() > 0, "a published snapshot has at least a header");
        let carried = Arc::new(carried.renamed(&path));
        let file = SnapshotFile { path, bytes: metadata.len(), digest: meta.digest };
        let current = Current { meta, file, carried };
        self.set_current(current.clone());
        self.prune()?;
        Ok(current)
    }

    /// The current snapshot never goes back: a build may end after a newer one was installed.
    fn set_current(&self, new: Current) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = current.as_ref().is_none_or(|old| old.meta.applied <= new.meta.applied);
        if newer {
            *current = Some(new);
        }
    }

    fn prune(&self) -> Result<(), Fault> {
        let mut names = list(&self.dir)?;
        names.retain(|name| name.ends_with(SUFFIX));
        names.sort();
        let surplus = names.len().saturating_sub(limits::SNAPSHOTS_KEPT);
        for name in &names[..surplus] {
            let path = self.dir.join(name);
            durable::remove_file(&path).map_err(|source| file_fault(&path, source))?;
        }
        Ok(())
    }
}

impl Current {
    /// Returns the last entry in it.
    pub(crate) fn last_log_id(&self) -> Option<LogId> {
        self.meta.applied.as_ref().map(log_id_of_applied)
    }

    /// Returns what openraft wants to know of it.
    pub(crate) fn raft_meta(&self) -> Result<RaftSnapshotMeta, Fault> {
        let membership = decode_kept_membership(&self.meta.membership);
        let last_membership = membership
            .map_err(|source| Fault::Membership { path: self.file.path.clone(), source })?
            .stored;
        Ok(RaftSnapshotMeta { last_log_id: self.last_log_id(), last_membership })
    }
}

/// Names sort as the entries do: the index has a fixed width, and a later term at the same index never happens
/// to a committed entry.
pub(crate) fn name_of(meta: &SnapshotMeta) -> String {
    let index = meta.applied.map_or(0, |applied| applied.index.0);
    format!("{index:020}{SUFFIX}")
}

fn is_snapshot_name(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX))
}

fn verified_or_set_aside(path: &Path) -> Result<Option<Current>, Fault> {
    match check::open(path) {
        Ok(Checked { meta, carried }) => {
            let metadata = fs::metadata(path).map_err(|source| file_fault(path, source))?;
            let (path, bytes) = (path.to_path_buf(), metadata.len());
            let file = SnapshotFile { path, bytes, digest: meta.digest };
            Ok(Some(Current { meta, file, carried: Arc::new(carried) }))
        }
        // Not damaged: the program that wrote it can read it, under the name that it gave it.
        Err(fault) if fault.is_newer_snapshot() => Err(fault),
        Err(fault) => {
            tracing::error!(path = %path.display(), error = %crate::health::chain(&fault),
                "set a damaged snapshot aside");
            let aside = path.with_extension(DAMAGED);
            durable::rename(path, &aside).map_err(|source| file_fault(&aside, source))?;
            Ok(None)
        }
    }
}

/// Reads a snapshot to its end; checks every row against its digest, and the entries that it carries against its rows.
pub(crate) fn verify(path: &Path) -> Result<SnapshotMeta, Fault> {
    check::open(path).map(|checked| checked.meta)
}

/// Writes the state of `store` with the entries that it refers to as a snapshot file, synced and read back.
pub(crate) fn write_snapshot(
    path: &Path,
    store: &dyn MetaStore,
    entry: &dyn Fn(LogIndex) -> Result<Record, Error>,
) -> Result<SnapshotMeta, Fault> {
    Ok(Unfinished::export(path, store)?.carry(entry)?.meta)
}

/// Verifies the snapshot at `path` and returns the entries that it carries.
pub(crate) fn open_carried(path: &Path) -> Result<Carried, Fault> {
    check::open(path).map(|checked| checked.carried)
}

pub(crate) fn list(dir: &Path) -> Result<Vec<String>, Fault> {
    let failed = |source| file_fault(dir, source);
    let entries = fs::read_dir(dir).map_err(failed)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<io::Result<_>>().map_err(failed)
}

pub(crate) fn file_fault(path: &Path, source: io::Error) -> Fault {
    Fault::SnapshotFile { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests;
