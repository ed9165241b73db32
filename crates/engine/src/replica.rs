//! The data files of this node's own buckets: each node writes its own, and compares it with what the log attests.
//!
//! A file that cannot be made here any more, because the log or its inputs are gone, is read from a peer and checked
//! against its attested hash. It must not decide which files there are: the state does. Invariant: a file counts as
//! ready only when its object lies in this node's bucket with the attested bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use alluvium_materialize::{object_key, storage_digest};
use alluvium_state_machine::catalog;
use alluvium_state_machine::record::{FileContent, FileRecord};
use alluvium_storage::BucketKind;
use alluvium_types::{AttestOutcome, Attested, DatasetKey, ErrorKind, FileId, LogIndex};

use crate::Error;
use crate::buckets::is_shared;
use crate::jobs::error_chain;
use crate::node::Node;

/// A data file of a dataset.
type FileKey = (DatasetKey, FileId);

/// What this node knows of its own files. All of it is found again after a restart.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    // Written by the job task, read by queries; held for a set operation only.
    ready: Mutex<BTreeSet<FileKey>>,
    // Files that were made before they were attested; the job task's alone.
    made: Mutex<BTreeMap<FileKey, AttestOutcome>>,
    // Objects that were deleted here and that the state still knows, because another member may have them.
    gone: Mutex<BTreeSet<FileKey>>,
}

impl Replica {
    /// Begins with files in shared buckets that were attested before the node was opened: they are taken as they are until
    /// they are read, and every read verifies its blocks.
    pub(crate) fn opened(believed: BTreeSet<FileKey>) -> Self {
        Self { ready: Mutex::new(believed), ..Self::default() }
    }

    pub(crate) fn made(&self, key: FileKey) -> Option<AttestOutcome> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    pub(crate) fn note_made(&self, key: FileKey, outcome: AttestOutcome) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(key, outcome);
    }

    pub(crate) fn is_gone(&self, key: FileKey) -> bool {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    pub(crate) fn note_gone(&self, key: FileKey) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// Forgets objects that the state does not know any more.
    pub(crate) fn keep_gone(&self, sweepable: &BTreeSet<FileKey>) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.retain(|key| sweepable.contains(key));
    }

    fn is_ready(&self, key: FileKey) -> bool {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    fn note_ready(&self, key: FileKey) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        self.made.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Forgets that a file is ready: it is looked for again.
    pub(crate) fn forget(&self, file: FileId) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|(_, ready)| *ready != file);
    }

    /// Forgets files that the state does not know any more.
    fn keep(&self, known: &BTreeSet<FileKey>, planned: &BTreeSet<FileKey>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|key| known.contains(key));
        drop(ready);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|key, _| known.contains(key) || planned.contains(key));
    }
}

impl Node {
    /// Returns the attested files that are visible at an index and not in this node's buckets.
    fn missing(&self, at: LogIndex) -> Result<Vec<(DatasetKey, FileRecord)>, Error> {
        let mut missing = Vec::new();
        for dataset in catalog::list(self.view(), at)? {
            let key = dataset.dataset;
            let newest = catalog::dataset(self.view(), key, LogIndex::MAX)?;
            if newest.is_none_or(|newest| at < newest.floor) {
                // Dropped, or not readable there any more: its files may be gone for good.
                continue;
            }
            for record in catalog::files(self.view(), key, at)? {
                if record.attested().is_some() && !self.replica().is_ready((key, record.file)) {
                    missing.push((key, record));
                }
            }
        }
        Ok(missing)
    }

