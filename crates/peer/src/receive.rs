//! Receiving a snapshot: part by part into a file, going on after a break where it ended.
//!
//! It must not believe what it received: the raft crate checks the whole before it is installed. Invariant: one
//! snapshot at a time, and a part is written only behind the bytes before it.

use std::path::PathBuf;

use alluvium_proto::peer::v1 as wire;
use alluvium_raft::{RaftNode, ReceivedSnapshot, Vote};
use alluvium_stdx::durable;
use futures::{Stream, StreamExt};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;
use tonic::Status;

use crate::service::{malformed, refused};
use crate::{convert, limits};

/// The one place where a snapshot is received.
#[derive(Debug)]
pub(crate) struct Receiver {
    node: RaftNode,
    // Held while a snapshot is received and installed.
    busy: Mutex<()>,
}

/// A snapshot that is announced.
struct Announced {
    vote: Vote,
    last: alluvium_raft::LogId,
    membership: Vec<u8>,
    bytes: u64,
    path: PathBuf,
}

impl Receiver {
    pub(crate) fn new(node: RaftNode) -> Self {
        Self { node, busy: Mutex::new(()) }
    }

    /// Says how much of a snapshot is here.
    pub(crate) async fn offered(&self, offer: wire::SnapshotOffer) -> Result<u64, Status> {
        let _busy = self.busy.try_lock().map_err(|_held| busy())?;
        let announced = self.announced(offer).await?;
        have(&announced).await
    }

    /// Takes the rest of a snapshot and installs it.
    pub(crate) async fn receive(
        &self,
        mut parts: impl Stream<Item = Result<wire::SnapshotPart, Status>> + Unpin,
    ) -> Result<Vote, Status> {
        let _busy = self.busy.try_lock().map_err(|_held| busy())?;
        let mut first = next_part(&mut parts).await?.ok_or_else(|| cut_off(0))?;
        let offer = first.offer.take().ok_or_else(|| malformed(&"the first part has no offer"))?;
        let announced = self.announced(offer).await?;
        let have = have(&announced).await?;
        let file = OpenOptions::new().create(true).append(true).open(&announced.path).await;
        let mut file = file.map_err(|error| unwritable(&error))?;
        let mut written = have;
        let mut part = Some(first);
        while let Some(current) = part {
            write_part(&mut file, &current, &mut written, announced.bytes).await?;
            part = next_part(&mut parts).await?;
        }
        file.sync_all().await.map_err(|error| unwritable(&error))?;
        if written != announced.bytes {
            return Err(cut_off(written));
        }
        self.install(announced).await
    }

    async fn install(&self, announced: Announced) -> Result<Vote, Status> {
        // The call may be dropped while consensus goes on with the file, and the next offer removes what is received:
        // from here on it has a name that no offer touches, and that the next start removes.
        let path = announced.path.with_extension("installing.tmp");
        durable::rename(&announced.path, &path).map_err(|error| unwritable(&error))?;
        let installed = self
            .node
            .install(ReceivedSnapshot {
                vote: announced.vote,
                last: announced.last,
                membership: announced.membership,
                path: path.clone(),
                bytes: announced.bytes,
            })
            .await;
        // It became a snapshot, or was not needed, or is damaged: it is not received further in any case.
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a received snapshot stays");
            }
            Ok(()) | Err(_) => {}
        }
        installed.map_err(|error| refused(&error))
    }

    async fn announced(&self, offer: wire::SnapshotOffer) -> Result<Announced, Status> {
        let last = offer.last.ok_or_else(|| malformed(&"a snapshot without a last entry"))?;
        let is_digest =
            offer.digest.len() == 64 && offer.digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest || limits::SNAPSHOT_BYTES_MAX < offer.bytes {
            return Err(malformed(&"a snapshot without a digest or beyond the limit of length"));
        }
        let wire::Position { term, leader, index } = last;
        let name = format!("{index:020}-{term}-{leader}-{}-{}", offer.bytes, offer.digest);
        let path = self.node.receiving_path(&name).await.map_err(|error| refused(&error))?;
        Ok(Announced {
            vote: convert::vote(offer.vote).map_err(|error| malformed(&error))?,
            last: convert::log_id(&last),
            membership: offer.membership.into(),
            bytes: offer.bytes,
            path,
        })
    }
}

async fn have(announced: &Announced) -> Result<u64, Status> {
    match tokio::fs::metadata(&announced.path).await {
        // Longer than announced: not what it says it is.
        Ok(metadata) if announced.bytes < metadata.len() => {
            let emptied = File::create(&announced.path).await;
            emptied.map(|_file| 0).map_err(|error| unwritable(&error))
        }
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(unwritable(&error)),
    }
}

async fn next_part(
    parts: &mut (impl Stream<Item = Result<wire::SnapshotPart, Status>> + Unpin),
) -> Result<Option<wire::SnapshotPart>, Status> {
    let part = tokio::time::timeout(limits::PART_MAX, parts.next()).await;
    part.map_err(|_elapsed| Status::deadline_exceeded("the next part did not arrive"))?.transpose()
}

pub(crate) async fn write_part(
    file: &mut File,
    part: &wire::SnapshotPart,
    written: &mut u64,
    end: u64,
) -> Result<(), Status> {
    if part.offset != *written || end - *written < part.content.len() as u64 {
        return Err(malformed(&format_args!("a part at {} after {written} of {end}", part.offset)));
    }
    if crc32c::crc32c(&part.content) != part.crc32c {
        return Err(Status::data_loss("a part of the snapshot was damaged on its way"));
    }
    file.write_all(&part.content).await.map_err(|error| unwritable(&error))?;
    *written += part.content.len() as u64;
    Ok(())
}

fn busy() -> Status {
    Status::unavailable("another snapshot is being received")
}

fn cut_off(written: u64) -> Status {
    Status::aborted(format!("the snapshot ended after {written} bytes"))
}

fn unwritable(error: &std::io::Error) -> Status {
    Status::unavailable(format!("the snapshot cannot be written here: {error}"))
}
