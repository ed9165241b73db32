//! Metadata with something before each read: a fault, a count, or what another client does just then.

use alluvium_state_machine::{Key, ScanRange, Table, Version, View, ViewError};
use alluvium_types::LogIndex;

use crate::metadata::SharedView;

type Before = Box<dyn Fn(Table) -> Result<(), ViewError> + Send + Sync>;

/// Metadata whose reads are told of before they are made.
pub(super) struct Watched {
    inner: SharedView,
    before: Before,
}

impl Watched {
    pub(super) fn new(
        inner: SharedView,
        before: impl Fn(Table) -> Result<(), ViewError> + Send + Sync + 'static,
    ) -> Self {
        Self { inner, before: Box::new(before) }
    }
}

impl View for Watched {
    fn get_at(&self, table: Table, key: &Key, at: LogIndex) -> Result<Option<Vec<u8>>, ViewError> {
        (self.before)(table)?;
        self.inner.get_at(table, key, at)
    }

    fn scan_at(
        &self,
        range: &ScanRange<'_>,
        at: LogIndex,
    ) -> Result<Vec<(Key, Vec<u8>)>, ViewError> {
        (self.before)(range.table)?;
        self.inner.scan_at(range, at)
    }

    fn versions(&self, table: Table, key: &Key) -> Result<Vec<Version>, ViewError> {
        self.inner.versions(table, key)
    }

    fn prunable(
        &self,
        range: &ScanRange<'_>,
        floor: LogIndex,
    ) -> Result<Vec<(Key, u64)>, ViewError> {
        self.inner.prunable(range, floor)
    }
}
