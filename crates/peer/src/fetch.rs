//! Reading a snapshot of a peer, for a node that does not run.
//!
//! It must not believe what it read: the raft crate checks the whole before it is used. Invariant: what is left in the
//! file after a success is every byte that the peer sent, synced.

use std::path::Path;

use alluvium_proto::peer::v1 as wire;
use alluvium_raft::LeaderHint;
use alluvium_types::LogIndex;
use futures::StreamExt as _;
use tokio::fs::File;
use tonic::{Status, Streaming};

use crate::receive::write_part;
use crate::{Error, Peers, limits};

/// Reads a new snapshot of a member into a file. Its last entry is `at_least` or later.
///
/// # Errors
/// [`Error::Snapshot`] when that node has none to give, or did not send it whole.
pub async fn read_snapshot(
    peers: &Peers,
    member: &LeaderHint,
    at_least: LogIndex,
    path: &Path,
) -> Result<(), Error> {
    let node = member.node;
    let failed = |reason: String| Error::Snapshot { node, reason };
    let mut wire = peers.connect(node, &member.address).map_err(failed)?;
    let asked = wire.read_snapshot(wire::ReadSnapshotRequest { at_least: at_least.0 });
    let asked = tokio::time::timeout(limits::INSTALL_MAX, asked).await;
    let parts = asked.map_err(|_elapsed| failed("it did not answer in time".to_owned()))?;
    let parts = parts.map_err(|status| failed(status.message().to_owned()))?.into_inner();
    let written = write(parts, path).await;
    written.map_err(|status| failed(status.message().to_owned()))
}

async fn write(mut parts: Streaming<wire::SnapshotPart>, path: &Path) -> Result<(), Status> {
    let unwritable =
        |error: std::io::Error| Status::unavailable(format!("it is not written: {error}"));
    let mut file = File::create(path).await.map_err(unwritable)?;
    let (mut written, mut bytes) = (0, None);
    loop {
        let part = tokio::time::timeout(limits::PART_MAX, parts.next()).await;
        let part = part.map_err(|_elapsed| Status::deadline_exceeded("a part did not arrive"))?;
        let Some(part) = part.transpose()? else { break };
        let offered = part.offer.as_ref().map(|offer| offer.bytes);
        let end = bytes.or(offered).ok_or_else(|| Status::aborted("it does not say its length"))?;
        if limits::SNAPSHOT_BYTES_MAX < end {
            return Err(Status::aborted("it is longer than a snapshot can be"));
        }
        bytes = Some(end);
        write_part(&mut file, &part, &mut written, end).await?;
    }
    file.sync_all().await.map_err(unwritable)?;
    match Some(written) == bytes {
        true => Ok(()),
        false => Err(Status::aborted(format!("it ended after {written} bytes"))),
    }
}
