//! `system.datasets`, `system.files` and `system.tombstones`: the metadata as rows.
//!
//! Must not: touch the log or a bucket.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use alluvium_state_machine::record::{DatasetRecord, FileContent, FileRecord, FileState};
use alluvium_state_machine::{View, catalog};
use alluvium_types::{KeyBlock, LogIndex};

use crate::Error;
use crate::metadata::Floor;
use crate::table::QueryScope;

fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    let field = |(name, data_type, nullable): &(&str, DataType, bool)| {
        Field::new(*name, data_type.clone(), *nullable)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, Error> {
    RecordBatch::try_new(schema, columns).map_err(|source| Error::Rows { source: Arc::new(source) })
}

/// Reads something about every dataset that can be read at the index, as a list does: what one dataset has
/// expired closes no other.
fn each<T>(
    scope: &QueryScope,
    at: LogIndex,
    read: impl Fn(&dyn View, &DatasetRecord) -> Result<T, Error>,
) -> Result<Vec<(DatasetRecord, T)>, Error> {
    let view = &scope.sources.view;
    let mut found = Vec::new();
    for record in catalog::list(view.as_ref(), at)? {
        let name = record.name.as_str();
        let guarded = Floor { view, dataset: record.dataset, name, at };
        match guarded.guard(|view| read(view, &record)) {
            Ok(part) => found.push((record, part)),
            Err(Error::BelowFloor { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

pub(super) fn datasets_schema() -> SchemaRef {
    schema(&[
        ("name", DataType::Utf8, false),
        ("id", DataType::Utf8, false),
        ("incarnation", DataType::UInt64, false),
        ("schema_version", DataType::UInt32, false),
        ("key_columns", DataType::Utf8, false),
        ("bucket", DataType::Utf8, false),
        ("floor", DataType::UInt64, false),
        ("registered_at_ms", DataType::UInt64, false),
    ])
}

pub(super) fn datasets(scope: &QueryScope, at: LogIndex) -> Result<RecordBatch, Error> {
    let read = each(scope, at, |view, record| {
        let schema = catalog::schema(view, record.dataset, record.schema_version, at)?;
        Ok(schema.key_columns.join(", "))
    })?;
    let (all, keys): (Vec<_>, Vec<_>) = read.into_iter().unzip();
    let text = |f: fn(&DatasetRecord) -> String| -> ArrayRef {
        Arc::new(all.iter().map(|record| Some(f(record))).collect::<StringArray>())
    };
    let number = |f: fn(&DatasetRecord) -> u64| -> ArrayRef {
        Arc::new(all.iter().map(f).collect::<UInt64Array>())
    };
    let versions: UInt32Array = all.iter().map(|record| record.schema_version.0).collect();
    let columns: Vec<ArrayRef> = vec![
        text(|record| record.name.to_string()),
        text(|record| record.dataset.id.to_string()),
        number(|record| record.dataset.incarnation.0),
        Arc::new(versions),
        Arc::new(StringArray::from(keys)),
        text(|record| record.bucket.clone()),
        number(|record| record.floor.0),
        number(|record| record.registered_at_ms),
    ];
    batch(datasets_schema(), columns)
}

pub(super) fn files_schema() -> SchemaRef {
    schema(&[
        ("dataset", DataType::Utf8, false),
        ("file", DataType::UInt64, false),
        ("generation", DataType::UInt32, false),
        ("kind", DataType::Utf8, false),
        ("state", DataType::Utf8, false),
        ("schema_version", DataType::UInt32, false),
        ("rows", DataType::UInt64, true),
        ("bytes", DataType::UInt64, true),
        ("first_index", DataType::UInt64, true),
        ("last_index", DataType::UInt64, true),
        ("folded_to", DataType::UInt64, false),
        ("bucket", DataType::Utf8, false),
        ("key", DataType::Utf8, false),
    ])
}

pub(super) fn files(scope: &QueryScope, at: LogIndex) -> Result<RecordBatch, Error> {
    let read = each(scope, at, |view, record| Ok(catalog::files(view, record.dataset, at)?))?;
    let mut all: Vec<(DatasetRecord, FileRecord)> = Vec::new();
    for (dataset, files) in read {
        all.extend(files.into_iter().map(|file| (dataset.clone(), file)));
    }
    let text = |f: &dyn Fn(&DatasetRecord, &FileRecord) -> String| -> ArrayRef {
        Arc::new(all.iter().map(|(dataset, file)| Some(f(dataset, file))).collect::<StringArray>())
    };
    let number = |f: &dyn Fn(&FileRecord) -> Option<u64>| -> ArrayRef {
        Arc::new(all.iter().map(|(_, file)| f(file)).collect::<UInt64Array>())
    };
    let small = |f: &dyn Fn(&FileRecord) -> u32| -> ArrayRef {
        Arc::new(all.iter().map(|(_, file)| f(file)).collect::<UInt32Array>())
    };
    let key = |dataset: &DatasetRecord, file: &FileRecord| {
        alluvium_materialize::object_key(dataset.dataset, file.file, file.generation).to_string()
    };
    let columns: Vec<ArrayRef> = vec![
        text(&|dataset, _| dataset.name.to_string()),
        number(&|file| Some(file.file.0)),
        small(&|file| file.generation),
        text(&|_, file| kind(file).to_owned()),
        text(&|_, file| state(file).to_owned()),
        small(&|file| file.schema_version.0),
        number(&|file| file.attested().map(|attested| attested.rows)),
        number(&|file| file.attested().map(|attested| attested.digest.len_bytes)),
        number(&|file| file.attested().map(|attested| attested.first_index.0)),
        number(&|file| file.attested().map(|attested| attested.last_index.0)),
        number(&|file| Some(file.folded_to.0)),
        text(&|dataset, _| dataset.bucket.clone()),
        text(&key),
    ];
    batch(files_schema(), columns)
}

fn kind(file: &FileRecord) -> &'static str {
    match file.content {
        FileContent::Seal { .. } => "seal",
        FileContent::Compaction { .. } => "compaction",
    }
}

fn state(file: &FileRecord) -> &'static str {
    match file.state {
        FileState::Planned => "planned",
        FileState::Live(_) => "live",
        FileState::Replaced { .. } => "replaced",
    }
}

pub(super) fn tombstones_schema() -> SchemaRef {
    schema(&[
        ("dataset", DataType::Utf8, false),
        ("index", DataType::UInt64, false),
        ("keys", DataType::UInt64, false),
        ("bytes", DataType::UInt64, false),
    ])
}

pub(super) fn tombstones(scope: &QueryScope, at: LogIndex) -> Result<RecordBatch, Error> {
    let read = each(scope, at, |view, record| {
        let blocks = catalog::tombstones(view, record.dataset, at)?;
        let row = |(index, block): &(LogIndex, KeyBlock)| {
            (index.0, u64::from(block.len()), block.as_bytes().len() as u64)
        };
        Ok(blocks.iter().map(row).collect::<Vec<_>>())
    })?;
    let (mut names, mut indexes) = (Vec::new(), Vec::new());
    let (mut keys, mut bytes) = (Vec::new(), Vec::new());
    for (dataset, blocks) in read {
        for (index, block_keys, block_bytes) in blocks {
            names.push(dataset.name.to_string());
            indexes.push(index);
            keys.push(block_keys);
            bytes.push(block_bytes);
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(names)),
        Arc::new(UInt64Array::from(indexes)),
        Arc::new(UInt64Array::from(keys)),
        Arc::new(UInt64Array::from(bytes)),
    ];
    batch(tombstones_schema(), columns)
}
