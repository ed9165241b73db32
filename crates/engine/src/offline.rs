//! Verify a directory that no process has open: everything is read, and not a byte of it changes.
//!
//! What an opening would do is done elsewhere: the log is mended in memory, and the metadata is made again from a
//! snapshot and the log in a temporary directory, with the code that a node does both with. It must not repair, or
//! stop at the first damage. Invariant: a failure to look is an error, damage that was seen is in the report.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_materialize::{Damage, FileContext, LogError, LogSource};
use alluvium_metastore::RocksStore;
use alluvium_raft::{Fault, OfflineLog};
use alluvium_state_machine::{MetaStore, StoreError, catalog};
use alluvium_storage::{Bucket, BucketKind, DurableLocal, Opening};
use alluvium_types::{Entry, ErrorKind, LogIndex};
use alluvium_wal::inspect::{Finding, inspect, open_in_memory};
use alluvium_wal::{FsStorage, Storage};
use tempfile::TempDir;

use crate::buckets::{self, identity_of, opening_of};
use crate::dir::DataDir;
use crate::jobs::error_chain;
use crate::machine::{Machine as _, RealMachine};
use crate::opening::log_options;
use crate::tasks::blocking;
use crate::{Config, DEFAULT_BUCKET, Error, VerifyReport};

mod recover;
mod state;

pub use recover::{Recovered, recover_directory};

/// Verifies the directory of a node that is not open, as [`Node::verify`](crate::Node::verify) does an open one, and
/// its snapshots too. Nothing in the directory is written: it may be that of a process that was killed, or on a disk
/// that is mounted read-only. What an opening would mend is in the report's notices.
///
/// The log must be on the file system: [`Config::machine`] is not asked. The metadata is made again below the
/// system's temporary directory, which needs room for a copy of it.
///
/// # Errors
/// [`Error::DirectoryLocked`] when a process has the directory open, and whatever else kept it from looking.
pub async fn verify_directory(config: &Config) -> Result<VerifyReport, Error> {
    let dir = DataDir::look(&config.data_dir, config.node_id)?;
    let scratch = tempfile::tempdir();
    let path = std::env::temp_dir();
    let scratch = scratch.map_err(|source| Error::ScratchUnusable { path, source })?;
    let segment_bytes = config.segment_bytes;
    let mut look = blocking(move || Look::at(dir, scratch, segment_bytes)).await?;
    look.verify_files(&buckets::shared(config)?).await?;
    // The temporary directory goes when nobody reads in it any more.
    Ok(blocking(move || look.end()).await)
}

/// A verification under way. Invariant: `dir` holds the directory's lock until the end.
struct Look {
    report: VerifyReport,
    log: Option<OfflineLog>,
    /// The metadata at the report's index.
    view: Option<Arc<RocksStore>>,
    scratch: TempDir,
    dir: DataDir,
}

impl Look {
    /// Reads all but the data files.
    fn at(dir: DataDir, scratch: TempDir, segment_bytes: u64) -> Result<Self, Error> {
        let report = VerifyReport::default();
        let mut look = Self { report, log: None, view: None, scratch, dir };
        look.verify_log(segment_bytes)?;
        look.verify_state()?;
        look.verify_entries()?;
        Ok(look)
    }

    fn end(self) -> VerifyReport {
        self.report
    }

    fn found(&mut self, what: &str, error: &dyn std::error::Error) {
        self.report.damage.push(format!("{what}: {}", error_chain(error)));
    }

