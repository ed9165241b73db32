//! What fixes a file's bytes besides its rows.
//!
//! A writer version is a promise: its choices (encodings, page and chunk sizes, footer) never change. A change
//! of bytes, also one that a dependency brings, is a new version; a golden hash in the tests notices it.

use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::encoding::Choice;
use crate::error::{Error, Result};
use crate::limits::{
    DICTIONARY_BYTES, PAGE_BYTES, PAGE_ROWS, ROW_GROUP_ROWS_MAX, ROW_GROUP_ROWS_MIN,
    STAT_BYTES_MAX, WRITE_BATCH_ROWS,
};

/// How rows become bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// The version of the writer's own choices.
    pub writer_version: u16,
    /// The compression of pages.
    pub codec: Codec,
    /// Rows of a row group; the last one may be shorter.
    pub row_group_rows: u32,
}

/// The compression of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// None.
    Uncompressed,
    /// Snappy.
    Snappy,
    /// Zstandard.
    Zstd {
        /// From 1 to 22.
        level: u8,
    },
    /// LZ4, raw block format.
    Lz4Raw,
}

/// The only writer version there is.
pub const WRITER_VERSION: u16 = 1;

impl Recipe {
    /// The recipe of a dataset whose owner chose none.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            writer_version: WRITER_VERSION,
            codec: Codec::Zstd { level: 1 },
            row_group_rows: 262_144,
        }
    }

    /// Checks that this build can write the recipe.
    ///
    /// # Errors
    /// `WriterVersion`, `CodecLevel` or `RowGroupRows`.
    pub fn check(&self) -> Result<()> {
        if self.writer_version != WRITER_VERSION {
            return Err(Error::WriterVersion { version: self.writer_version });
        }
        if !(ROW_GROUP_ROWS_MIN..=ROW_GROUP_ROWS_MAX).contains(&self.row_group_rows) {
            return Err(Error::RowGroupRows { rows: self.row_group_rows });
        }
        self.codec.compression().map(|_| ())
    }

    /// Returns the name that files carry as their writer: a version, no time, no host.
    #[must_use]
    pub fn created_by(&self) -> String {
        format!("alluvium writer version {}", self.writer_version)
    }

    pub(crate) fn properties(&self, choices: &[(ColumnPath, Choice)]) -> Result<WriterProperties> {
        self.check()?;
        let rows = usize::try_from(self.row_group_rows).expect("u32 fits in usize");
        let mut builder = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_created_by(self.created_by())
            .set_compression(self.codec.compression()?)
            .set_max_row_group_row_count(Some(rows))
            .set_max_row_group_bytes(None)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_dictionary_enabled(true)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_statistics_truncate_length(Some(STAT_BYTES_MAX))
            .set_column_index_truncate_length(Some(STAT_BYTES_MAX))
            .set_write_batch_size(WRITE_BATCH_ROWS)
            .set_key_value_metadata(None);
        for (path, choice) in choices {
            builder = match *choice {
                Choice::Dictionary => builder.set_column_dictionary_enabled(path.clone(), true),
                Choice::Direct(encoding) => builder
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), encoding),
            };
        }
        Ok(builder.build())
    }
}

impl Codec {
    /// Returns the codec as Parquet names it.
    ///
    /// # Errors
    /// `CodecLevel` when zstd has no such level.
    pub fn compression(self) -> Result<Compression> {
        Ok(match self {
            Self::Uncompressed => Compression::UNCOMPRESSED,
            Self::Snappy => Compression::SNAPPY,
            Self::Lz4Raw => Compression::LZ4_RAW,
            Self::Zstd { level } => {
                let checked = ZstdLevel::try_new(i32::from(level));
                Compression::ZSTD(checked.map_err(|_range| Error::CodecLevel { level })?)
            }
        })
    }
}
