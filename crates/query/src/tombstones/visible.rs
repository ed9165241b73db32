//! Leaves hidden rows out of a batch.

use datafusion::arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::error::ArrowError;
use roaring::RoaringBitmap;

/// Returns the rows of a batch that are not hidden; its first row is at `position` of what `hidden` counts.
pub(crate) fn visible(
    batch: &RecordBatch,
    hidden: &RoaringBitmap,
    position: u32,
) -> Result<RecordBatch, ArrowError> {
    let rows = u32::try_from(batch.num_rows()).expect("a batch has fewer than 2^32 rows");
    let end = position.checked_add(rows).expect("a delta has fewer than 2^32 rows");
    if hidden.range_cardinality(position..end) == 0 {
        return Ok(batch.clone());
    }
    let mut mask = BooleanBufferBuilder::new(batch.num_rows());
    mask.append_n(batch.num_rows(), true);
    for row in hidden.range(position..end) {
        mask.set_bit((row - position) as usize, false);
    }
    filter_record_batch(batch, &BooleanArray::new(mask.finish(), None))
}
