//! `partition` and `wire`: links that are cut, or treat packets badly. Only links between nodes: clients reach every
//! node that runs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Done, Undo, Undone, majority, names, not_now};
use crate::error::Error;
use crate::fault::Observation;
use crate::mode::Mode;
use crate::wire::{Counters, Link, Rule};
use crate::world::{NodeId, World};

/// What a partition does, in words, and the directed links that it cuts.
type Cut = (String, Vec<Link>);

impl World {
    pub(super) fn install_on_links(&mut self, mode: Mode) -> Result<Done, Error> {
        let (leader, others) = self.cast(mode)?;
        if others.len() < 2 {
            return Err(not_now(mode, "fewer than three nodes run"));
        }
        if mode == Mode::PartitionRing && others.len() < 4 {
            return Err(not_now(mode, "fewer than five nodes run: each would see all others"));
        }
        let mut nodes = vec![leader];
        nodes.extend(&others);
        let (detail, links, rule) = match partition(mode, leader, &others) {
            Some((detail, links)) => (detail, links, Rule { cut: true, ..Rule::default() }),
            None => {
                let (detail, rule) = self.wire_rule(mode);
                (detail, every_link(&nodes), rule)
            }
        };
        let before = self.wire.counters();
        self.apply_links(&links, rule);
        let why = "no packet was offered since; asked again at the healing".to_owned();
        Ok(Done {
            nodes,
            detail,
            observation: Observation::Indeterminate { why },
            undo: Undo::Links { links, rule, before },
        })
    }

    /// Returns the rule of a mode of `wire`, with its numbers drawn by chance.
    fn wire_rule(&mut self, mode: Mode) -> (String, Rule) {
        let mut between = |from: u64, to: u64| from + self.prng.below(to - from + 1);
        let rule = match mode {
            Mode::WireLoss => Rule { loss_permille: between(10, 300), ..Rule::default() },
            Mode::WireDupReorder => Rule {
                duplicate_permille: between(50, 500),
                jitter: Duration::from_millis(between(5, 50)),
                ..Rule::default()
            },
            Mode::WireSlow => Rule {
                delay: Duration::from_millis(between(20, 120)),
                jitter: Duration::from_millis(between(1, 40)),
                bytes_per_s: between(256, 2_048) * 1_024,
                ..Rule::default()
            },
            Mode::WireCorrupt => Rule { corrupt_permille: between(5, 50), ..Rule::default() },
            _ => Rule { reset_permille: between(2, 20), ..Rule::default() },
        };
        (format!("every link between nodes: {rule:?}"), rule)
    }

    /// Says by the counters whether packets were treated as the mode says.
    pub(super) fn observe_links(
        &self,
        mode: Mode,
        links: &[Link],
        before: &BTreeMap<Link, Counters>,
    ) -> Observation {
        let now = self.wire.counters();
        let of = |all: &BTreeMap<Link, Counters>, link: &Link| {
            all.get(link).copied().unwrap_or_default()
        };
        let since = |link: &Link| of(&now, link).since(of(before, link));
        let sum = links.iter().map(since).fold(Counters::default(), Counters::plus);
        let seen = match mode {
            Mode::WireLoss => sum.lost > 0,
            Mode::WireDupReorder => sum.duplicated > 0 && sum.delayed > 0,
            Mode::WireSlow => sum.delayed > 0,
            Mode::WireCorrupt => sum.corrupted > 0,
            Mode::WireReset => sum.reset > 0,
            // Two followers have nothing to say to each other, but each of both sides has been refused something.
            _ => {
                let is_cut = |link: &&Link| since(link).cut > 0;
                let touched =
                    |node: u8| links.iter().filter(is_cut).any(|l| l.0 == node || l.1 == node);
                links.iter().all(|(from, to)| touched(*from) && touched(*to))
            }
        };
        Observation::of(seen, format!("the switch counted {sum:?} on {} links", links.len()))
    }

    /// Sets the rule of links, together with those of other faults that are in place on them.
    fn apply_links(&self, links: &[Link], rule: Rule) {
        let together = |link: &Link| {
            let others = self.active.values().filter_map(|active| match &active.undo {
                Undo::Links { links, rule, .. } if links.contains(link) => Some(*rule),
                _ => None,
            });
            (*link, others.fold(rule, Rule::and))
        };
        self.wire.set(links.iter().map(together));
    }

