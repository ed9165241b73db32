//! Canonical keys: the bytes by which tombstones and upserts name rows.
//!
//! Two rows have the same key exactly when their encoded keys are the same bytes, and the order of the bytes
//! is the order of the values. The layout follows FoundationDB's tuple layer (escaped, terminated strings;
//! big-endian integers with the sign bit flipped). Integers are encoded at 64 bits whatever their column's
//! width, so widening a key column keeps its keys.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Error;
use crate::limits::{KEY_BYTES_MAX, KEYS_PER_BLOCK_MAX};

/// One column's value within a key. Never NULL: key columns are not nullable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyValue<'a> {
    /// A truth value.
    Bool(bool),
    /// A signed integer, a date, a time or a timestamp in its column's unit.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// Text.
    Utf8(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A decimal, unscaled.
    Decimal(i128),
}

const TAG_FALSE: u8 = 0x01;
const TAG_TRUE: u8 = 0x02;
const TAG_INT: u8 = 0x10;
const TAG_UINT: u8 = 0x11;
const TAG_UTF8: u8 = 0x20;
const TAG_BYTES: u8 = 0x21;
const TAG_DECIMAL: u8 = 0x30;

/// Appends the encoding of a key to `out`.
pub fn encode_key<'a>(values: impl IntoIterator<Item = KeyValue<'a>>, out: &mut Vec<u8>) {
    for value in values {
        match value {
            KeyValue::Bool(false) => out.push(TAG_FALSE),
            KeyValue::Bool(true) => out.push(TAG_TRUE),
            KeyValue::Int(number) => {
                out.push(TAG_INT);
                out.extend_from_slice(&(number ^ i64::MIN).to_be_bytes());
            }
            KeyValue::UInt(number) => {
                out.push(TAG_UINT);
                out.extend_from_slice(&number.to_be_bytes());
            }
            KeyValue::Utf8(text) => escape(TAG_UTF8, text.as_bytes(), out),
            KeyValue::Bytes(bytes) => escape(TAG_BYTES, bytes, out),
            KeyValue::Decimal(number) => {
                out.push(TAG_DECIMAL);
                out.extend_from_slice(&(number ^ i128::MIN).to_be_bytes());
            }
        }
    }
}

/// Zero bytes are followed by 0xFF and the end is a lone zero: no tag is 0xFF, so no two keys collide.
fn escape(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.push(0);
}

/// Encoded keys, strictly ascending.
///
/// Layout, little-endian: `u32` count, count + 1 `u32` offsets into the keys, then the keys' bytes.
/// Invariant: offsets ascend, keys strictly ascend, nothing follows the last key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyBlock {
    bytes: Bytes,
    count: u32,
}

impl KeyBlock {
    /// Checks the layout and the order of a block that came from outside.
    ///
    /// # Errors
    /// [`Error::KeyBlock`] with what is wrong.
    pub fn parse(bytes: Bytes) -> Result<Self, Error> {
        let count = read_u32(&bytes, 0).ok_or(damaged("it has no count"))?;
        if count > KEYS_PER_BLOCK_MAX {
            let limit = KEYS_PER_BLOCK_MAX;
            return Err(Error::TooManyKeys { limit, count: u64::from(count) });
        }
        let block = Self { bytes, count };
        block.check_offsets()?;
        block.check_order()?;
        Ok(block)
    }

    fn check_offsets(&self) -> Result<(), Error> {
        let room = self.bytes.len().checked_sub(self.keys_start());
        let room = room.ok_or(damaged("it is shorter than its offsets"))?;
        let mut previous = 0;
        for position in 0..=self.count {
            let offset = self.offset(position).ok_or(damaged("an offset is missing"))?;
            let starts_right = position > 0 || offset == 0;
            if offset < previous || !starts_right {
                return Err(damaged("its offsets do not ascend from zero"));
            }
            if offset - previous > KEY_BYTES_MAX {
                return Err(Error::KeyTooLong { limit: KEY_BYTES_MAX, length: offset - previous });
            }
            previous = offset;
        }
        if previous == room { Ok(()) } else { Err(damaged("its keys do not fill it")) }
    }

