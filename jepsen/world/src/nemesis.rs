//! Installs faults, watches what they do, and undoes them.
//!
//! Must not call a fault observed because a call succeeded: something else has to show it. Invariant: whatever is in
//! place is in `World::active` with what undoes it.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a file does the modes of the families that `install` gives it"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

mod bitflip;
mod calls;
mod clocks;
mod device;
mod disks;
mod links;
mod membership;
mod objstore;
mod processes;
mod resources;
mod served;
mod strace;
mod upgrade;
mod wal;

pub(crate) use bitflip::every_file;
use calls::After;
use strace::Tracer;

use crate::error::Error;
use crate::fault::{FaultId, Healed, Installed, Observation};
use crate::limits;
use crate::mode::{Family, Mode};
use crate::served::Counters as Tally;
use crate::shim::{Dial, Reading, Trap};
use crate::store::Met;
use crate::wire::{Counters, Link, Rule};
use crate::world::{NodeId, World};

/// A fault that is in place.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) installed: Installed,
    pub(crate) undo: Undo,
}

/// How a fault is undone, and what shows that it had an effect.
#[derive(Debug)]
pub(crate) enum Undo {
    /// It was over when it was installed.
    Nothing,
    /// Nodes that do not run are started.
    Start(Vec<NodeId>),
    Resume(NodeId),
    /// Links get their rules back; the counters of before show what was done.
    Links {
        links: Vec<Link>,
        rule: Rule,
        before: BTreeMap<Link, Counters>,
    },
    /// Calls that are to be caught, or were.
    Calls {
        node: NodeId,
        trap: Trap,
        before: u64,
        after: After,
    },
    /// The same, by strace.
    Trace {
        node: NodeId,
        tracer: Tracer,
        after: After,
    },
    /// A device that fails.
    Device(NodeId),
    /// A served disk whose reads fail, or that stalls.
    Served {
        node: NodeId,
        before: Tally,
    },
    /// A disk that is full.
    Space(NodeId),
    /// A disk that is throttled, by the name that its device had.
    Throttle {
        node: NodeId,
        device: String,
    },
    /// Clocks that go wrong.
    Clocks {
        nodes: Vec<NodeId>,
        dial: Dial,
        before: BTreeMap<NodeId, Reading>,
    },
    Cpu {
        node: NodeId,
        before: u64,
    },
    Memory {
        node: NodeId,
        before: u64,
    },
    /// A data file that a peer has whole.
    DataFile {
        node: NodeId,
        path: PathBuf,
    },
    /// A store that does something wrong; the counters of before show what was met.
    Store {
        before: Met,
    },
    /// An object of the store that is damaged.
    Object,
    /// A member that came is to go again.
    Shrink(NodeId),
    /// A member that went is to come again.
    Grow(NodeId),
    /// Nodes that run the version before.
    Forward(Vec<NodeId>),
}

impl Undo {
    /// Returns when it is undone among others: the smaller, the earlier.
    const fn turn(&self) -> u8 {
        match self {
            Self::Links { .. } | Self::Resume(_) | Self::Store { .. } | Self::Object => 0,
            Self::Nothing
            | Self::Space(_)
            | Self::Served { .. }
            | Self::Throttle { .. }
            | Self::Clocks { .. }
            | Self::Cpu { .. }
            | Self::Memory { .. } => 1,
            Self::Start(_) => 2,
            Self::Device(_) | Self::Calls { .. } | Self::Trace { .. } | Self::DataFile { .. } => 3,
            Self::Shrink(_) | Self::Grow(_) | Self::Forward(_) => 4,
        }
    }
}

/// What was installed, before it has its times.
pub(crate) struct Done {
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) detail: String,
    pub(crate) observation: Observation,
    pub(crate) undo: Undo,
}

/// What was undone.
pub(crate) struct Undone {
    pub(crate) detail: String,
    pub(crate) broken: Vec<String>,
}

impl Undone {
    pub(crate) fn of(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), broken: Vec::new() }
    }
}

