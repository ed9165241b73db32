//! The bytes of what this crate writes besides entries: vote, committed index, membership.
//!
//! `docs/formats/raft-in-wal.md` describes them. Each value starts with a version, so that a newer one is refused
//! and never misread. Invariant: decoding what was encoded gives the same value.

use std::collections::{BTreeMap, BTreeSet};

use openraft::vote::RaftLeaderIdExt;

use alluvium_state_machine::record::AppliedEntry;
use alluvium_types::{LogIndex, NodeId, codec};

use crate::error::EntryFault;
use crate::type_config::{Address, LogId, Membership, StoredMembership, TypeConfig, Vote};

/// The version of every value here.
pub(crate) const FORMAT_VERSION: u16 = 1;

// Plain tuples: the codec encodes them as it does structs, and its library stays behind `types::codec`.

/// Term, leader, index.
type LogIdRecord = (u64, u64, u64);
/// Term, node, whether a quorum granted it.
type VoteRecord = (u64, u64, bool);
/// One set of voters, two while a change is under way; and every node with its peer address.
type MembershipRecord = (Vec<Vec<u64>>, Vec<(u64, String)>);
/// The entry that set it, the membership, and the highest node id that any membership ever had.
type StoredMembershipRecord = (Option<LogIdRecord>, MembershipRecord, u64);

/// A membership as the state machine keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeptMembership {
    pub(crate) stored: StoredMembership,
    /// The highest node id that was ever used: an id never stands for two nodes.
    pub(crate) ids_used: u64,
}

impl KeptMembership {
    /// Takes a newer membership.
    pub(crate) fn advance(&mut self, stored: StoredMembership) {
        let ids = stored.membership().nodes().map(|(&id, _)| id);
        self.ids_used = ids.fold(self.ids_used, u64::max);
        self.stored = stored;
    }
}

/// Packs term and leader into the tag that the WAL keeps beside an entry.
#[must_use]
pub(crate) fn tag_of(id: &LogId) -> u128 {
    let leader = id.leader_id;
    u128::from(leader.term) << 64 | u128::from(leader.node_id)
}

/// Unpacks a tag.
#[must_use]
pub(crate) fn log_id_of(index: u64, tag: u128) -> LogId {
    let term = u64::try_from(tag >> 64).expect("the upper half of 128 bits has 64");
    let leader = u64::try_from(tag & u128::from(u64::MAX)).expect("masked to 64 bits");
    log_id(term, leader, index)
}

/// Returns the identity of an applied entry as the state machine keeps it.
#[must_use]
pub(crate) fn applied_of(id: &LogId) -> AppliedEntry {
    let leader = id.leader_id;
    let index = LogIndex(id.index);
    AppliedEntry { term: leader.term, leader: NodeId(leader.node_id), index }
}

/// Returns the identity of an applied entry as openraft knows it.
#[must_use]
pub(crate) fn log_id_of_applied(applied: &AppliedEntry) -> LogId {
    log_id(applied.term, applied.leader.0, applied.index.0)
}

fn log_id(term: u64, leader: u64, index: u64) -> LogId {
    LogId::new(
        <TypeConfig as openraft::RaftTypeConfig>::LeaderId::new_committed(term, leader),
        index,
    )
}

fn record_of_log_id(id: &LogId) -> LogIdRecord {
    (id.leader_id.term, id.leader_id.node_id, id.index)
}

fn log_id_of_record((term, leader, index): LogIdRecord) -> LogId {
    log_id(term, leader, index)
}

/// Encodes a vote.
#[must_use]
pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    let leader = vote.leader_id();
    let record: VoteRecord = (leader.term, leader.node_id, vote.is_committed());
    versioned(codec::encode(&record))
}

/// Decodes a vote.
///
/// # Errors
/// When the bytes are none.
pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, EntryFault> {
    let (term, node, granted): VoteRecord = codec::decode(value_of(bytes)?)?;
    match granted {
        true => Ok(Vote::new_committed(term, node)),
        false => Ok(Vote::new(term, node)),
    }
}

/// Encodes the identity of an entry.
#[must_use]
pub(crate) fn encode_log_id(id: &LogId) -> Vec<u8> {
    versioned(codec::encode(&record_of_log_id(id)))
}

/// Decodes the identity of an entry.
///
/// # Errors
/// When the bytes are none.
pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, EntryFault> {
    Ok(log_id_of_record(codec::decode(value_of(bytes)?)?))
}

/// Encodes a membership.
#[must_use]
pub(crate) fn encode_membership(membership: &Membership) -> Vec<u8> {
    versioned(codec::encode(&record_of(membership)))
}

/// Decodes a membership.
///
/// # Errors
/// When the bytes are none, or name a voter without an address.
pub(crate) fn decode_membership(bytes: &[u8]) -> Result<Membership, EntryFault> {
    membership_of(codec::decode(value_of(bytes)?)?)
}

/// Encodes a membership and the entry that set it.
#[must_use]
pub(crate) fn encode_kept_membership(kept: &KeptMembership) -> Vec<u8> {
    let log_id = kept.stored.log_id().as_ref().map(record_of_log_id);
    let membership = record_of(kept.stored.membership());
    let record: StoredMembershipRecord = (log_id, membership, kept.ids_used);
    versioned(codec::encode(&record))
}

/// Decodes a membership and the entry that set it; no bytes are no membership yet.
///
/// # Errors
/// When the bytes are none.
pub(crate) fn decode_kept_membership(bytes: &[u8]) -> Result<KeptMembership, EntryFault> {
    if bytes.is_empty() {
        return Ok(KeptMembership::default());
    }
    let (log_id, membership, ids_used): StoredMembershipRecord = codec::decode(value_of(bytes)?)?;
    let membership = membership_of(membership)?;
    if membership.nodes().any(|(&id, _)| ids_used < id) {
        return Err(EntryFault::Membership);
    }
    let stored = StoredMembership::new(log_id.map(log_id_of_record), membership);
    Ok(KeptMembership { stored, ids_used })
}

fn record_of(membership: &Membership) -> MembershipRecord {
    let configs = membership.get_joint_config().iter();
    let configs = configs.map(|voters| voters.iter().copied().collect()).collect();
    let node = |(&id, address): (&u64, &Address)| (id, address.peer.clone());
    (configs, membership.nodes().map(node).collect())
}

fn membership_of((configs, nodes): MembershipRecord) -> Result<Membership, EntryFault> {
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    let nodes = nodes.into_iter().map(|(id, peer)| (id, Address { peer }));
    let nodes: BTreeMap<u64, Address> = nodes.collect();
    let configs = configs.into_iter().map(BTreeSet::from_iter).collect();
    Membership::new(configs, nodes).map_err(|_invalid| EntryFault::Membership)
}

fn versioned(encoded: Result<Vec<u8>, alluvium_types::Error>) -> Vec<u8> {
    let encoded = encoded.expect("NODES_MAX addresses fit a header");
    [&FORMAT_VERSION.to_le_bytes()[..], &encoded].concat()
}

fn value_of(bytes: &[u8]) -> Result<&[u8], EntryFault> {
    let (version, value) = bytes.split_first_chunk::<2>().ok_or(EntryFault::Short)?;
    match u16::from_le_bytes(*version) {
        FORMAT_VERSION => Ok(value),
        found => Err(EntryFault::Version { found, supported: FORMAT_VERSION }),
    }
}

#[cfg(test)]
mod tests;
