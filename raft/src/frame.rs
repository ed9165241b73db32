//! The payload of a Raft entry: the framed bytes, encoded once by the leader, the same on every disk and wire.
//!
//! It must not look into commands. Invariant: `membership` is there exactly when the frame's kind says so.

use std::fmt;

use bytes::Bytes;
use openraft::entry::RaftPayload;

use alluvium_types::{Entry, EntryKind};

use crate::encoding::{decode_membership, encode_membership};
use crate::error::EntryFault;
use crate::type_config::{Address, Membership};

/// A framed entry, and the membership that it holds, if it is one.
#[derive(Clone, PartialEq)]
pub struct Frame {
    entry: Entry,
    membership: Option<Membership>,
}

impl Frame {
    /// Takes an entry that was checked already.
    ///
    /// # Errors
    /// When it claims to be a membership and is not.
    pub fn new(entry: Entry) -> Result<Self, EntryFault> {
        let membership = match entry.kind() {
            EntryKind::Membership => Some(decode_membership(entry.header())?),
            EntryKind::Command | EntryKind::Blank => None,
        };
        Ok(Self { entry, membership })
    }

    /// Takes a command.
    ///
    /// # Panics
    /// If it is another kind of entry: the caller looked.
    pub(crate) fn command(entry: Entry) -> Self {
        assert_eq!(entry.kind(), EntryKind::Command, "only commands are proposed");
        Self { entry, membership: None }
    }

    /// Checks bytes that came from the log or the network.
    ///
    /// # Errors
    /// When they are no frame of a format that this program reads.
    pub fn parse(bytes: Bytes) -> Result<Self, EntryFault> {
        Self::new(Entry::parse(bytes)?)
    }

    /// Returns the entry.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Returns the entry without a copy of its bytes.
    #[must_use]
    pub fn into_entry(self) -> Entry {
        self.entry
    }

    /// Returns the membership, if it is one.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Returns who votes and who only learns, if it is a membership: `voters 1, 2, 3; learners 4`. While members change,
    /// a majority of each of two sets decides: `voters 1, 2, 3 and 1, 2, 4`.
    #[must_use]
    pub fn members_in_words(&self) -> Option<String> {
        let membership = self.membership.as_ref()?;
        let sets = membership.get_joint_config().iter().map(|voters| numbers(voters.iter()));
        let mut words = format!("voters {}", sets.collect::<Vec<_>>().join(" and "));
        let learners: Vec<u64> = membership.learner_ids().collect();
        if !learners.is_empty() {
            words.push_str(&format!("; learners {}", numbers(learners.iter())));
        }
        Some(words)
    }
}

fn numbers<'a>(ids: impl Iterator<Item = &'a u64>) -> String {
    ids.map(u64::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the bytes: an entry has megabytes, and they are the users'.
        write!(f, "{:?} of {} bytes", self.entry.kind(), self.entry.as_bytes().len())
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl RaftPayload for Frame {
    type D = Self;
    type NodeId = u64;
    type Node = Address;

    fn blank() -> Self {
        Self { entry: Entry::blank(), membership: None }
    }

    fn with_normal(self, data: Self) -> Self {
        data
    }

    fn with_membership(self, membership: Membership) -> Self {
        let entry = Entry::membership(&encode_membership(&membership))
            .expect("a membership has at most NODES_MAX short addresses, which fit a header");
        Self { entry, membership: Some(membership) }
    }

    fn get_membership(&self) -> Option<Membership> {
        self.membership.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn a_membership_says_who_votes_and_who_learns() {
        let words = |sets: &[&[u64]]| {
            let sets = sets.iter().map(|set| set.iter().copied().collect::<BTreeSet<u64>>());
            let nodes = (1..=4).map(|id| (id, Address { peer: format!("127.0.0.1:{id}") }));
            let nodes: BTreeMap<u64, Address> = nodes.collect();
            let membership = Membership::new(sets.collect(), nodes).expect("a legal membership");
            Frame::blank().with_membership(membership).members_in_words()
        };
        assert_eq!(words(&[&[1, 2, 3]]).as_deref(), Some("voters 1, 2, 3; learners 4"));
        let joint = words(&[&[1, 2, 3], &[1, 2, 4]]);
        assert_eq!(joint.as_deref(), Some("voters 1, 2, 3 and 1, 2, 4"));
        assert_eq!(Frame::blank().members_in_words(), None);
    }
}
