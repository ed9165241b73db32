//! Effects on bytes: writing planned files and deleting unreferenced ones, beside apply.
//!
//! The list of jobs is read from the state, never kept: after a crash it is the same list. A job that was
//! done twice wrote the same bytes. Invariant: an attest is proposed only for a file that was read back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alluvium_state_machine::catalog;
use alluvium_state_machine::record::{FileContent, FileRecord, SweepRecord};
use alluvium_types::{
    Attest, AttestOutcome, Command, DatasetKey, ErrorKind, FileId, LogIndex, Swept, limits,
};
use tokio::sync::{Notify, watch};

use crate::buckets::is_shared;
use crate::node::Node;
use crate::{Caller, Error};

/// How long a failed job rests before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often a member of a cluster looks at the state when nobody asks it to.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Compactions that were given up and are remembered.
const ABANDONED_MAX: usize = 64;
/// Actor of commands that the node itself proposes.
const ACTOR: &str = "alluvium";

/// The node's jobs: when to look, and what failed last.
#[derive(Debug)]
pub(crate) struct Jobs {
    look: Notify,
    // Written by the one job task, read by status and waiters; held for a map operation only.
    failures: Mutex<BTreeMap<(DatasetKey, FileId), Failure>>,
    // Written by the job task, read by who waits for the compaction; the oldest go first.
    abandoned: Mutex<VecDeque<(DatasetKey, FileId, Failure)>>,
    // Written by the job task, read by who waits for a sweep.
    sweep_failure: Mutex<Option<Failure>>,
    rounds: watch::Sender<u64>,
}

/// The last failure of a job.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) kind: ErrorKind,
    pub(crate) tries: u64,
}

impl Jobs {
    pub(crate) fn new() -> Self {
        let (rounds, _) = watch::channel(0);
        let (failures, abandoned, sweep_failure) = Default::default();
        Self { look: Notify::new(), failures, abandoned, sweep_failure, rounds }
    }

    /// Makes the job task look at the state again.
    pub(crate) fn wake(&self) {
        self.look.notify_one();
    }

    /// Returns what fails at present.
    pub(crate) fn failures(&self) -> Vec<((DatasetKey, FileId), Failure)> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.iter().map(|(key, failure)| (*key, failure.clone())).collect()
    }

    /// Returns a receiver that changes after every round of jobs.
    pub(crate) fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    pub(crate) fn failed(&self, dataset: DatasetKey, file: FileId, error: &Error) {
        let reason = error_chain(error);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = failures.entry((dataset, file)).or_insert_with(|| Failure {
            reason: String::new(),
            kind: error.kind(),
            tries: 0,
        });
        failure.tries += 1;
        failure.kind = error.kind();
        if failure.reason != reason {
            tracing::warn!(%dataset, %file, reason, "a data file could not be made, will try again");
            failure.reason = reason;
        }
    }

    pub(crate) fn succeeded(&self, dataset: DatasetKey, file: FileId) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&(dataset, file));
    }

    /// Remembers why a compaction was given up, for those who wait for it.
    fn abandon(&self, dataset: DatasetKey, file: FileId, error: &Error) {
        let failure = Failure { reason: error_chain(error), kind: error.kind(), tries: 1 };
        tracing::error!(%dataset, %file, reason = failure.reason, "compaction given up");
        let mut abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        if abandoned.len() == ABANDONED_MAX {
            abandoned.pop_front();
        }
        abandoned.push_back((dataset, file, failure));
    }

    /// Returns why a compaction was given up on this node.
    pub(crate) fn abandoned(&self, dataset: DatasetKey, file: FileId) -> Option<Failure> {
        let abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = abandoned.iter().filter(|(key, id, _)| (*key, *id) == (dataset, file));
        found.next().map(|(_, _, failure)| failure.clone())
    }

    /// Remembers how the last sweep ended.
    fn swept(&self, error: Option<Error>) {
        let failure = error.map(|error| Failure {
            reason: error_chain(&error),
            kind: error.kind(),
            tries: 1,
        });
        *self.sweep_failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Returns why the last sweep failed, if it did.
    pub(crate) fn sweep_failure(&self) -> Option<Failure> {
        self.sweep_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets failures of files that the state does not know any more.
    pub(crate) fn keep_failures(&self, is_known: impl Fn(&(DatasetKey, FileId)) -> bool) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|key, _| is_known(key));
    }

    fn round_ended(&self) {
        self.rounds.send_modify(|rounds| *rounds += 1);
    }
}

