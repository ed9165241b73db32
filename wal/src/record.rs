//! The record: a header of 128 bytes, a payload that starts 64-byte aligned, and padding.
//!
//! Byte table: `docs/formats/wal.md`. This file codes and checks single records and knows nothing
//! of files. Invariant: a record that decodes is exactly what some `encode` returned, byte for
//! byte.

use crate::fields::{FieldReader, FieldWriter};
use crate::ids::{Lsn, SegmentSeq, StreamId};
use crate::limits;
use crate::number::{gap, sum, u64_of, usize_of};

/// The version that this code writes, and the highest that it reads.
pub const RECORD_VERSION: u16 = 1;
/// The first four bytes of every record.
pub const RECORD_MAGIC: [u8; 4] = *b"ALVR";

pub(crate) const HEADER_LEN: usize = 128;
const CRC_LEN: usize = 4;
const _: () = assert!(HEADER_LEN as u64 == limits::RECORD_HEADER_BYTES);

/// What a record does to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Appends a payload at `index`.
    Entry,
    /// Drops the entries behind `index`, or all of them; `tag` is that of the new last entry.
    Truncate,
    /// Drops the entries up to and including `index`, whose tag is `tag`.
    Purge,
    /// Replaces the value of a slot.
    Slot,
    /// Opens a summary: `tag` records follow that say all that older segments are needed for,
    /// besides entries. `index` counts the times that the log was opened.
    Checkpoint,
    /// Part of a summary: the first, last and purged positions of one stream.
    Base,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Truncate => 2,
            Self::Purge => 3,
            Self::Slot => 4,
            Self::Checkpoint => 5,
            Self::Base => 6,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Entry),
            2 => Some(Self::Truncate),
            3 => Some(Self::Purge),
            4 => Some(Self::Slot),
            5 => Some(Self::Checkpoint),
            6 => Some(Self::Base),
            _ => None,
        }
    }
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the record does.
    pub kind: Kind,
    /// For [`Kind::Truncate`]: true when nothing stays, and `index` means nothing.
    pub all: bool,
    /// The stream it does it to.
    pub stream: StreamId,
    /// The slot, for [`Kind::Slot`].
    pub slot: u16,
    /// Bytes of the payload.
    pub payload_len: u32,
    /// Its position in the physical log.
    pub lsn: Lsn,
    /// The segment it was written to.
    pub segment: SegmentSeq,
    /// The fingerprint of that segment's header: a stale record of a recycled file has another.
    pub life: u64,
    /// The highest position that was known to be synced when this record was encoded.
    pub durable: Lsn,
    /// The index in its stream.
    pub index: u64,
    /// The caller's tag.
    pub tag: u128,
    /// The hash of the record before it in the physical log.
    pub prev_hash: u128,
    /// The xxh3-128 of the payload.
    pub payload_hash: u128,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// The bytes do not begin with the magic of a record.
    #[error("no record begins here")]
    NoMagic,
    /// The header's checksum does not match.
    #[error("header checksum does not match")]
    HeaderChecksum,
    /// A newer version wrote this record, and its header is intact.
    #[error("record of version {0}")]
    NewerVersion(u16),
    /// The header is intact and names a kind, flag or length that this version does not have.
    #[error("header names what this version does not know")]
    UnknownField,
    /// The payload does not have the hash that the header names.
    #[error("payload hash does not match")]
    PayloadHash,
    /// The padding behind the payload is not zero.
    #[error("padding is not zero")]
    Padding,
    /// The record runs over the end of its segment.
    #[error("record runs over the end of its segment")]
    OverEnd,
}

/// Returns the xxh3-128 of `payload`, as the header carries it.
#[must_use]
pub fn payload_hash(payload: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(payload)
}

/// Returns the hash that the next record carries as `prev_hash`.
///
/// It covers the encoded header, and through it the payload's hash and all records before.
#[must_use]
pub fn chain_hash(header: &[u8; HEADER_LEN]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(header)
}

/// Returns the bytes that a record with such a payload takes in its segment, padding included.
#[must_use]
pub fn record_bytes(payload_len: u64) -> u64 {
    sum(limits::RECORD_HEADER_BYTES, payload_len).next_multiple_of(limits::ALIGNMENT)
}

/// Returns the zeros between the end of such a payload and the next record.
pub(crate) fn padding_bytes(payload_len: u64) -> u64 {
    gap(payload_len.next_multiple_of(limits::ALIGNMENT), payload_len)
}

