//! A view with changes on top that are not committed yet: an entry sees those before it in its
//! batch, and a command sees its own.
//!
//! It must not decide anything. Invariant: reads at or above every pruned floor answer as the base
//! would after the same changes were committed one by one.

use std::collections::BTreeMap;

use alluvium_types::LogIndex;

use crate::view::{Mutation, Operation, ScanRange, Version, View, ViewError, unreachable_versions};
use crate::{Key, Table};

/// A view over another one, with changes.
pub struct Overlay<'a> {
    base: &'a dyn View,
    changes: Changes,
}

/// Changes by key.
pub(crate) type Changes = BTreeMap<(Table, Key), Change>;

/// What became of one key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    /// Ascending. Of a latest-only table at most one, with index zero; no value means removed.
    versions: Vec<Version>,
    /// The highest floor it was pruned to.
    floor: Option<LogIndex>,
}

impl<'a> Overlay<'a> {
    /// Returns a view that answers as `base` does.
    #[must_use]
    pub fn new(base: &'a dyn View) -> Self {
        Self { base, changes: Changes::new() }
    }

    /// Makes a change of the entry at `index` visible.
    pub fn record(&mut self, index: LogIndex, mutation: Mutation) {
        let Mutation { table, key, operation } = mutation;
        let change = self.changes.entry((table, key)).or_default();
        match operation {
            Operation::Put(value) => change.write(table, index, Some(value)),
            Operation::Delete => change.write(table, index, None),
            Operation::Prune { floor } => change.floor = change.floor.max(Some(floor)),
        }
    }

    /// Returns the changes, to be recorded elsewhere.
    pub(crate) fn into_changes(self) -> Changes {
        self.changes
    }

    /// Makes the changes of another overlay over this one visible.
    pub(crate) fn absorb(&mut self, changes: Changes) {
        for ((table, key), change) in changes {
            let mine = self.changes.entry((table, key)).or_default();
            mine.floor = mine.floor.max(change.floor);
            for version in change.versions {
                mine.write(table, version.index, version.value);
            }
        }
    }

    fn changed_in<'s>(
        &'s self,
        range: &'s ScanRange<'_>,
    ) -> impl Iterator<Item = (&'s Key, &'s Change)> + 's {
        let start = range.from.map_or(range.prefix, |from| from.max(range.prefix)).clone();
        self.changes
            .range((range.table, start)..)
            .take_while(|((table, key), _)| {
                *table == range.table && key.0.starts_with(&range.prefix.0)
            })
            .map(|((_, key), change)| (key, change))
    }
}

impl Change {
    fn write(&mut self, table: Table, index: LogIndex, value: Option<Vec<u8>>) {
        let index = if table.is_versioned() { index } else { LogIndex(0) };
        match self.versions.last_mut() {
            Some(last) if last.index == index => last.value = value,
            Some(last) => {
                assert!(last.index < index, "entry {index} is applied after {}", last.index);
                self.versions.push(Version { index, value });
            }
            None => self.versions.push(Version { index, value }),
        }
    }

    /// Returns the value as of an index, or nothing if the base decides.
    fn value_at(&self, at: LogIndex) -> Option<Option<&Vec<u8>>> {
        let seen = self.versions.iter().rfind(|version| version.index <= at)?;
        Some(seen.value.as_ref())
    }

    /// Returns the mutations of one entry's change.
    pub(crate) fn into_operations(self) -> impl Iterator<Item = Operation> {
        assert!(self.versions.len() <= 1, "one entry writes one version of a key");
        let writes = self.versions.into_iter().map(|version| match version.value {
            Some(value) => Operation::Put(value),
            None => Operation::Delete,
        });
        writes.chain(self.floor.map(|floor| Operation::Prune { floor }))
    }
}

impl View for Overlay<'_> {
    fn get_at(&self, table: Table, key: &Key, at: LogIndex) -> Result<Option<Vec<u8>>, ViewError> {
        let change = self.changes.get(&(table, key.clone()));
        match change.and_then(|change| change.value_at(at)) {
            Some(value) => Ok(value.cloned()),
            None => self.base.get_at(table, key, at),
        }
    }

    fn scan_at(
        &self,
        range: &ScanRange<'_>,
        at: LogIndex,
    ) -> Result<Vec<(Key, Vec<u8>)>, ViewError> {
        let changed: BTreeMap<&Key, Option<&Vec<u8>>> = self
            .changed_in(range)
            .filter_map(|(key, change)| Some((key, change.value_at(at)?)))
            .collect();
        // Each change can hide one key of the base: ask for that many more.
        let limit = range.limit.saturating_add(changed.len());
        let base = self.base.scan_at(&ScanRange { limit, ..*range }, at)?;
        let kept = base.into_iter().filter(|(key, _)| !changed.contains_key(key));
        let put =
            changed.iter().filter_map(|(key, value)| Some(((*key).clone(), (*value)?.clone())));
        Ok(merge(kept, put, range.limit))
    }

    fn versions(&self, table: Table, key: &Key) -> Result<Vec<Version>, ViewError> {
        let Some(change) = self.changes.get(&(table, key.clone())) else {
            return self.base.versions(table, key);
        };
        if !table.is_versioned() {
            return Ok(match change.versions.last() {
                Some(last) if last.value.is_some() => vec![last.clone()],
                Some(_) => Vec::new(),
                None => self.base.versions(table, key)?,
            });
        }
        let mut versions = self.base.versions(table, key)?;
        versions.extend(change.versions.iter().cloned());
        if let Some(floor) = change.floor {
            versions.drain(..unreachable_versions(&marks(&versions), floor));
        }
        Ok(versions)
    }

    fn prunable(
        &self,
        range: &ScanRange<'_>,
        floor: LogIndex,
    ) -> Result<Vec<(Key, u64)>, ViewError> {
        let mut changed = BTreeMap::new();
        for (key, _) in self.changed_in(range) {
            let versions = self.versions(range.table, key)?;
            changed.insert(key.clone(), unreachable_versions(&marks(&versions), floor) as u64);
        }
        let limit = range.limit.saturating_add(changed.len());
        let base = self.base.prunable(&ScanRange { limit, ..*range }, floor)?;
        let kept = base.into_iter().filter(|(key, _)| !changed.contains_key(key));
        let counted = changed.iter().filter(|(_, count)| **count > 0);
        Ok(merge(kept, counted.map(|(key, count)| (key.clone(), *count)), range.limit))
    }
}

/// Returns each version's index and whether it is a deletion marker.
pub(crate) fn marks(versions: &[Version]) -> Vec<(LogIndex, bool)> {
    versions.iter().map(|version| (version.index, version.value.is_none())).collect()
}

fn merge<T>(
    one: impl Iterator<Item = (Key, T)>,
    two: impl Iterator<Item = (Key, T)>,
    limit: usize,
) -> Vec<(Key, T)> {
    let merged: BTreeMap<Key, T> = one.chain(two).collect();
    merged.into_iter().take(limit).collect()
}

#[cfg(test)]
mod tests;
