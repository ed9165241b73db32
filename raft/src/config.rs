//! How a Raft node is set up.
//!
//! It must not read files or the environment. Invariant: timings that pass the check let a follower miss one
//! heartbeat without an election.

use std::path::PathBuf;
use std::sync::Arc;

use openraft::{Config, SnapshotPolicy};

use crate::error::Error;
use crate::limits;

/// What a node must know. There is no default: a wrong identity loses data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftConfig {
    /// The cluster, drawn once when it is made.
    pub cluster_id: u128,
    /// This node. Never reused.
    pub node_id: u64,
    /// Where peers reach this node; empty for a node without a network.
    pub address: String,
    /// Where snapshots are kept.
    pub snapshots_dir: PathBuf,
    /// How fast failures are noticed.
    pub timings: Timings,
    /// Entries that a purge leaves behind the snapshot.
    pub purge_margin: u64,
    /// The state is known to differ from that of the others: the node takes entries, and no part in deciding.
    pub is_quarantined: bool,
}

/// Milliseconds between signs of life, and until an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Between two heartbeats of a leader.
    pub heartbeat_ms: u64,
    /// The shortest wait before an election.
    pub election_min_ms: u64,
    /// The longest wait before an election.
    pub election_max_ms: u64,
}

impl Timings {
    /// For nodes of one data center. openraft lets a follower wait for the longest timeout, as the leader's lease, and
    /// one that it draws behind that: a dead leader is replaced after 0.75 to one second.
    pub const LOCAL: Self = Self { heartbeat_ms: 100, election_min_ms: 250, election_max_ms: 500 };

    fn check(self) -> Result<(), Error> {
        let illegal = |reason| Err(Error::Config { reason });
        if self.heartbeat_ms == 0 {
            return illegal("the heartbeat interval is zero");
        }
        if self.election_min_ms < self.heartbeat_ms.saturating_mul(2) {
            return illegal("an election starts before two heartbeats could arrive");
        }
        if self.election_max_ms <= self.election_min_ms {
            return illegal("elections need a range to draw their timeouts from");
        }
        Ok(())
    }
}

impl RaftConfig {
    /// Returns openraft's configuration.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(crate) fn to_openraft(&self) -> Result<Arc<Config>, Error> {
        self.timings.check()?;
        if limits::ADDRESS_BYTES_MAX < self.address.len() {
            return Err(Error::Config { reason: "the peer address is too long" });
        }
        let config = Config {
            cluster_name: format!("{:032x}", self.cluster_id),
            heartbeat_interval: self.timings.heartbeat_ms,
            election_timeout_min: self.timings.election_min_ms,
            election_timeout_max: self.timings.election_max_ms,
            enable_pre_vote: Some(true),
            // Snapshots and purges are ours to trigger: openraft would purge what an apply has yet to read.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            // A node that comes back with a shorter log than it acknowledged must never be believed.
            allow_log_reversion: Some(false),
            // The committed index on disk may trail, so a restarted leader must be elected again to know it; one that went
            // on would have its leadership before it has applied what it had acknowledged (`RaftNode::leadership`).
            enable_leader_restore: Some(false),
            ..Config::default()
        };
        let config = config.validate();
        config
            .map(Arc::new)
            .map_err(|_invalid| Error::Config { reason: "openraft refuses these timings" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        heartbeat_ms: u64,
        election_min_ms: u64,
        election_max_ms: u64,
    ) -> Option<&'static str> {
        let timings = Timings { heartbeat_ms, election_min_ms, election_max_ms };
        match timings.check() {
            Ok(()) => None,
            Err(Error::Config { reason }) => Some(reason),
            Err(other) => panic!("unexpected {other}"),
        }
    }

    #[test]
    fn timings_that_cannot_work_are_refused_with_the_reason() {
        assert_eq!(check(50, 150, 300), None);
        assert_eq!(check(0, 150, 300), Some("the heartbeat interval is zero"));
        let early = "an election starts before two heartbeats could arrive";
        assert_eq!(check(100, 150, 300), Some(early));
        let no_range = "elections need a range to draw their timeouts from";
        assert_eq!(check(50, 150, 150), Some(no_range));
    }
}
