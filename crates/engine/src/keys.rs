//! Keys of whole requests: sorting rows by key, and cutting key sets into blocks that entries can carry.

use alluvium_rows::KeyEncoder;
use alluvium_types::limits::{BODY_BYTES_MAX, KEYS_PER_BLOCK_MAX};
use alluvium_types::{KeyBlock, KeyBlockBuilder};
use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::record_batch::RecordBatch;

use crate::Error;

/// Bytes of keys and offsets in one block of a staged tombstone; half a body leaves room for any layout.
const BLOCK_BYTES: usize = BODY_BYTES_MAX as usize / 2;

/// Returns the rows sorted by key.
///
/// Refuses a key that occurs twice, with the numbers of its rows.
pub(crate) fn sort_unique(encoder: &KeyEncoder, batch: &RecordBatch) -> Result<RecordBatch, Error> {
    let mut keys: Vec<(Vec<u8>, u32)> = Vec::with_capacity(batch.num_rows());
    encoder.encode_rows(batch, |row, key| {
        let row = u32::try_from(row).expect("a batch in memory has fewer than 2^32 rows");
        keys.push((key.to_vec(), row));
        Ok(())
    })?;
    keys.sort_unstable();
    if let Some(pair) = keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let (first, second) = (u64::from(pair[0].1), u64::from(pair[1].1));
        return Err(Error::Invalid(alluvium_types::Error::DuplicateKey { first, second }));
    }
    let order = UInt32Array::from_iter_values(keys.into_iter().map(|(_, row)| row));
    Ok(take_record_batch(batch, &order).map_err(alluvium_rows::Error::from)?)
}

/// Returns the distinct keys of batches that have exactly the key columns.
pub(crate) fn of_batches(
    encoder: &KeyEncoder,
    batches: &[RecordBatch],
) -> Result<Vec<KeyBlock>, Error> {
    let mut keys = Vec::new();
    for batch in batches {
        // Checks the columns; the block itself may be too small for a part's share.
        let block = encoder.from_key_batch(batch)?;
        keys.extend(block.iter().map(<[u8]>::to_vec));
    }
    blocks_of(keys)
}

/// Returns the distinct keys of texts, one for each key column.
pub(crate) fn of_texts(
    encoder: &KeyEncoder,
    texts: &[Vec<String>],
) -> Result<Vec<KeyBlock>, Error> {
    let parse = |texts: &Vec<String>| {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        encoder.parse_texts(&texts)
    };
    blocks_of(texts.iter().map(parse).collect::<Result<_, _>>()?)
}

/// Cuts keys into blocks whose keys ascend from block to block.
pub(crate) fn blocks_of(mut keys: Vec<Vec<u8>>) -> Result<Vec<KeyBlock>, Error> {
    keys.sort_unstable();
    keys.dedup();
    let mut blocks = Vec::new();
    let (mut builder, mut bytes, mut count) = (KeyBlockBuilder::default(), 0, 0);
    for (row, key) in (0..).zip(keys) {
        let size = key.len() + size_of::<u32>();
        if bytes + size > BLOCK_BYTES || count == KEYS_PER_BLOCK_MAX {
            blocks.push(std::mem::take(&mut builder).build_set()?);
            (bytes, count) = (0, 0);
        }
        builder.push(key, row)?;
        bytes += size;
        count += 1;
    }
    if count > 0 {
        blocks.push(builder.build_set()?);
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cut_into_ascending_blocks_without_repeats() {
        let keys = |range: std::ops::Range<u32>| range.map(|n| n.to_be_bytes().to_vec());
        let count = u32::try_from(BLOCK_BYTES / 8 * 2 + 5).expect("fits");
        let blocks = blocks_of(keys(0..count).chain(keys(0..100)).collect()).expect("legal keys");
        assert_eq!(blocks.len(), 3);
        assert_eq!(blocks.iter().map(KeyBlock::len).sum::<u32>(), count);
        let bounds: Vec<_> = blocks.iter().filter_map(KeyBlock::bounds).collect();
        assert!(bounds.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn no_key_is_no_block() {
        assert_eq!(blocks_of(Vec::new()).expect("nothing"), []);
    }
}