impl World {
    /// Does a fault, or puts it in place until it is healed.
    ///
    /// # Errors
    /// [`Error::NotOffered`] and [`Error::NotNow`] are skips; others are faults of the harness, or of the product where
    /// the fault is an operator's procedure that must succeed (`membership`, `upgrade`).
    pub fn install(&mut self, mode: Mode) -> Result<Installed, Error> {
        // An operator changes a cluster that is well; and what a call that timed out has done is not known here.
        let is_procedure = matches!(mode.family(), Family::Membership | Family::Upgrade);
        if is_procedure && !self.is_well() {
            return Err(not_now(mode, "another fault is in place, or a node is down"));
        }
        let begun_ns = self.now_ns();
        self.happened(None, format!("{mode} begins"));
        let done = match mode.family() {
            Family::Kill | Family::Pause | Family::Powercut => self.install_on_processes(mode),
            Family::Partition | Family::Wire => self.install_on_links(mode),
            Family::Bitflip => self.install_bitflip(mode),
            Family::FsyncFail | Family::FsyncLie | Family::Eio => self.install_on_calls(mode),
            Family::Strace => self.install_strace(mode),
            Family::Device if mode.needs_served_disks() => self.install_on_served(mode),
            Family::Device => self.install_failing_device(mode),
            Family::Enospc | Family::Slowdisk => self.install_on_disk(mode),
            Family::Clock => self.install_on_clocks(mode),
            Family::Membership => self.install_membership(mode),
            Family::Upgrade => self.install_upgrade(mode),
            Family::Resource => self.install_on_resources(mode),
            Family::Objstore => self.install_on_store(mode),
        };
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                self.happened(None, format!("{mode} was not installed: {error}"));
                return Err(error);
            }
        };
        self.done.insert(mode.family());
        let id = FaultId(self.next_fault);
        self.next_fault += 1;
        let installed = Installed {
            id,
            mode,
            nodes: done.nodes,
            detail: done.detail,
            observation: done.observation,
            begun_ns,
            installed_ns: self.now_ns(),
        };
        let said = format!("{mode} is in place: {}; {}", installed.detail, installed.observation);
        self.happened(None, said);
        self.active.insert(id, Active { installed: installed.clone(), undo: done.undo });
        Ok(installed)
    }

    /// Looks again whether a fault that is in place has an effect.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn observe(&mut self, installed: &Installed) -> Result<Observation, Error> {
        match self.active.get(&installed.id) {
            Some(active) => self.observation(active),
            None => Ok(installed.observation.clone()),
        }
    }

    /// Returns what is known of a fault now: what was seen at first, or what its counters say since.
    fn observation(&self, active: &Active) -> Result<Observation, Error> {
        let later = match &active.undo {
            Undo::Links { links, before, .. } => {
                self.observe_links(active.installed.mode, links, before)
            }
            Undo::Calls { node, trap, before, .. } => self.observe_calls(*node, *trap, *before)?,
            Undo::Trace { tracer, .. } => strace::observe_trace(tracer),
            Undo::Served { node, before } => {
                self.observe_served(active.installed.mode, *node, *before)
            }
            Undo::Clocks { nodes, dial, before } => self.observe_clocks(nodes, *dial, before)?,
            Undo::Cpu { node, before } => self.observe_cpu(*node, *before)?,
            Undo::Memory { node, before } => self.observe_memory(*node, *before)?,
            Undo::Store { before } => self.observe_store(active.installed.mode, *before),
            Undo::Object => self.observe_object(),
            Undo::Nothing
            | Undo::Start(_)
            | Undo::Resume(_)
            | Undo::Device(_)
            | Undo::Space(_)
            | Undo::Throttle { .. }
            | Undo::DataFile { .. }
            | Undo::Shrink(_)
            | Undo::Grow(_)
            | Undo::Forward(_) => active.installed.observation.clone(),
        };
        Ok(later)
    }

    /// Undoes a fault. Nodes that it ended are started again.
    ///
    /// # Errors
    /// Faults of the harness. A node that does not come back is in the detail, and [`World::converge`] judges it.
    pub fn heal(&mut self, installed: &Installed) -> Result<Healed, Error> {
        let begun_ns = self.now_ns();
        let (id, mode) = (installed.id, installed.mode);
        let Some(active) = self.active.remove(&id) else {
            return Ok(Healed {
                id,
                mode,
                detail: "it was healed before".to_owned(),
                observation: installed.observation.clone(),
                broken: Vec::new(),
                begun_ns,
                healed_ns: begun_ns,
            });
        };
        let observation = self.observation(&active)?;
        let undone = self.undo(mode, active.undo)?;
        self.happened(None, format!("{mode} is healed: {}; {observation}", undone.detail));
        let healed_ns = self.now_ns();
        let (detail, broken) = (undone.detail, undone.broken);
        Ok(Healed { id, mode, detail, observation, broken, begun_ns, healed_ns })
    }

    fn undo(&mut self, mode: Mode, undo: Undo) -> Result<Undone, Error> {
        match undo {
            Undo::Nothing => Ok(Undone::of("nothing was left to undo")),
            Undo::Start(nodes) => self.undo_end(&nodes),
            Undo::Resume(node) if self.node_mut(node).is_running() => {
                self.resume(node)?;
                Ok(Undone::of(format!("{node} was resumed")))
            }
            Undo::Resume(node) => Ok(Undone::of(format!("{node} was ended meanwhile"))),
            Undo::Links { links, .. } => Ok(self.undo_links(&links)),
            Undo::Calls { node, trap, before, after } => self.undo_calls(node, trap, before, after),
            Undo::Trace { node, tracer, after } => self.undo_trace(node, tracer, after),
            Undo::Device(node) => self.undo_device(node),
            Undo::Served { node, .. } => self.undo_served(mode, node),
            Undo::Space(node) => self.undo_space(node),
            Undo::Throttle { node, device } => self.undo_throttle(node, &device),
            Undo::Clocks { nodes, dial, .. } => self.undo_clocks(&nodes, dial),
            Undo::Cpu { node, .. } => self.undo_cpu(node),
            Undo::Memory { node, .. } => self.undo_memory(node),
            Undo::Store { .. } => Ok(self.undo_store()),
            Undo::Object => Ok(self.undo_object()),
            Undo::Shrink(node) | Undo::DataFile { node, .. } if self.member_id(node).is_none() => {
                Ok(Undone::of(format!("{node} was removed meanwhile")))
            }
            Undo::DataFile { node, path } => self.undo_data_file(node, &path),
            Undo::Shrink(node) => {
                let member = self.remove(node)?;
                Ok(Undone::of(format!("member {member} at {node} was removed again")))
            }
            Undo::Grow(node) => {
                let member = self.join(node)?;
                Ok(Undone::of(format!("{node} joined as member {member}")))
            }
            Undo::Forward(nodes) => self.undo_rollback(&nodes),
        }
    }

    /// Undoes every fault that is in place, and returns the final word on each. What keeps nodes apart or slow goes
    /// first: a node that is started, or a change of the members, needs the others.
    ///
    /// # Errors
    /// As [`World::heal`].
    pub fn heal_everything(&mut self) -> Result<Vec<Healed>, Error> {
        let mut healed = Vec::new();
        let next = |active: &BTreeMap<FaultId, Active>| {
            let first = active.values().min_by_key(|one| one.undo.turn());
            first.map(|one| one.installed.clone())
        };
        while let Some(installed) = next(&self.active) {
            healed.push(self.heal(&installed)?);
        }
        Ok(healed)
    }

    /// Whether nothing disturbs the cluster: a member that came or went is no disturbance.
    fn is_well(&mut self) -> bool {
        let is_lasting = |undo: &Undo| {
            matches!(undo, Undo::Nothing | Undo::Shrink(_) | Undo::Grow(_) | Undo::Forward(_))
        };
        self.active.values().all(|active| is_lasting(&active.undo)) && self.all_answer()
    }

    /// Whether every member runs.
    pub(crate) fn all_answer(&mut self) -> bool {
        self.node_ids().into_iter().all(|node| self.node_mut(node).is_answering())
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns the leader and the other members that run, in an order by chance.
    pub(crate) fn cast(&mut self, mode: Mode) -> Result<(NodeId, Vec<NodeId>), Error> {
        let leader =
            self.wait_for_leader(limits::LEADER).map_err(|_none| not_now(mode, "no node leads"))?;
        let mut others = Vec::new();
        for node in self.node_ids() {
            if node != leader && self.node_mut(node).is_answering() {
                others.push(node);
            }
        }
        shuffle(&mut self.prng, &mut others);
        Ok((leader, others))
    }

    /// Returns the leader for a mode of the leader, else a follower.
    pub(crate) fn target(&mut self, mode: Mode, is_leader: bool) -> Result<NodeId, Error> {
        let (leader, others) = self.cast(mode)?;
        match is_leader {
            true => Ok(leader),
            false => others.first().copied().ok_or_else(|| not_now(mode, "no follower runs")),
        }
    }
}

pub(crate) fn not_now(mode: Mode, reason: &str) -> Error {
    Error::NotNow { mode, reason: reason.to_owned() }
}

fn shuffle<T>(prng: &mut alluvium_stdx::Prng, items: &mut [T]) {
    for end in (1..items.len()).rev() {
        let bound = u64::try_from(end).unwrap_or(0) + 1;
        items.swap(end, usize::try_from(prng.below(bound)).unwrap_or(0));
    }
}

/// Returns how many nodes are the smallest majority of `all`.
pub(crate) const fn majority(all: usize) -> usize {
    all / 2 + 1
}

/// Returns the names of nodes for a report.
pub(crate) fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}
