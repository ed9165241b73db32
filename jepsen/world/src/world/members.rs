//! Who belongs to the cluster, who leads, and the operator's procedures of docs/operations/cluster.md.

use std::time::Duration;

use super::{NodeId, Replaced, World};
use crate::command::sleep;
use crate::error::Error;
use crate::limits;
use crate::operator::{Member, Status};

impl World {
    /// Returns the place of the member that leads: the one that says so itself in the highest term.
    pub fn leader(&mut self) -> Option<NodeId> {
        let answers = self.statuses();
        let leads = answers.iter().filter(|(_, status)| status.leader == Some(status.member));
        leads.max_by_key(|(_, status)| status.term).map(|(node, _)| *node)
    }

    /// Waits until a node leads.
    pub(crate) fn wait_for_leader(&mut self, limit: Duration) -> Result<NodeId, Error> {
        let begun = self.now();
        loop {
            if let Some(leader) = self.leader() {
                return Ok(leader);
            }
            if self.now().saturating_sub(begun) > limit {
                return Err(Error::NoLeader);
            }
            sleep(limits::ASK);
        }
    }

    /// Returns what each member that answers says of itself.
    pub(crate) fn statuses(&mut self) -> Vec<(NodeId, Status)> {
        let mut answers = Vec::new();
        for node in self.node_ids() {
            if self.node_mut(node).is_answering()
                && let Ok(status) = self.operator.status(&self.client_url(node))
            {
                answers.push((node, status));
            }
        }
        answers
    }

    /// Returns the members as the first node says that answers.
    pub(crate) fn members(&mut self) -> Option<Vec<Member>> {
        let nodes = self.node_ids();
        let asked = nodes.into_iter().find_map(|node| {
            let answers = self.node_mut(node).is_answering();
            answers.then(|| self.operator.members(&self.client_url(node)).ok()).flatten()
        });
        asked.filter(|members| !members.is_empty())
    }

    pub(crate) fn wait_for_votes(
        &mut self,
        nodes: &[NodeId],
        limit: Duration,
    ) -> Result<(), Error> {
        let begun = self.now();
        loop {
            let members = self.members().unwrap_or_default();
            let votes = |node: &NodeId| {
                let id = self.member_id(*node);
                members.iter().any(|member| Some(member.member) == id && member.votes)
            };
            if nodes.iter().all(votes) {
                return Ok(());
            }
            if self.now().saturating_sub(begun) > limit {
                return Err(self.too_late("a vote for every node", limit));
            }
            sleep(limits::ASK);
        }
    }

    /// Lets the empty disk of a place become a new member, with an id that was never used.
    pub(crate) fn join(&mut self, place: NodeId) -> Result<u64, Error> {
        let member = self.highest_member + 1;
        let certificates = self.config.scratch.join("certificates");
        let cluster = self.cluster.clone();
        self.operator.certificates(&certificates, cluster.as_deref(), &[member])?;
        self.highest_member = member;
        self.node_mut(place).member = Some(member);
        self.happened(Some(place), format!("joins as member {member}"));
        self.start(place)?;
        self.wait_for_votes(&[place], limits::MEMBERSHIP)?;
        Ok(member)
    }

    /// Removes the member of a place, ends its process and empties its disk.
    pub(crate) fn remove(&mut self, place: NodeId) -> Result<u64, Error> {
        let member = self.member_id(place).ok_or(Error::WrongState {
            node: place,
            state: "no member",
            what: "a removal",
        })?;
        let others: Vec<NodeId> =
            self.node_ids().into_iter().filter(|other| *other != place).collect();
        let mut last = Err(Error::NoLeader);
        for other in others {
            if self.node_mut(other).is_answering() {
                last = self.operator.remove(&self.client_url(other), member);
                if last.is_ok() {
                    break;
                }
            }
        }
        last?;
        self.happened(Some(place), format!("member {member} was removed"));
        let node = self.node_mut(place);
        node.kill()?;
        node.member = None;
        node.damaged.clear();
        node.disk.renew()?;
        Ok(member)
    }

    /// Replaces a node whose disk is of no more use: "A node's disk is lost".
    pub(crate) fn replace(&mut self, place: NodeId, because: String) -> Result<Replaced, Error> {
        self.node_mut(place).kill()?;
        let explained = !self.node(place).damaged.is_empty();
        let old_member = self.remove(place)?;
        let new_member = self.join(place)?;
        Ok(Replaced { node: place, old_member, new_member, because, explained })
    }

    /// Returns the error of a limit that passed, with the state of each node.
    pub(crate) fn too_late(&mut self, what: &str, limit: Duration) -> Error {
        let mut states = Vec::new();
        for node in self.node_ids() {
            let answers = self.node_mut(node).is_answering();
            let asked = answers.then(|| self.operator.status(&self.client_url(node)));
            let state = match asked {
                Some(Ok(status)) => format!(
                    "term {} leader {:?} committed {} applied {}",
                    status.term, status.leader, status.committed, status.applied
                ),
                Some(Err(error)) => error.to_string(),
                None => "does not run".to_owned(),
            };
            states.push(format!("{node}: {state}"));
        }
        Error::TooLate { what: what.to_owned(), limit, state: states.join("; ") }
    }
}
