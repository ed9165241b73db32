//! `upgrade`: nodes restarted one after the other, with another program where there is one.

use super::{Done, Undo, Undone, majority, names};
use crate::command::sleep;
use crate::error::Error;
use crate::fault::Observation;
use crate::limits;
use crate::mode::Mode;
use crate::node::Version;
use crate::world::{NodeId, World};

impl World {
    pub(super) fn install_upgrade(&mut self, mode: Mode) -> Result<Done, Error> {
        let has_previous = self.config.previous.is_some();
        if mode == Mode::UpgradeRollback && !has_previous {
            let reason = "no program of the version before was given".to_owned();
            return Err(Error::NotOffered { mode, reason });
        }
        let (leader, mut nodes) = self.cast(mode)?;
        nodes.push(leader);
        if !has_previous {
            let observation = self.roll(&nodes, Version::Current)?;
            return Ok(Done {
                detail: format!("a rolling restart with the same program: {}", names(&nodes)),
                observation,
                undo: Undo::Nothing,
                nodes,
            });
        }
        // A roll leaves a cluster of both versions until it is healed; a rollback takes everybody back.
        let back = match mode {
            Mode::UpgradeRollback => nodes,
            _ => nodes.split_off(majority(nodes.len())),
        };
        let observation = self.roll(&back, Version::Previous)?;
        Ok(Done {
            detail: format!("the version before runs at {}", names(&back)),
            observation,
            undo: Undo::Forward(back.clone()),
            nodes: back,
        })
    }

    /// Restarts nodes as docs/operations/cluster.md says: the next one when the last one has caught up.
    fn roll(&mut self, nodes: &[NodeId], version: Version) -> Result<Observation, Error> {
        let (mut seen, mut found) = (true, Vec::new());
        for node in nodes {
            let before = self.node(*node).process.as_ref().map(|process| process.pid());
            if self.node_mut(*node).is_running() {
                self.stop(*node)?;
            }
            self.node_mut(*node).version = version;
            self.start(*node)?;
            self.wait_until_caught_up(*node)?;
            let after = self.node(*node).process.as_ref().map(|process| process.pid());
            // The kernel says what runs there.
            let program = after.map(|pid| std::fs::read_link(format!("/proc/{pid}/exe")));
            let program = program.and_then(Result::ok).unwrap_or_default();
            let expected = match (version, &self.config.previous) {
                (Version::Previous, Some(previous)) => previous,
                (Version::Previous | Version::Current, _) => &self.config.binary,
            };
            seen &= before != after && expected.canonicalize().is_ok_and(|real| real == program);
            let (before, after) = (before.unwrap_or(0), after.unwrap_or(0));
            found.push(format!("{node} was process {before}, is {after} of {}", program.display()));
        }
        Ok(Observation::of(seen, found.join("; ")))
    }

    fn wait_until_caught_up(&mut self, node: NodeId) -> Result<(), Error> {
        let begun = self.now();
        loop {
            let id = self.member_id(node);
            let members = self.members().unwrap_or_default();
            let member = members.iter().find(|member| Some(member.member) == id);
            if member.is_some_and(|one| one.votes && one.behind.is_some_and(|behind| behind < 64)) {
                return Ok(());
            }
            if self.now().saturating_sub(begun) > limits::MEMBERSHIP {
                return Err(self.too_late(&format!("{node} to catch up"), limits::MEMBERSHIP));
            }
            sleep(limits::ASK);
        }
    }

    pub(super) fn undo_rollback(&mut self, nodes: &[NodeId]) -> Result<Undone, Error> {
        let mut members = nodes.to_vec();
        members.retain(|node| self.member_id(*node).is_some());
        let seen = self.roll(&members, Version::Current)?;
        Ok(Undone::of(format!("rolled forward, {seen}")))
    }
}
