//! Large batches cut into pieces that one entry each can carry.
//!
//! It must not reorder rows. Invariant: the pieces' rows, one after the other, are the batch's rows, and
//! every body fits its limit.

use alluvium_types::KeyBlock;
use alluvium_types::limits::{BATCH_ROWS_MAX, BODY_BYTES_MAX};
use arrow::array::RecordBatch;
use bytes::Bytes;

use crate::ipc::{encode_body, join_keys};
use crate::size::slice_bytes;
use crate::{Error, KeyEncoder};

/// The rows of one entry.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The position of its first row in the batch.
    pub first_row: usize,
    /// How many rows.
    pub rows: u32,
    /// Bytes of the Arrow part of the body.
    pub rows_bytes: u32,
    /// The keys of its rows, for an upsert.
    pub keys: Option<KeyBlock>,
    /// The entry's body.
    pub body: Bytes,
}

/// Cuts a conformed batch into entry bodies, with a key block in each when `keys` is given.
///
/// # Errors
/// [`Error::RowTooLarge`] for a row that no entry can carry; a key twice within one piece is
/// `types::Error::DuplicateKey` with the rows' positions in the batch.
pub fn split(batch: &RecordBatch, keys: Option<&KeyEncoder>) -> Result<Vec<Piece>, Error> {
    split_within(batch, keys, BODY_BYTES_MAX)
}

/// As [`split`], with another limit of a body.
pub(crate) fn split_within(
    batch: &RecordBatch,
    keys: Option<&KeyEncoder>,
    limit: u32,
) -> Result<Vec<Piece>, Error> {
    let mut pieces = Vec::new();
    // Ranges still to encode, the next one last.
    let mut ranges = vec![(0, batch.num_rows())];
    while let Some((start, rows)) = ranges.pop() {
        if rows == 0 {
            continue;
        }
        let parts = parts_needed(&batch.slice(start, rows), limit);
        if 1 < parts {
            let step = rows.div_ceil(parts);
            let starts = (start..start + rows).step_by(step).rev();
            ranges.extend(starts.map(|from| (from, step.min(start + rows - from))));
            continue;
        }
        let piece = encode(batch, start, rows, keys)?;
        let bytes = piece.body.len() as u64;
        if bytes <= u64::from(limit) {
            pieces.push(piece);
        } else if rows == 1 {
            return Err(Error::RowTooLarge { row: start, bytes, limit: u64::from(limit) });
        } else {
            let half = rows / 2;
            ranges.extend([(start + half, rows - half), (start, half)]);
        }
    }
    let total: u64 = pieces.iter().map(|piece| u64::from(piece.rows)).sum();
    assert!(total == batch.num_rows() as u64, "splitting lost or made rows");
    Ok(pieces)
}

/// Returns in how many parts the rows must be cut at least, by an estimate; never more than there are rows.
fn parts_needed(rows: &RecordBatch, limit: u32) -> usize {
    let by_bytes = slice_bytes(rows).div_ceil(u64::from(limit));
    let by_rows = (rows.num_rows() as u64).div_ceil(u64::from(BATCH_ROWS_MAX));
    let parts = usize::try_from(by_bytes.max(by_rows)).unwrap_or(usize::MAX);
    parts.min(rows.num_rows())
}

fn encode(
    batch: &RecordBatch,
    first_row: usize,
    rows: usize,
    keys: Option<&KeyEncoder>,
) -> Result<Piece, Error> {
    let part = batch.slice(first_row, rows);
    let arrow = encode_body(&part)?;
    let rows_bytes = u32::try_from(arrow.len()).map_err(|_large| Error::RowTooLarge {
        row: first_row,
        bytes: arrow.len() as u64,
        limit: u64::from(u32::MAX),
    })?;
    let keys = keys.map(|keys| keys.unique_block_from(&part, first_row as u64)).transpose()?;
    let body = match &keys {
        Some(keys) => join_keys(&arrow, keys),
        None => arrow,
    };
    let rows = u32::try_from(rows).expect("parts_needed keeps a piece below BATCH_ROWS_MAX rows");
    Ok(Piece { first_row, rows, rows_bytes, keys, body })
}

#[cfg(test)]
mod tests;
