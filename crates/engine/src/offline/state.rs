//! The metadata of a directory: as it is stored, and as snapshot and log make it.
//!
//! It must not believe the stored one where snapshot and log can tell. Invariant: two states at one index have one
//! digest, or that is in the report.

use std::fs::File;
use std::path::PathBuf;

use alluvium_metastore::OpenOptions;
use alluvium_raft::{check_snapshots, restore};
use alluvium_state_machine::StateDigest;
use alluvium_state_machine::record::AppliedEntry;

use super::*;
use crate::scrub::{snapshot_fault, unpaced};

/// A state that is stored somewhere, and was found whole.
#[derive(Clone)]
struct Known {
    what: String,
    applied: Option<AppliedEntry>,
    digest: StateDigest,
    /// The snapshot that holds it.
    snapshot: Option<PathBuf>,
}

impl Look {
    /// Verifies what is stored, then makes the state again and compares.
    pub(super) fn verify_state(&mut self) -> Result<(), Error> {
        let stored = self.stored_metadata()?;
        let mut known = self.snapshots()?;
        let newest = known.last().and_then(|snapshot| snapshot.applied);
        let carrier = known.last().and_then(|snapshot| snapshot.snapshot.as_deref());
        self.log = match (self.log.take(), carrier) {
            // Rows that the log has no more may be there.
            (Some(log), Some(carrier)) => Some(log.with_snapshot(carrier).map_err(fault_error)?),
            (log, _) => log,
        };
        if let Some(store) = &stored {
            known.extend(self.recompute(store, "metadata")?);
        }
        let made = match self.log.clone() {
            Some(log) if log.is_new()? => {
                let has_state = stored.as_ref().is_some_and(|store| store.raft().applied.is_some());
                if let Err(error) = self.dir.refuse_remains(has_state) {
                    self.found("log", &error);
                }
                None
            }
            Some(log) => self.remake(&log, stored.as_ref(), &known, newest)?,
            None => None,
        };
        let (view, digest) = match (made, stored) {
            (Some(made), _) => {
                let digest = self.recompute(&made, "metadata, made again")?;
                (Arc::new(made), digest.map(|made| made.digest))
            }
            (None, Some(stored)) => {
                let of_stored = known.iter().find(|known| known.snapshot.is_none());
                (stored, of_stored.map(|stored| stored.digest))
            }
            (None, None) => return Ok(()),
        };
        self.report.index = view.raft().applied.map_or(LogIndex(0), |applied| applied.index);
        self.report.digest_kept = view.digest().to_string();
        self.report.digest_recomputed = digest.map_or(String::new(), |digest| digest.to_string());
        self.view = Some(view);
        Ok(())
    }

