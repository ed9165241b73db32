//! Making a cluster of one of what a member of a lost cluster has.
//!
//! It must not touch the old log. Invariant: the new cluster's log goes on behind everything that the old node had, in a
//! term that the old one never reached.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use alluvium_state_machine::record::RaftRecord;
use alluvium_state_machine::{CommitBatch, MetaStore, SnapshotMeta};
use alluvium_stdx::durable;
use alluvium_types::LogIndex;
use alluvium_wal::Operation;
use bytes::Bytes;

use crate::encoding::{
    decode_kept_membership, encode_kept_membership, encode_vote, log_id_of_applied,
};
use crate::error::Fault;
use crate::log_store::{STREAM, VOTE_SLOT, position_of};
use crate::offline::OfflineLog;
use crate::snapshots::{file_fault, name_of, write_snapshot};
use crate::type_config::{Address, Membership, StoredMembership, Vote};

/// What a new cluster starts from.
#[derive(Debug, Clone)]
pub struct Refounded {
    /// The snapshot that was written.
    pub snapshot: SnapshotMeta,
    /// What its log must begin with.
    pub operations: Vec<Operation>,
}

/// Makes `node` the only member in `store`, a copy of the state at the end of `log`, and writes a snapshot of it into
/// `dir`, which is to be the new node's.
///
/// # Errors
/// What of the old state or log cannot be read, or of the new snapshot written.
pub fn refound(
    store: &dyn MetaStore,
    log: &OfflineLog,
    node: u64,
    dir: &Path,
) -> Result<Refounded, Fault> {
    let before = store.raft();
    let applied = before
        .applied
        .ok_or(Fault::HistoryMissing { applied: LogIndex(0), purged: LogIndex(0) })?;
    let last = log_id_of_applied(&applied);
    let mut kept = decode_kept_membership(&before.membership)
        .map_err(|source| Fault::StoredMembership { source })?;
    let nodes = BTreeMap::from([(node, Address::default())]);
    let alone = Membership::new(vec![BTreeSet::from([node])], nodes);
    let alone = alone.expect("a node that votes is one of the nodes");
    kept.advance(StoredMembership::new(Some(last), alone));
    let membership = encode_kept_membership(&kept);
    let raft = RaftRecord { applied: Some(applied), membership };
    store.commit(CommitBatch::without_mutations(raft)).map_err(Fault::Store)?;
    durable::create_dir_all(dir).map_err(|source| file_fault(dir, source))?;
    let temporary = dir.join("refound.tmp");
    let snapshot = write_snapshot(&temporary, store, &|index| log.record(index))?;
    let path = dir.join(name_of(&snapshot));
    durable::rename(&temporary, &path).map_err(|source| file_fault(&path, source))?;
    // The vote of the last leader's term, for nobody else: the next election is in a later one.
    let vote = Bytes::from(encode_vote(&Vote::new(last.leader_id.term, node)));
    let operations = vec![
        Operation::Slot { stream: STREAM, slot: VOTE_SLOT, value: vote },
        Operation::Purge { stream: STREAM, upto: position_of(&last) },
    ];
    Ok(Refounded { snapshot, operations })
}
