//! The durable watermark: the highest position known to be synced, outside the log that it judges.
//!
//! Two slots are written in turn, so that a torn write of one leaves the other. It trails the truth
//! by at most the idle time; records carry the same knowledge forward as `durable`. It must never
//! name a position that was not synced. Invariant: generation `g` is in slot `g % 2`.

use std::io::IoSlice;
use std::sync::Arc;

use crate::error::{Error, IoOperation};
use crate::fields::{FieldReader, FieldWriter};
use crate::ids::{Lsn, Owner, SegmentSeq};
use crate::limits;
use crate::number::{sum, usize_of};
use crate::storage::{Access, Storage, StorageFile};

/// The name of the watermark's file.
pub const WATERMARK_NAME: &str = "watermark";
/// The first eight bytes of a slot.
pub const WATERMARK_MAGIC: [u8; 8] = *b"ALVWMARK";
/// The version of a slot.
pub const WATERMARK_VERSION: u16 = 1;

const SLOT_LEN: usize = 4096;
const CRC_LEN: usize = 4;
const _: () = assert!(SLOT_LEN as u64 == limits::WATERMARK_SLOT_BYTES);

/// What is known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// Whose log.
    pub owner: Owner,
    /// Counts the writes.
    pub generation: u64,
    /// All records up to here were synced; zero before the first.
    pub lsn: Lsn,
    /// The chain hash of the record at `lsn`.
    pub hash: u128,
    /// The newest segment that exists; zero before the first.
    pub segment: SegmentSeq,
}

impl Watermark {
    /// Returns the bytes of a slot.
    #[must_use]
    pub fn encode(&self) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        let mut fields = FieldWriter::new(&mut bytes);
        fields.bytes(&WATERMARK_MAGIC);
        fields.u16(WATERMARK_VERSION);
        fields.bytes(&[0; 6]);
        fields.u128(self.owner.cluster);
        fields.u64(self.owner.node);
        fields.u64(self.generation);
        fields.u64(self.lsn.0);
        fields.u64(self.segment.0);
        fields.u128(self.hash);
        fields.zeros_until_last(CRC_LEN);
        let crc = slot_crc(&bytes);
        let (_, place) = bytes.split_last_chunk_mut::<CRC_LEN>().expect("the slot is longer");
        *place = crc.to_le_bytes();
        bytes
    }

    /// Reads a slot; nothing when any byte of it is not as it was written.
    #[must_use]
    pub fn decode(bytes: &[u8; SLOT_LEN]) -> SlotContent {
        let mut fields = FieldReader::new(bytes);
        let magic: [u8; 8] = fields.array();
        let (_, crc) = bytes.split_last_chunk::<CRC_LEN>().expect("the slot is longer");
        if magic != WATERMARK_MAGIC || slot_crc(bytes) != u32::from_le_bytes(*crc) {
            return SlotContent::Damaged;
        }
        let version = fields.u16();
        if version > WATERMARK_VERSION {
            return SlotContent::Newer(version);
        }
        let reserved: [u8; 6] = fields.array();
        let owner = Owner { cluster: fields.u128(), node: fields.u64() };
        let generation = fields.u64();
        let lsn = Lsn(fields.u64());
        let segment = SegmentSeq(fields.u64());
        let watermark = Self { owner, generation, lsn, hash: fields.u128(), segment };
        if reserved == [0; 6]
            && version == WATERMARK_VERSION
            && fields.only_zeros_until_last(CRC_LEN)
        {
            SlotContent::Valid(watermark)
        } else {
            SlotContent::Damaged
        }
    }
}

/// What a slot of the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotContent {
    /// A whole watermark.
    Valid(Watermark),
    /// Bytes that are no watermark.
    Damaged,
    /// An intact slot of a newer version.
    Newer(u16),
}

/// What was found when the file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// The newer of the valid slots, if any is valid.
    pub(crate) watermark: Option<Watermark>,
    /// How many slots were not valid.
    pub(crate) damaged_slots: u32,
}

