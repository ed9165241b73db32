//! How the cluster comes together again after faults.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Convergence, NodeId, Replaced, World};
use crate::command::sleep;
use crate::error::Error;
use crate::limits;

/// What a node says that may be replaced for it: it names damage, or what it lost.
const NAMED_DAMAGE: [&str; 9] = [
    "damage",
    "is missing",
    "CORRUPT",
    "corrupt",
    "lost entries",
    "hold different entries",
    "missing or empty",
    "must carry",
    "does not verify",
];

impl World {
    /// Waits until every member runs and has applied what the leader had committed at the call. A member that ended
    /// is started once; one that refuses because of damage that it names is replaced as docs/operations/cluster.md
    /// says.
    ///
    /// # Errors
    /// [`Error::TooLate`] with the state of each node, [`Error::DidNotStart`] for one that names no damage.
    pub fn converge(&mut self, limit: Duration) -> Result<Convergence, Error> {
        let begun = self.now();
        let (restarted, replaced) = self.bring_up()?;
        let mut target = None;
        loop {
            let statuses = self.statuses();
            let leads = statuses.iter().filter(|(_, one)| one.leader == Some(one.member));
            let leader = leads.max_by_key(|(_, status)| status.term).map(|(_, one)| one.clone());
            let everyone = self.node_ids().len();
            if let Some(leader) = leader {
                let target = *target.get_or_insert(leader.committed);
                let is_there = |(_, one): &&(NodeId, crate::operator::Status)| {
                    one.applied >= target && one.leader == leader.leader && one.term == leader.term
                };
                if statuses.iter().filter(is_there).count() == everyone && self.all_vote() {
                    let took = self.now().saturating_sub(begun);
                    let applied = statuses.iter().map(|(_, one)| one.applied).min().unwrap_or(0);
                    self.happened(None, format!("converged at {applied} after {took:.1?}"));
                    return Ok(Convergence { took, restarted, replaced, applied });
                }
            }
            if self.now().saturating_sub(begun) > limit {
                return Err(self.too_late("every member to be up and caught up", limit));
            }
            sleep(limits::ASK);
        }
    }

    fn all_vote(&mut self) -> bool {
        let members = self.members().unwrap_or_default();
        let voting: BTreeSet<u64> =
            members.iter().filter(|member| member.votes).map(|member| member.member).collect();
        self.node_ids()
            .iter()
            .filter_map(|node| self.member_id(*node))
            .all(|id| voting.contains(&id))
    }

    /// Starts every member that does not run, and replaces those that name damage.
    fn bring_up(&mut self) -> Result<(Vec<NodeId>, Vec<Replaced>), Error> {
        let mut down = Vec::new();
        for node in self.node_ids() {
            if !self.node_mut(node).is_running() {
                down.push(node);
            }
        }
        for node in &down {
            let ended = self.node(*node).process.as_ref().map(crate::node::NodeProcess::last_words);
            let said = ended.unwrap_or_default();
            let last = said.lines().last().unwrap_or_default().to_owned();
            self.happened(Some(*node), format!("does not run and is started; it said: {last}"));
        }
        match self.start_all(&down) {
            Ok(()) => return Ok((down, Vec::new())),
            Err(Error::DidNotStart { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut replaced = Vec::new();
        for node in &down {
            if self.node_mut(*node).is_running() {
                continue;
            }
            let process = self.node(*node).process.as_ref();
            let said = process.map(crate::node::NodeProcess::last_words).unwrap_or_default();
            let reason =
                said.lines().find(|line| NAMED_DAMAGE.iter().any(|sign| line.contains(sign)));
            let Some(because) = reason.map(str::to_owned) else {
                return Err(Error::DidNotStart {
                    node: *node,
                    status: "it names no damage".to_owned(),
                    said,
                });
            };
            replaced.push(self.replace(*node, because)?);
        }
        let restarted = down.into_iter().filter(|node| !replaced.iter().any(|r| r.node == *node));
        Ok((restarted.collect(), replaced))
    }
}
