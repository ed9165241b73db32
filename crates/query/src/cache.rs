//! Values by key within a number of bytes; the least recently used go first.
//!
//! Must not: hold more than its limit, not even for the newest value.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A bounded cache. Invariant: `used_bytes` is the sum over `entries` and at most `limit_bytes`.
pub(crate) struct Cache<K, V> {
    limit_bytes: usize,
    used_bytes: usize,
    ticks: u64,
    entries: BTreeMap<K, Slot<V>>,
    /// Keys by last use.
    uses: BTreeMap<u64, K>,
}

struct Slot<V> {
    value: Arc<V>,
    bytes: usize,
    used_at: u64,
}

impl<K: Ord + Clone, V> Cache<K, V> {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        let (entries, uses) = (BTreeMap::new(), BTreeMap::new());
        Self { limit_bytes, used_bytes: 0, ticks: 0, entries, uses }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<Arc<V>> {
        let slot = self.entries.get_mut(key)?;
        self.ticks += 1;
        self.uses.remove(&slot.used_at);
        self.uses.insert(self.ticks, key.clone());
        slot.used_at = self.ticks;
        Some(Arc::clone(&slot.value))
    }

    /// Returns a value without counting it as a use.
    pub(crate) fn peek(&self, key: &K) -> Option<&Arc<V>> {
        self.entries.get(key).map(|slot| &slot.value)
    }

    pub(crate) fn put(&mut self, key: K, value: Arc<V>, bytes: usize) {
        self.remove(&key);
        if self.limit_bytes < bytes {
            return;
        }
        self.ticks += 1;
        self.used_bytes += bytes;
        self.uses.insert(self.ticks, key.clone());
        self.entries.insert(key, Slot { value, bytes, used_at: self.ticks });
        while self.limit_bytes < self.used_bytes {
            let (_, oldest) = self.uses.pop_first().expect("bytes are used, so there is an entry");
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(slot) = self.entries.remove(key) {
            self.uses.remove(&slot.used_at);
            self.used_bytes -= slot.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_a_giant_is_not_kept() {
        let mut cache = Cache::new(10);
        cache.put("a", Arc::new(1), 4);
        cache.put("b", Arc::new(2), 4);
        assert_eq!(cache.get(&"a").as_deref(), Some(&1));
        cache.put("c", Arc::new(3), 4);
        cache.put("giant", Arc::new(4), 11);
        let kept = ["a", "b", "c", "giant"].map(|key| cache.get(&key).is_some());
        assert_eq!(kept, [true, false, true, false]);
    }
}