    /// Puts every attested file into this node's buckets, or checks it where another one put it. Returns the datasets that
    /// lack one.
    pub(crate) async fn complete(&self) -> Result<BTreeSet<DatasetKey>, Error> {
        let planned: BTreeSet<FileKey> = catalog::planned(self.view())?.into_iter().collect();
        let (mut known, mut bucket_of) = (BTreeSet::new(), BTreeMap::new());
        for dataset in catalog::list(self.view(), LogIndex::MAX)? {
            let key = dataset.dataset;
            let files = catalog::files(self.view(), key, LogIndex::MAX)?;
            known.extend(files.iter().map(|record| (key, record.file)));
            bucket_of.insert(key, dataset.bucket);
        }
        self.replica().keep(&known, &planned);
        self.jobs().keep_failures(|key| known.contains(key) || planned.contains(key));
        if let Err(error) = self.find_buckets().await {
            tracing::debug!(error = error_chain(&error), "a shared bucket is not seen yet");
        }
        let (mut incomplete, mut away) = (BTreeSet::new(), BTreeMap::<String, Error>::new());
        // In the order of their ids: an input comes before what is made of it.
        for (dataset, record) in self.missing(LogIndex::MAX)? {
            let (file, bucket) = (record.file, bucket_of.get(&dataset));
            if self.is_stopping() {
                incomplete.insert(dataset);
                continue;
            }
            // A bucket that did not answer is asked once a round: others wait behind it.
            if let Some(error) = bucket.and_then(|bucket| away.get(bucket)) {
                self.jobs().failed(dataset, file, error);
                incomplete.insert(dataset);
                continue;
            }
            match self.make_ready(dataset, &record).await {
                Ok(()) => self.jobs().succeeded(dataset, file),
                Err(error) => {
                    self.jobs().failed(dataset, file, &error);
                    incomplete.insert(dataset);
                    let is_away = error.kind() == ErrorKind::Unavailable;
                    if let Some(bucket) = bucket.filter(|name| is_away && is_shared(name)) {
                        away.insert(bucket.clone(), error);
                    }
                }
            }
        }
        Ok(incomplete)
    }

    async fn make_ready(&self, dataset: DatasetKey, record: &FileRecord) -> Result<(), Error> {
        let key = (dataset, record.file);
        let attested = record.attested().expect("only attested files are missing");
        if let Some(made) = self.replica().made(key) {
            check_equal(record, attested, &made)?;
            self.replica().note_ready(key);
            return Ok(());
        }
        let context = self.file_context(dataset)?;
        if context.bucket.kind() == BucketKind::Shared {
            // Another one wrote it, and nobody writes it again.
            self.bucket_in_use(context.bucket.name()).await?;
            let check = alluvium_materialize::check_file(&context, record);
            self.unless_stopping(check).await?;
            self.replica().note_ready(key);
            return Ok(());
        }
        let object = object_key(dataset, record.file, record.generation);
        if let Some(bytes) = self.find(dataset, record).await? {
            let file = record.file;
            tracing::error!(%dataset, %file, bytes, "a data file has another length, it is made anew");
            context.bucket.delete(&object).await?;
        } else if self.replica().is_ready(key) {
            return Ok(());
        }
        let made = match &record.content {
            FileContent::Seal { .. } => alluvium_materialize::seal(&context, record).await,
            FileContent::Compaction { .. } => alluvium_materialize::compact(&context, record).await,
        };
        match made {
            Ok(outcome) => check_equal(record, attested, &outcome)?,
            Err(error) => {
                let file = record.file;
                tracing::debug!(%dataset, %file, %error, "not made here, a peer is asked");
                let digest = storage_digest(&attested.digest);
                let bytes = self.read_elsewhere(context.bucket.name(), &object).await;
                let bytes = bytes.ok_or(error)?;
                if alluvium_storage::FileDigest::of(&bytes) != digest {
                    return Err(Error::Diverged { file });
                }
                context.bucket.put_new(&object, bytes).await?;
            }
        }
        self.replica().note_ready(key);
        Ok(())
    }