/// Reads the file: both slots, without judging what they say.
pub(crate) fn read(storage: &dyn Storage, owner: Owner) -> Result<Found, Error> {
    let io = |source| Error::io(IoOperation::ReadWatermark, WATERMARK_NAME, source);
    let file = storage.open(WATERMARK_NAME, Access::Read).map_err(io)?;
    let len = file.len().map_err(io)?;
    let mut found = Found { watermark: None, damaged_slots: 0 };
    for slot in 0..2_u64 {
        let offset = slot.saturating_mul(limits::WATERMARK_SLOT_BYTES);
        if len < sum(offset, limits::WATERMARK_SLOT_BYTES) {
            found.damaged_slots = found.damaged_slots.saturating_add(1);
            continue;
        }
        let mut bytes = [0; SLOT_LEN];
        file.read_at(offset, &mut bytes).map_err(io)?;
        match Watermark::decode(&bytes) {
            SlotContent::Valid(watermark) => {
                if watermark.owner != owner {
                    return Err(Error::Foreign {
                        file: WATERMARK_NAME.to_owned(),
                        expected: owner,
                        found: watermark.owner,
                    });
                }
                let newer = found.watermark.is_none_or(|w| w.generation < watermark.generation);
                if newer {
                    found.watermark = Some(watermark);
                }
            }
            SlotContent::Damaged => found.damaged_slots = found.damaged_slots.saturating_add(1),
            SlotContent::Newer(version) => {
                return Err(Error::NewerFormat { file: WATERMARK_NAME.to_owned(), version });
            }
        }
    }
    Ok(found)
}

/// The open file, and the last watermark written to it.
#[derive(Debug)]
pub(crate) struct WatermarkFile {
    file: Arc<dyn StorageFile>,
    last: Watermark,
}

impl WatermarkFile {
    /// Creates the file with both slots at position zero, and syncs it and its name.
    pub(crate) fn create(storage: &dyn Storage, owner: Owner) -> Result<Self, Error> {
        let io = |source| Error::io(IoOperation::CreateWatermark, WATERMARK_NAME, source);
        let last = Watermark {
            owner,
            generation: 1,
            lsn: Lsn(0),
            hash: crate::segment::genesis_hash(owner),
            segment: SegmentSeq(0),
        };
        let file = storage.create(WATERMARK_NAME, Access::WriteThrough).map_err(io)?;
        let older = Watermark { generation: 0, ..last };
        file.write_at(0, &mut [IoSlice::new(&older.encode()), IoSlice::new(&last.encode())])
            .map_err(io)?;
        file.sync_data().map_err(io)?;
        storage.sync_dir().map_err(io)?;
        Ok(Self { file, last })
    }

    /// Opens the file that [`read`] found `last` in, and writes `last` again.
    ///
    /// A write that failed before the process ended may show in the cache and not be on the disk.
    /// The next write goes to the other slot, which may be the only one that is: so `last` is made
    /// durable first.
    pub(crate) fn open(storage: &dyn Storage, last: Watermark) -> Result<Self, Error> {
        let io = |source| Error::io(IoOperation::WriteWatermark, WATERMARK_NAME, source);
        let file = storage.open(WATERMARK_NAME, Access::WriteThrough).map_err(io)?;
        let opened = Self { file, last };
        opened.write(&last).map_err(io)?;
        Ok(opened)
    }

    pub(crate) fn last(&self) -> Watermark {
        self.last
    }

    /// Moves the watermark forward; when this returns, it is durable.
    pub(crate) fn advance(
        &mut self,
        lsn: Lsn,
        hash: u128,
        segment: SegmentSeq,
    ) -> std::io::Result<()> {
        assert!(self.last.lsn <= lsn, "the watermark never goes back: {} to {lsn}", self.last.lsn);
        assert!(self.last.segment <= segment, "segments are not unmade");
        let generation = sum(self.last.generation, 1);
        let next = Watermark { generation, lsn, hash, segment, ..self.last };
        self.write(&next)?;
        self.last = next;
        Ok(())
    }

    fn write(&self, watermark: &Watermark) -> std::io::Result<()> {
        let slot = watermark.generation.checked_rem(2).expect("two is not zero");
        let offset = slot.saturating_mul(limits::WATERMARK_SLOT_BYTES);
        self.file.write_at(offset, &mut [IoSlice::new(&watermark.encode())])
    }
}

fn slot_crc(bytes: &[u8; SLOT_LEN]) -> u32 {
    let (covered, _) = bytes.split_last_chunk::<CRC_LEN>().expect("the slot is longer");
    debug_assert_eq!(usize_of(limits::WATERMARK_SLOT_BYTES), SLOT_LEN);
    crc32c::crc32c(covered)
}

#[cfg(test)]
mod tests;
