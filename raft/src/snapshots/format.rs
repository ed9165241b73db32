//! The bytes around a snapshot's state: the file's header, and the head of each entry that it carries.
//!
//! `docs/formats/snapshot-file.md` describes them. It must not read or write files. Invariant: decoding what was
//! encoded gives the same value, and any other bytes are refused.

use alluvium_types::{LogIndex, limits::ENTRY_BYTES_MAX};

use crate::error::SnapshotFault;

/// The newest format of a snapshot file that this program reads, and the one it writes.
const FILE_VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"ALVF";
pub(super) const HEADER_BYTES: usize = 32;
pub(super) const HEAD_BYTES: usize = 40;
const KIND_ENTRY: u8 = 1;
const KIND_END: u8 = 2;

/// The file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The length of the state's stream, which follows. The carried entries follow it.
    pub(super) state_bytes: u64,
}

/// What stands before each carried entry, and behind the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    Entry(EntryHead),
    End { entries: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryHead {
    pub(super) index: LogIndex,
    /// Term and leader, as the log's tag.
    pub(super) tag: u128,
    pub(super) length: u32,
    /// The CRC-32C of its bytes.
    pub(super) checksum: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&FILE_VERSION.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.state_bytes.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, SnapshotFault> {
        if !bytes.starts_with(&MAGIC) || !is_sealed(bytes) {
            return Err(SnapshotFault::Header);
        }
        let found = u16::from_le_bytes([bytes[4], bytes[5]]);
        if FILE_VERSION < found {
            return Err(SnapshotFault::NewerFormat { found, supported: FILE_VERSION });
        }
        let header = Self { state_bytes: eight(bytes, 8) };
        match header.encode() == *bytes {
            true => Ok(header),
            false => Err(SnapshotFault::Header),
        }
    }
}

impl Head {
    pub(super) fn encode(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        match self {
            Self::Entry(entry) => {
                let tag = entry.tag.to_le_bytes();
                bytes[0] = KIND_ENTRY;
                bytes[4..8].copy_from_slice(&entry.length.to_le_bytes());
                bytes[8..16].copy_from_slice(&entry.index.0.to_le_bytes());
                // Little-endian, the leader's id is the first half of a tag; the file has the term first.
                let (leader, term) = tag.split_at(8);
                bytes[16..24].copy_from_slice(term);
                bytes[24..32].copy_from_slice(leader);
                bytes[32..36].copy_from_slice(&entry.checksum.to_le_bytes());
            }
            Self::End { entries } => {
                bytes[0] = KIND_END;
                bytes[8..16].copy_from_slice(&entries.to_le_bytes());
            }
        }
        seal(&mut bytes);
        bytes
    }

    /// Returns nothing for bytes that are no head.
    pub(super) fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        if !is_sealed(bytes) {
            return None;
        }
        let head = match bytes[0] {
            KIND_ENTRY => Self::Entry(EntryHead {
                index: LogIndex(eight(bytes, 8)),
                tag: u128::from(eight(bytes, 16)) << 64 | u128::from(eight(bytes, 24)),
                length: four(bytes, 4),
                checksum: four(bytes, 32),
            }),
            KIND_END => Self::End { entries: eight(bytes, 8) },
            _ => return None,
        };
        let is_possible = match head {
            Self::Entry(entry) => entry.length <= ENTRY_BYTES_MAX,
            Self::End { .. } => true,
        };
        (is_possible && head.encode() == *bytes).then_some(head)
    }
}

/// Puts the CRC-32C of the bytes before them into the last four.
fn seal(bytes: &mut [u8]) {
    let (content, checksum) = bytes.split_at_mut(bytes.len().saturating_sub(4));
    checksum.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
}

fn is_sealed(bytes: &[u8]) -> bool {
    let (content, checksum) = bytes.split_at(bytes.len().saturating_sub(4));
    crc32c::crc32c(content).to_le_bytes() == checksum
}

fn four(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn eight(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn entry() -> Head {
        let (index, tag) = (LogIndex(0x0102), 7 << 64 | 3);
        Head::Entry(EntryHead { index, tag, length: 0x0203, checksum: 0x0405_0607 })
    }

    #[test]
    fn what_was_encoded_decodes_to_the_same_and_no_bit_may_differ() {
        let header = Header { state_bytes: u64::MAX };
        let mut bytes = header.encode();
        assert_eq!(Header::decode(&bytes).ok(), Some(header));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes).ok(), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for head in [entry(), Head::End { entries: 9 }] {
            let mut bytes = head.encode();
            assert_eq!(Head::decode(&bytes), Some(head));
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Head::decode(&bytes), None, "bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn what_is_not_zero_in_padding_or_longer_than_an_entry_is_refused_under_a_right_checksum() {
        let mut bytes = Header { state_bytes: 1 }.encode();
        bytes[16] = 1;
        seal(&mut bytes);
        let refused = Header::decode(&bytes);
        assert!(matches!(refused, Err(SnapshotFault::Header)), "{refused:?}");
        let mut bytes = Head::End { entries: 1 }.encode();
        bytes[32] = 1;
        seal(&mut bytes);
        assert_eq!(Head::decode(&bytes), None);
        let Head::Entry(mut long) = entry() else { panic!("an entry") };
        long.length = ENTRY_BYTES_MAX + 1;
        assert_eq!(Head::decode(&Head::Entry(long).encode()), None);
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut bytes = Header { state_bytes: 1 }.encode();
        bytes[4] = 2;
        seal(&mut bytes);
        let refused = Header::decode(&bytes).expect_err("newer");
        assert_eq!(refused.to_string(), "it has format 2, this program reads up to 1");
    }

    #[test]
    fn the_bytes_are_pinned() {
        let golden =
            concat!("414c5646010000000403020100000000", "000000000000000000000000f4a4a6db");
        assert_eq!(hex(&Header { state_bytes: 0x0102_0304 }.encode()), golden);
        let golden = concat!(
            "0100000003020000020100000000000007000000",
            "000000000300000000000000070605041a45ece4"
        );
        assert_eq!(hex(&entry().encode()), golden);
        let golden = concat!(
            "0200000000000000020000000000000000000000",
            "00000000000000000000000000000000333178dc"
        );
        assert_eq!(hex(&Head::End { entries: 2 }.encode()), golden);
    }
}
