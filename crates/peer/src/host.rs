//! What peers ask of the node above consensus.
//!
//! It must not know how the node does it. Invariant: nothing here changes what is true.

use alluvium_raft::AppliedState;
use alluvium_types::{Entry, LogIndex};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

/// Why a forwarded command is not proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The disk has no room, in words.
    Full(String),
    /// The node has too much to do: the same command is as good in a moment.
    Busy,
    /// The node cannot take it now, in words: the same command is as good later.
    NotNow(String),
    /// Its bytes are no command of this program.
    NotACommand,
}

/// The bytes of an object, in order. A part is read when it is asked for, so that a file is never in memory whole.
pub type FileParts = BoxStream<'static, Result<Bytes, String>>;

/// The node above consensus, as its peers see it.
pub trait Host: Send + Sync + 'static {
    /// Takes a forwarded command and stamps it with this node's clock, or refuses one that this node could not carry to
    /// the end.
    ///
    /// # Errors
    /// The reason.
    fn admit(&self, entry: Entry) -> Result<Entry, NotAdmitted>;

    /// Hears that a node deleted the objects that the state gave up at or below an index.
    fn reported(&self, node: u64, swept: LogIndex);

    /// Hears what digest a node's state had at a checkpoint.
    fn compared(&self, node: u64, checkpoint: AppliedState);

    /// Opens an object of this node's bucket, to be read in parts of at most `part` bytes; nothing when there is none.
    fn open_file<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        part: u64,
    ) -> BoxFuture<'a, Result<Option<FileParts>, String>>;
}

/// A node that is consensus and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHost;

impl Host for NoHost {
    fn admit(&self, entry: Entry) -> Result<Entry, NotAdmitted> {
        Ok(entry)
    }

    fn reported(&self, _node: u64, _swept: LogIndex) {}

    fn compared(&self, _node: u64, _checkpoint: AppliedState) {}

    fn open_file<'a>(
        &'a self,
        _bucket: &'a str,
        _key: &'a str,
        _part: u64,
    ) -> BoxFuture<'a, Result<Option<FileParts>, String>> {
        async { Ok(None) }.boxed()
    }
}
