//! Read leases: which indexes running queries read at, so that sweep leaves their files alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_types::LogIndex;

use crate::jobs::Jobs;

/// The indexes that readers hold on this node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases {
    // Taken and given back by every query; held for one map operation.
    held: Arc<Mutex<BTreeMap<LogIndex, u64>>>,
}

/// A reader's hold on an index, until dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Leases,
    index: LogIndex,
    jobs: Arc<Jobs>,
}

impl Leases {
    /// Takes a lease.
    pub(crate) fn take(&self, index: LogIndex, jobs: Arc<Jobs>) -> Lease {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry(index).or_insert(0) += 1;
        Lease { leases: self.clone(), index, jobs }
    }

    /// Returns the lowest index that a reader holds.
    pub(crate) fn oldest(&self) -> Option<LogIndex> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.keys().next().copied()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = held.get_mut(&self.index) else {
            unreachable!("a lease is given back once");
        };
        *count -= 1;
        if *count == 0 {
            held.remove(&self.index);
            self.jobs.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lease_counts_until_its_last_holder_is_gone() {
        let (leases, jobs) = (Leases::default(), Arc::new(Jobs::new()));
        let one = leases.take(LogIndex(5), Arc::clone(&jobs));
        let two = leases.take(LogIndex(5), Arc::clone(&jobs));
        let newer = leases.take(LogIndex(9), jobs);
        drop(one);
        assert_eq!(leases.oldest(), Some(LogIndex(5)));
        drop(two);
        assert_eq!(leases.oldest(), Some(LogIndex(9)));
        drop(newer);
        assert_eq!(leases.oldest(), None);
    }
}
