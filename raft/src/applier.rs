//! openraft's state machine on a store of metadata: committed entries in, one commit per batch, answers out.
//!
//! It runs where openraft calls it, on a runtime's worker. A batch is bounded in entries and bytes and takes
//! milliseconds, and other tasks run between batches; moving it away with `block_in_place` would need a
//! multi-threaded runtime, which the simulator is not. What takes longer (export, import) has its own thread.
//! It must not skip an entry. Invariant: an answer is sent after its entry's commit, never before.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::storage::{
    ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot,
};
use tokio::sync::{mpsc, watch};

use alluvium_state_machine::record::{AppliedEntry, RaftRecord};
use alluvium_state_machine::{
    BatchEntry, CommitBatch, Effect, EntryContent, MetaStore, StateDigest, apply_batch,
    payload_hash,
};
use alluvium_types::{Checkpoint, Command, EntryKind, Envelope, LogIndex, Response};
use alluvium_wal::Reader;
use bytes::Bytes;

use crate::checkpoints::Checkpoints;
use crate::encoding::{
    KeptMembership, applied_of, decode_kept_membership, encode_kept_membership, log_id_of_applied,
};
use crate::error::Fault;
use crate::health::Health;
use crate::limits;
use crate::quarantine::Quarantine;
use crate::snapshots::{Current, SnapshotFile, Snapshots, open_state};
use crate::thread::on_thread;
use crate::type_config::{LogId, RaftEntry, SnapshotMeta, StoredMembership, TypeConfig};

/// What was applied last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppliedState {
    /// The last applied entry; zero before the first command.
    pub index: LogIndex,
    /// The digest of the state there.
    pub digest: StateDigest,
}

/// Where hints for the engine go. One that finds no room is dropped: the state tells it again.
pub type EffectSender = mpsc::Sender<Vec<Effect>>;

/// openraft's state machine.
#[derive(Debug)]
pub(crate) struct Applier {
    store: Arc<dyn MetaStore>,
    snapshots: Snapshots,
    log: Reader,
    effects: EffectSender,
    applied: watch::Sender<AppliedState>,
    checkpoints: Checkpoints,
    health: Health,
}

type Responder = Option<ApplyResponder<TypeConfig>>;

impl Applier {
    pub(crate) fn new(
        store: Arc<dyn MetaStore>,
        snapshots: Snapshots,
        log: Reader,
        effects: EffectSender,
        (health, quarantine): (Health, Quarantine),
    ) -> Self {
        let applied = watch::Sender::new(state_of(store.as_ref()));
        let checkpoints = Checkpoints::new(quarantine);
        Self { store, snapshots, log, effects, applied, checkpoints, health }
    }

    /// Returns what is known of checkpoints.
    pub(crate) fn checkpoints(&self) -> Checkpoints {
        self.checkpoints.clone()
    }

    /// Returns where the applied index is published.
    pub(crate) fn applied(&self) -> watch::Receiver<AppliedState> {
        self.applied.subscribe()
    }
}

/// Returns where a store stands.
pub(crate) fn state_of(store: &dyn MetaStore) -> AppliedState {
    let index = store.raft().applied.map_or(LogIndex(0), |applied| applied.index);
    AppliedState { index, digest: store.digest() }
}

/// Entries that are committed together, and those who wait for them.
#[derive(Default)]
struct Batch {
    entries: Vec<RaftEntry>,
    responders: Vec<Responder>,
}

impl Batch {
    /// Takes entries until the batch is full or none is left.
    async fn take<S>(entries: &mut S) -> io::Result<Self>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut batch = Self::default();
        let mut bytes = 0_u64;
        while batch.entries.len() < limits::APPLY_ENTRIES_MAX && bytes < limits::APPLY_BYTES_MAX {
            let Some(item) = entries.next().await else { break };
            let (entry, responder) = item?;
            let length = entry.payload.entry().as_bytes().len();
            bytes = bytes.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
            batch.entries.push(entry);
            batch.responders.push(responder);
        }
        Ok(batch)
    }

    fn first_index(&self) -> LogIndex {
        LogIndex(self.entries.first().map_or(0, |entry| entry.log_id.index))
    }

    fn last_index(&self) -> Option<LogIndex> {
        self.entries.last().map(|entry| LogIndex(entry.log_id.index))
    }
}

/// An entry with all that the state machine borrows of it.
struct Decoded {
    id: AppliedEntry,
    content: Content,
}

enum Content {
    Command {
        envelope: Box<Envelope>,
        body: Bytes,
        payload_hash: u128,
    },
    Blank,
    /// As it is set, until [`keep_memberships`] has encoded it with what came before.
    Membership {
        set: StoredMembership,
        kept: Vec<u8>,
    },
}

