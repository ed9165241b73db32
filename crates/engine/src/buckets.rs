//! The buckets of a node: its own directory, and those that all members see.
//!
//! It must not write or delete data files. Invariant: whoever writes to a bucket, or deletes in it, has seen its marker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_query::BucketSource;
use alluvium_state_machine::{View, catalog};
use alluvium_stdx::durable;
use alluvium_storage::{Bucket, BucketIdentity, BucketKind, Opening};
use alluvium_types::{DatasetKey, ErrorKind, FileId, LogIndex};
use uuid::Uuid;

use crate::dir::DataDir;
use crate::jobs::error_chain;
use crate::node::Node;
use crate::{Config, DEFAULT_BUCKET, Error};

/// Bytes of a bucket's name.
const NAME_BYTES_MAX: usize = 63;
/// How long the start of a node waits for a bucket that others serve.
const REACH_MAX: Duration = Duration::from_secs(5);

/// The buckets of this node by name.
#[derive(Debug, Clone)]
pub(crate) struct Buckets {
    cluster: Uuid,
    by_name: Arc<BTreeMap<String, Bucket>>,
    // Shared buckets whose marker was seen since the node was opened; held for a set operation only.
    marked: Arc<Mutex<BTreeSet<String>>>,
}

impl Buckets {
    /// Opens the node's own bucket and those that are shared. One of these that cannot be reached now is no reason not to
    /// start: its marker is looked for again before anything is written to it. None is claimed here: what is applied may
    /// be older than what the bucket holds.
    pub(crate) async fn open(
        config: &Config,
        dir: &DataDir,
        view: &(dyn View + Sync),
        fresh: bool,
    ) -> Result<Self, Error> {
        let root = dir.local_bucket();
        let opening = if fresh { Opening::Claim } else { Opening::Existing };
        if fresh {
            let unusable = |source| Error::DirectoryUnusable { path: root.clone(), source };
            durable::create_dir_all(&root).map_err(unusable)?;
        }
        let own = config.machine.bucket(DEFAULT_BUCKET, &root)?;
        own.check_identity(&identity_of(dir, DEFAULT_BUCKET), opening).await?;
        let mut by_name = shared(config)?;
        let names: Vec<String> = by_name.keys().cloned().collect();
        by_name.insert(DEFAULT_BUCKET.to_owned(), own);
        let cluster = Uuid::from_u128(dir.identity().cluster_id);
        let buckets = Self { cluster, by_name: Arc::new(by_name), marked: Arc::default() };
        for name in names {
            let is_used = opening_of(view, &name)? == Opening::Existing;
            let marked = buckets.marked(&name, Opening::Existing);
            let why = match tokio::time::timeout(REACH_MAX, marked).await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) if !is_used && error.is_marker_missing() => continue,
                Ok(Err(error)) if error.kind() != ErrorKind::Unavailable => return Err(error),
                Ok(Err(error)) => error_chain(&error),
                Err(_elapsed) => format!("no answer within {REACH_MAX:?}"),
            };
            tracing::warn!(bucket = name, why, "a bucket is not reached, will try again");
        }
        Ok(buckets)
    }

    pub(crate) fn get(&self, name: &str) -> Result<Bucket, Error> {
        let found = self.by_name.get(name).cloned();
        found.ok_or_else(|| Error::BucketNotFound { name: name.to_owned() })
    }

    /// Returns a bucket whose marker was seen.
    async fn marked(&self, name: &str, opening: Opening) -> Result<Bucket, Error> {
        let bucket = self.get(name)?;
        // That of the node's own bucket was seen when it was opened.
        if bucket.kind() == BucketKind::PerNode || self.is_marked(name) {
            return Ok(bucket);
        }
        bucket.check_identity(&identity(self.cluster, name), opening).await?;
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        marked.insert(name.to_owned());
        Ok(bucket)
    }

    fn is_marked(&self, name: &str) -> bool {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

/// Returns the files in shared buckets that the state attests.
pub(crate) fn attested_in_shared(view: &dyn View) -> Result<BTreeSet<(DatasetKey, FileId)>, Error> {
    let mut found = BTreeSet::new();
    for dataset in catalog::list(view, LogIndex::MAX)? {
        if !is_shared(&dataset.bucket) {
            continue;
        }
        let key = dataset.dataset;
        let files = catalog::files(view, key, LogIndex::MAX)?.into_iter();
        let attested = files.filter(|file| file.attested().is_some());
        found.extend(attested.map(|file| (key, file.file)));
    }
    Ok(found)
}

/// Says whether all members see a bucket: `local` is each one's own, and every other one is shared, also where a member was
/// not told of it.
pub(crate) fn is_shared(bucket: &str) -> bool {
    bucket != DEFAULT_BUCKET
}

impl BucketSource for Buckets {
    fn bucket(&self, name: &str) -> Option<Arc<Bucket>> {
        self.by_name.get(name).cloned().map(Arc::new)
    }
}

impl Node {
    /// Returns a bucket to put a file into. One that the state has no file in is claimed by this: its caller decides.
    pub(crate) async fn bucket_to_fill(&self, name: &str) -> Result<Bucket, Error> {
        let opening = opening_of(self.view(), name)?;
        self.unless_stopping(self.buckets().marked(name, opening)).await
    }

    /// Returns a bucket to read or delete in: it was claimed before.
    pub(crate) async fn bucket_in_use(&self, name: &str) -> Result<Bucket, Error> {
        self.unless_stopping(self.buckets().marked(name, Opening::Existing)).await
    }

    /// Says whether all members see the bucket of a dataset.
    pub(crate) fn is_shared(&self, dataset: DatasetKey) -> Result<bool, Error> {
        let record = catalog::dataset(self.view(), dataset, LogIndex::MAX)?;
        Ok(record.is_some_and(|record| is_shared(&record.bucket)))
    }

    /// Looks for the markers of shared buckets that hold files and were not reached before.
    pub(crate) async fn find_buckets(&self) -> Result<(), Error> {
        for dataset in catalog::list(self.view(), LogIndex::MAX)? {
            let name = &dataset.bucket;
            let is_unseen = is_shared(name) && !self.buckets().is_marked(name);
            if is_unseen && opening_of(self.view(), name)? == Opening::Existing {
                self.bucket_in_use(name).await?;
            }
        }
        Ok(())
    }

    /// Says whether this node has seen the marker of every shared bucket that the state has files in.
    pub(crate) fn has_all_buckets(&self) -> Result<bool, Error> {
        for dataset in catalog::list(self.view(), LogIndex::MAX)? {
            let name = &dataset.bucket;
            let is_seen = !is_shared(name) || self.buckets().is_marked(name);
            if !is_seen && opening_of(self.view(), name)? == Opening::Existing {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Does work on a bucket that others serve, until the node is told to stop.
    pub(crate) async fn unless_stopping<T, E: Into<Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error> {
        let mut stopping = self.stopping();
        tokio::select! {
            done = work => done.map_err(Into::into),
            _ = stopping.wait_for(|stopping| *stopping) => {
                Err(alluvium_raft::Error::Shutdown.into())
            }
        }
    }
}

/// Makes the shared buckets of a configuration, none of which is touched.
pub(crate) fn shared(config: &Config) -> Result<BTreeMap<String, Bucket>, Error> {
    let mut by_name = BTreeMap::new();
    for (name, store) in &config.shared_buckets {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_legal =
            !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain);
        if !is_legal || name == DEFAULT_BUCKET {
            return Err(Error::BucketName { name: name.clone() });
        }
        let bucket = Bucket::over(name, Arc::clone(store), BucketKind::Shared);
        by_name.insert(name.clone(), bucket);
    }
    Ok(by_name)
}

/// A bucket that holds files has a marker: one without was emptied, or is another one.
pub(crate) fn opening_of(view: &dyn View, name: &str) -> Result<Opening, Error> {
    for dataset in catalog::list(view, LogIndex::MAX)? {
        if dataset.bucket != name {
            continue;
        }
        let files = catalog::files(view, dataset.dataset, LogIndex::MAX)?;
        if files.iter().any(|file| file.attested().is_some()) {
            return Ok(Opening::Existing);
        }
    }
    Ok(Opening::Claim)
}

/// Returns what the marker of a node's bucket says.
pub(crate) fn identity_of(dir: &DataDir, name: &str) -> BucketIdentity {
    identity(Uuid::from_u128(dir.identity().cluster_id), name)
}

fn identity(cluster: Uuid, name: &str) -> BucketIdentity {
    BucketIdentity { cluster, bucket: Uuid::new_v5(&cluster, name.as_bytes()) }
}