/// Runs jobs until the node shuts down.
pub(crate) async fn run(node: Node, mut shutdown: watch::Receiver<bool>) {
    // What a member applies before it has caught up may be long past: files would be made that the state has forgotten.
    node.until_caught_up().await;
    while !*shutdown.borrow() {
        let failed = round(&node).await;
        node.jobs().round_ended();
        let pause = async {
            match failed {
                true => tokio::time::sleep(RETRY_AFTER).await,
                // In a cluster the others are told again what was done, for their leader may be another now.
                false if node.cluster().is_some() => {
                    let looked = node.jobs().look.notified();
                    drop(tokio::time::timeout(LOOK_AGAIN, looked).await);
                }
                false => node.jobs().look.notified().await,
            }
        };
        tokio::select! {
            () = pause => {}
            changed = shutdown.changed() => if changed.is_err() { return },
        }
    }
}

/// Does every job that the state lists; says whether one failed.
async fn round(node: &Node) -> bool {
    if node.raft().is_quarantined() {
        // Nothing is made or deleted by a state that is known to be wrong.
        return false;
    }
    let planned = catalog::planned(node.view()).map_err(Error::from);
    let Ok(planned) = planned.inspect_err(|error| tracing::error!(%error, "list planned files"))
    else {
        return true;
    };
    let (seals, compactions) = seals_first(node, planned);
    let mut failed = make_files(node, seals).await;
    // The inputs of a compaction must lie here before it is tried, and what is swept may be what a missing file is
    // made of. Other datasets go on.
    let incomplete = match complete(node).await {
        Ok(incomplete) => incomplete,
        Err(error) => {
            let error = error_chain(&error);
            tracing::warn!(error, "the files of this node could not be completed, will try again");
            return true;
        }
    };
    failed |= !incomplete.is_empty();
    let is_whole = |(dataset, _): &(DatasetKey, FileId)| !incomplete.contains(dataset);
    let (compactions, waiting): (Planned, Planned) = compactions.into_iter().partition(is_whole);
    for (dataset, file) in waiting {
        // A file of a member's own is made or fetched in a while; one that all see is put back by nobody here.
        if node.is_shared(dataset).unwrap_or(true) {
            node.jobs().failed(dataset, file, &Error::InputsMissing { file });
        }
    }
    failed |= make_files(node, compactions).await;
    if node.is_stopping() {
        return false;
    }
    let swept = sweep(node, &incomplete).await;
    if let Err(error) = &swept {
        tracing::warn!(error = error_chain(error), "objects could not be deleted, will try again");
    }
    failed |= swept.is_err();
    node.jobs().swept(swept.err());
    failed
}

/// Makes planned files; says whether one failed.
async fn make_files(node: &Node, planned: Vec<(DatasetKey, FileId)>) -> bool {
    let mut failed = false;
    for (dataset, file) in planned {
        if node.is_stopping() {
            return false;
        }
        match make_file(node, dataset, file).await {
            Ok(()) => node.jobs().succeeded(dataset, file),
            Err(error) => {
                node.jobs().failed(dataset, file, &error);
                failed = true;
            }
        }
    }
    failed
}

/// Files of datasets.
type Planned = Vec<(DatasetKey, FileId)>;

/// Tells seals from compactions: the log waits for seals, and nothing waits for the others.
fn seals_first(node: &Node, planned: Planned) -> (Planned, Planned) {
    let is_seal = |&(dataset, file): &(DatasetKey, FileId)| {
        let plan = catalog::file(node.view(), dataset, file, LogIndex::MAX);
        // One that cannot be read fails when it is made, and is told there.
        plan.is_ok_and(|plan| {
            plan.is_some_and(|plan| matches!(plan.content, FileContent::Seal { .. }))
        })
    };
    planned.into_iter().partition(is_seal)
}

/// Puts the attested files that this node lacks into its buckets, where others may attest; returns the datasets that lack
/// one still.
async fn complete(node: &Node) -> Result<BTreeSet<DatasetKey>, Error> {
    match node.cluster() {
        Some(_) => node.complete().await,
        None => Ok(BTreeSet::new()),
    }
}

/// Makes a planned file. In a cluster every node does, and the leader says what it should have become.
async fn make_file(node: &Node, dataset: DatasetKey, file: FileId) -> Result<(), Error> {
    let Some(plan) = catalog::file(node.view(), dataset, file, LogIndex::MAX)? else {
        // Its dataset was dropped since the list was made.
        node.jobs().succeeded(dataset, file);
        return Ok(());
    };
    let is_in_shared = node.is_shared(dataset)?;
    // Into a shared bucket one writes: whoever decides.
    if !node.leads() && is_in_shared {
        return Ok(());
    }
    let key = (dataset, file);
    let outcome = match node.replica().made(key) {
        Some(outcome) => outcome,
        None if is_in_shared => node.unless_stopping(write_file(node, dataset, &plan)).await?,
        None => write_file(node, dataset, &plan).await?,
    };
    if node.cluster().is_some() {
        if matches!(outcome, AttestOutcome::Written(_)) {
            node.replica().note_made(key, outcome.clone());
        }
        if !node.leads() {
            return Ok(());
        }
    }
    let command = Command::Attest(Attest { dataset, file, outcome });
    node.propose_leading(&Caller::named(ACTOR), command).await?;
    Ok(())
}

