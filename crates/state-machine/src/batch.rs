//! Applies entries in batches: later entries see earlier ones, and all are committed at once.
//!
//! It must not commit. Invariant: the batch's size changes neither responses nor the digest.

use alluvium_stdx::invariant;
use alluvium_types::{Envelope, LogIndex, Response};
use bytes::Bytes;

use crate::apply::{EntryRef, apply};
use crate::overlay::Overlay;
use crate::record::{AppliedEntry, RaftRecord};
use crate::store::{CommitBatch, MetaStore};
use crate::view::{Effect, Mutation, ViewError};

/// An entry of a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchEntry<'a> {
    /// Its identity.
    pub id: AppliedEntry,
    /// What it holds.
    pub content: EntryContent<'a>,
}

/// What an entry of the log holds.
#[derive(Debug, Clone, Copy)]
pub enum EntryContent<'a> {
    /// A command for the state machine.
    Command {
        /// The command, and who asked.
        envelope: &'a Envelope,
        /// Its rows or keys.
        body: &'a Bytes,
        /// [`crate::payload_hash`] of command and body.
        payload_hash: u128,
    },
    /// Nothing.
    Blank,
    /// A membership as the raft crate encodes it.
    Membership(&'a [u8]),
}

/// What a batch came to.
#[derive(Debug, Clone)]
pub struct BatchResult {
    /// One for each entry; none for blank entries and memberships.
    pub responses: Vec<Option<Response>>,
    /// Hints for the engine, in order.
    pub effects: Vec<Effect>,
    /// What to commit.
    pub commit: CommitBatch,
}

/// Applies entries one after the other on top of a store.
pub struct BatchApplier<'a> {
    overlay: Overlay<'a>,
    raft: RaftRecord,
    mutations: Vec<(LogIndex, Vec<Mutation>)>,
    responses: Vec<Option<Response>>,
    effects: Vec<Effect>,
}

/// Applies entries on top of a store, without committing.
///
/// # Errors
/// A local fault; nothing was changed.
pub fn apply_batch(
    store: &dyn MetaStore,
    entries: &[BatchEntry<'_>],
) -> Result<BatchResult, ViewError> {
    let mut applier = BatchApplier::new(store);
    entries.iter().try_for_each(|entry| applier.apply(entry))?;
    Ok(applier.finish())
}

impl<'a> BatchApplier<'a> {
    /// Begins a batch after what the store has applied.
    #[must_use]
    pub fn new(store: &'a dyn MetaStore) -> Self {
        Self {
            overlay: Overlay::new(store),
            raft: store.raft(),
            mutations: Vec::new(),
            responses: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Applies the next entry.
    ///
    /// # Errors
    /// A local fault; the batch must be thrown away.
    ///
    /// # Panics
    /// If the entry is not above the one before.
    pub fn apply(&mut self, entry: &BatchEntry<'_>) -> Result<(), ViewError> {
        let index = entry.id.index;
        let before = self.raft.applied.map_or(LogIndex(0), |applied| applied.index);
        invariant!("INV-M1", before < index, "entry {index} is applied after {before}");
        let response = match entry.content {
            EntryContent::Command { envelope, body, payload_hash } => {
                Some(self.command(&EntryRef { index, envelope, body, payload_hash })?)
            }
            EntryContent::Blank => None,
            EntryContent::Membership(membership) => {
                membership.clone_into(&mut self.raft.membership);
                None
            }
        };
        self.responses.push(response);
        self.raft.applied = Some(entry.id);
        Ok(())
    }

    fn command(&mut self, entry: &EntryRef<'_>) -> Result<Response, ViewError> {
        let applied = apply(&self.overlay, entry)?;
        for mutation in &applied.mutations {
            self.overlay.record(entry.index, mutation.clone());
        }
        if !applied.mutations.is_empty() {
            self.mutations.push((entry.index, applied.mutations));
        }
        self.effects.extend(applied.effects);
        Ok(applied.response)
    }

    /// Returns what the batch came to.
    #[must_use]
    pub fn finish(self) -> BatchResult {
        let commit = CommitBatch { mutations: self.mutations, raft: self.raft };
        BatchResult { responses: self.responses, effects: self.effects, commit }
    }
}
