//! What a run may take: sizes, counts and times, each with a name.

use std::time::Duration;

/// Nodes of every cluster.
pub(crate) const NODES: usize = 3;
/// Connections over which the clients of one point are spread.
pub(crate) const CONNECTIONS_MAX: usize = 16;
/// How long a node may take to start, a cluster to elect a leader, or a node to catch up.
pub(crate) const READY_MAX: Duration = Duration::from_secs(60);
/// How often a node is looked at that is to become ready.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// How long one call may last.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(30);

/// Bytes of the rows in one message: below what a server takes.
pub(crate) const MESSAGE_ROWS_MAX: usize = 50_000;

/// Payloads that are made before a run, so that making them is not measured.
pub(crate) const PAYLOADS: usize = 64;

/// Between two signs of life of a leader of Alluvium, as `alluvium serve` has it.
pub(crate) const HEARTBEAT_MS: u64 = 100;
/// The same of etcd, which does not start with more than a fifth of its election's.
pub(crate) const HEARTBEAT_ETCD_MS: u64 = 120;
/// How long a leader of Alluvium is silent at least and at most before an election: its lease, and a time that is drawn.
pub(crate) const SILENCE_MS: (u64, u64) = (750, 1_000);
/// The shortest wait of etcd before an election; its longest is twice as long.
pub(crate) const ELECTION_MS: u64 = 600;
/// How long one try of a prober may last.
pub(crate) const PROBE_MAX: Duration = Duration::from_millis(100);
/// Between a refusal and the next try of a prober.
pub(crate) const PROBE_PAUSE: Duration = Duration::from_millis(5);
/// Probers at each node: while one waits for an answer that will not come, others ask.
pub(crate) const PROBERS: usize = 2;
/// How long writes go well before a leader is killed.
pub(crate) const CALM: Duration = Duration::from_millis(400);
/// How long writes may fail after a kill before the run is given up.
pub(crate) const GAP_MAX: Duration = Duration::from_secs(30);
