//! Making a new cluster of what one member of a lost one has.
//!
//! It must not write into the old directory. Invariant: the new node belongs to a cluster of its own, so that a member of the
//! old one that comes back neither joins it nor is joined.

use std::path::Path;

use alluvium_materialize::object_key;
use alluvium_raft::{Refounded, refound};
use alluvium_state_machine::record::FileRecord;
use alluvium_wal::{Wal, WalService};

use super::*;
use crate::dir::{Claim, NewIdentity};
use crate::tasks::blocking;

/// What a recovery took over, and where what it cannot know begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The new cluster's id; empty when nothing was made.
    pub cluster_id: String,
    /// The id of its one node.
    pub node_id: u64,
    /// The last entry of the old log: everything up to it is taken over.
    pub index: LogIndex,
    /// The term of that entry. Of several members' directories the one with the highest term, and among these the highest
    /// index, has the most.
    pub term: u64,
    /// The last entry that the old node knew to be committed. What lies between it and `index` may never have been
    /// acknowledged; what other members acknowledged above `index` is lost.
    pub committed: LogIndex,
    /// Data files that were taken over.
    pub files: u64,
    /// Data files that the old node does not have: their rows are lost.
    pub missing: Vec<String>,
    /// What of the old directory is damaged. Nothing is made of one that is.
    pub damage: Vec<String>,
}

/// Makes a node that is a cluster of its own of the directory of a member whose cluster has lost its majority. With no
/// `to` it only says what there is.
///
/// # Errors
/// When the old directory cannot be looked at, or the new one exists or cannot be written. A directory that is damaged is no
/// error: nothing is made, and the damage is in the answer.
pub async fn recover_directory(config: &Config, to: Option<&Path>) -> Result<Recovered, Error> {
    let dir = DataDir::look(&config.data_dir, config.node_id)?;
    let scratch = tempfile::tempdir();
    let path = std::env::temp_dir();
    let scratch = scratch.map_err(|source| Error::ScratchUnusable { path, source })?;
    let segment_bytes = config.segment_bytes;
    let look = blocking(move || Look::at(dir, scratch, segment_bytes)).await?;
    let mut recovered = look.recovered()?;
    let (Some(view), Some(log)) = (look.view.clone(), look.log.clone()) else {
        return Ok(recovered);
    };
    let old = look.old_bucket(&mut recovered).await?;
    let (Some(to), Some(old), true) = (to, old, recovered.damage.is_empty()) else {
        return Ok(recovered);
    };
    let node_id = look.dir.identity().node_id;
    let identity = NewIdentity { node_id, cluster_id: None, joined: false };
    let claim = Claim::take(to)?;
    if claim.identity()?.is_some() {
        return Err(Error::NotADataDirectory {
            path: to.to_owned(),
            found: "a node that is there already".to_owned(),
        });
    }
    let new = claim.open(Some(node_id), identity, config.machine.as_ref())?;
    recovered.files = copy_files(&view, &old, &new, &recovered.missing).await?;
    let snapshots = new.snapshots();
    let state = Arc::<RocksStore>::clone(&view);
    let made = move || Ok::<_, Error>(refound(state.as_ref(), &log, node_id, &snapshots));
    let Refounded { operations, .. } = blocking(made).await?.map_err(fault_error)?;
    // Last: a directory with an empty log and a snapshot is refused, so a recovery that is cut off starts nothing.
    let storage: Arc<dyn Storage> = config
        .machine
        .log_storage(&new.wal())
        .map_err(|source| Error::DirectoryUnusable { path: new.wal(), source })?;
    let (wal, _recovery) = Wal::open(storage, log_options(new.identity(), segment_bytes))?;
    let (handle, service) = WalService::start(wal)?;
    handle.append_durable(operations).await?;
    blocking(move || service.shutdown()).await?;
    recovered.cluster_id = format!("{:032x}", new.identity().cluster_id);
    blocking(move || look.end()).await;
    Ok(recovered)
}

impl Look {
    fn recovered(&self) -> Result<Recovered, Error> {
        let applied = self.view.as_ref().and_then(|view| view.raft().applied);
        let committed = self.log.as_ref().map(OfflineLog::committed).transpose()?.flatten();
        Ok(Recovered {
            node_id: self.dir.identity().node_id,
            index: self.report.index,
            term: applied.map_or(0, |applied| applied.term),
            committed: committed.unwrap_or(LogIndex(0)).min(self.report.index),
            damage: self.report.damage.clone(),
            ..Recovered::default()
        })
    }

    /// Opens the old bucket, and names the files that it lacks.
    async fn old_bucket(&self, recovered: &mut Recovered) -> Result<Option<Bucket>, Error> {
        let root = self.dir.local_bucket();
        if !root.is_dir() {
            recovered
                .damage
                .push(format!("bucket {DEFAULT_BUCKET}: {} is missing", root.display()));
            return Ok(None);
        }
        let bucket = bucket_at(&root)?;
        for (name, key, _) in attested(self.view.as_deref())? {
            if bucket.head(&key).await?.is_none() {
                recovered.missing.push(format!("{name}: {key}"));
            }
        }
        Ok(Some(bucket))
    }
}

fn bucket_at(root: &Path) -> Result<Bucket, Error> {
    let store = Arc::new(DurableLocal::open_to_read(root)?);
    Ok(Bucket::over(DEFAULT_BUCKET, store, BucketKind::PerNode))
}

/// Every file that a dataset refers to, with its dataset's name and its key.
fn attested(
    view: Option<&RocksStore>,
) -> Result<Vec<(String, object_store::path::Path, FileRecord)>, Error> {
    let mut found = Vec::new();
    let Some(view) = view else { return Ok(found) };
    for dataset in catalog::list(view, LogIndex::MAX)? {
        for file in catalog::files(view, dataset.dataset, LogIndex::MAX)? {
            if file.attested().is_some() {
                let key = object_key(dataset.dataset, file.file, file.generation);
                found.push((dataset.name.as_str().to_owned(), key, file));
            }
        }
    }
    Ok(found)
}

/// Copies the files that are there into the new node's bucket, each checked against what the log attests.
async fn copy_files(
    view: &RocksStore,
    old: &Bucket,
    new: &DataDir,
    missing: &[String],
) -> Result<u64, Error> {
    let root = new.local_bucket();
    let failed = |source| Error::DirectoryUnusable { path: root.clone(), source };
    alluvium_stdx::durable::create_dir_all(&root).map_err(failed)?;
    let bucket = RealMachine::default().bucket(DEFAULT_BUCKET, &root)?;
    bucket.check_identity(&identity_of(new, DEFAULT_BUCKET), Opening::Claim).await?;
    let mut files = 0;
    for (name, key, file) in attested(Some(view))? {
        if missing.contains(&format!("{name}: {key}")) {
            continue;
        }
        let attested = file.attested().expect("only these are listed");
        let bytes = old.get(&key).await?;
        let digest = alluvium_materialize::storage_digest(&attested.digest);
        let bytes = bytes.filter(|bytes| alluvium_storage::FileDigest::of(bytes) == digest);
        let bytes = bytes.ok_or(Error::Diverged { file: file.file })?;
        bucket.put_new(&key, bytes).await?;
        files += 1;
    }
    Ok(files)
}