impl Decoded {
    /// Fails closed: an entry that does not decode stops the node, since skipping it would be divergence.
    fn new(entry: &RaftEntry) -> Result<Self, Fault> {
        let id = applied_of(&entry.log_id);
        let framed = entry.payload.entry();
        let content = match (framed.kind(), entry.payload.membership()) {
            (EntryKind::Command, _) => {
                let envelope = framed.envelope();
                let envelope = envelope
                    .map_err(|source| Fault::Entry { index: id.index, source: source.into() })?;
                let body = framed.body();
                let payload_hash = payload_hash(&envelope.command, &body);
                Content::Command { envelope: Box::new(envelope), body, payload_hash }
            }
            (EntryKind::Blank | EntryKind::Membership, None) => Content::Blank,
            (EntryKind::Blank | EntryKind::Membership, Some(membership)) => {
                let stored = StoredMembership::new(Some(entry.log_id), membership.clone());
                Content::Membership { set: stored, kept: Vec::new() }
            }
        };
        Ok(Self { id, content })
    }

    fn as_batch_entry(&self) -> BatchEntry<'_> {
        let content = match &self.content {
            Content::Command { envelope, body, payload_hash } => {
                EntryContent::Command { envelope, body, payload_hash: *payload_hash }
            }
            Content::Blank => EntryContent::Blank,
            Content::Membership { kept, .. } => EntryContent::Membership(kept),
        };
        BatchEntry { id: self.id, content }
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        match &self.content {
            Content::Command { envelope, .. } => {
                let Command::Checkpoint(checkpoint) = envelope.command else { return None };
                Some(checkpoint)
            }
            Content::Blank | Content::Membership { .. } => None,
        }
    }
}

impl Applier {
    /// Applies a batch; an invariant that does not hold ends the node with the batch's index.
    ///
    /// openraft does not notice a panic in its state machine's task: every proposal would wait for ever.
    fn apply_or_stop(&self, batch: Batch) -> Result<(), Fault> {
        let index = batch.first_index();
        unless_panicked(index, || self.apply_batch(batch))
    }

    /// Applies a batch with one commit, and tells everyone.
    fn apply_batch(&self, batch: Batch) -> Result<(), Fault> {
        let (first, last) = (batch.first_index(), batch.last_index());
        let outcome =
            commit_entries(self.store.as_ref(), first, &batch.entries, &self.checkpoints)?;
        let applied = state_of(self.store.as_ref());
        assert_eq!(Some(applied.index), last, "the store took the whole batch");
        self.applied.send_replace(applied);
        for (responder, response) in batch.responders.into_iter().zip(outcome.responses) {
            if let Some(responder) = responder {
                responder.send(response);
            }
        }
        self.hint(outcome.effects);
        Ok(())
    }

    fn hint(&self, effects: Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        if let Err(error) = self.effects.try_send(effects) {
            // The engine finds the work again in the state; here it costs time only.
            tracing::debug!(%error, "effects were not handed over");
        }
    }
}

/// Runs a step of apply; one that panicked ends with a fault, and what it leaves is not used again.
fn unless_panicked<T>(
    index: LogIndex,
    step: impl FnOnce() -> Result<T, Fault>,
) -> Result<T, Fault> {
    let applied = catch_unwind(AssertUnwindSafe(step));
    applied.unwrap_or(Err(Fault::ApplyPanicked { index }))
}

/// What applying entries gave.
struct Outcome {
    /// One for each entry.
    responses: Vec<Option<Response>>,
    effects: Vec<Effect>,
}

/// Applies entries with one commit, and one more after each checkpoint. `first` is the index of the first.
fn commit_entries(
    store: &dyn MetaStore,
    first: LogIndex,
    entries: &[RaftEntry],
    checkpoints: &Checkpoints,
) -> Result<Outcome, Fault> {
    let mut decoded = entries.iter().map(Decoded::new).collect::<Result<Vec<_>, _>>()?;
    keep_memberships(store, &mut decoded)?;
    let entries = commit_first_membership(store, &decoded)?;
    let skipped = decoded.len() - entries.len();
    let mut outcome = Outcome { responses: vec![None; skipped], effects: Vec::new() };
    for entries in entries.split_inclusive(|entry| entry.checkpoint().is_some()) {
        let batch: Vec<_> = entries.iter().map(Decoded::as_batch_entry).collect();
        let applied =
            apply_batch(store, &batch).map_err(|source| Fault::Apply { index: first, source })?;
        assert_eq!(applied.responses.len(), batch.len(), "every entry has one outcome");
        store.commit(applied.commit).map_err(Fault::Store)?;
        outcome.responses.extend(applied.responses);
        outcome.effects.extend(applied.effects);
        let Some(last) = entries.last() else { continue };
        if let Some(checkpoint) = last.checkpoint() {
            checkpoints.applied(checkpoint, last.id.index, store.digest());
        }
    }
    Ok(outcome)
}

/// Encodes the memberships of a batch, each with the ids that were used before it.
fn keep_memberships(store: &dyn MetaStore, decoded: &mut [Decoded]) -> Result<(), Fault> {
    let mut current: Option<KeptMembership> = None;
    for entry in decoded {
        let Content::Membership { set, kept } = &mut entry.content else { continue };
        let mut next = match current.take() {
            Some(current) => current,
            None => decode_kept_membership(&store.raft().membership)
                .map_err(|source| Fault::StoredMembership { source })?,
        };
        next.advance(set.clone());
        *kept = encode_kept_membership(&next);
        current = Some(next);
    }
    Ok(())
}

