//! The data directory: its layout, its one owner, and whose it is.
//!
//! A directory belongs to one node of one cluster for ever; another node's directory, a newer format or a
//! directory that a running process holds is refused before anything in it is touched.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use alluvium_stdx::{Prng, durable};

use crate::Error;
use crate::machine::Machine;

/// Layout of `node.alluvium`, little-endian: 8 bytes magic, `u16` format version, one byte that is 1 when the node
/// joined a cluster and 0 when it founded one, 5 bytes zero, `u128` cluster id, `u64` node id, `u32` CRC-32C of all
/// before it.
const MAGIC: [u8; 8] = *b"ALVNODE\0";
const FORMAT_VERSION: u16 = 1;
const IDENTITY_BYTES: usize = 44;
const IDENTITY_FILE: &str = "node.alluvium";
const LOCK_FILE: &str = "lock";
const SUSPECT_FILE: &str = "meta.suspect";
/// Says why the node is in quarantine.
const QUARANTINE_FILE: &str = "quarantine";
/// Says that the node shall be given the state of another one.
const REINSTALL_FILE: &str = "reinstall";
/// Made by the file system itself.
const LOST_AND_FOUND: &str = "lost+found";
/// Damaged metadata stores that are kept; a store that is damaged more often has another fault.
const SET_ASIDE_MAX: u32 = 3;

/// An open, locked data directory. Invariant: the lock is held as long as the value lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    identity: Identity,
    /// None when a directory that is only read has no lock file, because no process ever had it open here.
    _lock: Option<File>,
}

/// Whose directory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The cluster, drawn once when its first node is made.
    pub(crate) cluster_id: u128,
    /// The node.
    pub(crate) node_id: u64,
    /// Whether it joined a cluster that was there: such a node never founds one, however empty its log is.
    pub(crate) joined: bool,
}

/// Whose a directory becomes when it is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewIdentity {
    /// The node.
    pub(crate) node_id: u64,
    /// The cluster; nothing draws one.
    pub(crate) cluster_id: Option<u128>,
    /// Whether the node joins a cluster.
    pub(crate) joined: bool,
}

/// A directory that no other process has, whosever it is. It is taken before a cluster is asked to let the node in: of
/// two processes on one new directory, the second would leave a member behind that nobody ever is.
#[derive(Debug)]
pub(crate) struct Claim {
    root: PathBuf,
    lock: File,
}

impl Claim {
    /// Takes a directory, making it when it is new.
    pub(crate) fn take(root: &Path) -> Result<Self, Error> {
        durable::create_dir_all(root).map_err(|source| unusable(root, source))?;
        let lock = take_lock(root)?;
        Ok(Self { root: root.to_owned(), lock })
    }

    /// Returns whose the directory is; nothing when it is new.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, Error> {
        read_identity(&self.root)
    }

    /// Opens the directory, as the new node's when it is nobody's. One that is not the `expected` node's is refused.
    pub(crate) fn open(
        self,
        expected: Option<u64>,
        new: NewIdentity,
        machine: &dyn Machine,
    ) -> Result<DataDir, Error> {
        let Self { root, lock } = self;
        let identity = match read_identity(&root)? {
            Some(identity) => identity,
            None => create_identity(&root, new, machine.prng())?,
        };
        refuse_foreign(&root, identity, expected.unwrap_or(identity.node_id))?;
        Ok(DataDir { root, identity, _lock: Some(lock) })
    }
}

impl DataDir {
    /// Opens the directory of the `expected` node for reading what is there. Nothing in it is made or changed; while the value
    /// lives, no process can open the directory for writing, unless it has no lock file yet.
    pub(crate) fn look(root: &Path, expected: Option<u64>) -> Result<Self, Error> {
        let lock = share_lock(root)?;
        let identity = read_identity(root)?;
        let absent = || unusable(&root.join(IDENTITY_FILE), std::io::ErrorKind::NotFound.into());
        let identity = identity.ok_or_else(absent)?;
        refuse_foreign(root, identity, expected.unwrap_or(identity.node_id))?;
        Ok(Self { root: root.to_owned(), identity, _lock: lock })
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.root.join("wal")
    }

    pub(crate) fn metadata(&self) -> PathBuf {
        self.root.join("meta")
    }

