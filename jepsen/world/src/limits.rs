//! Every number that bounds the world.

use std::time::Duration;

/// How long a command of the machine may take.
pub const COMMAND: Duration = Duration::from_secs(20);
/// How long one call of the product's command line may take; a node that is cut off answers after 5 seconds.
pub const CALL: Duration = Duration::from_secs(8);
/// How long a change of the membership may take.
pub const MEMBERSHIP: Duration = Duration::from_secs(60);
/// How much time's worth of packets a slow link keeps; more are dropped.
pub const LINK_QUEUE: Duration = Duration::from_secs(1);
/// Up to how much later a duplicate comes.
pub const COPY_LATER: Duration = Duration::from_millis(20);
/// How many bytes may wait in the switch.
pub const WAITING_BYTES: usize = 256 << 20;
/// The largest packet of the network.
pub const MTU: usize = 9_000;
/// How much of the switch's decisions is written down.
pub const DECISIONS_BYTES: u64 = 64 << 20;
