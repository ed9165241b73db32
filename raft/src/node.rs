//! A Raft node: start, propose, read, snapshot, purge, stop.
//!
//! The only way from the engine into consensus. It must not interpret commands. Invariant: a proposal that
//! returned an answer was synced on a quorum and applied here; every other outcome says whether it may have been.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{Either, select};
use openraft::errors::{
    ClientWriteError, Fatal, ForwardToLeader, InitializeError, LinearizableReadError, RaftError,
};
use openraft::impls::ProgressResponder;
use openraft::type_config::alias::LeaderIdOf;
use openraft::{Raft, RaftMetrics, ReadPolicy};
use tokio::sync::{Semaphore, watch};

use alluvium_state_machine::MetaStore;
use alluvium_stdx::invariant;
use alluvium_types::{Entry, EntryKind, LogIndex, Response};
use alluvium_wal::WalHandle;

use crate::alone::Alone;
use crate::applier::{AppliedState, Applier, EffectSender};
use crate::checkpoints::Checkpoints;
use crate::config::RaftConfig;
use crate::error::{Error, Fault, LeaderHint};
use crate::frame::Frame;
use crate::health::Health;
use crate::log_store::{LogStore, STREAM, committed_operation};
use crate::network::{NoPeers, PeerNetwork};
use crate::quarantine::Quarantine;
use crate::recovery;
use crate::snapshots::Snapshots;
use crate::status::Status;
use crate::thread::on_thread;
use crate::type_config::{Address, TypeConfig};

/// That this node leads: its term and its id. Another one, or the same node again, leads under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership(LeaderIdOf<TypeConfig>);

