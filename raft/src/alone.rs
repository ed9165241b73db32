//! Whether this node decides alone. Then whatever was acknowledged was applied here first, and a linearizable read
//! needs to ask nobody.
//!
//! It must not rest on openraft's metrics: they may trail the moment from which another node can be elected.
//! Invariant INV-C1: another voter is noted before the entry that makes it one is given to the log, which is before
//! anyone else can hear of it; and a node that had others never believes again to be alone until it restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::type_config::Membership;

/// Ascending: what is known only grows, from nothing (zero).
const ALONE: u8 = 1;
const WITH_OTHERS: u8 = 2;

/// What is known of the other voters. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alone(Arc<AtomicU8>);

impl Alone {
    /// Takes note of a membership that is in the log, or is about to be.
    pub(crate) fn note(&self, node: u64, membership: &Membership) {
        if membership.voter_ids().next().is_none() {
            return;
        }
        let known = if membership.voter_ids().eq([node]) { ALONE } else { WITH_OTHERS };
        self.0.fetch_max(known, Ordering::SeqCst);
    }

    /// Says whether no other node has a vote.
    pub(crate) fn is_sure(&self) -> bool {
        self.0.load(Ordering::SeqCst) == ALONE
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::type_config::Address;

    fn membership(configs: &[&[u64]], learners: &[u64]) -> Membership {
        let configs: Vec<BTreeSet<u64>> =
            configs.iter().map(|voters| voters.iter().copied().collect()).collect();
        let nodes = configs.iter().flatten().chain(learners);
        let nodes: BTreeMap<u64, Address> = nodes.map(|id| (*id, Address::default())).collect();
        Membership::new(configs, nodes).expect("a membership")
    }

    #[test]
    fn a_second_voter_is_never_forgotten() {
        let alone = Alone::default();
        alone.note(1, &Membership::default());
        assert!(!alone.is_sure(), "nothing is known");
        alone.note(1, &membership(&[&[1]], &[2, 3]));
        assert!(alone.is_sure(), "learners do not vote");
        alone.note(1, &membership(&[&[1], &[1, 2, 3]], &[]));
        assert!(!alone.is_sure(), "on the way to three");
        alone.note(1, &membership(&[&[1]], &[]));
        assert!(!alone.is_sure(), "the others may still act by what they knew");
        let other = Alone::default();
        other.note(1, &membership(&[&[2]], &[1]));
        assert!(!other.is_sure(), "a learner decides nothing");
        other.note(1, &membership(&[&[1]], &[]));
        assert!(!other.is_sure());
    }
}
