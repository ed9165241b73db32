//! The segment: a preallocated file with a header that binds it to its owner and to the log before
//! it.
//!
//! The header is synced before the file gets its name, so a named segment without a whole header is
//! damage, never a crash. Invariant: a name holds the same number as the header behind it.

use crate::fields::{FieldReader, FieldWriter};
use crate::ids::{Lsn, Owner, SegmentSeq};
use crate::limits;
use crate::number::{gap, usize_of};

/// The version of the segment header.
pub const SEGMENT_VERSION: u16 = 1;
/// The first eight bytes of every segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"ALVSEGMT";

pub(crate) const HEADER_LEN: usize = 4096;
const CRC_LEN: usize = 4;
const _: () = assert!(HEADER_LEN as u64 == limits::SEGMENT_HEADER_BYTES);

/// What the names of segment files begin with; the rest is the number, so that they sort by age.
pub const SEGMENT_PREFIX: &str = "segment-";
const SPARE_PREFIX: &str = "spare-";
const SUFFIX: &str = ".wal";
/// Digits of the number in a name: all of a `u64`, so that names sort like numbers.
const DIGITS: usize = 20;

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Who may read it.
    pub owner: Owner,
    /// Its number.
    pub seq: SegmentSeq,
    /// The position of its first record. All records before it were synced when this was written.
    pub first_lsn: Lsn,
    /// Bytes of the file.
    pub segment_bytes: u64,
    /// The hash of the last record before it.
    pub prev_hash: u128,
}

/// Why bytes are not a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderDefect {
    /// The bytes do not begin with the magic of a segment.
    #[error("no segment begins here")]
    NoMagic,
    /// The checksum does not match.
    #[error("segment header checksum does not match")]
    Checksum,
    /// A newer version wrote it, and it is intact.
    #[error("segment of version {0}")]
    NewerVersion(u16),
    /// It is intact and holds what this version does not know.
    #[error("segment header holds what this version does not know")]
    UnknownField,
}

impl SegmentHeader {
    /// Returns the bytes of this header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut fields = FieldWriter::new(&mut bytes);
        fields.bytes(&SEGMENT_MAGIC);
        fields.u16(SEGMENT_VERSION);
        fields.u16(0);
        fields.u32(u32::try_from(HEADER_LEN).expect("4096 fits"));
        fields.u128(self.owner.cluster);
        fields.u64(self.owner.node);
        fields.u64(self.seq.0);
        fields.u64(self.first_lsn.0);
        fields.u64(self.segment_bytes);
        fields.u128(self.prev_hash);
        fields.zeros_until_last(CRC_LEN);
        let crc = header_crc(&bytes);
        let (_, place) = bytes.split_last_chunk_mut::<CRC_LEN>().expect("the header is longer");
        *place = crc.to_le_bytes();
        bytes
    }

    /// Reads a header and checks all of it.
    ///
    /// # Errors
    /// The [`HeaderDefect`].
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderDefect> {
        let mut fields = FieldReader::new(bytes);
        if fields.array() != SEGMENT_MAGIC {
            return Err(HeaderDefect::NoMagic);
        }
        let (_, crc) = bytes.split_last_chunk::<CRC_LEN>().expect("the header is longer");
        if header_crc(bytes) != u32::from_le_bytes(*crc) {
            return Err(HeaderDefect::Checksum);
        }
        let version = fields.u16();
        if version > SEGMENT_VERSION {
            return Err(HeaderDefect::NewerVersion(version));
        }
        let reserved = fields.u16();
        let header_len = fields.u32();
        let header = Self {
            owner: Owner { cluster: fields.u128(), node: fields.u64() },
            seq: SegmentSeq(fields.u64()),
            first_lsn: Lsn(fields.u64()),
            segment_bytes: fields.u64(),
            prev_hash: fields.u128(),
        };
        let sizes = limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_MAX;
        let known = version == SEGMENT_VERSION
            && reserved == 0
            && usize_of(u64::from(header_len)) == HEADER_LEN
            && sizes.contains(&header.segment_bytes)
            && header.segment_bytes.is_multiple_of(limits::ALIGNMENT)
            && fields.only_zeros_until_last(CRC_LEN);
        if known { Ok(header) } else { Err(HeaderDefect::UnknownField) }
    }

    /// Returns the fingerprint that every record of this life of the file carries.
    #[must_use]
    pub fn life(&self) -> u64 {
        let hash = xxhash_rust::xxh3::xxh3_128(&self.encode());
        u64::try_from(hash & u128::from(u64::MAX)).expect("masked to 64 bits")
    }
}

/// Returns the hash that the first record of a log carries as `prev_hash`.
#[must_use]
pub fn genesis_hash(owner: Owner) -> u128 {
    let mut bytes = [0; 40];
    let mut fields = FieldWriter::new(&mut bytes);
    fields.bytes(b"ALVGENESIS\0\0\0\0\0\0");
    fields.u128(owner.cluster);
    fields.u64(owner.node);
    xxhash_rust::xxh3::xxh3_128(&bytes)
}

/// Returns the bytes of a segment that records can take.
pub(crate) fn capacity(segment_bytes: u64) -> u64 {
    gap(segment_bytes, limits::SEGMENT_HEADER_BYTES)
}

/// What a file name in the log's directory stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment(SegmentSeq),
    Spare(u64),
    Watermark,
    Unknown,
}

/// Returns the name of a segment.
#[must_use]
pub fn segment_name(seq: SegmentSeq) -> String {
    format!("{SEGMENT_PREFIX}{:0DIGITS$}{SUFFIX}", seq.0)
}

/// Returns the name of a spare.
pub(crate) fn spare_name(number: u64) -> String {
    format!("{SPARE_PREFIX}{number:0DIGITS$}{SUFFIX}")
}

/// Reads a file name; a name that we would not have written is unknown.
pub(crate) fn classify(name: &str) -> FileKind {
    if name == crate::watermark::WATERMARK_NAME {
        return FileKind::Watermark;
    }
    match (number_of(name, SEGMENT_PREFIX), number_of(name, SPARE_PREFIX)) {
        (Some(seq), _) => FileKind::Segment(SegmentSeq(seq)),
        (None, Some(number)) => FileKind::Spare(number),
        (None, None) => FileKind::Unknown,
    }
}

fn number_of(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(SUFFIX)?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

fn header_crc(bytes: &[u8; HEADER_LEN]) -> u32 {
    let (covered, _) = bytes.split_last_chunk::<CRC_LEN>().expect("the header is longer");
    crc32c::crc32c(covered)
}

#[cfg(test)]
mod tests;