    /// Returns a name that is not taken, for a metadata store that is set aside; none when many are.
    pub(crate) fn damaged_metadata(&self) -> Option<PathBuf> {
        let name = |number: u32| self.root.join(format!("meta.damaged.{number}"));
        (0..SET_ASIDE_MAX).map(name).find(|path| !path.exists())
    }

    /// Says whether the metadata store was found damaged while it was in use.
    pub(crate) fn is_suspect(&self) -> bool {
        self.root.join(SUSPECT_FILE).exists()
    }

    /// Leaves word that the metadata store is damaged; the next start builds it anew. The word decides nothing
    /// that is true: without it the same damage is met again, with it the store is made from snapshot and log.
    pub(crate) fn suspect_metadata(&self) -> Result<(), Error> {
        let path = self.root.join(SUSPECT_FILE);
        durable::write(&path, b"the metadata store is damaged\n")
            .map_err(|source| unusable(&path, source))
    }

    /// Removes the word.
    pub(crate) fn trust_metadata(&self) -> Result<(), Error> {
        let path = self.root.join(SUSPECT_FILE);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(unusable(&path, source)),
        }
    }

    /// Puts the node into quarantine, over restarts.
    pub(crate) fn quarantine(&self, why: &str) -> Result<(), Error> {
        let path = self.root.join(QUARANTINE_FILE);
        durable::write(&path, format!("{why}\n").as_bytes())
            .map_err(|source| unusable(&path, source))
    }

    /// Says why the node is in quarantine, if it is.
    pub(crate) fn quarantined(&self) -> Result<Option<String>, Error> {
        let path = self.root.join(QUARANTINE_FILE);
        match durable::read_bounded(&path, 4096) {
            Ok(why) => Ok(Some(String::from_utf8_lossy(&why).trim_end().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(unusable(&path, source)),
        }
    }

    /// Leaves word that the next start shall take the state of another node.
    pub(crate) fn want_reinstall(&self) -> Result<(), Error> {
        let path = self.root.join(REINSTALL_FILE);
        durable::write(&path, b"take the state of another node\n")
            .map_err(|source| unusable(&path, source))
    }

    pub(crate) fn wants_reinstall(&self) -> bool {
        self.root.join(REINSTALL_FILE).exists()
    }

    /// Says whether a node that differs again may be given another's state without being asked.
    pub(crate) fn may_reinstall(&self) -> bool {
        (0..SET_ASIDE_MAX).any(|number| !self.evidence_name(number).exists())
    }

    fn evidence_name(&self, number: u32) -> PathBuf {
        self.root.join(format!("quarantined.{number}"))
    }

    /// Makes a directory for what is set aside; one that a crash left half full is used again.
    pub(crate) fn evidence(&self) -> Result<PathBuf, Error> {
        let is_whole = |path: &PathBuf| path.join(QUARANTINE_FILE).exists();
        let mut names = (0..).map(|number| self.evidence_name(number));
        let path = names.find(|path| !is_whole(path)).expect("numbers do not end");
        durable::create_dir_all(&path).map_err(|source| unusable(&path, source))?;
        Ok(path)
    }

    /// Ends the quarantine: its reason is kept with the evidence.
    pub(crate) fn end_quarantine(&self, evidence: &Path) -> Result<(), Error> {
        let failed = |source| unusable(&self.root, source);
        let reason = self.root.join(QUARANTINE_FILE);
        durable::rename(&reason, &evidence.join(QUARANTINE_FILE)).map_err(failed)?;
        durable::remove_file(&self.root.join(REINSTALL_FILE)).map_err(failed)
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn local_bucket(&self) -> PathBuf {
        self.root.join("buckets").join(crate::DEFAULT_BUCKET)
    }

    /// Refuses a directory whose log is empty or gone while something that the log made is there: an empty log
    /// would declare all of that void.
    pub(crate) fn refuse_remains(&self, has_state: bool) -> Result<(), Error> {
        let snapshots = first_file(&self.snapshots(), &|_| true)?;
        let is_data = |name: &str| name.ends_with(".parquet");
        let data = first_file(&self.local_bucket(), &is_data)?;
        let state = has_state.then(|| self.metadata());
        match state.or(snapshots).or(data) {
            Some(remains) => Err(Error::LogMissing { path: self.wal(), remains }),
            None => Ok(()),
        }
    }

    pub(crate) fn spill(&self) -> PathBuf {
        self.root.join("spill")
    }
}

/// Returns a file below `dir` whose name is one of those looked for.
fn first_file(dir: &Path, is_it: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unusable(dir, source)),
    };
    for entry in entries {
        let path = entry.map_err(|source| unusable(dir, source))?.path();
        if path.is_dir() {
            if let Some(found) = first_file(&path, is_it)? {
                return Ok(Some(found));
            }
        } else if path.file_name().and_then(|name| name.to_str()).is_some_and(is_it) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn take_lock(root: &Path) -> Result<File, Error> {
    let path = root.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| unusable(root, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::DirectoryLocked { path: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unusable(root, source)),
    }
}

/// Takes the lock together with others who only read.
fn share_lock(root: &Path) -> Result<Option<File>, Error> {
    let file = match File::open(root.join(LOCK_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unusable(root, source)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::DirectoryLocked { path: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unusable(root, source)),
    }
}

fn refuse_foreign(root: &Path, identity: Identity, expected: u64) -> Result<(), Error> {
    let found = identity.node_id;
    match found == expected {
        true => Ok(()),
        false => Err(Error::ForeignDirectory { path: root.to_owned(), found, expected }),
    }
}

fn read_identity(root: &Path) -> Result<Option<Identity>, Error> {
    let path = root.join(IDENTITY_FILE);
    let bytes = match durable::read_bounded(&path, 4096) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A directory with other things in it is somebody's: making it ours could hide them.
            return refuse_foreign_content(root).map(|()| None);
        }
        Err(source) => return Err(unusable(root, source)),
    };
    let damaged = || Error::DamagedIdentity { path: path.clone() };
    let version = bytes.get(8..10).and_then(|two| two.try_into().ok()).map(u16::from_le_bytes);
    let (true, Some(version)) = (bytes.starts_with(&MAGIC), version) else {
        return Err(damaged());
    };
    if version > FORMAT_VERSION {
        let (found, supported) = (version, FORMAT_VERSION);
        return Err(Error::NewerDirectory { path: root.to_owned(), found, supported });
    }
    decode_identity(&bytes).map(Some).ok_or_else(damaged)
}

fn refuse_foreign_content(root: &Path) -> Result<(), Error> {
    let entries = std::fs::read_dir(root).map_err(|source| unusable(root, source))?;
    for entry in entries {
        let name = entry.map_err(|source| unusable(root, source))?.file_name();
        let ours = name == LOCK_FILE
            || name == LOST_AND_FOUND
            || name == *durable::temporary_name(Path::new(IDENTITY_FILE));
        if !ours {
            let path = root.to_owned();
            return Err(Error::NotADataDirectory { path, found: name.display().to_string() });
        }
    }
    Ok(())
}

fn create_identity(root: &Path, new: NewIdentity, mut prng: Prng) -> Result<Identity, Error> {
    let drawn = (u128::from(prng.next_u64()) << 64) | u128::from(prng.next_u64());
    let NewIdentity { node_id, cluster_id, joined } = new;
    let identity = Identity { cluster_id: cluster_id.unwrap_or(drawn), node_id, joined };
    durable::write(&root.join(IDENTITY_FILE), &encode_identity(identity))
        .map_err(|source| unusable(root, source))?;
    Ok(identity)
}

fn encode_identity(identity: Identity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(IDENTITY_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.push(u8::from(identity.joined));
    bytes.extend_from_slice(&[0; 5]);
    bytes.extend_from_slice(&identity.cluster_id.to_le_bytes());
    bytes.extend_from_slice(&identity.node_id.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    assert_eq!(bytes.len(), IDENTITY_BYTES, "the layout is fixed");
    bytes
}

fn decode_identity(bytes: &[u8]) -> Option<Identity> {
    let (content, checksum) = bytes.split_at_checked(IDENTITY_BYTES - 4)?;
    let checksum = u32::from_le_bytes(checksum.try_into().ok()?);
    let cluster_id = u128::from_le_bytes(content.get(16..32)?.try_into().ok()?);
    let node_id = u64::from_le_bytes(content.get(32..40)?.try_into().ok()?);
    let joined = match content.get(10)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    (crc32c::crc32c(content) == checksum).then_some(Identity { cluster_id, node_id, joined })
}

fn unusable(root: &Path, source: std::io::Error) -> Error {
    Error::DirectoryUnusable { path: root.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::RealMachine;

    fn open(root: &Path, node_id: u64) -> Result<Identity, Error> {
        owned(root, node_id).map(|dir| dir.identity())
    }

    fn owned(root: &Path, node_id: u64) -> Result<DataDir, Error> {
        let new = NewIdentity { node_id, cluster_id: None, joined: false };
        Claim::take(root)?.open(Some(node_id), new, &RealMachine::default())
    }

    #[test]
    fn a_node_that_joined_is_told_from_one_that_founded() {
        let root = tempfile::tempdir().expect("temporary directory");
        let new = NewIdentity { node_id: 3, cluster_id: Some(7), joined: true };
        let claim = Claim::take(root.path()).expect("new");
        assert_eq!(claim.identity().expect("looks"), None);
        let dir = claim.open(None, new, &RealMachine::default()).expect("new");
        let expected = Identity { cluster_id: 7, node_id: 3, joined: true };
        assert_eq!(dir.identity(), expected);
        drop(dir);
        let claim = Claim::take(root.path()).expect("free");
        assert_eq!(claim.identity().expect("looks"), Some(expected));
        assert_eq!(encode_identity(expected)[8..16], [1, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_directory_keeps_its_identity_and_refuses_another_node() {
        let root = tempfile::tempdir().expect("temporary directory");
        let first = open(root.path(), 1).expect("new");
        assert_eq!(open(root.path(), 1).expect("again"), first);
        let error = open(root.path(), 2).expect_err("another node");
        assert!(matches!(error, Error::ForeignDirectory { found: 1, expected: 2, .. }), "{error}");
    }

    #[test]
    fn a_directory_in_use_is_refused_and_free_again_when_its_owner_is_gone() {
        let root = tempfile::tempdir().expect("temporary directory");
        let owner = owned(root.path(), 1).expect("new");
        let error = open(root.path(), 1).expect_err("locked");
        assert!(matches!(error, Error::DirectoryLocked { .. }), "{error}");
        drop(owner);
        assert_eq!(open(root.path(), 1).expect("free").node_id, 1);
    }

    #[test]
    fn those_who_look_share_a_directory_and_keep_others_out_of_it() {
        let root = tempfile::tempdir().expect("temporary directory");
        let look = || DataDir::look(root.path(), Some(1));
        let error = look().expect_err("nothing is made");
        assert!(matches!(error, Error::DirectoryUnusable { .. }), "{error}");
        assert_eq!(std::fs::read_dir(root.path()).expect("lists").count(), 0);
        let owner = owned(root.path(), 1).expect("new");
        assert!(matches!(look().expect_err("locked"), Error::DirectoryLocked { .. }));
        drop(owner);
        let both = (look().expect("free"), look().expect("shared"));
        let error = open(root.path(), 1).expect_err("somebody looks");
        assert!(matches!(error, Error::DirectoryLocked { .. }), "{error}");
        drop(both);
        assert_eq!(open(root.path(), 1).expect("free").node_id, 1);
    }

    #[test]
    fn every_flipped_bit_of_the_identity_is_found() {
        let root = tempfile::tempdir().expect("temporary directory");
        open(root.path(), 1).expect("new");
        let path = root.path().join(IDENTITY_FILE);
        let good = std::fs::read(&path).expect("read");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            durable::write(&path, &bad).expect("write");
            let error = open(root.path(), 1).expect_err("damaged");
            let found =
                matches!(error, Error::DamagedIdentity { .. } | Error::NewerDirectory { .. });
            assert!(found, "byte {at}: {error}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let root = tempfile::tempdir().expect("temporary directory");
        open(root.path(), 1).expect("new");
        let path = root.path().join(IDENTITY_FILE);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[8] = 9;
        durable::write(&path, &bytes).expect("write");
        let error = open(root.path(), 1).expect_err("newer");
        let named = matches!(error, Error::NewerDirectory { found: 9, supported: 1, .. });
        assert!(named, "{error}");
    }

    #[test]
    fn a_directory_with_foreign_content_is_not_made_ours() {
        let root = tempfile::tempdir().expect("temporary directory");
        durable::write(&root.path().join("thesis.tex"), b"years of work").expect("write");
        let error = open(root.path(), 1).expect_err("foreign");
        assert!(matches!(&error, Error::NotADataDirectory { found, .. } if found == "thesis.tex"));
    }
}
