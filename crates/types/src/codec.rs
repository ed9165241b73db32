//! The one place where log entries become bytes and back: a frame of our own around bincode.
//!
//! Layout (`docs/formats/entry.md`), little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `ALVE` |
//! | 4 | 2 | format version |
//! | 6 | 1 | kind: 1 command, 2 blank, 3 membership |
//! | 7 | 1 | zero |
//! | 8 | 4 | header length |
//! | 12 | 4 | body length |
//! | 16 | 16 | XXH3-128 of the body |
//! | 32 | 4 | CRC-32C of bytes 0..32 and the header |
//! | 36 | 28 | zero |
//! | 64 | header length | header, bincode standard configuration |
//! | next multiple of 64 | body length | body |
//!
//! The body keeps its alignment, so Arrow reads it where it lies. bincode is unmaintained: nothing outside
//! this module names it but derives, the bytes are golden, and ADR 0012 says how to leave it.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bytes::{BufMut, Bytes, BytesMut};

use crate::limits::{BODY_BYTES_MAX, ENTRY_BYTES_MAX, HEADER_BYTES_MAX};
use crate::{Command, Envelope, Error};

/// The newest format this program reads. An entry has the oldest format that knows what is in it, so that a program which
/// does not know it says that, and not that the entry is damaged.
pub const FORMAT_VERSION: u16 = 2;
/// Bodies start at multiples of this many bytes.
pub const ALIGNMENT: usize = 64;
const MAGIC: [u8; 4] = *b"ALVE";
const FRAME_BYTES: usize = 64;

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A command for the state machine.
    Command,
    /// A leader's first entry: it changes nothing.
    Blank,
    /// A membership change; its header belongs to the raft crate.
    Membership,
}

/// A framed entry, exactly as the log holds it and the network carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    bytes: Bytes,
    kind: EntryKind,
    header_end: usize,
}

/// A configuration with fixed-width integers and a limit, so that no length in the bytes can ask for more
/// memory than a header may have.
type Config = Configuration<LittleEndian, Fixint, Limit<{ HEADER_BYTES_MAX as usize }>>;

const CONFIG: Config = bincode::config::standard()
    .with_fixed_int_encoding()
    .with_limit::<{ HEADER_BYTES_MAX as usize }>();

/// Encodes a value of the log's vocabulary.
///
/// # Errors
/// [`Error::TooLarge`] when it would exceed a header.
pub fn encode<T: bincode::Encode>(value: &T) -> Result<Vec<u8>, Error> {
    let too_large = |_| Error::TooLarge {
        part: "header",
        length: u64::from(HEADER_BYTES_MAX) + 1,
        limit: u64::from(HEADER_BYTES_MAX),
    };
    let bytes = bincode::encode_to_vec(value, CONFIG).map_err(too_large)?;
    check_size("header", bytes.len(), HEADER_BYTES_MAX)?;
    Ok(bytes)
}

/// Decodes a value; every byte must be used.
///
/// # Errors
/// [`Error::Frame`] when the bytes are not an encoding of `T`.
pub fn decode<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, Error> {
    let malformed = |_| Error::Frame { reason: "its header does not decode" };
    let (value, used) = bincode::decode_from_slice(bytes, CONFIG).map_err(malformed)?;
    match used == bytes.len() {
        true => Ok(value),
        false => Err(Error::Frame { reason: "bytes follow its header" }),
    }
}

