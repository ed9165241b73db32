//! Sending a snapshot: from where the receiver has it, in parts with checksums.
//!
//! It must not hold the file in memory. Invariant: parts follow each other without a gap, from `have` to the end.

use std::io::{self, SeekFrom};
use std::path::Path;

use alluvium_proto::peer::v1 as wire;
use alluvium_raft::{SnapshotFile, TypeConfig, Vote, encode_membership_of};
use bytes::BytesMut;
use futures::{Stream, stream};
use openraft::type_config::alias::SnapshotOf;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::{convert, limits};

/// Says what is sent, and in whose name; in nobody's to a node that asked for it.
pub(crate) fn offer(
    vote: Option<&Vote>,
    snapshot: &SnapshotOf<TypeConfig, SnapshotFile>,
) -> wire::SnapshotOffer {
    wire::SnapshotOffer {
        vote: vote.map(convert::ballot),
        last: snapshot.meta.last_log_id.as_ref().map(convert::position),
        membership: encode_membership_of(&snapshot.meta).into(),
        bytes: snapshot.snapshot.bytes,
        digest: snapshot.snapshot.digest.to_string(),
    }
}

/// The parts of a snapshot that are still to be sent.
#[derive(Debug)]
pub(crate) struct Parts {
    file: File,
    /// For the first part.
    offer: Option<wire::SnapshotOffer>,
    offset: u64,
    end: u64,
}

impl Parts {
    pub(crate) async fn open(
        path: &Path,
        offer: wire::SnapshotOffer,
        have: u64,
    ) -> io::Result<Self> {
        let end = offer.bytes;
        if end < have {
            return Err(io::Error::other("the receiver has more than there is"));
        }
        let mut file = File::open(path).await?;
        file.seek(SeekFrom::Start(have)).await?;
        Ok(Self { file, offer: Some(offer), offset: have, end })
    }

    async fn next(&mut self) -> io::Result<Option<wire::SnapshotPart>> {
        if self.offset == self.end && self.offer.is_none() {
            return Ok(None);
        }
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let mut content = BytesMut::zeroed(left.min(limits::PART_BYTES));
        self.file.read_exact(&mut content).await?;
        let content = content.freeze();
        let (offer, offset) = (self.offer.take(), self.offset);
        self.offset += content.len() as u64;
        let crc32c = crc32c::crc32c(&content);
        Ok(Some(wire::SnapshotPart { offer, offset, content, crc32c }))
    }

    /// Returns the parts. A file that cannot be read ends them early: the receiver waits for the rest, and says so.
    pub(crate) fn into_stream(self) -> impl Stream<Item = wire::SnapshotPart> + Send + 'static {
        stream::unfold(self, |mut parts| async move {
            match parts.next().await {
                Ok(part) => part.map(|part| (part, parts)),
                Err(error) => {
                    tracing::error!(%error, "the snapshot that is sent cannot be read");
                    None
                }
            }
        })
    }
}
