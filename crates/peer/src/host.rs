//! What peers ask of the node above consensus.
//!
//! It must not know how the node does it. Invariant: nothing here changes what is true.

use alluvium_raft::AppliedState;
use alluvium_types::{Entry, LogIndex};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;

/// The node above consensus, as its peers see it.
pub trait Host: Send + Sync + 'static {
    /// Takes a forwarded command and stamps it with this node's clock, or refuses one that this node could not carry to
    /// the end, in words.
    ///
    /// # Errors
    /// The reason.
    fn admit(&self, entry: Entry) -> Result<Entry, String>;

    /// Hears that a node deleted the objects that the state gave up at or below an index.
    fn reported(&self, node: u64, swept: LogIndex);

    /// Hears what digest a node's state had at a checkpoint.
    fn compared(&self, node: u64, checkpoint: AppliedState);

    /// Reads an object of this node's bucket; nothing when there is none.
    fn read_file(&self, bucket: &str, key: &str) -> BoxFuture<'_, Result<Option<Bytes>, String>>;
}

/// A node that is consensus and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHost;

impl Host for NoHost {
    fn admit(&self, entry: Entry) -> Result<Entry, String> {
        Ok(entry)
    }

    fn reported(&self, _node: u64, _swept: LogIndex) {}

    fn compared(&self, _node: u64, _checkpoint: AppliedState) {}

    fn read_file(&self, _bucket: &str, _key: &str) -> BoxFuture<'_, Result<Option<Bytes>, String>> {
        async { Ok(None) }.boxed()
    }
}
