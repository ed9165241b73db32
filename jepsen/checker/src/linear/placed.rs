//! Which operations of a search are placed, as a key for its memory.
//!
//! It must not cost the length of the history for each key: the operations that are placed are all that
//! came before some point, and few after it. Invariant: `low` is the first word that is not full, and `high` the
//! last that is not empty, or `low`.

/// A set of operations, by their order of invocation.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    words: Vec<u64>,
    low: usize,
    high: usize,
}

impl Placed {
    pub(crate) fn of(operations: usize) -> Self {
        Self { words: vec![0; operations / 64 + 1], low: 0, high: 0 }
    }

    pub(crate) fn contains(&self, operation: usize) -> bool {
        self.words[operation / 64] & (1 << (operation % 64)) != 0
    }

    pub(crate) fn insert(&mut self, operation: usize) {
        let word = operation / 64;
        self.words[word] |= 1 << (operation % 64);
        // The last word has a bit to spare, so it is never full.
        while self.words[self.low] == u64::MAX {
            self.low += 1;
        }
        self.high = self.high.max(word).max(self.low);
    }

    pub(crate) fn remove(&mut self, operation: usize) {
        let word = operation / 64;
        self.words[word] &= !(1 << (operation % 64));
        self.low = self.low.min(word);
        while self.high > self.low && self.words[self.high] == 0 {
            self.high -= 1;
        }
    }

    /// Appends what tells this set from any other of the same operations.
    pub(crate) fn describe(&self, key: &mut Vec<u64>) {
        let window = &self.words[self.low..=self.high];
        key.extend([self.low as u64, window.len() as u64]);
        key.extend(window);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alluvium_stdx::Prng;

    use super::*;

    fn key(placed: &Placed) -> Vec<u64> {
        let mut key = Vec::new();
        placed.describe(&mut key);
        key
    }

    #[test]
    fn equal_sets_have_equal_keys_whatever_way_they_came_about() {
        let mut prng = Prng::from_seed(5);
        for _ in 0..200 {
            let mut wandering = Placed::of(300);
            let mut expected = BTreeSet::new();
            for operation in 0..200 {
                wandering.insert(operation);
                expected.insert(operation);
            }
            for _ in 0..100 {
                let operation = usize::try_from(prng.below(300)).expect("small");
                if wandering.contains(operation) {
                    wandering.remove(operation);
                    expected.remove(&operation);
                } else {
                    wandering.insert(operation);
                    expected.insert(operation);
                }
            }
            let mut direct = Placed::of(300);
            expected.iter().for_each(|&operation| direct.insert(operation));
            assert_eq!(key(&wandering), key(&direct));
            let mut other = direct.clone();
            let some = *expected.first().expect("not empty");
            other.remove(some);
            assert_ne!(key(&direct), key(&other));
        }
    }

    #[test]
    fn a_long_prefix_has_a_short_key() {
        let mut placed = Placed::of(20_000);
        (0..19_000).for_each(|operation| placed.insert(operation));
        assert!(key(&placed).len() < 5, "{:?}", key(&placed));
    }
}
