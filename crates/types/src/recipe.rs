//! Everything that fixes a data file's bytes, besides its rows.

use bincode::{Decode, Encode};

/// How rows become file bytes. Two replicas with the same rows and recipe write the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Recipe {
    /// The version of the writer's own choices (encodings, page sizes, footer).
    pub writer_version: u16,
    /// The compression of pages.
    pub codec: Codec,
    /// Rows of a row group.
    pub row_group_rows: u32,
}

/// The compression of data pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Codec {
    /// None.
    Uncompressed,
    /// Snappy.
    Snappy,
    /// Zstandard at a level from 1 to 22.
    Zstd {
        /// The level.
        level: u8,
    },
    /// LZ4, raw block format.
    Lz4Raw,
}

/// The fewest rows that a row group may be given.
const ROW_GROUP_ROWS_MIN: u32 = 1_024;
/// The most rows that a row group may be given.
const ROW_GROUP_ROWS_MAX: u32 = 16 * 1024 * 1024;
/// The only version of the writer's choices so far.
const WRITER_VERSION: u16 = 1;

impl Recipe {
    /// Says what is wrong with the recipe: a file by it could never be written.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        if self.writer_version != WRITER_VERSION {
            return Some("the writer has no such version");
        }
        if !(ROW_GROUP_ROWS_MIN..=ROW_GROUP_ROWS_MAX).contains(&self.row_group_rows) {
            return Some("a row group has between 1,024 and 16,777,216 rows");
        }
        match self.codec {
            Codec::Zstd { level } if !(1..=22).contains(&level) => {
                Some("a Zstandard level is between 1 and 22")
            }
            Codec::Zstd { .. } | Codec::Uncompressed | Codec::Snappy | Codec::Lz4Raw => None,
        }
    }

    /// The recipe of a dataset whose owner chose none.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            writer_version: WRITER_VERSION,
            codec: Codec::Zstd { level: 1 },
            row_group_rows: 262_144,
        }
    }
}
