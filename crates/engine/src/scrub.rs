//! The background scrub: every data file and every closed log segment is read again from time to time, slowly, so
//! that damage is known while another copy still exists.
//!
//! It must not change anything, or read faster than the configured rate. Invariant: what one pass found stays in
//! the status until the next pass ends.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alluvium_state_machine::catalog;
use alluvium_types::{LogIndex, Rejection};
use tokio::sync::watch;

use crate::Error;
use crate::jobs::error_chain;
use crate::node::Node;

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
    loop {
        tokio::time::sleep(node.config().scrub_every).await;
        match pass(node).await {
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

/// Reads everything once; returns what is wrong.
async fn pass(node: &Node) -> Result<Vec<String>, Error> {
    let mut damage = log_damage(node)?;
    for record in catalog::list(node.view(), LogIndex::MAX)? {
        let context = match node.file_context(record.dataset) {
            // Dropped since the list was made. Anything else is a failure to look, not a clean pass.
            Err(Error::Rejected(Rejection::DatasetNotFound { .. })) => continue,
            context => context?,
        };
        let rate = node.config().scrub_bytes_per_second.max(1);
        let throttle = move |bytes: u64| {
            let micros = bytes.saturating_mul(1_000_000) / rate;
            tokio::time::sleep(Duration::from_micros(micros))
        };
        let at = node.applied();
        for report in alluvium_materialize::scrub(&context, at, throttle).await? {
            let Some(fault) = report.fault else { continue };
            // A file that was replaced meanwhile may be deleted: that is no damage.
            let now = catalog::file(node.view(), record.dataset, report.file, LogIndex::MAX)?;
            if now.is_some_and(|file| file.is_live()) {
                let (name, file) = (&record.name, report.file);
                damage.push(format!("{name}: data file {file}: {}", error_chain(&fault)));
            }
        }
    }
    Ok(damage)
}

/// Reads the log's closed segments from the disk; returns what is wrong.
pub(crate) fn log_damage(node: &Node) -> Result<Vec<String>, Error> {
    let scrubbed = alluvium_wal::inspect::scrub(node.log_reader())?;
    Ok(scrubbed.damage.iter().map(|damage| format!("log: {}", error_chain(damage))).collect())
}
