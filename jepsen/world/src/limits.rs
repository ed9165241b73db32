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
/// How often something that is waited for is looked at.
pub const LOOK: Duration = Duration::from_millis(20);
/// How often the cluster is asked while something is waited for.
pub const ASK: Duration = Duration::from_millis(200);
/// How long a node may take to say how it is.
pub const STATUS: Duration = Duration::from_secs(3);
/// How long a node may take until it says where it listens.
pub const START: Duration = Duration::from_secs(60);
/// How long a node may take to stop in good order: open calls have 10 seconds.
pub const STOP: Duration = Duration::from_secs(30);
/// How long the cluster may take to form.
pub const BOOT: Duration = Duration::from_secs(90);
/// How long an offline verification may take.
pub const VERIFY: Duration = Duration::from_secs(300);
/// How long a node may go on after a sync failed: what docs/GUARANTEES.md promises, and the time to look.
pub const ABORT: Duration = Duration::from_secs(3);
/// How long an installed fault is waited for to have an effect.
pub const EFFECT: Duration = Duration::from_secs(4);
/// How long a node waits for one answer of the store: its own default is as long as a large file may take.
pub const STORE_DEADLINE: Duration = Duration::from_secs(3);
/// How long an answer of the store is held that is to come too late.
pub const STORE_HOLD: Duration = Duration::from_secs(6);
/// The largest request of the store that is heard to its end though it is refused.
pub const STORE_OBJECT_BYTES: usize = 64 << 20;
/// How long a leader is waited for when a fault needs one.
pub const LEADER: Duration = Duration::from_secs(15);
/// How much a served disk keeps in memory until it is flushed.
pub const UNFLUSHED_BYTES: usize = 64 << 20;

const _: () = assert!(STORE_DEADLINE.as_secs() < STORE_HOLD.as_secs());