    /// Walks over every record, then opens the log in memory, whose judgment counts.
    fn verify_log(&mut self, segment_bytes: u64) -> Result<(), Error> {
        let storage: Arc<dyn Storage> = Arc::new(FsStorage::existing(&self.dir.wal()));
        let mut torn = Vec::new();
        if self.dir.wal().exists() {
            torn = self.walk_log(&storage, segment_bytes)?;
        }
        match open_in_memory(storage, log_options(self.dir.identity(), segment_bytes)) {
            Ok((wal, recovery)) => {
                let notices = recovery.notices.iter();
                let notices =
                    notices.map(|notice| format!("log, as an opening would say: {notice}"));
                self.report.notices.extend(notices);
                self.log = Some(OfflineLog::new(wal.reader()));
            }
            Err(error) if error.is_corruption() => {
                let refusal = format!("log: {}", error_chain(&error));
                if !self.report.damage.contains(&refusal) {
                    self.report.damage.push(refusal);
                }
                self.report.notices.extend(torn);
                let notice =
                    "rows that are in the log alone were not checked: an opening refuses the log";
                self.report.notices.push(notice.to_owned());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Names all damage of the log, not the first alone; returns what was begun and never acknowledged.
    fn walk_log(
        &mut self,
        storage: &Arc<dyn Storage>,
        segment_bytes: u64,
    ) -> Result<Vec<String>, Error> {
        let mut torn = Vec::new();
        let owner = log_options(self.dir.identity(), segment_bytes).owner;
        let findings = match inspect(Arc::clone(storage), owner) {
            // The opening names it.
            Err(error) if error.is_corruption() => return Ok(torn),
            findings => findings?,
        };
        for finding in findings {
            match finding? {
                Finding::Damage { error, acknowledged: true, .. } => self.found("log", &error),
                Finding::Damage { error, acknowledged: false, .. } => {
                    torn.push(format!("log, never acknowledged: {}", error_chain(&error)));
                }
                Finding::Segment(_) | Finding::Record { .. } | Finding::End { .. } => {}
            }
        }
        Ok(torn)
    }

    fn verify_entries(&mut self) -> Result<(), Error> {
        let Some(log) = self.log.clone() else { return Ok(()) };
        let Some((first, last)) = log.bounds()? else { return Ok(()) };
        for index in first.0..=last.0 {
            let index = LogIndex(index);
            let decoded = log.entry(index).map_err(Error::from);
            let decoded = decoded.and_then(|entry| crate::log::decode(index, &entry));
            self.report.entries += 1;
            match decoded {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.found(&format!("log entry {index}"), &error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads every data file, and the rows that are in the log alone.
    async fn verify_files(&mut self, shared: &BTreeMap<String, Bucket>) -> Result<(), Error> {
        let Some(view) = self.view.clone() else { return Ok(()) };
        if view.raft().applied.is_none() {
            return Ok(());
        }
        let Some(bucket) = self.bucket().await? else { return Ok(()) };
        let log: Arc<dyn LogSource> = Arc::new(Rows { log: self.log.clone() });
        for record in catalog::list(view.as_ref(), self.report.index)? {
            let bucket = match shared.get(&record.bucket) {
                _ if record.bucket == DEFAULT_BUCKET => bucket.clone(),
                Some(shared) => {
                    let identity = identity_of(&self.dir, &record.bucket);
                    let opening = opening_of(view.as_ref(), &record.bucket)?;
                    // One that holds nothing may have no marker, and none is put.
                    if opening == Opening::Existing {
                        shared.check_identity(&identity, opening).await?;
                    }
                    shared.clone()
                }
                None => return Err(Error::BucketNotFound { name: record.bucket }),
            };
            let name = record.name.clone();
            let context = FileContext {
                dataset: record,
                bucket,
                view: Arc::<RocksStore>::clone(&view),
                log: Arc::clone(&log),
            };
            let found = alluvium_materialize::verify_dataset(&context, self.report.index).await?;
            self.report.files += found.files;
            self.report.rows += found.rows;
            for what in &found.damage {
                // Without a log every such row is missing, and the log was named.
                if self.log.is_some() || matches!(what, Damage::File { .. }) {
                    self.found(name.as_str(), what);
                }
            }
        }
        Ok(())
    }

    /// Opens the bucket; one that is not there, or not this node's, is damage.
    async fn bucket(&mut self) -> Result<Option<Bucket>, Error> {
        let root = self.dir.local_bucket();
        if !root.is_dir() {
            self.report
                .damage
                .push(format!("bucket {DEFAULT_BUCKET}: {} is missing", root.display()));
            return Ok(None);
        }
        let store = Arc::new(DurableLocal::open_to_read(&root)?);
        let bucket = Bucket::over(DEFAULT_BUCKET, store, BucketKind::PerNode);
        let checked =
            bucket.check_identity(&identity_of(&self.dir, DEFAULT_BUCKET), Opening::Existing).await;
        match checked.map_err(Error::from) {
            Ok(()) => Ok(Some(bucket)),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.report.damage.push(error_chain(&error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Names what is wrong with the metadata; a failure to look ends the verification.
    fn found_in_state(&mut self, what: &str, fault: Fault) -> Result<(), Error> {
        let error = fault_error(fault);
        if error.kind() != ErrorKind::Corrupt {
            return Err(error);
        }
        let text = format!("{what}: {}", error_chain(&error));
        if !self.report.damage.contains(&text) {
            self.report.damage.push(text);
        }
        Ok(())
    }
}

/// The rows of the log, if it can be read.
struct Rows {
    log: Option<OfflineLog>,
}

impl LogSource for Rows {
    fn entry(&self, index: LogIndex) -> Result<Entry, LogError> {
        let Some(log) = &self.log else { return Err(LogError::Purged { index }) };
        log.entry(index).map_err(|error| crate::log::unread(index, error))
    }
}

/// The failure of a look at log, state or snapshots, as callers know it.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are of no single file")]
pub(crate) fn fault_error(fault: Fault) -> Error {
    match fault {
        Fault::Log(error) => Error::Wal(error),
        Fault::Store(error) => Error::Store(error),
        Fault::SnapshotFile { path, source } => Error::DirectoryUnusable { path, source },
        fault => Error::Unfit { fault: Box::new(fault) },
    }
}
