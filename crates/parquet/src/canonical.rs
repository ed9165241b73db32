//! Equal rows made equal: casts away encodings, and cuts batches at fixed row numbers.
//!
//! Must not: reorder rows or hold more than one chunk and one batch. Invariant INV-P1: the chunks that leave
//! depend on the rows alone, not on the batches, slices, dictionaries or empty null masks they came in.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, make_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, SchemaRef};

use crate::error::{Error, Result};

/// Collects batches and gives out chunks of exactly `rows` rows.
#[derive(Debug)]
pub struct Rechunker {
    schema: SchemaRef,
    rows: usize,
    pending: Vec<RecordBatch>,
    /// Invariant: the sum of the rows of `pending`, below `rows` between calls.
    pending_rows: usize,
}

impl Rechunker {
    /// Returns a rechunker for a canonical schema.
    ///
    /// # Panics
    /// When `rows` is zero.
    #[must_use]
    pub fn new(schema: SchemaRef, rows: usize) -> Self {
        assert!(0 < rows, "a chunk has rows");
        Self { schema, rows, pending: Vec::new(), pending_rows: 0 }
    }

    /// Takes a batch and passes every chunk that is full to `emit`.
    ///
    /// # Errors
    /// When the batch does not fit the schema, or `emit` fails.
    pub fn push(
        &mut self,
        batch: &RecordBatch,
        mut emit: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let batch = canonical_batch(&self.schema, batch)?;
        let mut at = 0;
        while at < batch.num_rows() {
            let taken = (self.rows - self.pending_rows).min(batch.num_rows() - at);
            self.pending.push(batch.slice(at, taken));
            self.pending_rows += taken;
            at += taken;
            if self.pending_rows == self.rows {
                emit(&self.take()?)?;
            }
        }
        assert!(self.pending_rows < self.rows, "a full chunk was kept back");
        Ok(())
    }

    /// Returns the rows that fill no chunk.
    ///
    /// # Errors
    /// When they cannot be joined.
    pub fn finish(mut self) -> Result<Option<RecordBatch>> {
        if self.pending_rows == 0 {
            return Ok(None);
        }
        self.take().map(Some)
    }

    fn take(&mut self) -> Result<RecordBatch> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_rows = 0;
        concat_batches(&self.schema, &pending).map_err(Error::Join)
    }
}

/// Returns `batch` in the form of `schema`, which must be canonical and mean the same.
///
/// # Errors
/// `ColumnCount`, `ColumnMismatch`, `NullInRequired` or `Canonical`.
pub fn canonical_batch(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let (expected, found) = (schema.fields().len(), batch.num_columns());
    if expected != found {
        return Err(Error::ColumnCount { expected, found });
    }
    let batch_schema = batch.schema();
    let pairs = schema.fields().iter().zip(batch_schema.fields()).zip(batch.columns());
    let columns = pairs
        .map(|((field, source), column)| canonical_column(field, source, column))
        .collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(Error::Join)
}

fn canonical_column(field: &Field, source: &Field, column: &ArrayRef) -> Result<ArrayRef> {
    let same_meaning = same_meaning(field.data_type(), column.data_type());
    if field.name() != source.name() || !same_meaning {
        return Err(Error::ColumnMismatch {
            column: field.name().clone(),
            expected: field.data_type().clone(),
            found: column.data_type().clone(),
            found_name: source.name().clone(),
        });
    }
    let failed = |source| Error::Canonical { column: field.name().clone(), source };
    let column = if column.data_type() == field.data_type() {
        Arc::clone(column)
    } else {
        cast(column, field.data_type()).map_err(failed)?
    };
    if !field.is_nullable() && 0 < column.logical_null_count() {
        return Err(Error::NullInRequired { column: field.name().clone() });
    }
    Ok(without_empty_mask(column))
}

/// Drops a null mask that marks nothing: whether it is there must not show.
fn without_empty_mask(column: ArrayRef) -> ArrayRef {
    if column.nulls().is_none() || 0 < column.null_count() {
        return column;
    }
    match column.to_data().into_builder().nulls(None).build() {
        Ok(data) => make_array(data),
        // A mask that cannot be dropped changes no byte: the encoder asks for the count first.
        Err(_) => column,
    }
}

/// Returns whether the two types differ in encoding alone.
fn same_meaning(expected: &DataType, found: &DataType) -> bool {
    match (expected, found) {
        (expected, DataType::Dictionary(_, value)) => same_meaning(expected, value),
        (DataType::Utf8 | DataType::LargeUtf8, found) => {
            matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        }
        (DataType::Binary | DataType::LargeBinary, found) => {
            matches!(found, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
        }
        (
            DataType::List(expected) | DataType::LargeList(expected),
            DataType::List(found) | DataType::LargeList(found),
        ) => same_meaning(expected.data_type(), found.data_type()),
        (DataType::Struct(expected), DataType::Struct(found)) => {
            let same = |(a, b): (&Arc<Field>, &Arc<Field>)| {
                a.name() == b.name() && same_meaning(a.data_type(), b.data_type())
            };
            expected.len() == found.len() && expected.iter().zip(found).all(same)
        }
        (expected, found) => expected == found,
    }
}
