//! Keeping the log short: flush, snapshot and purge, and sealing what is old.
//!
//! Invariant: an entry is purged only when no unsealed delta, planned seal or open upload needs it, its
//! effect on the metadata survives a power cut, and a snapshot covers it.

use std::time::Duration;

use alluvium_state_machine::{MetaStore, catalog};
use alluvium_stdx::durable;
use alluvium_types::{Command, LogIndex, Seal, Swept};
use tokio::sync::watch;

use crate::node::Node;
use crate::tasks::blocking;
use crate::{Caller, Error};

/// How often the sizes are looked at.
const EVERY: Duration = Duration::from_millis(500);
/// Log bytes since the last flush at which the metadata is flushed, so that a restart replays little.
const FLUSH_EVERY_BYTES: u64 = 256 * 1024 * 1024;

/// How far the log's clock may be behind while an upload is open and the log is long.
const CLOCK_BEHIND_MS_MAX: u64 = 5_000;
/// The part of the log's entries, as a divisor, that a purge must gain to be worth a snapshot.
const PURGE_SHARE: u64 = 8;

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
    let kept = measure(node)?;
    let durable = node.store().durable().map_or(0, |entry| entry.index.0);
    let entries = node.applied().0.saturating_sub(durable);
    let bytes = written.saturating_sub(progress.flushed_at_bytes);
    let is_due = bytes >= FLUSH_EVERY_BYTES || entries >= FLUSH_EVERY_ENTRIES;
    if is_due && node.has_room_to_flush() {
        flush(node).await?;
        progress.flushed_at_bytes = written;
    }
    if kept < node.log_limit() / 2 {
        return Ok(());
    }
    let is_over = kept >= node.log_limit();
    // What one node proposes, all do; each shortens its own log.
    let proposes = node.cluster().is_none() || node.leads();
    if proposes {
        advance_clock(node).await?;
    }
    // What is sealed already can leave the log even when nothing more can be sealed.
    let sealed = if proposes { seal_old(node, is_over).await } else { Ok(()) };
    shorten(node, is_over).await?;
    sealed
}

/// Measures the log and the disk; returns the bytes of the log. What cannot be measured is not taken for enough.
pub(crate) fn measure(node: &Node) -> Result<u64, Error> {
    let path = &node.config().data_dir;
    let measured = node.log_bytes().and_then(|kept| Ok((kept, durable::bytes_free(path)?)));
    match measured {
        Ok(((all, closed), free)) => {
            node.pressure().measured((all, closed), free);
            Ok(closed)
        }
        Err(source) => {
            node.pressure().not_measured();
            Err(Error::DirectoryUnusable { path: path.clone(), source })
        }
    }
}

async fn flush(node: &Node) -> Result<(), Error> {
    let store = std::sync::Arc::clone(node.store());
    blocking(move || store.flush()).await?;
    Ok(())
}

/// Moves the log's clock while uploads are open: these keep the log from being purged until they expire by that
/// clock, and it stands still while nothing is accepted.
async fn advance_clock(node: &Node) -> Result<(), Error> {
    let behind_ms = node.clock().wall_ms().saturating_sub(catalog::clock(node.view())?);
    let uploads = catalog::open_uploads(node.view())?;
    let Some(upload) = uploads.first().filter(|_| behind_ms > CLOCK_BEHIND_MS_MAX) else {
        return Ok(());
    };
    let command = Command::Swept(Swept { dataset: upload.dataset, files: Vec::new() });
    match node.propose(&Caller::named("alluvium"), command, &[]).await {
        // A refused command moves the clock too.
        Ok(_) | Err(Error::Rejected(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Seals every dataset whose oldest unsealed row lies in the older half of the log, or all of them.
async fn seal_old(node: &Node, all: bool) -> Result<(), Error> {
    let bounds = node.raft().log_bounds()?;
    let first = bounds.first.map_or(0, |first| first.0);
    let middle = LogIndex(first.midpoint(bounds.committed.0));
    for record in catalog::list(node.view(), LogIndex::MAX)? {
        let counters = catalog::counters(node.view(), record.dataset)?;
        if counters.unsealed_deltas > 0 && (all || counters.unsealed_first <= middle) {
            let command = Command::Seal(Seal { dataset: record.dataset });
            node.propose(&Caller::named("alluvium"), command, &[]).await?;
        }
    }
    Ok(())
}

/// Purges what nothing needs any more, when that is worth a snapshot or the log is over its limit.
async fn shorten(node: &Node, is_over: bool) -> Result<(), Error> {
    // Read before the state is: what is applied afterwards may be needed and is not looked for.
    let applied = node.applied();
    let needed = catalog::retained_from(node.view(), LogIndex::MAX)?;
    let unmade = node.unmade_from()?;
    let needed = needed.into_iter().chain(unmade).min();
    let upto = needed.map_or(applied, |first| applied.min(LogIndex(first.0.saturating_sub(1))));
    let bounds = node.raft().log_bounds()?;
    let (Some(first), Some(last)) = (bounds.first, bounds.last) else { return Ok(()) };
    // A follower that answers is fed from the log as long as that is not over its limit: a snapshot costs it more.
    let slowest = node.slowest_follower(last).filter(|_| !is_over);
    let upto = slowest.map_or(upto, |slowest| upto.min(slowest));
    let reachable = upto.0.min(applied.0.saturating_sub(Node::purge_margin()));
    let gain = reachable.saturating_sub(first.0);
    let is_worth = gain > 0 && (is_over || gain >= (last.0 - first.0) / PURGE_SHARE);
    if !is_worth {
        return Ok(());
    }
    if node.has_room_to_flush() {
        flush(node).await?;
        node.raft().trigger_snapshot().await?;
    }
    node.raft().purge(upto).await?;
    Ok(())
}
