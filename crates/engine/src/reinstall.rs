//! Giving a node that is in quarantine the state of another one, before it starts.
//!
//! The log is kept: what this node has synced still counts for the quorum. The state that is not to be believed, and the
//! snapshots that were made of it, are kept aside for whoever looks into it. It must not trust what it reads: a snapshot
//! is checked against its digest. Invariant: a crash at any step leaves a directory whose next start does it again.

use std::path::Path;
use std::time::Duration;

use alluvium_metastore::{OpenOptions, RocksStore};
use alluvium_peer::Peers;
use alluvium_raft::LeaderHint;
use alluvium_state_machine::MetaStore;
use alluvium_stdx::durable;
use alluvium_types::LogIndex;

use crate::dir::DataDir;
use crate::jobs::error_chain;
use crate::tasks::blocking;
use crate::{Error, node::Node};

/// Where a snapshot is received: removed by a start that does not want it.
const RECEIVING: &str = "reinstall.tmp";
/// Rounds over all members before it is given up.
const ROUNDS_MAX: u32 = 60;
const ROUND_AGAIN: Duration = Duration::from_millis(500);

/// What a node does when its state is found to differ from that of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reinstall {
    /// It stays in quarantine until somebody says [`Node::reinstall`].
    ByHand,
    /// It asks to be opened anew, up to three times in the life of its directory; more often it has another fault.
    #[default]
    Automatic,
}

impl Node {
    /// Asks for this node to be given the state of another member. The node stops, [`Node::stopped`] says
    /// [`Error::Reopen`], and opening its directory anew does it.
    ///
    /// # Errors
    /// [`Error::NotInQuarantine`]; [`Error::DirectoryUnusable`] when the wish cannot be written down.
    pub async fn reinstall(&self) -> Result<(), Error> {
        if !self.raft().is_quarantined() {
            return Err(Error::NotInQuarantine);
        }
        self.dir().want_reinstall()?;
        tracing::warn!("this node will be given the state of another one when it is opened anew");
        self.ask_to_reopen();
        Ok(())
    }
}

/// Gives the node that lives in `dir` the state of a member, if that was asked for.
pub(crate) async fn run_if_wanted(dir: &DataDir, peers: Option<&Peers>) -> Result<(), Error> {
    if !dir.wants_reinstall() {
        return Ok(());
    }
    let peers = peers.ok_or(Error::NoPeerPort)?;
    let (others, applied) = others_of(dir)?;
    let path = dir.snapshots().join(RECEIVING);
    fetch(peers, &others, applied, &path).await?;
    let aside = dir.evidence()?;
    let (snapshots, old) = (dir.snapshots(), aside.clone());
    let replace = move || alluvium_raft::replace_snapshots(&snapshots, &path, &old);
    let installed = blocking(move || Ok::<_, Error>(replace())).await?;
    let installed = installed.map_err(|fault| Error::Reinstall { reason: error_chain(&fault) })?;
    set_aside(&dir.metadata(), &aside.join("meta"))?;
    dir.end_quarantine(&aside)?;
    let applied = installed.applied.map_or(LogIndex(0), |applied| applied.index);
    tracing::warn!(%applied, kept_at = %aside.display(), "the state was replaced by that of a peer");
    Ok(())
}

/// Returns the other members and what was applied here, as the state that is not believed says: who belongs to the
/// cluster is in the log's own entries, and no command changes it.
fn others_of(dir: &DataDir) -> Result<(Vec<LeaderHint>, LogIndex), Error> {
    let store = RocksStore::open(&dir.metadata(), OpenOptions::standard())?;
    let raft = store.raft();
    let members = alluvium_raft::members_of(&raft)
        .map_err(|fault| Error::Reinstall { reason: error_chain(&fault) })?;
    let own = dir.identity().node_id;
    let others = members.into_iter().filter(|member| member.node != own).collect();
    Ok((others, raft.applied.map_or(LogIndex(0), |applied| applied.index)))
}

async fn fetch(
    peers: &Peers,
    others: &[LeaderHint],
    applied: LogIndex,
    path: &Path,
) -> Result<(), Error> {
    let mut reason = "it has no other member".to_owned();
    for _round in 0..ROUNDS_MAX {
        for other in others {
            match alluvium_peer::read_snapshot(peers, other, applied, path).await {
                Ok(()) => return Ok(()),
                Err(error) => reason = error_chain(&error),
            }
        }
        tokio::time::sleep(ROUND_AGAIN).await;
    }
    Err(Error::Reinstall { reason })
}

fn set_aside(path: &Path, aside: &Path) -> Result<(), Error> {
    let failed = |source| Error::DirectoryUnusable { path: path.to_owned(), source };
    match path.try_exists().map_err(failed)? {
        true => durable::rename(path, aside).map_err(failed),
        // A crash came behind this step.
        false => Ok(()),
    }
}