    /// Opens the stored metadata; none when it is not there or damaged, which an opening builds anew.
    fn stored_metadata(&mut self) -> Result<Option<Arc<RocksStore>>, Error> {
        if self.dir.is_suspect() {
            let notice = "metadata: it was found damaged in use, an opening builds it anew";
            self.report.notices.push(notice.to_owned());
        }
        let notes = self.scratch.path().join("notes");
        match RocksStore::open_to_read(&self.dir.metadata(), &notes, OpenOptions::standard()) {
            Ok(store) => Ok(store.map(Arc::new)),
            Err(error @ StoreError::Corrupt { .. }) => {
                self.found("metadata", &error);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Recomputes the digest of a store; none when it is damaged.
    fn recompute(&mut self, store: &RocksStore, what: &str) -> Result<Option<Known>, Error> {
        let (applied, kept) = (store.raft().applied, store.digest());
        match store.recompute_digest() {
            Ok(digest) if digest == kept => {
                Ok(Some(Known { what: what.to_owned(), applied, digest, snapshot: None }))
            }
            Ok(digest) => {
                let index = applied.map_or(LogIndex(0), |applied| applied.index);
                let text =
                    format!("{what}: its digest is {digest}, entries up to {index} made {kept}");
                self.report.damage.push(text);
                Ok(None)
            }
            Err(error) => self.found_in_state(what, Fault::Store(error)).map(|()| None),
        }
    }

    /// Reads every snapshot; returns those that are whole, the oldest first.
    fn snapshots(&mut self) -> Result<Vec<Known>, Error> {
        let checked = check_snapshots(&self.dir.snapshots(), &mut unpaced).map_err(fault_error)?;
        self.report.damage.extend(checked.iter().filter_map(snapshot_fault));
        let whole = checked.into_iter().filter_map(|checked| {
            let (meta, path) = (checked.found.ok()?, checked.path);
            let what = format!("snapshot {}", path.display());
            Some(Known { what, applied: meta.applied, digest: meta.digest, snapshot: Some(path) })
        });
        Ok(whole.collect())
    }

    /// Makes the state from the oldest one that the log goes on from, and compares each newer one on the way.
    fn remake(
        &mut self,
        log: &OfflineLog,
        stored: Option<&Arc<RocksStore>>,
        known: &[Known],
        newest: Option<AppliedEntry>,
    ) -> Result<Option<RocksStore>, Error> {
        let empty = Known {
            what: "log".to_owned(),
            applied: None,
            digest: StateDigest::default(),
            snapshot: None,
        };
        // What an opening starts from must fit the log; older states only may.
        let starts_from = known.iter().max_by_key(|known| known.applied).unwrap_or(&empty);
        if let Err(fault) = log.continues(starts_from.applied, newest) {
            self.found_in_state(&starts_from.what, fault)?;
        }
        let mut states: Vec<&Known> = std::iter::once(&empty).chain(known).collect();
        states.sort_by_key(|known| known.applied);
        let goes_on = |known: &&Known| log.continues(known.applied, newest).is_ok();
        let Some(at) = states.iter().position(goes_on) else { return Ok(None) };
        let store = self.begin(states[at], stored)?;
        for known in &states[at..] {
            self.replay_to(log, &store, known)?;
        }
        match log.replay(&store, LogIndex::MAX) {
            Ok(()) => {}
            Err(fault) => self.found_in_state("log", fault)?,
        }
        Ok(Some(store))
    }

    fn replay_to(
        &mut self,
        log: &OfflineLog,
        store: &RocksStore,
        known: &Known,
    ) -> Result<(), Error> {
        let Some(applied) = known.applied else { return Ok(()) };
        if let Err(fault) = log.replay(store, applied.index) {
            return self.found_in_state("log", fault);
        }
        if store.raft().applied == Some(applied) && store.digest() != known.digest {
            let (index, kept, made) = (applied.index, known.digest, store.digest());
            let text =
                format!("{}: its digest at {index} is {kept}, the log makes {made}", known.what);
            self.report.damage.push(text);
        }
        Ok(())
    }

    /// Copies a state into a store of its own.
    fn begin(&self, from: &Known, stored: Option<&Arc<RocksStore>>) -> Result<RocksStore, Error> {
        let root = self.scratch.path().join("state");
        let store = RocksStore::open(&root, OpenOptions::standard())?;
        if from.applied.is_none() {
            return Ok(store);
        }
        match (&from.snapshot, stored) {
            (Some(path), _) => restore(&store, path).map_err(fault_error)?,
            (None, Some(stored)) => {
                // The state's stream alone: entries that a snapshot carries are not needed here.
                let exported = self.scratch.path().join("exported");
                let failed = |source| Error::ScratchUnusable { path: exported.clone(), source };
                let mut sink = std::io::BufWriter::new(File::create(&exported).map_err(failed)?);
                stored.export(&mut sink)?;
                std::io::Write::flush(&mut sink).map_err(failed)?;
                let source = File::open(&exported).map_err(failed)?;
                store.import(&mut std::io::BufReader::new(source))?;
            }
            (None, None) => panic!("a state that is in no snapshot is the stored one"),
        }
        Ok(store)
    }
}
