//! The oracle of the digest: the log of a closed node, applied from its first entry by the memory store.

use std::path::Path;
use std::sync::Arc;

use alluvium_state_machine::record::AppliedEntry;
use alluvium_state_machine::{
    BatchEntry, EntryContent, MemoryStore, MetaStore as _, StateDigest, apply_batch, payload_hash,
};
use alluvium_types::{Entry, EntryKind, LogIndex, NodeId};
use alluvium_wal::{FsStorage, Options, Owner, StreamId, Wal};
use anyhow::{Context as _, Result, ensure};

/// Applies the whole log below `dir` up to `upto` and returns the digest there.
///
/// # Errors
/// When the log does not begin at its first entry, or an entry is damaged.
pub fn digest_of_log(dir: &Path, owner: Owner, upto: LogIndex) -> Result<StateDigest> {
    let storage = Arc::new(FsStorage::open(&dir.join("wal"))?);
    let (wal, _recovery) = Wal::open(storage, Options::new(owner))?;
    let store = MemoryStore::new();
    let stream = StreamId(0);
    let first = wal.state(stream)?.first_index.context("the log has no entry")?;
    ensure!(first <= 1, "the log begins at {first}: it cannot be replayed from zero");
    // Entry zero is the cluster's first membership: it changes no state.
    for index in 1..=upto.0 {
        let record = wal.reader().read_record(stream, index)?;
        let entry = Entry::parse(record.payload)?;
        let id = AppliedEntry { term: 1, leader: NodeId(1), index: LogIndex(index) };
        let envelope = match entry.kind() {
            EntryKind::Command => Some(entry.envelope()?),
            EntryKind::Blank | EntryKind::Membership => None,
        };
        let body = entry.body();
        let content = match &envelope {
            Some(envelope) => EntryContent::Command {
                envelope,
                body: &body,
                payload_hash: payload_hash(&envelope.command, &body),
            },
            None => EntryContent::Blank,
        };
        // One entry at a time: the node under test applied them in other batches.
        let applied = apply_batch(&store, &[BatchEntry { id, content }])?;
        store.commit(applied.commit)?;
    }
    Ok(store.digest())
}
