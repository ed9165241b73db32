//! The digests of this replica's state at checkpoints, and what became of comparing them.
//!
//! A point is an entry after which every replica notes its digest; a later entry says which digest a majority of the
//! voters had there. It must not decide who is right: the log does. Invariant: a digest is noted only for a state that
//! has exactly the entries up to its point, whatever batches they were applied in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_state_machine::StateDigest;
use alluvium_types::{Checkpoint, LogIndex};
use tokio::sync::watch;

use crate::applier::AppliedState;
use crate::limits::CHECKPOINTS_KEPT;
use crate::quarantine::Quarantine;

/// This replica's state is not that of the majority, or nobody can tell whose is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Divergence {
    /// The point, and the digest that this replica had there.
    pub own: AppliedState,
    /// The digest of the majority; nothing when no majority had the same.
    pub agreed: Option<[u8; 32]>,
    /// The entry that says so.
    pub found_at: LogIndex,
}

/// What is known of checkpoints. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints {
    // Written by apply, read by it and by the leader's comparison; held for a list operation only.
    points: Arc<Mutex<VecDeque<AppliedState>>>,
    newest: watch::Sender<Option<AppliedState>>,
    agreed: watch::Sender<Option<LogIndex>>,
    divergence: watch::Sender<Option<Divergence>>,
    quarantine: Quarantine,
}

impl Checkpoints {
    pub(crate) fn new(quarantine: Quarantine) -> Self {
        Self {
            quarantine,
            points: Arc::default(),
            newest: watch::Sender::new(None),
            agreed: watch::Sender::new(None),
            divergence: watch::Sender::new(None),
        }
    }

    /// Takes note of a checkpoint that was applied last.
    pub(crate) fn applied(&self, checkpoint: Checkpoint, index: LogIndex, digest: StateDigest) {
        let (point, agreed) = match checkpoint {
            Checkpoint::Point => return self.note(AppliedState { index, digest }),
            Checkpoint::Agreed { point, digest } => (point, Some(digest)),
            Checkpoint::Disputed { point } => (point, None),
        };
        let Some(own) = self.at(point) else {
            // It started or was restored since: the next point is compared.
            return;
        };
        if agreed == Some(own.digest.to_bytes()) {
            self.agreed.send_replace(Some(point));
            return;
        }
        let divergence = Divergence { own, agreed, found_at: index };
        tracing::error!(
            point = %own.index,
            own = %own.digest,
            "the state of this replica is not that of the majority"
        );
        // At once: no read may be answered from here on.
        self.quarantine.set();
        self.divergence.send_modify(|first| {
            first.get_or_insert(divergence);
        });
    }

    fn note(&self, point: AppliedState) {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        points.push_back(point);
        if CHECKPOINTS_KEPT < points.len() {
            points.pop_front();
        }
        drop(points);
        self.newest.send_replace(Some(point));
    }

    fn at(&self, point: LogIndex) -> Option<AppliedState> {
        let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        points.iter().find(|noted| noted.index == point).copied()
    }

    /// Forgets what the state was: it is another one now.
    pub(crate) fn forget(&self) {
        self.points.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.newest.send_replace(None);
    }

    /// Returns the digest at the newest point that was applied here.
    pub(crate) fn newest(&self) -> watch::Receiver<Option<AppliedState>> {
        self.newest.subscribe()
    }

    /// Returns the newest point at which this replica had the digest of the majority.
    pub(crate) fn agreed(&self) -> Option<LogIndex> {
        *self.agreed.borrow()
    }

    /// Returns whether this replica was found to differ.
    pub(crate) fn divergence(&self) -> watch::Receiver<Option<Divergence>> {
        self.divergence.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> StateDigest {
        StateDigest::from_bytes([byte; 32])
    }

    #[test]
    fn a_replica_differs_when_a_majority_had_another_digest_or_none_had_one() {
        let checkpoints = Checkpoints::new(Quarantine::default());
        checkpoints.applied(Checkpoint::Point, LogIndex(5), digest(1));
        let newest = Some(AppliedState { index: LogIndex(5), digest: digest(1) });
        assert_eq!(*checkpoints.newest().borrow(), newest);
        let agreed = |byte| Checkpoint::Agreed { point: LogIndex(5), digest: [byte; 32] };
        checkpoints.applied(agreed(1), LogIndex(6), digest(2));
        assert_eq!(checkpoints.agreed(), Some(LogIndex(5)));
        assert_eq!(*checkpoints.divergence().borrow(), None);
        checkpoints.applied(agreed(9), LogIndex(7), digest(2));
        checkpoints.applied(Checkpoint::Disputed { point: LogIndex(5) }, LogIndex(8), digest(2));
        let found = checkpoints.divergence().borrow().expect("it differs");
        assert_eq!(
            (found.found_at, found.agreed),
            (LogIndex(7), Some([9; 32])),
            "the first counts"
        );
    }

    #[test]
    fn a_point_that_was_not_seen_or_is_forgotten_proves_nothing() {
        let checkpoints = Checkpoints::new(Quarantine::default());
        let disputed = |point| Checkpoint::Disputed { point: LogIndex(point) };
        checkpoints.applied(disputed(5), LogIndex(6), digest(2));
        checkpoints.applied(Checkpoint::Point, LogIndex(7), digest(1));
        checkpoints.forget();
        checkpoints.applied(disputed(7), LogIndex(8), digest(2));
        assert_eq!(*checkpoints.divergence().borrow(), None);
        assert_eq!(*checkpoints.newest().borrow(), None);
        for index in 9..9 + CHECKPOINTS_KEPT as u64 + 1 {
            checkpoints.applied(Checkpoint::Point, LogIndex(index), digest(1));
        }
        checkpoints.applied(disputed(9), LogIndex(100), digest(2));
        assert_eq!(*checkpoints.divergence().borrow(), None, "too far back");
        checkpoints.applied(disputed(10), LogIndex(101), digest(2));
        assert!(checkpoints.divergence().borrow().is_some());
    }
}
