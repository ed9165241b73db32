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