async fn write_file(
    node: &Node,
    dataset: DatasetKey,
    plan: &FileRecord,
) -> Result<AttestOutcome, Error> {
    let context = node.file_context(dataset)?;
    node.bucket_to_fill(context.bucket.name()).await?;
    let made = match &plan.content {
        FileContent::Seal { .. } => alluvium_materialize::seal(&context, plan).await,
        FileContent::Compaction { .. } => alluvium_materialize::compact(&context, plan).await,
    };
    match (made, &plan.content) {
        (Ok(outcome), _) => Ok(outcome),
        // Only the one who decides gives it up: another node may be able to make it.
        (Err(error), FileContent::Compaction { .. })
            if !error.is_transient() && (node.cluster().is_none() || node.leads()) =>
        {
            // Inputs that do not add up must not stay reserved: the compaction is given up, loudly.
            let error = Error::from(error);
            node.jobs().abandon(dataset, plan.file, &error);
            Ok(AttestOutcome::Abandoned { reason: error_chain(&error) })
        }
        (Err(error), _) => Err(error.into()),
    }
}

async fn sweep(node: &Node, incomplete: &BTreeSet<DatasetKey>) -> Result<(), Error> {
    let mut done: BTreeMap<DatasetKey, Vec<FileId>> = BTreeMap::new();
    let (mut failed, mut left) = (None, None);
    // Read before the state is: what is given up afterwards is not looked for.
    let applied = node.applied();
    let everywhere = node.swept_everywhere();
    let sweepable = catalog::sweepable(node.view())?;
    node.replica().keep_gone(&sweepable.iter().map(|(key, file, _)| (*key, *file)).collect());
    for (dataset, file, record) in sweepable {
        if node.leases().oldest().is_some_and(|oldest| oldest < record.since) {
            // A reader may still need it; its lease ends, and the end of a lease wakes this task.
            left = left.min(Some(record.since)).or(Some(record.since));
            continue;
        }
        let is_given_up = everywhere.is_some_and(|everywhere| record.since <= everywhere);
        let deletes = match is_shared(&record.bucket) {
            // One that all members see is the leader's to delete, when every one of them has given it up and its state is
            // known to be that of the others. Until then there is nothing to do here, and nothing more to wait for.
            true => is_given_up && may_delete_for_all(node, &record),
            false => !node.replica().is_gone((dataset, file)),
        };
        if incomplete.contains(&dataset) {
            // A file that is missing here is perhaps made of it.
            left = left.min(Some(record.since)).or(Some(record.since));
            if is_shared(&record.bucket) {
                failed = Some(Error::InputsMissing { file });
            }
            continue;
        }
        let swept = match deletes {
            true => node.unless_stopping(sweep_file(node, (dataset, file), &record)).await,
            false => Ok(()),
        };
        match swept {
            Ok(()) => {
                node.replica().note_gone((dataset, file));
                // The state forgets an object when no member has it any more.
                if is_given_up && (deletes || !is_shared(&record.bucket)) {
                    done.entry(dataset).or_default().push(file);
                }
            }
            // The others can go all the same.
            Err(error) => {
                left = left.min(Some(record.since)).or(Some(record.since));
                failed = Some(error);
            }
        }
    }
    if node.cluster().is_some() && !node.leads() {
        let swept = left.map_or(applied, |left| applied.min(LogIndex(left.0.saturating_sub(1))));
        node.report_swept(swept).await;
        return failed.map_or(Ok(()), Err);
    }
    for (dataset, files) in done {
        for files in files.chunks(limits::SWEPT_FILES_MAX) {
            let command = Command::Swept(Swept { dataset, files: files.to_vec() });
            node.propose_leading(&Caller::named(ACTOR), command).await?;
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Says whether this node may delete what is the only copy: it leads, and its state was compared since the object was given up.
fn may_delete_for_all(node: &Node, record: &SweepRecord) -> bool {
    let is_compared = match node.cluster() {
        Some(_) if 1 < node.members().len() => {
            node.raft().agreed_at().is_some_and(|agreed| record.since <= agreed)
        }
        // There is nobody to differ from.
        Some(_) | None => true,
    };
    is_compared && node.leads() && !node.raft().is_quarantined()
}

async fn sweep_file(
    node: &Node,
    (dataset, file): (DatasetKey, FileId),
    record: &SweepRecord,
) -> Result<(), Error> {
    let bucket = node.bucket_in_use(&record.bucket).await?;
    Ok(alluvium_materialize::sweep(&bucket, dataset, file, record).await?)
}

/// Returns an error and its causes in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let next = source.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = source.source();
    }
    text
}
