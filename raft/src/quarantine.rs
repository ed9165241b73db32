//! A node whose state is not to be believed: it takes entries and answers nothing from its state.
//!
//! It must not stop the log: what it has synced counts for the quorum, and is as good as anyone's. Invariant: a node in
//! quarantine grants no vote, calls no election, proposes nothing and answers no read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::applier::AppliedState;
use crate::checkpoints::Divergence;
use crate::error::Error;
use crate::node::RaftNode;
use alluvium_types::LogIndex;

/// Whether a node is in quarantine. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quarantine(Arc<AtomicBool>);

impl Quarantine {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl RaftNode {
    /// Puts this node into quarantine until it is started anew with a state that can be believed.
    ///
    /// A leader gives up: without its heartbeats the others elect another one.
    pub fn quarantine(&self) {
        self.quarantine.set();
        self.raft.runtime_config().elect(false);
        self.raft.runtime_config().heartbeat(false);
    }

    /// Says whether this node is in quarantine.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.quarantine.is_set()
    }

    /// Returns whether this replica was found to differ from the others, as that changes.
    #[must_use]
    pub fn divergence(&self) -> watch::Receiver<Option<Divergence>> {
        self.checkpoints.divergence()
    }

    /// Returns the digest at the newest checkpoint that was applied here, as that changes.
    #[must_use]
    pub fn checkpoint(&self) -> watch::Receiver<Option<AppliedState>> {
        self.checkpoints.newest()
    }

    /// Returns the newest checkpoint at which this replica was found equal to the majority since it started.
    #[must_use]
    pub fn agreed_at(&self) -> Option<LogIndex> {
        self.checkpoints.agreed()
    }

    pub(crate) fn check_trusted(&self) -> Result<(), Error> {
        match self.quarantine.is_set() {
            true => Err(Error::Quarantined),
            false => Ok(()),
        }
    }
}