    pub(super) fn undo_links(&mut self, links: &[Link]) -> Undone {
        self.apply_links(links, Rule::default());
        Undone::of(format!("{} links relay again", links.len()))
    }
}

fn every_link(nodes: &[NodeId]) -> Vec<Link> {
    let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (from.0, to.0)));
    pairs.filter(|(from, to)| from != to).collect()
}

/// Returns the links in both directions between two sides.
fn between(one: &[NodeId], other: &[NodeId]) -> Vec<Link> {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a.0, b.0)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

/// Returns what a partition cuts; nothing for a mode that is none.
fn partition(mode: Mode, leader: NodeId, others: &[NodeId]) -> Option<Cut> {
    let all = others.len() + 1;
    let sides = |with_leader: usize| {
        let (friends, foes) = others.split_at(with_leader - 1);
        let side: Vec<NodeId> = std::iter::once(leader).chain(friends.iter().copied()).collect();
        (format!("[{}] | [{}], {leader} leads", names(&side), names(foes)), between(&side, foes))
    };
    let to_leader = others.iter().map(|other| (other.0, leader.0));
    match mode {
        Mode::PartitionLeaderMajority => Some(sides(majority(all))),
        Mode::PartitionLeaderMinority => Some(sides(all - majority(all))),
        Mode::PartitionBridge => {
            // One follower sees both sides, which do not see each other.
            let (bridge, rest) = others.split_first()?;
            let nodes: Vec<NodeId> = std::iter::once(leader).chain(rest.iter().copied()).collect();
            let (one, other) = nodes.split_at(nodes.len() / 2);
            let detail = format!("[{}] | [{}] over {bridge}", names(one), names(other));
            Some((detail, between(one, other)))
        }
        Mode::PartitionOnewayIn => {
            Some((format!("nothing comes to {leader}"), to_leader.collect()))
        }
        Mode::PartitionOnewayOut => {
            let links = to_leader.map(|(other, leader)| (leader, other)).collect();
            Some((format!("nothing goes from {leader}"), links))
        }
        Mode::PartitionRing => Some(ring(leader, others)),
        _ => None,
    }
}

/// Every node sees a majority, and no two see the same one: each reaches only its neighbours on a ring.
fn ring(leader: NodeId, others: &[NodeId]) -> Cut {
    let nodes: Vec<NodeId> = others.iter().copied().chain([leader]).collect();
    let all = nodes.len();
    let reach = (majority(all) - 1).div_ceil(2);
    let mut links = Vec::new();
    for (a, one) in nodes.iter().enumerate() {
        for (b, other) in nodes.iter().enumerate() {
            let around = a.abs_diff(b).min(all - a.abs_diff(b));
            if around > reach {
                links.push((one.0, other.0));
            }
        }
    }
    (format!("on the ring {} each reaches {reach} to each side", names(&nodes)), links)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(mode: Mode, all: u8) -> Vec<Link> {
        let others: Vec<NodeId> = (2..=all).map(NodeId).collect();
        let (_, mut links) = partition(mode, NodeId(1), &others).unwrap();
        links.sort_unstable();
        links
    }

    #[test]
    fn a_partition_cuts_exactly_its_links() {
        assert_eq!(cut(Mode::PartitionLeaderMajority, 3), [(1, 3), (2, 3), (3, 1), (3, 2)]);
        assert_eq!(cut(Mode::PartitionLeaderMinority, 3), [(1, 2), (1, 3), (2, 1), (3, 1)]);
        assert_eq!(cut(Mode::PartitionBridge, 3), [(1, 3), (3, 1)]);
        assert_eq!(cut(Mode::PartitionOnewayIn, 3), [(2, 1), (3, 1)]);
        assert_eq!(cut(Mode::PartitionOnewayOut, 3), [(1, 2), (1, 3)]);
        assert_eq!(cut(Mode::PartitionRing, 3), [], "a ring of three cuts nothing");
        assert_eq!(cut(Mode::PartitionLeaderMajority, 5).len(), 2 * 3 * 2);
        assert_eq!(cut(Mode::PartitionBridge, 5).len(), 2 * 2 * 2);
    }

    #[test]
    fn on_a_ring_of_five_everybody_sees_a_majority_and_nobody_all() {
        let links = cut(Mode::PartitionRing, 5);
        for node in 1..=5 {
            assert_eq!(links.iter().filter(|(from, _)| *from == node).count(), 2);
        }
    }
}
