//! `resource`: too little processor or memory.

use super::{Done, Undo, Undone};
use crate::cgroup::Controller;
use crate::command::sleep;
use crate::error::Error;
use crate::fault::Observation;
use crate::limits;
use crate::mode::Mode;
use crate::world::{NodeId, World};

/// Microseconds of processor time in each tenth of a second: five of a hundred.
const QUOTA_US: &str = "5000";
/// A node gets the first of so many steps above what it holds itself that the kernel can bring it down to.
const STEP_BYTES: u64 = 256 << 10;
const STEPS_MAX: u64 = 1_024;

const QUOTA_FILE: &str = "cpu.cfs_quota_us";
const LIMIT_FILE: &str = "memory.limit_in_bytes";

impl World {
    pub(super) fn install_on_resources(&mut self, mode: Mode) -> Result<Done, Error> {
        let is_leader = self.prng.one_in(2);
        let node = self.target(mode, is_leader)?;
        match mode {
            Mode::ResourceCpu => self.install_short_cpu(node),
            _ => self.install_short_memory(node),
        }
    }

    fn throttled(&self, node: NodeId) -> Result<u64, Error> {
        self.node(node).groups.number(Controller::Cpu, "cpu.stat", "nr_throttled ")
    }

    fn install_short_cpu(&mut self, node: NodeId) -> Result<Done, Error> {
        let before = self.throttled(node)?;
        self.node(node).groups.set(Controller::Cpu, QUOTA_FILE, QUOTA_US)?;
        let begun = self.now();
        while self.throttled(node)? == before && self.now().saturating_sub(begun) < limits::EFFECT {
            sleep(limits::LOOK);
        }
        Ok(Done {
            nodes: vec![node],
            detail: format!("{node} has a twentieth of a processor"),
            observation: self.observe_cpu(node, before)?,
            undo: Undo::Cpu { node, before },
        })
    }

    pub(super) fn observe_cpu(&self, node: NodeId, before: u64) -> Result<Observation, Error> {
        let times = self.throttled(node)?.saturating_sub(before);
        Ok(Observation::of(times > 0, format!("the kernel throttled {node} {times} times")))
    }

    pub(super) fn undo_cpu(&mut self, node: NodeId) -> Result<Undone, Error> {
        self.node(node).groups.set(Controller::Cpu, QUOTA_FILE, "-1")?;
        Ok(Undone::of(format!("{node} has the whole processor")))
    }

    fn refusals(&self, node: NodeId) -> Result<u64, Error> {
        self.node(node).groups.number(Controller::Memory, "memory.failcnt", "")
    }

    fn install_short_memory(&mut self, node: NodeId) -> Result<Done, Error> {
        let before = self.refusals(node)?;
        let groups = &self.node(node).groups;
        // What the node itself holds; its page cache can be taken from it.
        let held = groups.number(Controller::Memory, "memory.stat", "rss ")?;
        let (mut limit, mut set) = (0, Ok(()));
        for step in 0..STEPS_MAX {
            limit = held + step * STEP_BYTES;
            set = groups.set(Controller::Memory, LIMIT_FILE, &limit.to_string());
            if set.is_ok() {
                break;
            }
        }
        set?;
        sleep(limits::EFFECT / 4);
        Ok(Done {
            nodes: vec![node],
            detail: format!("{node} holds {held} bytes and may hold {limit}, with its page cache"),
            observation: self.observe_memory(node, before)?,
            undo: Undo::Memory { node, before },
        })
    }

    pub(super) fn observe_memory(&self, node: NodeId, before: u64) -> Result<Observation, Error> {
        let times = self.refusals(node)?.saturating_sub(before);
        let killed =
            self.node(node).groups.number(Controller::Memory, "memory.oom_control", "oom_kill ");
        let killed = killed.unwrap_or(0);
        let how =
            format!("{node} was refused memory {times} times, and killed {killed} times so far");
        Ok(Observation::of(times > 0, how))
    }

    pub(super) fn undo_memory(&mut self, node: NodeId) -> Result<Undone, Error> {
        self.node(node).groups.set(Controller::Memory, LIMIT_FILE, "-1")?;
        if self.node_mut(node).is_running() || self.member_id(node).is_none() {
            return Ok(Undone::of(format!("{node} has all memory, and had not ended")));
        }
        let started = self.start_or_say(&[node])?;
        Ok(Undone::of(format!("{node} has all memory; it had ended; {started}")))
    }
}