    fn check_order(&self) -> Result<(), Error> {
        let mut keys = self.iter();
        let Some(mut previous) = keys.next() else { return Ok(()) };
        for key in keys {
            if previous >= key {
                return Err(damaged("its keys do not strictly ascend"));
            }
            previous = key;
        }
        Ok(())
    }

    /// Returns how many keys there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Says whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the block's bytes, as [`KeyBlock::parse`] takes them.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the keys in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + '_ {
        (0..self.count as usize).map(|position| self.key(position))
    }

    /// Returns the first and last key, if there is one.
    #[must_use]
    pub fn bounds(&self) -> Option<(&[u8], &[u8])> {
        let last = self.count.checked_sub(1)? as usize;
        Some((self.key(0), self.key(last)))
    }

    /// Says whether the key is in the block, by binary search.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        let (mut low, mut high) = (0, self.count as usize);
        while low < high {
            let middle = low.midpoint(high);
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        false
    }

    fn key(&self, position: usize) -> &[u8] {
        let at = |position: usize| {
            let position = u32::try_from(position).expect("a block has fewer than 2^32 keys");
            self.keys_start() + self.offset(position).expect("offsets were checked by parse")
        };
        &self.bytes[at(position)..at(position + 1)]
    }

    fn keys_start(&self) -> usize {
        4 + 4 * (self.count as usize + 1)
    }

    fn offset(&self, position: u32) -> Option<usize> {
        read_u32(&self.bytes, 4 + 4 * position as usize).map(|offset| offset as usize)
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

fn damaged(reason: &'static str) -> Error {
    Error::KeyBlock { reason }
}

/// Collects keys in any order into a block.
#[derive(Debug, Default)]
pub struct KeyBlockBuilder {
    keys: Vec<(Vec<u8>, u64)>,
}

impl KeyBlockBuilder {
    /// Adds the encoded key of the row numbered `row`.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`].
    pub fn push(&mut self, key: Vec<u8>, row: u64) -> Result<(), Error> {
        if key.len() > KEY_BYTES_MAX {
            return Err(Error::KeyTooLong { limit: KEY_BYTES_MAX, length: key.len() });
        }
        self.keys.push((key, row));
        Ok(())
    }

    /// Returns the block; equal keys become one, as a tombstone wants it.
    ///
    /// # Errors
    /// [`Error::TooManyKeys`].
    pub fn build_set(mut self) -> Result<KeyBlock, Error> {
        self.keys.sort_unstable();
        self.keys.dedup_by(|later, earlier| later.0 == earlier.0);
        write_block(&self.keys)
    }

    /// Returns the block; two equal keys are an error, as an upsert wants it.
    ///
    /// # Errors
    /// [`Error::DuplicateKey`] with the two rows, [`Error::TooManyKeys`].
    pub fn build_unique(mut self) -> Result<KeyBlock, Error> {
        self.keys.sort_unstable();
        match self.keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(Error::DuplicateKey { first: pair[0].1, second: pair[1].1 }),
            None => write_block(&self.keys),
        }
    }
}

fn write_block(keys: &[(Vec<u8>, u64)]) -> Result<KeyBlock, Error> {
    let too_many = |_| Error::TooManyKeys { limit: KEYS_PER_BLOCK_MAX, count: keys.len() as u64 };
    let count = u32::try_from(keys.len()).map_err(too_many)?;
    if count > KEYS_PER_BLOCK_MAX {
        return Err(Error::TooManyKeys { limit: KEYS_PER_BLOCK_MAX, count: u64::from(count) });
    }
    let total: usize = keys.iter().map(|(key, _)| key.len()).sum();
    let mut bytes = BytesMut::with_capacity(8 + 4 * keys.len() + total);
    bytes.put_u32_le(count);
    let mut offset = 0_usize;
    bytes.put_u32_le(0);
    for (key, _) in keys {
        offset += key.len();
        let limit = u64::from(u32::MAX);
        let too_large = |_| Error::TooLarge { part: "key block", length: total as u64, limit };
        bytes.put_u32_le(u32::try_from(offset).map_err(too_large)?);
    }
    keys.iter().for_each(|(key, _)| bytes.put_slice(key));
    Ok(KeyBlock { bytes: bytes.freeze(), count })
}

#[cfg(test)]
mod tests;
