//! What the metadata says about one dataset at one index. Planning reads nothing else.
//!
//! Must not: touch an object store or the log. Invariant: everything here is as of `at`, but for the seals
//! that hold rows which have left the log since; what expire may have pruned under a read is an error.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use alluvium_rows as rows;
use alluvium_state_machine::record::{DatasetRecord, DeltaRecord, FileRecord};
use alluvium_state_machine::{Table, View, ViewError, catalog};
use alluvium_types::{DatasetKey, DatasetName, LogIndex, Schema, SchemaVersion};

use crate::Error;

/// The metadata, shared.
pub(crate) type SharedView = Arc<dyn View + Send + Sync>;

/// A dataset as it was at an index.
#[derive(Debug, Clone)]
pub(crate) struct DatasetAt {
    /// Its record at the index.
    pub(crate) record: DatasetRecord,
    /// Its columns at the index.
    pub(crate) schema: Schema,
    /// The same for Arrow.
    pub(crate) arrow: SchemaRef,
    /// The same with the hidden index column last.
    pub(crate) arrow_with_index: SchemaRef,
    /// The index.
    pub(crate) at: LogIndex,
}

impl DatasetAt {
    /// Finds a dataset by its exact name.
    pub(crate) fn find(view: &SharedView, name: &str, at: LogIndex) -> Result<Option<Self>, Error> {
        // A word that cannot be a dataset's name names none.
        let Ok(name) = name.parse::<DatasetName>() else { return Ok(None) };
        match catalog::find(view.as_ref(), &name, at)? {
            Some(record) => Self::of(view, record, at).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the rest of a dataset whose record is known.
    pub(crate) fn of(
        view: &SharedView,
        record: DatasetRecord,
        at: LogIndex,
    ) -> Result<Self, Error> {
        let (key, version) = (record.dataset, record.schema_version);
        let read = |view: &dyn View| Ok(catalog::schema(view, key, version, at)?);
        let schema = Floor { view, dataset: key, name: record.name.as_str(), at }.guard(read)?;
        let arrow = rows::to_arrow(&schema);
        let arrow_with_index = rows::schema::with_index(&arrow);
        Ok(Self { record, schema, arrow, arrow_with_index, at })
    }

    /// Reads something about the dataset that expire may prune under a running query.
    pub(crate) fn guard<T>(
        &self,
        view: &SharedView,
        read: impl FnOnce(&dyn View) -> Result<T, Error>,
    ) -> Result<T, Error> {
        Floor { view, dataset: self.key(), name: self.name(), at: self.at }.guard(read)
    }

    /// Returns the dataset's identity.
    pub(crate) fn key(&self) -> DatasetKey {
        self.record.dataset
    }

    /// Returns the dataset's name.
    pub(crate) fn name(&self) -> &str {
        self.record.name.as_str()
    }

    /// Says whether tombstones can name its rows.
    pub(crate) fn is_keyed(&self) -> bool {
        !self.schema.key_columns.is_empty()
    }

    /// Returns the files that readers at the index use.
    pub(crate) fn live_files(&self, view: &SharedView) -> Result<Vec<FileRecord>, Error> {
        let read = |view: &dyn View| Ok(catalog::files(view, self.key(), self.at)?);
        let mut files = self.guard(view, read)?;
        files.retain(FileRecord::is_live);
        Ok(files)
    }

    /// Returns the deltas that readers at the index use.
    pub(crate) fn deltas(&self, view: &SharedView) -> Result<Vec<(LogIndex, DeltaRecord)>, Error> {
        self.guard(view, |view| Ok(catalog::deltas(view, self.key(), self.at)?))
    }

    /// Returns an earlier schema of the dataset.
    pub(crate) fn schema_version(
        &self,
        view: &SharedView,
        version: SchemaVersion,
    ) -> Result<Schema, Error> {
        if version == self.record.schema_version {
            return Ok(self.schema.clone());
        }
        self.guard(view, |view| Ok(catalog::schema(view, self.key(), version, self.at)?))
    }

    /// Returns the first tombstone above `after` that was made by the index.
    pub(crate) fn tombstone_after(
        &self,
        view: &SharedView,
        after: LogIndex,
    ) -> Result<Option<LogIndex>, Error> {
        let read =
            |view: &dyn View| Ok(catalog::tombstone_after(view, self.key(), after, self.at)?);
        self.guard(view, read)
    }
}

/// What a read of one dataset at one index is guarded with.
#[derive(Clone, Copy)]
pub(crate) struct Floor<'a> {
    pub(crate) view: &'a SharedView,
    pub(crate) dataset: DatasetKey,
    pub(crate) name: &'a str,
    pub(crate) at: LogIndex,
}

impl Floor<'_> {
    /// Reads, and refuses what was read when the floor is above the index by then.
    ///
    /// Invariant: the floor is read after the rest. Expire moves it in the batch that prunes, so a floor that
    /// is not above the index proves that nothing was missing from the read before it; a floor read first
    /// proves nothing.
    pub(crate) fn guard<T>(
        self,
        read: impl FnOnce(&dyn View) -> Result<T, Error>,
    ) -> Result<T, Error> {
        // What is pruned can make the read fail too, so its error waits for the floor.
        let found = read(self.view.as_ref());
        self.check()?;
        found
    }

    fn check(self) -> Result<(), Error> {
        let latest = catalog::dataset(self.view.as_ref(), self.dataset, LogIndex::MAX)?;
        // A dropped dataset keeps its last record, with a floor above everything in it.
        let latest = latest.ok_or(ViewError::Dangling { table: Table::Dataset })?;
        if self.at < latest.floor {
            let dataset = self.name.to_owned();
            return Err(Error::BelowFloor { dataset, asked: self.at, floor: latest.floor });
        }
        Ok(())
    }
}
