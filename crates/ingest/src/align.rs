//! Columns of a file matched by name to the columns of a dataset.
//!
//! It must not match by position or fold case: two files with swapped columns give the same rows. Invariant:
//! an [`Alignment`] that exists has a source for every column that may not be NULL.

use std::sync::Arc;

use alluvium_types::{Field, Schema};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;

use crate::{Error, Location};

/// Where each column of the dataset is in the file.
#[derive(Debug)]
pub(crate) struct Alignment {
    schema: Schema,
    arrow: SchemaRef,
    sources: Vec<Option<usize>>,
}

impl Alignment {
    pub(crate) fn new(file: &str, names: &[String], schema: &Schema) -> Result<Self, Error> {
        check_twice(file, names)?;
        let unknown = |name: &&String| schema.field(name).is_none();
        let columns: Vec<String> = names.iter().filter(unknown).cloned().collect();
        if !columns.is_empty() {
            return Err(Error::Unknown { columns, known: column_names(schema) });
        }
        let position = |field: &Field| names.iter().position(|name| *name == field.name);
        let sources: Vec<Option<usize>> = schema.fields.iter().map(position).collect();
        let lacking = schema.fields.iter().zip(&sources);
        let lacking = lacking.filter(|(field, source)| !field.nullable && source.is_none());
        let columns: Vec<String> = lacking.map(|(field, _)| field.name.clone()).collect();
        if !columns.is_empty() {
            return Err(Error::Missing { columns, found: names.to_vec() });
        }
        let arrow = alluvium_rows::to_arrow(schema);
        Ok(Self { schema: schema.clone(), arrow, sources })
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Returns the dataset's columns that the file has, with their positions in it.
    pub(crate) fn present(&self) -> impl Iterator<Item = (usize, &Field)> {
        let pairs = self.schema.fields.iter().zip(&self.sources);
        pairs.filter_map(|(field, source)| source.map(|source| (source, field)))
    }

    /// Returns the rows in the dataset's order; `columns` are in the file's order.
    pub(crate) fn batch(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        locate: impl Fn(usize) -> Location,
    ) -> Result<RecordBatch, Error> {
        let pairs = self.schema.fields.iter().zip(self.arrow.fields()).zip(&self.sources);
        let aligned = pairs.map(|((field, arrow), source)| {
            match source.and_then(|source| columns.get(source)) {
                Some(column) => widen(column, field, arrow.data_type()),
                None => Ok(new_null_array(arrow.data_type(), rows)),
            }
        });
        let aligned = aligned.collect::<Result<Vec<_>, _>>();
        let aligned = aligned.map_err(|source| Error::Rows { at: locate(0), source })?;
        let batch = loose_batch(&self.schema, aligned, rows);
        alluvium_rows::conform(&batch, &self.schema).map_err(|source| at_row(source, &locate))
    }
}

/// Puts the columns together without asking whether they fit: that is `conform`'s question.
fn loose_batch(schema: &Schema, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let pairs = schema.fields.iter().zip(&columns);
    let fields = pairs.map(|(field, column)| {
        arrow::datatypes::Field::new(&field.name, column.data_type().clone(), true)
    });
    let arrow = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(arrow, columns, &options)
        .expect("the fields were made from these columns, and a decoder gave them one length")
}

/// Casts to a type that holds every value of the column's own; leaves others for `conform` to refuse.
fn widen(
    column: &ArrayRef,
    field: &Field,
    target: &arrow::datatypes::DataType,
) -> Result<ArrayRef, alluvium_rows::Error> {
    let own = arrow::datatypes::Field::new(&field.name, column.data_type().clone(), true);
    let own = arrow::datatypes::Schema::new(vec![own]);
    let own = alluvium_rows::from_arrow(&own, &[])?;
    let is_narrower = own.fields.iter().any(|own| own.data_type.widens_to(&field.data_type));
    if !is_narrower {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, target, &options)
        .map_err(|source| alluvium_rows::Error::Arrow { operation: "widen a column", source })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other error is of the batch as a whole")]
fn at_row(source: alluvium_rows::Error, locate: impl Fn(usize) -> Location) -> Error {
    match source {
        alluvium_rows::Error::Null { column, row } => Error::Null { at: locate(row), column },
        alluvium_rows::Error::Inexact { row, .. } => {
            // The place counts from the start of the file, and its cause must not say another row.
            let first_row = match locate(0) {
                Location::Row(first) => usize::try_from(first - 1).unwrap_or(usize::MAX),
                Location::Line(_) => 0,
            };
            Error::Rows { at: locate(row), source: source.moved_by(first_row) }
        }
        _ => Error::Rows { at: locate(0), source },
    }
}

fn check_twice(file: &str, names: &[String]) -> Result<(), Error> {
    let twice = names.iter().enumerate().find(|(position, name)| names[..*position].contains(name));
    match twice {
        Some((_, column)) => Err(Error::Twice { name: file.to_owned(), column: column.clone() }),
        None => Ok(()),
    }
}

pub(crate) fn column_names(schema: &Schema) -> Vec<String> {
    schema.fields.iter().map(|field| field.name.clone()).collect()
}
