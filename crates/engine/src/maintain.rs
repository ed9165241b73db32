//! Keeping the log short: flush, snapshot and purge, and sealing what is old.
//!
//! Invariant: an entry is purged only when no unsealed delta, planned seal or open upload needs it, its
//! effect on the metadata survives a power cut, and a snapshot covers it.

use std::time::Duration;

use alluvium_state_machine::{MetaStore, catalog};
use alluvium_types::{Command, LogIndex, Seal};
use tokio::sync::watch;

use crate::node::Node;
use crate::tasks::blocking;
use crate::{Caller, Error};

/// How often the sizes are looked at.
const EVERY: Duration = Duration::from_millis(500);
/// Log bytes since the last flush at which the metadata is flushed, so that a restart replays little.
const FLUSH_EVERY_BYTES: u64 = 256 * 1024 * 1024;

/// Entries applied since the last flush at which the metadata is flushed.
const FLUSH_EVERY_ENTRIES: u64 = 50_000;

/// What was done at which size of the log.
#[derive(Debug, Default)]
struct Progress {
    flushed_at_bytes: u64,
}

/// Looks after the log until the node shuts down.
pub(crate) async fn run(node: Node, mut shutdown: watch::Receiver<bool>) {
    let mut progress = Progress::default();
    while !*shutdown.borrow() {
        if let Err(error) = tend(&node, &mut progress).await {
            // Nothing is lost by a round that failed: the log only stays longer.
            tracing::warn!(error = crate::jobs::error_chain(&error), "log maintenance failed");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            changed = shutdown.changed() => if changed.is_err() { return },
        }
    }
}

async fn tend(node: &Node, progress: &mut Progress) -> Result<(), Error> {
    let written = node.pressure().proposed_bytes();
    let kept = node.log_bytes();
    node.pressure().measured(kept, disk_free(&node.config().data_dir));
    let durable = node.store().durable().map_or(0, |entry| entry.index.0);
    let entries = node.applied().0.saturating_sub(durable);
    let bytes = written.saturating_sub(progress.flushed_at_bytes);
    if bytes >= FLUSH_EVERY_BYTES || entries >= FLUSH_EVERY_ENTRIES {
        flush(node).await?;
        progress.flushed_at_bytes = written;
    }
    if kept >= node.config().log_bytes_max / 2 {
        seal_old(node).await?;
        shorten(node).await?;
    }
    Ok(())
}

async fn flush(node: &Node) -> Result<(), Error> {
    let store = std::sync::Arc::clone(node.store());
    blocking(move || store.flush()).await?;
    Ok(())
}

/// Seals every dataset whose oldest unsealed row lies in the older half of the log.
async fn seal_old(node: &Node) -> Result<(), Error> {
    let bounds = node.raft().log_bounds()?;
    let first = bounds.first.map_or(0, |first| first.0);
    let middle = LogIndex(first.midpoint(bounds.committed.0));
    for record in catalog::list(node.view(), LogIndex::MAX)? {
        let counters = catalog::counters(node.view(), record.dataset)?;
        if counters.unsealed_deltas > 0 && counters.unsealed_first <= middle {
            let command = Command::Seal(Seal { dataset: record.dataset });
            node.propose(&Caller::named("alluvium"), command, &[]).await?;
        }
    }
    Ok(())
}

/// Purges what nothing needs any more.
async fn shorten(node: &Node) -> Result<(), Error> {
    let needed = catalog::retained_from(node.view(), LogIndex::MAX)?;
    let bounds = node.raft().log_bounds()?;
    let upto = needed.map_or(node.applied(), |first| LogIndex(first.0.saturating_sub(1)));
    if bounds.first.is_some_and(|first| first < upto) {
        flush(node).await?;
        node.raft().trigger_snapshot().await?;
        node.raft().purge(upto).await?;
    }
    Ok(())
}

/// Returns the bytes free for this user on the file system of `path`; all there are when it cannot tell.
fn disk_free(path: &std::path::Path) -> u64 {
    alluvium_stdx::durable::bytes_free(path).unwrap_or(u64::MAX)
}
