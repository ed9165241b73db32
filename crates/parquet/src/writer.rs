//! Rows in, one whole file out.
//!
//! Must not: touch a store, spawn, read a clock, or write a byte that depends on how the rows were batched.
//! Invariants: INV-P1 (see `canonical`), INV-P2 one footer, and as many rows in it as were written.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};

use crate::canonical::Rechunker;
use crate::encoding::choose;
use crate::error::{Error, Result};
use crate::limits::CHUNK_ROWS;
use crate::recipe::Recipe;
use crate::schema::{canonical_schema, check_supported};
use crate::stats::{ColumnStats, StatsCollector};

/// Turns the rows of one data file into bytes. The seam for other formats.
pub trait TableWriter: Send {
    /// Takes rows; where batches begin and end leaves no trace.
    ///
    /// # Errors
    /// When the batch does not fit the schema. The writer is then of no further use.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Returns the finished file.
    ///
    /// # Errors
    /// When the encoder fails.
    fn finish(self: Box<Self>) -> Result<WrittenFile>;
}

/// A finished file.
#[derive(Debug, Clone)]
pub struct WrittenFile {
    /// The whole file.
    pub bytes: Bytes,
    /// Rows in it.
    pub rows: u64,
    /// One entry per top-level column, in schema order.
    pub stats: Vec<ColumnStats>,
}

/// The Parquet writer.
#[derive(Debug)]
pub struct ParquetTableWriter {
    rechunker: Rechunker,
    stats: StatsCollector,
    rows: u64,
    output: Output,
}

/// Rows are held back until they fill a row group, because the first row group decides the encodings.
#[derive(Debug)]
struct Output {
    schema: SchemaRef,
    recipe: Recipe,
    held: Vec<RecordBatch>,
    held_rows: usize,
    /// Invariant: once there is an encoder, nothing is held.
    encoder: Option<ArrowWriter<Vec<u8>>>,
}

impl ParquetTableWriter {
    /// Returns a writer of `schema` by `recipe`.
    ///
    /// # Errors
    /// When the recipe is unknown, or a column's type is not supported.
    pub fn new(schema: &Schema, recipe: &Recipe) -> Result<Self> {
        recipe.check()?;
        let schema = canonical_schema(schema);
        check_supported(&schema)?;
        let stats = StatsCollector::new(&schema);
        let rechunker = Rechunker::new(Arc::clone(&schema), CHUNK_ROWS);
        let recipe = recipe.clone();
        let output = Output { schema, recipe, held: Vec::new(), held_rows: 0, encoder: None };
        Ok(Self { rechunker, stats, rows: 0, output })
    }

    /// Writes all `batches` into one file.
    ///
    /// # Errors
    /// As [`TableWriter::write`] and [`TableWriter::finish`].
    pub fn write_all<'a>(
        schema: &Schema,
        recipe: &Recipe,
        batches: impl IntoIterator<Item = &'a RecordBatch>,
    ) -> Result<WrittenFile> {
        let mut writer = Box::new(Self::new(schema, recipe)?);
        for batch in batches {
            writer.write(batch)?;
        }
        writer.finish()
    }
}

impl Output {
    fn push(&mut self, chunk: &RecordBatch) -> Result<()> {
        if let Some(encoder) = &mut self.encoder {
            return encoder.write(chunk).map_err(Error::Encode);
        }
        self.held.push(chunk.clone());
        self.held_rows += chunk.num_rows();
        let row_group = usize::try_from(self.recipe.row_group_rows).expect("u32 fits in usize");
        if self.held_rows < row_group {
            return Ok(());
        }
        self.start()
    }

    /// Chooses the encodings by what is held, and hands it to the encoder.
    fn start(&mut self) -> Result<()> {
        assert!(self.encoder.is_none(), "a file is started once");
        let held = std::mem::take(&mut self.held);
        let choices = choose(&self.schema, &self.recipe, &held)?;
        let properties = self.recipe.properties(&choices)?;
        let options = ArrowWriterOptions::new().with_properties(properties);
        let schema = Arc::clone(&self.schema);
        let encoder = ArrowWriter::try_new_with_options(Vec::new(), schema, options);
        let mut encoder = encoder.map_err(Error::Encode)?;
        for chunk in &held {
            encoder.write(chunk).map_err(Error::Encode)?;
        }
        self.encoder = Some(encoder);
        Ok(())
    }

    /// Returns the file and how many rows its footer counts.
    fn finish(mut self) -> Result<(Vec<u8>, u64)> {
        if self.encoder.is_none() {
            self.start()?;
        }
        let mut encoder = self.encoder.expect("started above");
        let footer = encoder.finish().map_err(Error::Encode)?;
        let rows = u64::try_from(footer.file_metadata().num_rows()).unwrap_or(u64::MAX);
        Ok((std::mem::take(encoder.inner_mut()), rows))
    }
}

impl TableWriter for ParquetTableWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let Self { rechunker, stats, rows, output } = self;
        rechunker.push(batch, |chunk| {
            stats.observe(chunk);
            output.push(chunk)
        })?;
        *rows += batch.num_rows() as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<WrittenFile> {
        if let Some(chunk) = self.rechunker.finish()? {
            self.stats.observe(&chunk);
            self.output.push(&chunk)?;
        }
        let (bytes, in_footer) = self.output.finish()?;
        assert!(in_footer == self.rows, "INV-P2: {in_footer} rows in the footer of {}", self.rows);
        assert!(bytes.ends_with(b"PAR1"), "INV-P2: the encoder left no footer");
        Ok(WrittenFile { bytes: bytes.into(), rows: self.rows, stats: self.stats.finish() })
    }
}