impl Header {
    /// Returns the bytes of this header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut fields = FieldWriter::new(&mut bytes);
        fields.bytes(&RECORD_MAGIC);
        fields.u16(RECORD_VERSION);
        fields.u8(self.kind.code());
        fields.u8(u8::from(self.all));
        fields.u32(self.stream.0);
        fields.u32(self.payload_len);
        fields.u64(self.lsn.0);
        fields.u64(self.segment.0);
        fields.u64(self.life);
        fields.u64(self.durable.0);
        fields.u64(self.index);
        fields.u16(self.slot);
        fields.bytes(&[0; 6]);
        fields.u128(self.tag);
        fields.u128(self.prev_hash);
        fields.u128(self.payload_hash);
        fields.zeros_until_last(CRC_LEN);
        let crc = header_crc(&bytes);
        let (_, place) = bytes.split_last_chunk_mut::<CRC_LEN>().expect("the header is longer");
        *place = crc.to_le_bytes();
        bytes
    }

    /// Reads a header and checks all of it: what decodes encodes to the same bytes.
    ///
    /// # Errors
    /// The [`Defect`] of the header. The payload is not looked at.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, Defect> {
        let mut fields = FieldReader::new(bytes);
        if fields.array() != RECORD_MAGIC {
            return Err(Defect::NoMagic);
        }
        let (_, crc) = bytes.split_last_chunk::<CRC_LEN>().expect("the header is longer");
        if header_crc(bytes) != u32::from_le_bytes(*crc) {
            return Err(Defect::HeaderChecksum);
        }
        let version = fields.u16();
        if version > RECORD_VERSION {
            return Err(Defect::NewerVersion(version));
        }
        let kind = Kind::from_code(fields.u8()).ok_or(Defect::UnknownField)?;
        let flags = fields.u8();
        let header = Self {
            kind,
            all: flags == 1,
            stream: StreamId(fields.u32()),
            payload_len: fields.u32(),
            lsn: Lsn(fields.u64()),
            segment: SegmentSeq(fields.u64()),
            life: fields.u64(),
            durable: Lsn(fields.u64()),
            index: fields.u64(),
            slot: fields.u16(),
            tag: {
                let reserved: [u8; 6] = fields.array();
                if reserved != [0; 6] {
                    return Err(Defect::UnknownField);
                }
                fields.u128()
            },
            prev_hash: fields.u128(),
            payload_hash: fields.u128(),
        };
        let known =
            version == RECORD_VERSION && flags <= 1 && fields.only_zeros_until_last(CRC_LEN);
        let fits = u64::from(header.payload_len) <= limits::PAYLOAD_BYTES_MAX;
        if known && fits { Ok(header) } else { Err(Defect::UnknownField) }
    }

    /// Returns `bytes` with a checksum that fits them: for tests that look behind the checksum.
    #[doc(hidden)]
    #[must_use]
    pub fn reseal(bytes: &[u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
        let mut sealed = *bytes;
        let crc = header_crc(bytes);
        let (_, place) = sealed.split_last_chunk_mut::<CRC_LEN>().expect("the header is longer");
        *place = crc.to_le_bytes();
        sealed
    }

    /// Returns the bytes of the whole record in its segment.
    #[must_use]
    pub fn record_bytes(&self) -> u64 {
        record_bytes(u64::from(self.payload_len))
    }

    /// Checks what follows the header: the payload, and `padding` when the caller has read it.
    ///
    /// # Errors
    /// The [`Defect`] of the payload or of the padding.
    pub fn check_payload(&self, payload: &[u8], padding: &[u8]) -> Result<(), Defect> {
        assert_eq!(payload.len(), usize_of(u64::from(self.payload_len)), "sliced by the header");
        if payload_hash(payload) != self.payload_hash {
            return Err(Defect::PayloadHash);
        }
        if padding.iter().any(|&byte| byte != 0) {
            return Err(Defect::Padding);
        }
        Ok(())
    }
}

/// Decodes the record at the start of `bytes`: header, payload and padding.
///
/// # Errors
/// The first [`Defect`] found.
pub fn decode(bytes: &[u8]) -> Result<(Header, &[u8]), Defect> {
    let (head, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Defect::OverEnd)?;
    let header = Header::decode(head)?;
    if u64_of(bytes.len()) < header.record_bytes() {
        return Err(Defect::OverEnd);
    }
    let payload_len = u64::from(header.payload_len);
    let (payload, rest) = rest.split_at(usize_of(payload_len));
    let (padding, _) = rest.split_at(usize_of(padding_bytes(payload_len)));
    header.check_payload(payload, padding)?;
    Ok((header, payload))
}

fn header_crc(bytes: &[u8; HEADER_LEN]) -> u32 {
    let (covered, _) = bytes.split_last_chunk::<CRC_LEN>().expect("the header is longer");
    crc32c::crc32c(covered)
}

#[cfg(test)]
mod tests;
