//! Reading a whole file back: to verify it after it was written, and for those who are not DataFusion.
//!
//! Must not: trust a length, a count or a page. Damaged bytes are a typed error, never a panic or fewer rows.

use std::panic::{AssertUnwindSafe, catch_unwind};

use alluvium_stdx::spawn;
use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};

use crate::error::{Error, Result};
use crate::limits::READ_BATCH_ROWS;
use crate::rowhash::row_hash_sum;

/// Which top-level columns to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projection {
    /// Every column.
    All,
    /// These, in file order.
    Columns(Vec<String>),
}

/// What a whole read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Rows decoded, not rows claimed.
    pub rows: u64,
    /// The order-independent sum of row hashes over all columns.
    pub hash_sum: u128,
}

/// Opens a file and returns its batches one by one.
///
/// # Errors
/// `Decode` when the bytes are no whole file, `NoSuchColumn` for a wrong projection.
pub fn open(
    bytes: Bytes,
    projection: &Projection,
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let reader = guarded(|| build(bytes, projection))?;
    Ok(Batches { reader: Some(reader) })
}

/// Reads a file's batches.
///
/// # Errors
/// As [`open`], and `Page` when a page is damaged.
pub fn read_file(bytes: Bytes, projection: &Projection) -> Result<Vec<RecordBatch>> {
    open(bytes, projection)?.collect()
}

/// Decodes every row of a file, its row groups side by side, and checks how many there are.
///
/// # Errors
/// `Rows` when there are more or fewer than `expected_rows`; else as [`read_file`].
pub fn verify(bytes: Bytes, expected_rows: u64) -> Result<Verified> {
    let footer = || ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new());
    let footer = guarded(|| footer().map_err(Error::Decode))?;
    let groups = (0..footer.metadata().num_row_groups()).collect();
    let found = spawn::side_by_side("verify", spawn::workers(), groups, |group| {
        verify_group(bytes.clone(), footer.clone(), group)
    });
    let mut verified = Verified { rows: 0, hash_sum: 0 };
    for group in found {
        let group = group?;
        verified.rows += group.rows;
        verified.hash_sum = verified.hash_sum.wrapping_add(group.hash_sum);
    }
    if verified.rows == expected_rows {
        return Ok(verified);
    }
    Err(Error::Rows { expected: expected_rows, found: verified.rows })
}

fn verify_group(bytes: Bytes, footer: ArrowReaderMetadata, group: usize) -> Result<Verified> {
    let build = || {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, footer);
        let builder = builder.with_row_groups(vec![group]).with_batch_size(READ_BATCH_ROWS);
        builder.build().map_err(Error::Decode)
    };
    let mut verified = Verified { rows: 0, hash_sum: 0 };
    for batch in (Batches { reader: Some(guarded(build)?) }) {
        let batch = batch?;
        verified.rows += batch.num_rows() as u64;
        verified.hash_sum = verified.hash_sum.wrapping_add(row_hash_sum(&batch)?);
    }
    Ok(verified)
}

fn build(bytes: Bytes, projection: &Projection) -> Result<ParquetRecordBatchReader> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(Error::Decode)?;
    let mask = match projection {
        Projection::All => ProjectionMask::all(),
        Projection::Columns(names) => {
            let root = builder.parquet_schema().root_schema();
            let position = |name: &String| {
                let found = root.get_fields().iter().position(|field| field.name() == name);
                found.ok_or_else(|| Error::NoSuchColumn { column: name.clone() })
            };
            let roots = names.iter().map(position).collect::<Result<Vec<_>>>()?;
            ProjectionMask::roots(builder.parquet_schema(), roots)
        }
    };
    builder.with_projection(mask).with_batch_size(READ_BATCH_ROWS).build().map_err(Error::Decode)
}

struct Batches {
    reader: Option<ParquetRecordBatchReader>,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let next = guarded(|| reader.next().transpose().map_err(Error::Page)).transpose();
        if next.as_ref().is_none_or(Result::is_err) {
            self.reader = None;
        }
        next
    }
}

/// Turns a decoder's panic on damaged bytes into an error.
///
/// The decoder indexes by lengths that the file claims. Its state is dropped after a panic and never used.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::DecoderPanicked))
}