/// A running node. Clones are cheap and share it.
#[derive(Clone)]
pub struct RaftNode {
    pub(crate) raft: Raft<TypeConfig, Applier>,
    pub(crate) wal: WalHandle,
    pub(crate) store: Arc<dyn MetaStore>,
    pub(crate) snapshots: Snapshots,
    pub(crate) health: Health,
    pub(crate) config: Arc<RaftConfig>,
    pub(crate) quarantine: Quarantine,
    applied: watch::Receiver<AppliedState>,
    pub(crate) checkpoints: Checkpoints,
    alone: Alone,
    /// Taken while this node changes who votes.
    pub(crate) changing: Arc<Semaphore>,
    /// Whether everything that was acknowledged before this start is applied.
    is_ready: Arc<AtomicBool>,
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl RaftNode {
    /// Starts a node that has no peers.
    ///
    /// # Errors
    /// As [`RaftNode::start_with_peers`].
    pub async fn start(
        config: RaftConfig,
        wal: WalHandle,
        store: Arc<dyn MetaStore>,
        effects: EffectSender,
    ) -> Result<Self, Error> {
        Self::start_with_peers(config, wal, store, effects, NoPeers).await
    }

    /// Starts a node: restores the state from its snapshot if it trails, checks that the log continues it, and
    /// applies what is known to be committed.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::Poisoned`] when state, snapshots and log do not fit together or cannot be read.
    pub async fn start_with_peers(
        config: RaftConfig,
        wal: WalHandle,
        store: Arc<dyn MetaStore>,
        effects: EffectSender,
        peers: impl PeerNetwork,
    ) -> Result<Self, Error> {
        let openraft_config = config.to_openraft()?;
        let health = Health::new();
        let poisoned = |fault| Error::Poisoned { fault: health.record(fault) };
        let prepared = prepare(&config, &wal, &store).await;
        let snapshots = prepared.map_err(poisoned)?;
        let (node, alone) = (config.node_id, Alone::default());
        let log = LogStore::open(wal.clone(), health.clone(), node, alone.clone());
        let log = log.map_err(poisoned)?;
        let (state, sent) = (Arc::clone(&store), snapshots.clone());
        let entries = wal.reader().clone();
        let quarantine = Quarantine::default();
        let watched = (health.clone(), quarantine.clone());
        let applier = Applier::new(state, sent, entries, effects, watched);
        let (applied, checkpoints) = (applier.applied(), applier.checkpoints());
        let raft = Raft::new(config.node_id, openraft_config, peers, log, applier).await;
        let raft = raft.map_err(|fatal| poisoned(consensus(&fatal)))?;
        let (config, is_ready) = (Arc::new(config), Arc::new(AtomicBool::new(false)));
        let node = Self {
            raft,
            wal,
            store,
            snapshots,
            health,
            quarantine,
            config,
            applied,
            checkpoints,
            alone,
            changing: Arc::new(Semaphore::new(1)),
            is_ready,
        };
        if node.config.is_quarantined {
            node.quarantine();
        }
        node.settle().await?;
        Ok(node)
    }

    /// Makes a cluster of this node alone. Does nothing when it is one already.
    ///
    /// # Errors
    /// [`Error::OtherMembership`] when the node belongs to another cluster; [`Error::Poisoned`],
    /// [`Error::Shutdown`].
    pub async fn initialize_single(&self) -> Result<(), Error> {
        let address = Address { peer: self.config.address.clone() };
        let members = BTreeMap::from([(self.config.node_id, address)]);
        match self.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                match self.is_alone().await? {
                    true => Ok(()),
                    false => Err(Error::OtherMembership),
                }
            }
            Err(RaftError::APIError(InitializeError::NotInMembers(_))) => {
                Err(Error::OtherMembership)
            }
            Err(RaftError::Fatal(fatal)) => Err(self.stopped_error(&fatal)),
        }
    }

    /// Makes a cluster of this node alone, unless it belongs to one already, whatever that is.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Shutdown`].
    pub async fn initialize_if_new(&self) -> Result<(), Error> {
        match self.initialize_single().await {
            Err(Error::OtherMembership) => Ok(()),
            done => done,
        }
    }

    /// Returns where peers reach this node.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.config.address
    }

    /// Waits until a leader is known and everything that may have been acknowledged before this start is applied.
    /// Serve nothing before: it could be older than what was served already.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Shutdown`].
    pub async fn wait_ready(&self) -> Result<(), Error> {
        let led = |metrics: &RaftMetrics<TypeConfig>| metrics.current_leader.is_some();
        let wait = self.raft.wait(None);
        let led = self.unless_failed(wait.metrics(led, "a leader is known")).await?;
        led.map_err(|_stopping| self.why_stopped())?;
        let recovered = self.unless_failed(self.raft.wait_for_recovery(None)).await?;
        let metrics = recovered.map_err(|_stopping| self.why_stopped())?;
        self.wait_applied(LogIndex(metrics.last_applied.map_or(0, |id| id.index))).await?;
        self.is_ready.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Proposes a command and waits until it is applied here.
    ///
    /// # Errors
    /// Nothing was proposed: [`Error::NotACommand`], [`Error::NotLeader`], [`Error::Unavailable`],
    /// [`Error::Poisoned`], [`Error::Shutdown`]. The outcome is unknown: [`Error::Ambiguous`].
    pub async fn propose(&self, entry: Entry) -> Result<Response, Error> {
        self.propose_if(entry, None).await
    }

    /// Proposes a command as [`RaftNode::propose`] does, unless another leadership has begun since: nothing is proposed
    /// then, and the error is [`Error::NotLeader`] or [`Error::Unavailable`].
    ///
    /// # Errors
    /// As [`RaftNode::propose`].
    pub async fn propose_under(
        &self,
        leadership: &Leadership,
        entry: Entry,
    ) -> Result<Response, Error> {
        self.propose_if(entry, Some(leadership)).await
    }

    async fn propose_if(
        &self,
        entry: Entry,
        under: Option<&Leadership>,
    ) -> Result<Response, Error> {
        let frame = match entry.kind() {
            EntryKind::Command => Frame::command(entry),
            EntryKind::Blank | EntryKind::Membership => return Err(Error::NotACommand),
        };
        self.check_running()?;
        self.check_trusted()?;
        let write = async {
            let (responder, answer) = ProgressResponder::complete_only();
            let write = self.raft.write(frame).responder(responder);
            let write = match under {
                Some(Leadership(leader)) => write.with_leader(*leader),
                None => write,
            };
            // Whatever openraft stops on, the entry may be on a disk by then.
            write.await.map_err(|_fatal| Error::Ambiguous)?;
            answer.await.map_err(|_stopped| Error::Ambiguous)
        };
        let written = self.unless_failed(write).await;
        match written.map_err(|_fault| Error::Ambiguous)?? {
            Ok(written) => {
                // What the caller read was linearizable only then.
                let is_under = under.is_none_or(|under| written.log_id.leader_id == under.0);
                invariant!("INV-C3", is_under, "an entry is committed under another leadership");
                let response = written.data.expect("a command's entry has an answer");
                Ok(response)
            }
            Err(ClientWriteError::ForwardToLeader(forward)) => Err(not_leader(forward)),
            // From here on the entry may be on a disk.
            Err(
                ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_),
            ) => Err(Error::Ambiguous),
        }
    }

    /// Returns the leadership that this node has, once it has applied an entry of it.
    ///
    /// Everything that was acknowledged anywhere before this call is then applied here, if this node still leads. It may
    /// not know better: what is read here is linearizable if an entry that is proposed under this leadership afterwards
    /// is committed, because no other leader can have acknowledged anything before that entry then.
    #[must_use]
    pub fn leadership(&self) -> Option<Leadership> {
        self.look(|metrics| {
            let vote = &metrics.vote;
            let is_own = vote.committed && vote.leader_id.node_id == metrics.id;
            let applied = metrics.last_applied.as_ref().map(|applied| applied.leader_id);
            let own = (is_own && metrics.state.is_leader()).then_some(vote.leader_id);
            own.filter(|own| applied == Some(*own)).map(Leadership)
        })
    }

    /// Returns an index at which a read sees every write that was acknowledged anywhere before this call. Its
    /// entries are applied here.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Unavailable`], [`Error::Poisoned`], [`Error::Shutdown`].
    pub async fn read_index(&self) -> Result<LogIndex, Error> {
        self.check_trusted()?;
        if self.is_ready.load(Ordering::SeqCst) && self.alone.is_sure() {
            self.check_running()?;
            return Ok(self.applied.borrow().index);
        }
        match self.unless_failed(self.raft.ensure_linearizable(ReadPolicy::ReadIndex)).await? {
            Ok(read) => {
                let index = LogIndex(read.log_id().index);
                self.wait_applied(index).await?;
                Ok(index)
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(not_leader(forward))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(Error::Unavailable)
            }
            Err(RaftError::Fatal(fatal)) => Err(self.stopped_error(&fatal)),
        }
    }

    /// Returns what was applied last, as it changes.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<AppliedState> {
        self.applied.clone()
    }

    /// Waits until an entry is applied here.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Shutdown`] when it will not be.
    pub async fn wait_applied(&self, index: LogIndex) -> Result<(), Error> {
        let mut applied = self.applied.clone();
        match self.unless_failed(applied.wait_for(|state| index <= state.index)).await? {
            Ok(_) => Ok(()),
            Err(_closed) => Err(self.why_stopped()),
        }
    }

    /// Returns how the node stands.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::new(&self.metrics(), self.health.fault())
    }

    /// Waits until the node stops; returns the fault that ended it, or nothing after a shutdown. After a fault the
    /// process must end: nothing that it has not acknowledged may be.
    pub async fn stopped(&self) -> Option<Arc<Fault>> {
        let over = |metrics: &RaftMetrics<TypeConfig>| metrics.running_state.is_err();
        let wait = self.raft.wait(None);
        let over = std::pin::pin!(wait.metrics(over, "the node stops"));
        let failed = std::pin::pin!(self.health.failed());
        drop(select(over, failed).await);
        // Asked for its effect: a fault that only openraft has told is recorded by it.
        drop(self.why_stopped());
        self.health.fault()
    }

    /// Stops the node, and makes what it applied durable.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when a fault had ended it, or ends it now.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let committed = self.metrics().local_committed;
        drop(self.raft.shutdown().await);
        if let Some(fault) = self.health.fault() {
            return Err(Error::Poisoned { fault });
        }
        if let Some(committed) = committed {
            let written = self.wal.append_durable(vec![committed_operation(&committed)]).await;
            written.map_err(|error| self.poison(Fault::Log(error)))?;
        }
        let store = Arc::clone(&self.store);
        let flushed = on_thread("store-flush", move || store.flush().map_err(Fault::Store)).await;
        flushed.map(drop).map_err(|fault| self.poison(fault))
    }

    pub(crate) fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.look(RaftMetrics::clone)
    }

    /// Looks at openraft's metrics without a copy of them: writes do, each time.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&RaftMetrics<TypeConfig>) -> T) -> T {
        use openraft::async_runtime::watch::WatchReceiver;
        at(&self.raft.metrics().borrow_watched())
    }

    pub(crate) fn check_running(&self) -> Result<(), Error> {
        if let Some(fault) = self.health.fault() {
            return Err(Error::Poisoned { fault });
        }
        match self.look(|metrics| metrics.running_state.clone()) {
            Ok(()) => Ok(()),
            Err(fatal) => Err(self.stopped_error(&fatal)),
        }
    }

    /// Waits for openraft, or for a fault that it may never hear of.
    pub(crate) async fn unless_failed<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let (work, failed) = (std::pin::pin!(work), std::pin::pin!(self.health.failed()));
        // The fault is asked first: a call on openraft that is begun after it, and dropped for it, would leave
        // openraft's handle as it was half way through its end, and the next call would panic.
        match select(failed, work).await {
            Either::Left((fault, _)) => Err(Error::Poisoned { fault }),
            Either::Right((done, _)) => Ok(done),
        }
    }

    pub(crate) fn poison(&self, fault: Fault) -> Error {
        Error::Poisoned { fault: self.health.record(fault) }
    }

    /// Says why openraft no longer works.
    pub(crate) fn stopped_error(&self, fatal: &Fatal<TypeConfig>) -> Error {
        match fatal {
            Fatal::Stopped => match self.health.fault() {
                Some(fault) => Error::Poisoned { fault },
                None => Error::Shutdown,
            },
            // Recorded unless it follows from a fault of ours, which then is the one to tell.
            Fatal::StorageError(_) | Fatal::Panicked => self.poison(consensus(fatal)),
        }
    }

    pub(crate) fn why_stopped(&self) -> Error {
        match &self.metrics().running_state {
            Err(fatal) => self.stopped_error(fatal),
            Ok(()) => self.stopped_error(&Fatal::Stopped),
        }
    }

    async fn is_alone(&self) -> Result<bool, Error> {
        let node = self.config.node_id;
        let known = self.alone.clone();
        let alone = self.raft.with_raft_state(move |state| {
            let membership = state.membership_state.effective().membership();
            known.note(node, membership);
            membership.voter_ids().eq([node])
        });
        alone.await.map_err(|fatal| self.stopped_error(&fatal))
    }

    /// Waits until openraft's metrics show what the log holds, and calls an election that nobody else could win: a
    /// cluster of one need not wait for a timeout.
    async fn settle(&self) -> Result<(), Error> {
        let log = self.wal.state(STREAM).map_err(|error| self.poison(Fault::Log(error)))?;
        let end = log.end().map(|position| position.index);
        let shown = move |metrics: &RaftMetrics<TypeConfig>| end <= metrics.last_log_index;
        let wait = self.raft.wait(None);
        let shown = self.unless_failed(wait.metrics(shown, "the log is known")).await?;
        shown.map_err(|_stopping| self.why_stopped())?;
        if !self.is_alone().await? || self.quarantine.is_set() {
            return Ok(());
        }
        let elected = self.raft.trigger().elect(false).await;
        elected.map_err(|fatal| self.stopped_error(&fatal))
    }
}

/// Opens the snapshots and brings the state in line with them and the log.
async fn prepare(
    config: &RaftConfig,
    wal: &WalHandle,
    store: &Arc<dyn MetaStore>,
) -> Result<Snapshots, Fault> {
    let (dir, wal, store) = (config.snapshots_dir.clone(), wal.clone(), Arc::clone(store));
    on_thread("raft-recover", move || {
        let snapshots = Snapshots::open(&dir)?;
        recovery::reconcile(store.as_ref(), &snapshots, &wal)?;
        Ok(snapshots)
    })
    .await
}

fn consensus(fatal: &Fatal<TypeConfig>) -> Fault {
    Fault::Consensus { reason: fatal.to_string().into_boxed_str() }
}

pub(crate) fn not_leader(forward: ForwardToLeader<TypeConfig>) -> Error {
    match (forward.leader_id, forward.leader_node) {
        (Some(node), Some(address)) => {
            Error::NotLeader { hint: LeaderHint { node, address: address.peer } }
        }
        (Some(_), None) | (None, _) => Error::Unavailable,
    }
}

#[cfg(test)]
mod tests;