impl Entry {
    /// Frames a command and its body.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn command(envelope: &Envelope, body: &[u8]) -> Result<Self, Error> {
        let version = version_of(&envelope.command);
        Self::frame((EntryKind::Command, version), &encode(envelope)?, body)
    }

    /// Frames a leader's first entry.
    ///
    /// # Panics
    /// Never: an empty frame is within every limit.
    #[must_use]
    pub fn blank() -> Self {
        Self::frame((EntryKind::Blank, 1), &[], &[]).expect("an empty frame is within every limit")
    }

    /// Frames a membership whose encoding belongs to the raft crate.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn membership(header: &[u8]) -> Result<Self, Error> {
        Self::frame((EntryKind::Membership, 1), header, &[])
    }

    fn frame((kind, version): (EntryKind, u16), header: &[u8], body: &[u8]) -> Result<Self, Error> {
        let header_length = check_size("header", header.len(), HEADER_BYTES_MAX)?;
        let body_length = check_size("body", body.len(), BODY_BYTES_MAX)?;
        let header_end = FRAME_BYTES + header.len();
        let body_start = header_end.next_multiple_of(ALIGNMENT);
        let total = body_start + body.len();
        assert!(total <= ENTRY_BYTES_MAX as usize, "limits.rs relates header, body and entry");
        let mut bytes = BytesMut::with_capacity(total);
        bytes.put_slice(&MAGIC);
        bytes.put_u16_le(version);
        bytes.put_u8(kind.to_byte());
        bytes.put_u8(0);
        bytes.put_u32_le(header_length);
        bytes.put_u32_le(body_length);
        bytes.put_u128_le(xxhash_rust::xxh3::xxh3_128(body));
        bytes.put_u32_le(checksum(&bytes, header));
        bytes.resize(FRAME_BYTES, 0);
        bytes.put_slice(header);
        bytes.resize(body_start, 0);
        bytes.put_slice(body);
        Ok(Self { bytes: bytes.freeze(), kind, header_end })
    }

    /// Checks a frame that came from the log or the network.
    ///
    /// # Errors
    /// [`Error::NewerFormat`], [`Error::TooLarge`], or [`Error::Frame`] with what is wrong.
    pub fn parse(bytes: Bytes) -> Result<Self, Error> {
        let damaged = |reason| Error::Frame { reason };
        let frame = bytes.get(..FRAME_BYTES).ok_or(damaged("it is shorter than a frame"))?;
        if !frame.starts_with(&MAGIC) {
            return Err(damaged("it does not start with the magic number"));
        }
        let version = u16::from_le_bytes([frame[4], frame[5]]);
        if version > FORMAT_VERSION {
            return Err(Error::NewerFormat { found: version, supported: FORMAT_VERSION });
        }
        let kind = EntryKind::from_byte(frame[6]).ok_or(damaged("its kind is unknown"))?;
        let header_length = check_size("header", word(frame, 8) as usize, HEADER_BYTES_MAX)?;
        let body_length = check_size("body", word(frame, 12) as usize, BODY_BYTES_MAX)?;
        let header_end = FRAME_BYTES + header_length as usize;
        let body_start = header_end.next_multiple_of(ALIGNMENT);
        if bytes.len() != body_start + body_length as usize {
            return Err(damaged("its length is not the sum of its parts"));
        }
        let padding = frame[36..].iter().chain(&bytes[header_end..body_start]);
        if version == 0 || frame[7] != 0 || padding.into_iter().any(|&byte| byte != 0) {
            return Err(damaged("its padding is not zero"));
        }
        if checksum(&frame[..32], &bytes[FRAME_BYTES..header_end]) != word(frame, 32) {
            return Err(damaged("its header's checksum does not match"));
        }
        if xxhash_rust::xxh3::xxh3_128(&bytes[body_start..]).to_le_bytes() != frame[16..32] {
            return Err(damaged("its body's hash does not match"));
        }
        Ok(Self { bytes, kind, header_end })
    }

    /// Returns what the entry is for.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        self.kind
    }

    /// Returns the whole frame.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the encoded header.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.bytes[FRAME_BYTES..self.header_end]
    }

    /// Returns the body without a copy.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.header_end.next_multiple_of(ALIGNMENT)..)
    }

    /// Decodes the command.
    ///
    /// # Errors
    /// [`Error::Frame`] when this is no command entry or its header does not decode.
    pub fn envelope(&self) -> Result<Envelope, Error> {
        match self.kind {
            EntryKind::Command => decode(self.header()),
            EntryKind::Blank | EntryKind::Membership => {
                Err(Error::Frame { reason: "it holds no command" })
            }
        }
    }
}

impl EntryKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Command => 1,
            Self::Blank => 2,
            Self::Membership => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Command),
            2 => Some(Self::Blank),
            3 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// Returns the first format that has a command.
fn version_of(command: &Command) -> u16 {
    match command {
        Command::OpenSession(_)
        | Command::Register(_)
        | Command::Evolve(_)
        | Command::Stage(_)
        | Command::Append(_)
        | Command::Upsert(_)
        | Command::Tombstone(_)
        | Command::Seal(_)
        | Command::Compact(_)
        | Command::Attest(_)
        | Command::Expire(_)
        | Command::Swept(_)
        | Command::Drop(_) => 1,
        Command::Checkpoint(_) => 2,
    }
}

fn check_size(part: &'static str, length: usize, limit: u32) -> Result<u32, Error> {
    match u32::try_from(length) {
        Ok(length) if length <= limit => Ok(length),
        _ => Err(Error::TooLarge { part, length: length as u64, limit: u64::from(limit) }),
    }
}

fn checksum(frame: &[u8], header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(frame), header)
}

fn word(frame: &[u8], at: usize) -> u32 {
    let four = frame[at..at + 4].try_into().expect("four bytes");
    u32::from_le_bytes(four)
}

#[cfg(test)]
mod tests;
