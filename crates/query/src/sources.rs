//! Where a query reads from. Every part is owned by the engine; this crate only looks.

use std::fmt;
use std::sync::Arc;

use alluvium_materialize::LogSource;
use alluvium_state_machine::View;
use alluvium_stdx::Clock;
use alluvium_storage::Bucket;
use alluvium_types::{LogIndex, Term};

use crate::error::SharedError;

/// Gives buckets by name.
pub trait BucketSource: Send + Sync {
    /// Returns the bucket, or nothing when this node does not have it.
    fn bucket(&self, name: &str) -> Option<Arc<Bucket>>;
}

/// What the log knows about itself beside its entries: for `system.log`.
pub trait SystemSource: Send + Sync {
    /// Returns the first and the last index that the log still holds; nothing when it holds none.
    ///
    /// # Errors
    /// A fault of the log.
    fn log_bounds(&self) -> Result<Option<(LogIndex, LogIndex)>, SharedError>;

    /// Returns the term of an entry, if it is known.
    ///
    /// # Errors
    /// A fault of the log.
    fn term(&self, index: LogIndex) -> Result<Option<Term>, SharedError>;
}

/// Everything that a query may read.
#[derive(Clone)]
pub struct Sources {
    /// The metadata.
    pub view: Arc<dyn View + Send + Sync>,
    /// The log's entries.
    pub log: Arc<dyn LogSource>,
    /// The buckets of data files.
    pub buckets: Arc<dyn BucketSource>,
    /// The log's own facts.
    pub system: Arc<dyn SystemSource>,
    /// Time, for statistics.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}
