//! The bytes of what this crate writes besides entries: vote, committed index, membership.
//!
//! `docs/formats/raft-in-wal.md` describes them. Each value starts with a version, so that a newer one is refused
//! and never misread. Invariant: decoding what was encoded gives the same value.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use openraft::vote::RaftLeaderIdExt;

use alluvium_state_machine::record::AppliedEntry;
use alluvium_types::{LogIndex, NodeId, codec};

use crate::error::EntryFault;
use crate::type_config::{Address, LogId, Membership, StoredMembership, TypeConfig, Vote};

/// The version of every value here.
pub(crate) const FORMAT_VERSION: u16 = 1;

#[derive(Debug, Clone, Copy, Encode, Decode)]
struct LogIdRecord {
    term: u64,
    leader: u64,
    index: u64,
}

#[derive(Debug, Clone, Copy, Encode, Decode)]
struct VoteRecord {
    term: u64,
    node: u64,
    committed: bool,
}

#[derive(Debug, Clone, Encode, Decode)]
struct MembershipRecord {
    /// One set of voters; two while a change is under way.
    configs: Vec<Vec<u64>>,
    nodes: Vec<NodeRecord>,
}

#[derive(Debug, Clone, Encode, Decode)]
struct NodeRecord {
    id: u64,
    peer: String,
}

#[derive(Debug, Clone, Encode, Decode)]
struct StoredMembershipRecord {
    log_id: Option<LogIdRecord>,
    membership: MembershipRecord,
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

impl From<&LogId> for LogIdRecord {
    fn from(id: &LogId) -> Self {
        Self { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
    }
}

impl From<LogIdRecord> for LogId {
    fn from(record: LogIdRecord) -> Self {
        log_id(record.term, record.leader, record.index)
    }
}

/// Encodes a vote.
#[must_use]
pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    let leader = vote.leader_id();
    let (term, node) = (leader.term, leader.node_id);
    encode(&VoteRecord { term, node, committed: vote.is_committed() })
}

/// Decodes a vote.
///
/// # Errors
/// When the bytes are none.
pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, EntryFault> {
    let VoteRecord { term, node, committed } = decode(bytes)?;
    match committed {
        true => Ok(Vote::new_committed(term, node)),
        false => Ok(Vote::new(term, node)),
    }
}

/// Encodes the identity of an entry.
#[must_use]
pub(crate) fn encode_log_id(id: &LogId) -> Vec<u8> {
    encode(&LogIdRecord::from(id))
}

/// Decodes the identity of an entry.
///
/// # Errors
/// When the bytes are none.
pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, EntryFault> {
    decode::<LogIdRecord>(bytes).map(LogId::from)
}

/// Encodes a membership.
#[must_use]
pub(crate) fn encode_membership(membership: &Membership) -> Vec<u8> {
    encode(&record_of(membership))
}

/// Decodes a membership.
///
/// # Errors
/// When the bytes are none, or name a voter without an address.
pub(crate) fn decode_membership(bytes: &[u8]) -> Result<Membership, EntryFault> {
    membership_of(decode(bytes)?)
}

/// Encodes a membership and the entry that set it.
#[must_use]
pub(crate) fn encode_stored_membership(stored: &StoredMembership) -> Vec<u8> {
    let log_id = stored.log_id().as_ref().map(LogIdRecord::from);
    encode(&StoredMembershipRecord { log_id, membership: record_of(stored.membership()) })
}

/// Decodes a membership and the entry that set it; no bytes are no membership yet.
///
/// # Errors
/// When the bytes are none.
pub(crate) fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, EntryFault> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let record: StoredMembershipRecord = decode(bytes)?;
    let membership = membership_of(record.membership)?;
    Ok(StoredMembership::new(record.log_id.map(LogId::from), membership))
}

fn record_of(membership: &Membership) -> MembershipRecord {
    let configs = membership.get_joint_config().iter();
    let configs = configs.map(|voters| voters.iter().copied().collect()).collect();
    let node = |(&id, address): (&u64, &Address)| NodeRecord { id, peer: address.peer.clone() };
    MembershipRecord { configs, nodes: membership.nodes().map(node).collect() }
}

fn membership_of(record: MembershipRecord) -> Result<Membership, EntryFault> {
    if record.configs.is_empty() && record.nodes.is_empty() {
        return Ok(Membership::default());
    }
    let nodes = record.nodes.into_iter().map(|node| (node.id, Address { peer: node.peer }));
    let nodes: BTreeMap<u64, Address> = nodes.collect();
    let configs = record.configs.into_iter().map(BTreeSet::from_iter).collect();
    Membership::new(configs, nodes).map_err(|_invalid| EntryFault::Membership)
}

fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let encoded = codec::encode(value).expect("NODES_MAX addresses fit a header");
    [&FORMAT_VERSION.to_le_bytes()[..], &encoded].concat()
}

fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, EntryFault> {
    let (version, value) = bytes.split_first_chunk::<2>().ok_or(EntryFault::Short)?;
    match u16::from_le_bytes(*version) {
        FORMAT_VERSION => Ok(codec::decode(value)?),
        found => Err(EntryFault::Version { found, supported: FORMAT_VERSION }),
    }
}

#[cfg(test)]
mod tests;
