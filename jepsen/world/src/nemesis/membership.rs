//! `membership`: the operator's procedures, which must succeed while everybody is well.

use super::{Done, Undo, not_now};
use crate::error::Error;
use crate::fault::Observation;
use crate::mode::Mode;
use crate::world::{NodeId, World};

/// A cluster is not made smaller than this: what one node knows alone is not replicated.
const MEMBERS_MIN: usize = 2;

impl World {
    pub(super) fn install_membership(&mut self, mode: Mode) -> Result<Done, Error> {
        let (leader, others) = self.cast(mode)?;
        let members = self.node_ids().len();
        let follower = others.first().copied();
        let (node, detail, undo) = match mode {
            Mode::MembershipGrow => {
                let spare = self.places().into_iter().find(|one| self.member_id(*one).is_none());
                let place = spare.ok_or_else(|| not_now(mode, "every place has a member"))?;
                let member = self.join(place)?;
                (place, format!("{place} joined as member {member}"), Undo::Shrink(place))
            }
            Mode::MembershipReplace => {
                let place = follower.ok_or_else(|| not_now(mode, "no follower runs"))?;
                let replaced = self.replace(place, "its disk was lost".to_owned())?;
                let (old, new) = (replaced.old_member, replaced.new_member);
                (place, format!("member {old} of {place} made way for {new}"), Undo::Nothing)
            }
            Mode::MembershipShrink | Mode::MembershipLeaderOut if members <= MEMBERS_MIN => {
                return Err(not_now(mode, "the cluster is too small already"));
            }
            Mode::MembershipShrink => {
                let place = follower.ok_or_else(|| not_now(mode, "no follower runs"))?;
                let member = self.remove(place)?;
                (place, format!("member {member} at {place} was removed"), Undo::Grow(place))
            }
            _ => {
                let member = self.remove(leader)?;
                (leader, format!("member {member}, which led, was removed"), Undo::Grow(leader))
            }
        };
        let observation = self.observe_members(node)?;
        Ok(Done { nodes: vec![node], detail, observation, undo })
    }

    /// Asks the cluster whether it sees its members as the world does.
    fn observe_members(&mut self, node: NodeId) -> Result<Observation, Error> {
        let begun = self.now();
        loop {
            let mut seen: Vec<u64> =
                self.members().unwrap_or_default().iter().map(|member| member.member).collect();
            seen.sort_unstable();
            let nodes = self.node_ids();
            let mut known: Vec<u64> = nodes.iter().filter_map(|one| self.member_id(*one)).collect();
            known.sort_unstable();
            let is_over = self.now().saturating_sub(begun) > crate::limits::EFFECT;
            if seen == known || is_over {
                let how = format!("after the change at {node} the cluster names members {seen:?}");
                return Ok(Observation::of(seen == known, how));
            }
            crate::command::sleep(crate::limits::ASK);
        }
    }
}
