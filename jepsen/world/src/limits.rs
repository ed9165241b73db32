//! Every number that bounds the world.

use std::time::Duration;

/// How long a command of the machine may take.
pub const COMMAND: Duration = Duration::from_secs(20);
/// How long one call of the product's command line may take; a node that is cut off answers after 5 seconds.
pub const CALL: Duration = Duration::from_secs(8);
/// How long a change of the membership may take.
pub const MEMBERSHIP: Duration = Duration::from_secs(60);
