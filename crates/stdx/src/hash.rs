//! Hash maps with a fixed seed, so that two replicas and two runs iterate alike.

use std::hash::BuildHasher;

use xxhash_rust::xxh3::Xxh3;

/// Builds xxh3 hashers that all start from the same state.
///
/// Not resistant to chosen keys: use it for keys that Alluvium made, or of bounded number.
#[derive(Debug, Clone, Copy, Default)]
pub struct FixedState;

impl BuildHasher for FixedState {
    type Hasher = Xxh3;

    fn build_hasher(&self) -> Xxh3 {
        Xxh3::new()
    }
}

/// A hash map whose order depends on its keys alone.
#[expect(clippy::disallowed_types, reason = "the one place that fixes the hasher")]
pub type HashMap<K, V> = std::collections::HashMap<K, V, FixedState>;

/// A hash set whose order depends on its keys alone.
#[expect(clippy::disallowed_types, reason = "the one place that fixes the hasher")]
pub type HashSet<K> = std::collections::HashSet<K, FixedState>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_maps_with_the_same_insertions_iterate_alike() {
        let build = || (0..100_u32).map(|i| (i, ())).collect::<HashMap<_, _>>();
        let order = |map: &HashMap<u32, ()>| format!("{map:?}");
        assert_eq!(order(&build()), order(&build()));
    }
}