/// Applies entry zero, if it is the first, and returns the others.
///
/// openraft numbers from zero, and its entry zero is the membership that made the cluster. For the state
/// machine zero is before the first entry, so it never sees this one.
fn commit_first_membership<'d>(
    store: &dyn MetaStore,
    decoded: &'d [Decoded],
) -> Result<&'d [Decoded], Fault> {
    let Some((first, rest)) = decoded.split_first() else { return Ok(decoded) };
    if first.id.index != LogIndex(0) {
        return Ok(decoded);
    }
    let membership = match &first.content {
        Content::Membership { kept, .. } => kept.clone(),
        Content::Blank => Vec::new(),
        Content::Command { .. } => return Err(Fault::CommandAtZero),
    };
    assert_eq!(store.raft(), RaftRecord::default(), "entry zero is applied once");
    let raft = RaftRecord { applied: Some(first.id), membership };
    store.commit(CommitBatch::without_mutations(raft)).map_err(Fault::Store)?;
    Ok(rest)
}

/// Applies entries to a store that no node serves; the answers went out long ago.
pub(crate) fn apply_again(store: &dyn MetaStore, entries: &[RaftEntry]) -> Result<(), Fault> {
    let index = LogIndex(entries.first().map_or(0, |entry| entry.log_id.index));
    let checkpoints = Checkpoints::new(Quarantine::default());
    unless_panicked(index, || commit_entries(store, index, entries, &checkpoints).map(drop))
}

/// Lets other tasks of this worker run.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

impl RaftStateMachine<TypeConfig> for Applier {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let raft = self.store.raft();
        let membership = decode_kept_membership(&raft.membership)
            .map_err(|source| self.health.fail(Fault::StoredMembership { source }))?;
        Ok((raft.applied.as_ref().map(log_id_of_applied), membership.stored))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut entries = entries.fuse();
        loop {
            let batch = Batch::take(&mut entries).await?;
            if batch.entries.is_empty() {
                return Ok(());
            }
            self.apply_or_stop(batch).map_err(|fault| self.health.fail(fault))?;
            yield_now().await;
        }
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            store: Arc::clone(&self.store),
            snapshots: self.snapshots.clone(),
            log: self.log.clone(),
            health: self.health.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        file: SnapshotFile,
    ) -> io::Result<()> {
        let (store, snapshots) = (Arc::clone(&self.store), self.snapshots.clone());
        let expected = meta.last_log_id;
        let install = move || install(store.as_ref(), &snapshots, &file, expected);
        let installed = on_thread("snapshot-install", install).await;
        installed.map_err(|fault| self.health.fail(fault))?;
        self.checkpoints.forget();
        self.applied.send_replace(state_of(self.store.as_ref()));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        let current = self.snapshots.current();
        current
            .map(|current| to_raft(&current))
            .transpose()
            .map_err(|fault| self.health.fail(fault))
    }
}

type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>;

fn to_raft(current: &Current) -> Result<RaftSnapshot, Fault> {
    Ok(Snapshot { meta: current.raft_meta()?, snapshot: current.file.clone() })
}

/// Makes a snapshot the current one and then the state.
///
/// In this order, so that a crash in between finds the snapshot ahead of the state and installs it again; the
/// other order would leave a state that no file and no log explains.
pub(crate) fn install(
    store: &dyn MetaStore,
    snapshots: &Snapshots,
    file: &SnapshotFile,
    expected: Option<LogId>,
) -> Result<(), Fault> {
    let current = snapshots.adopt(file)?;
    if current.last_log_id() != expected {
        return Err(Fault::SnapshotMismatch { path: file.path.clone() });
    }
    import(store, &current)
}

/// Replaces the state by a snapshot that is in place.
pub(crate) fn import(store: &dyn MetaStore, current: &Current) -> Result<(), Fault> {
    let mut source = open_state(&current.file.path)?;
    let imported = store.import(&mut source).map_err(Fault::Store)?;
    assert_eq!(imported.applied, current.meta.applied, "the file changed since it was verified");
    assert_eq!(store.digest(), imported.digest, "the store took another state than it read");
    Ok(())
}

/// Writes a snapshot beside apply.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder {
    store: Arc<dyn MetaStore>,
    snapshots: Snapshots,
    log: Reader,
    health: Health,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        let (store, snapshots) = (Arc::clone(&self.store), self.snapshots.clone());
        let log = self.log.clone();
        let build = move || to_raft(&snapshots.build(store.as_ref(), &log)?);
        let built = on_thread("snapshot-build", build).await;
        built.map_err(|fault| match matches!(fault, Fault::Log(alluvium_wal::Error::Closed)) {
            // The node was shut down meanwhile: nobody waits for the snapshot, and it is no fault.
            true => io::Error::other(fault),
            false => self.health.fail(fault),
        })
    }
}

#[cfg(test)]
mod tests;