    /// Waits until every file that a read at an index may need is in this node's buckets, but for those that cannot be
    /// had at present: a query that needs one of these fails by its name. A node that has not caught up makes no file: a
    /// local read does not wait for it.
    ///
    /// # Errors
    /// When the metadata cannot be read, or the task that makes files has died.
    pub(crate) async fn await_files(&self, at: LogIndex, is_local: bool) -> Result<(), Error> {
        if self.cluster().is_none() {
            return Ok(());
        }
        // What lies here needs nobody: a member that has lost the others answers local reads from it.
        for (dataset, record) in self.missing(at)? {
            if let Err(error) = self.find(dataset, &record).await {
                // The task that makes files meets it too, and a query that needs the file says so.
                tracing::debug!(error = error_chain(&error), "a file was not looked for");
            }
        }
        if self.missing(at)?.is_empty() || (is_local && !self.has_caught_up()) {
            return Ok(());
        }
        self.until_caught_up().await;
        let mut rounds = self.jobs().rounds();
        while !self.is_stopping() {
            let failed: BTreeSet<FileKey> =
                self.jobs().failures().into_iter().map(|(key, _)| key).collect();
            let mut missing = self.missing(at)?.into_iter();
            if missing.all(|(dataset, record)| failed.contains(&(dataset, record.file))) {
                return Ok(());
            }
            self.jobs().wake();
            self.check_tasks()?;
            crate::work::wait_round(&mut rounds).await?;
        }
        Ok(())
    }

    /// Counts the attested files that this node does not have yet.
    pub(crate) fn files_missing(&self) -> Result<u64, Error> {
        match self.cluster() {
            Some(_) => Ok(self.missing(LogIndex::MAX)?.len() as u64),
            None => Ok(0),
        }
    }

    /// Says whether this node has applied what there is, and has every file but those that nobody can give it.
    pub(crate) fn has_all_files(&self) -> bool {
        let failed: BTreeSet<FileKey> =
            self.jobs().failures().into_iter().map(|(key, _)| key).collect();
        let is_there = |(dataset, record): &(DatasetKey, FileRecord)| {
            failed.contains(&(*dataset, record.file))
        };
        let missing = self.missing(LogIndex::MAX);
        self.has_caught_up() && missing.is_ok_and(|missing| missing.iter().all(is_there))
    }

    /// Looks for a file in its bucket, and takes it as ready when it has the attested length: it was written and read
    /// back before a restart, and every read verifies its blocks. Returns the length of another one.
    /// In a shared bucket that is never enough.
    async fn find(&self, dataset: DatasetKey, record: &FileRecord) -> Result<Option<u64>, Error> {
        let attested = record.attested().expect("only attested files are missing");
        let bucket = self.file_context(dataset)?.bucket;
        if bucket.kind() == BucketKind::Shared {
            return Ok(None);
        }
        let object = object_key(dataset, record.file, record.generation);
        let found = bucket.head(&object).await?.map(|found| found.size);
        if found == Some(attested.digest.len_bytes) {
            self.replica().note_ready((dataset, record.file));
            return Ok(None);
        }
        Ok(found)
    }

    /// Returns the first index whose rows this node still needs from its log, for a file that it has not made yet.
    pub(crate) fn unmade_from(&self) -> Result<Option<LogIndex>, Error> {
        if self.cluster().is_none() {
            return Ok(None);
        }
        let missing = self.missing(LogIndex::MAX)?.into_iter();
        let firsts = missing.filter_map(|(_, record)| match record.content {
            FileContent::Seal { first, .. } => Some(first),
            FileContent::Compaction { .. } => None,
        });
        Ok(firsts.min())
    }
}

/// Compares a file that was made here with what the log attests.
fn check_equal(
    record: &FileRecord,
    attested: &Attested,
    made: &AttestOutcome,
) -> Result<(), Error> {
    match made {
        AttestOutcome::Written(made) if made.as_ref() == attested => Ok(()),
        AttestOutcome::Written(_)
        | AttestOutcome::Empty { .. }
        | AttestOutcome::Abandoned { .. } => Err(Error::Diverged { file: record.file }),
    }
}
