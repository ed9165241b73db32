//! Every limit of this crate, by name.

/// Nodes of a cluster, learners included: their addresses must fit one entry's header.
pub const NODES_MAX: usize = 64;
/// Bytes of a node's address.
pub const ADDRESS_BYTES_MAX: usize = 1024;

/// Entries that a learner may lack when it is given a vote.
pub const PROMOTE_LAG_MAX: u64 = 1_000;

/// Entries that one commit of the state machine holds. A batch runs on the caller's thread, so this bounds how
/// long a runtime's worker is kept from other tasks.
pub const APPLY_ENTRIES_MAX: usize = 256;
/// Bytes of entries that one commit of the state machine holds, unless a single one is larger.
pub const APPLY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Digests at checkpoints that a replica keeps for their verdict.
pub const CHECKPOINTS_KEPT: usize = 64;

/// Bytes of entries that one append to the WAL holds, unless a single one is larger.
pub const APPEND_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes that the WAL adds to an entry, about.
pub const RECORD_BYTES: u64 = 128;
/// Bytes that are read at once when entries are streamed to the state machine or a peer.
pub const READ_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes of a snapshot that are read between two pauses of a check.
pub const CHECK_BYTES: u64 = 1024 * 1024;

/// Entries kept behind the snapshot: a follower that lags by less is fed from the log, and an apply that is
/// still queued in openraft finds what it is about to read (openraft's issue with a purge overtaking it).
pub const PURGE_MARGIN: u64 = 1_024;

/// Snapshot files kept: the current one, and the one before it while it may still be sent.
pub const SNAPSHOTS_KEPT: usize = 2;

const _: () = assert!(NODES_MAX * (ADDRESS_BYTES_MAX + 64) < 192 * 1024);
const _: () = assert!(APPEND_BYTES_MAX <= alluvium_wal::limits::QUEUE_BYTES_MAX / 4);
const _: () = assert!(APPLY_ENTRIES_MAX > 0);
