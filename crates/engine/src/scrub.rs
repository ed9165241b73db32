//! The background scrub: every data file, every closed log segment and every snapshot is read again from time to
//! time, slowly, so that damage is known while another copy still exists.
//!
//! It must not change anything, or read faster than the configured rate. Invariant: what one pass found stays in
//! the status until the next pass ends.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alluvium_raft::{CheckedSnapshot, check_snapshots};
use alluvium_state_machine::catalog;
use alluvium_types::{ErrorKind, LogIndex, Rejection};
use alluvium_wal::Reader;
use tokio::sync::{mpsc, oneshot, watch};

use crate::Error;
use crate::buckets::is_shared;
use crate::jobs::error_chain;
use crate::node::Node;
use crate::offline;
use crate::tasks::blocking;

/// Findings that are kept; a disk that has more is replaced, not listed.
const FINDINGS_MAX: usize = 100;

/// What the last pass found.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    // Written by the scrub task, read by status; held for a copy only.
    state: Mutex<ScrubState>,
}

/// How often everything was read, and what was wrong the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ScrubState {
    pub(crate) passes: u64,
    pub(crate) damage: Vec<String>,
}

impl Scrub {
    pub(crate) fn state(&self) -> ScrubState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ended(&self, mut damage: Vec<String>) {
        damage.truncate(FINDINGS_MAX);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.passes += 1;
        state.damage = damage;
    }
}

/// Scrubs until the node shuts down.
pub(crate) async fn run(node: Node, mut shutdown: watch::Receiver<bool>) {
    let ended = shutdown.wait_for(|shutdown| *shutdown);
    tokio::select! {
        () = passes(&node) => {}
        _ = ended => {}
    }
}

async fn passes(node: &Node) {
    let rate = node.config().scrub_bytes_per_second.max(1);
    let mut throttle = move |bytes: u64| {
        let micros = bytes.saturating_mul(1_000_000) / rate;
        tokio::time::sleep(Duration::from_micros(micros))
    };
    loop {
        tokio::time::sleep(node.config().scrub_every).await;
        match pass(node, &mut throttle).await {
            Ok(damage) => {
                for what in &damage {
                    tracing::error!(what, "the scrub found damage");
                }
                node.scrub().ended(damage);
            }
            Err(error) => tracing::warn!(error = error_chain(&error), "the scrub could not look"),
        }
    }
}

/// Reads everything once; returns what is wrong. `throttle` is awaited with the number of bytes of each read.
async fn pass<F>(
    node: &Node,
    throttle: &mut (impl FnMut(u64) -> F + Send),
) -> Result<Vec<String>, Error>
where
    F: Future<Output = ()> + Send,
{
    let reader = node.log_reader().clone();
    let mut damage = paced(throttle, move |pace| log_damage(&reader, pace)).await?;
    let snapshots = node.snapshots_dir();
    damage.extend(paced(throttle, move |pace| snapshot_damage(&snapshots, pace)).await?);
    for record in catalog::list(node.view(), LogIndex::MAX)? {
        if is_shared(&record.bucket) && !node.leads() {
            // One reads it for all.
            continue;
        }
        let context = match node.file_context(record.dataset) {
            // Dropped since the list was made. Anything else is a failure to look, not a clean pass.
            Err(Error::Rejected(Rejection::DatasetNotFound { .. })) => continue,
            Err(error @ Error::BucketNotFound { .. }) => {
                damage.push(format!("{}: {}", record.name, error_chain(&error)));
                continue;
            }
            context => context?,
        };
        let at = node.applied();
        for report in alluvium_materialize::scrub(&context, at, &mut *throttle).await? {
            let Some(fault) = report.fault else { continue };
            // A file that was replaced meanwhile may be deleted: that is no damage.
            let now = catalog::file(node.view(), record.dataset, report.file, LogIndex::MAX)?;
            if now.is_some_and(|file| file.is_live()) {
                let (name, file) = (&record.name, report.file);
                if fault.kind() != ErrorKind::Corrupt {
                    let error = error_chain(&fault);
                    tracing::warn!(%name, %file, error, "the scrub could not read a file");
                    continue;
                }
                damage.push(format!("{name}: data file {file}: {}", error_chain(&fault)));
            }
        }
    }
    Ok(damage)
}

/// Is told how many bytes were read, waits until more may be, and says whether more shall be.
type Pace<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

/// Runs work that reads on a thread where it may wait, and lets it go on as `throttle` does. When the future is
/// dropped, the work is told to stop at its next read.
async fn paced<T, F>(
    throttle: &mut (impl FnMut(u64) -> F + Send),
    work: impl FnOnce(&mut Pace<'_>) -> T + Send + 'static,
) -> T
where
    T: Send + 'static,
    F: Future<Output = ()> + Send,
{
    let (asks, mut asked) = mpsc::channel::<(u64, oneshot::Sender<()>)>(1);
    let mut pace = move |bytes| {
        let (go_on, may_go_on) = oneshot::channel();
        let asked = asks.blocking_send((bytes, go_on)).is_ok();
        match asked && may_go_on.blocking_recv().is_ok() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let mut work = std::pin::pin!(blocking(move || work(&mut pace)));
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some((bytes, go_on)) = asked.recv() => {
                throttle(bytes).await;
                if go_on.send(()).is_err() {
                    tracing::debug!("the work that waited panicked, which is heard next");
                }
            }
        }
    }
}

/// Lets work read as fast as it can.
pub(crate) fn unpaced(_bytes: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Reads the log's closed segments from the disk; returns what is wrong.
pub(crate) fn log_damage(reader: &Reader, pace: &mut Pace<'_>) -> Result<Vec<String>, Error> {
    let scrubbed = alluvium_wal::inspect::scrub(reader, pace)?;
    Ok(scrubbed.damage.iter().map(|damage| format!("log: {}", error_chain(damage))).collect())
}

/// Reads the snapshots from the disk; returns what is wrong.
fn snapshot_damage(dir: &Path, pace: &mut Pace<'_>) -> Result<Vec<String>, Error> {
    let checked = check_snapshots(dir, pace).map_err(offline::fault_error)?;
    Ok(checked.iter().filter_map(snapshot_fault).collect())
}

/// Says what is wrong with a snapshot, if anything.
pub(crate) fn snapshot_fault(checked: &CheckedSnapshot) -> Option<String> {
    let fault = checked.found.as_ref().err()?;
    Some(format!("snapshot {}: {}", checked.path.display(), error_chain(fault)))
}

#[cfg(test)]
mod tests;
