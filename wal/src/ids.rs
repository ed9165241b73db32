//! The names and positions of the log, one type each, so that two of them are never exchanged.

/// A logical log inside the physical one. Raft has one per group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// The position of a record in the physical log: one more than the record before it, over all
/// streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// The number of a segment: each life of a recycled file has its own, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentSeq(pub u64);

/// Who may read a log: its cluster and its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The cluster, drawn once when it is made.
    pub cluster: u128,
    /// The node in it.
    pub node: u64,
}

/// An index in a stream, with the opaque tag that the caller gave its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The index in its stream.
    pub index: u64,
    /// The caller's tag: Raft keeps the entry's term and node in it.
    pub tag: u128,
}

impl Lsn {
    /// Returns the position before, or zero.
    pub(crate) fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Returns the position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 records are never written"))
    }
}

impl SegmentSeq {
    /// Returns the number of the segment after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 segments are never written"))
    }

    pub(crate) fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::fmt::Display for SegmentSeq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {} of cluster {:032x}", self.node, self.cluster)
    }
}
