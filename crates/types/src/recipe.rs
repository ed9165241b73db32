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

impl Recipe {
    /// The recipe of a dataset whose owner chose none.
    #[must_use]
    pub fn standard() -> Self {
        Self { writer_version: 1, codec: Codec::Zstd { level: 1 }, row_group_rows: 262_144 }
    }
}
