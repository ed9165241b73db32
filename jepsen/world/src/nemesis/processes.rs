//! `kill`, `pause` and `powercut`: processes that end or stop, and disks that forget.

use std::fs;
use std::path::PathBuf;

use super::{Done, Undo, Undone, majority, names};
use crate::command::sleep;
use crate::error::Error;
use crate::fault::Observation;
use crate::limits;
use crate::mode::Mode;
use crate::node::ending;
use crate::world::{NodeId, World};

/// Two files on a disk whose power is cut: one that was synced, and one that was not.
const KEPT: &str = "synced";
const LOST: &str = "unsynced";

impl World {
    pub(super) fn install_on_processes(&mut self, mode: Mode) -> Result<Done, Error> {
        // What takes everybody needs no leader; and a disk whose node has ended forgets what was not synced as well.
        if mode == Mode::PowercutAll {
            let members = self.node_ids();
            return self.install_power_cut(members);
        }
        if mode == Mode::KillAll {
            let mut running = self.node_ids();
            running.retain(|node| self.node_mut(*node).is_running());
            return self.install_kill(running);
        }
        let (leader, others) = self.cast(mode)?;
        let everyone: Vec<NodeId> = std::iter::once(leader).chain(others.iter().copied()).collect();
        let quorum = majority(self.node_ids().len()).min(everyone.len());
        let nodes = match mode {
            Mode::KillLeader | Mode::PauseLeader => vec![leader],
            Mode::KillFollower | Mode::PauseFollower => others.into_iter().take(1).collect(),
            Mode::KillQuorum | Mode::PowercutQuorum => everyone.into_iter().take(quorum).collect(),
            _ => {
                let one = self.prng.pick(&everyone).copied();
                one.into_iter().collect()
            }
        };
        match mode {
            Mode::PauseLeader | Mode::PauseFollower => self.install_pause(&nodes),
            Mode::PowercutOne | Mode::PowercutQuorum => self.install_power_cut(nodes),
            _ => self.install_kill(nodes),
        }
    }

    fn install_kill(&mut self, nodes: Vec<NodeId>) -> Result<Done, Error> {
        // All signals before the first wait: the nodes end together.
        for node in &nodes {
            self.node_mut(*node).running("a kill")?.signal(libc::SIGKILL)?;
        }
        let mut endings = Vec::new();
        for node in &nodes {
            self.kill_if_running(*node)?;
            let process = self.node_mut(*node).process.as_mut();
            if let Some(status) = process.and_then(|process| process.ended()) {
                endings.push(format!("{node} ended by {}", ending(status)));
            }
        }
        let seen = endings.len() == nodes.len();
        Ok(Done {
            detail: format!("SIGKILL to {}", names(&nodes)),
            observation: Observation::of(seen, endings.join(", ")),
            undo: Undo::Start(nodes.clone()),
            nodes,
        })
    }

    fn kill_if_running(&mut self, node: NodeId) -> Result<(), Error> {
        self.node_mut(node).kill().map(drop)
    }

    fn install_pause(&mut self, nodes: &[NodeId]) -> Result<Done, Error> {
        let Some(node) = nodes.first().copied() else { return Err(Error::NoLeader) };
        self.pause(node)?;
        let mut state = None;
        for _ in 0..50 {
            state = self.node(node).process.as_ref().and_then(|process| process.state());
            if state == Some('T') {
                break;
            }
            sleep(limits::LOOK);
        }
        Ok(Done {
            nodes: vec![node],
            detail: format!("SIGSTOP to {node}"),
            observation: Observation::of(state == Some('T'), format!("its state is {state:?}")),
            undo: Undo::Resume(node),
        })
    }

    fn install_power_cut(&mut self, nodes: Vec<NodeId>) -> Result<Done, Error> {
        for node in &nodes {
            self.place_canaries(*node)?;
        }
        self.power_cut(&nodes)?;
        let (mut seen, mut found) = (true, Vec::new());
        for node in &nodes {
            let is_there = |name: &str| self.canary(*node, name).exists();
            let (kept, lost) = (is_there(KEPT), !is_there(LOST));
            seen &= kept && lost;
            found.push(format!("{node} kept what was synced: {kept}, lost what was not: {lost}"));
        }
        Ok(Done {
            detail: format!("ext4 shutdown without a flush, SIGKILL, new mount: {}", names(&nodes)),
            observation: Observation::of(seen, found.join("; ")),
            undo: Undo::Start(nodes.clone()),
            nodes,
        })
    }

    fn canary(&self, node: NodeId, name: &str) -> PathBuf {
        self.node(node).disk.root().join(name)
    }

    fn place_canaries(&self, node: NodeId) -> Result<(), Error> {
        let (kept, lost) = (self.canary(node, KEPT), self.canary(node, LOST));
        let failed = |path: &PathBuf| Error::io(format!("write {}", path.display()));
        if lost.exists() {
            fs::remove_file(&lost).map_err(failed(&lost))?;
        }
        alluvium_stdx::durable::write(&kept, b"kept").map_err(failed(&kept))?;
        #[expect(clippy::disallowed_methods, reason = "that it is not durable is the point")]
        fs::write(&lost, b"lost").map_err(failed(&lost))
    }

    /// Starts what does not run. A node that refuses because of damage is left to [`World::converge`].
    pub(super) fn undo_end(&mut self, nodes: &[NodeId]) -> Result<Undone, Error> {
        let mut down = Vec::new();
        for node in nodes {
            // One that was removed from the cluster meanwhile has nothing to come back to.
            if self.member_id(*node).is_some() && !self.node_mut(*node).is_running() {
                down.push(*node);
            }
        }
        Ok(Undone::of(self.start_or_say(&down)?))
    }

    /// Starts nodes, and says which did not come back and why: [`World::converge`] judges that.
    pub(super) fn start_or_say(&mut self, nodes: &[NodeId]) -> Result<String, Error> {
        match self.start_all(nodes) {
            Ok(()) => Ok(format!("started: {}", names(nodes))),
            Err(Error::DidNotStart { node, status, said }) => {
                Ok(format!("started: {}; but {node} ended ({status}): {said}", names(nodes)))
            }
            Err(error) => Err(error),
        }
    }
}
