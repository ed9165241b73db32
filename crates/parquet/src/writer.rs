//! Rows in, one whole file out.
//!
//! Must not: touch a store, read a clock, or write a byte that depends on how the rows were batched or on how
//! many threads encoded them.
//! Invariants: INV-P1 (see `canonical`), INV-P2 one footer, and as many rows in it as were written.

use std::sync::Arc;

use alluvium_stdx::spawn;
use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriter,
    ArrowWriterOptions, compute_leaves,
};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;

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

/// Rows are held back until they fill a row group: the first decides the encodings, and the columns of each
/// are encoded side by side.
#[derive(Debug)]
struct Output {
    schema: SchemaRef,
    recipe: Recipe,
    held: Vec<RecordBatch>,
    held_rows: usize,
    encoder: Option<Encoder>,
}

struct Encoder {
    file: SerializedFileWriter<Vec<u8>>,
    columns: ArrowRowGroupWriterFactory,
    row_groups: usize,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder({} row groups)", self.row_groups)
    }
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
        self.held.push(chunk.clone());
        self.held_rows += chunk.num_rows();
        let row_group = usize::try_from(self.recipe.row_group_rows).expect("u32 fits in usize");
        while row_group <= self.held_rows {
            self.start()?;
            let full = self.take(row_group);
            self.encode(&full)?;
        }
        Ok(())
    }

    /// Chooses the encodings by what is held, unless a file was started.
    fn start(&mut self) -> Result<()> {
        if self.encoder.is_some() {
            return Ok(());
        }
        let choices = choose(&self.schema, &self.recipe, &self.held)?;
        let properties = self.recipe.properties(&choices)?;
        let options = ArrowWriterOptions::new().with_properties(properties);
        let schema = Arc::clone(&self.schema);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options);
        let started = writer.and_then(ArrowWriter::into_serialized_writer);
        let (file, columns) = started.map_err(Error::Encode)?;
        self.encoder = Some(Encoder { file, columns, row_groups: 0 });
        Ok(())
    }

    /// Takes the first `rows` rows that are held.
    fn take(&mut self, rows: usize) -> Vec<RecordBatch> {
        let (mut taken, mut missing) = (Vec::new(), rows);
        let held = std::mem::take(&mut self.held);
        for chunk in held {
            let here = missing.min(chunk.num_rows());
            if 0 < here {
                taken.push(chunk.slice(0, here));
            }
            if here < chunk.num_rows() {
                self.held.push(chunk.slice(here, chunk.num_rows() - here));
            }
            missing -= here;
        }
        assert!(missing == 0, "{missing} of {rows} rows were not held");
        self.held_rows -= rows;
        taken
    }

    /// Encodes one row group, its columns side by side.
    fn encode(&mut self, chunks: &[RecordBatch]) -> Result<()> {
        let encoder = self.encoder.as_mut().expect("started before");
        let writers = encoder.columns.create_column_writers(encoder.row_groups);
        let mut writers = writers.map_err(Error::Encode)?.into_iter();
        let first = chunks.first().expect("a row group has rows");
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (field, column) in self.schema.fields().iter().zip(0..) {
            let leaves = compute_leaves(field, first.column(column)).map_err(Error::Encode)?.len();
            let own: Vec<ArrowColumnWriter> = writers.by_ref().take(leaves).collect();
            columns.push((field, column, own));
        }
        assert!(writers.next().is_none(), "each leaf belongs to a column");
        let encoded = spawn::side_by_side("encode", spawn::workers(), columns, |column| {
            encode_column(chunks, column)
        });
        let mut group = encoder.file.next_row_group().map_err(Error::Encode)?;
        for column in encoded {
            for leaf in column.map_err(Error::Encode)? {
                leaf.append_to_row_group(&mut group).map_err(Error::Encode)?;
            }
        }
        group.close().map_err(Error::Encode)?;
        encoder.row_groups += 1;
        Ok(())
    }

    /// Returns the file and how many rows its footer counts.
    fn finish(mut self) -> Result<(Vec<u8>, u64)> {
        self.start()?;
        if 0 < self.held_rows {
            let rest = self.take(self.held_rows);
            self.encode(&rest)?;
        }
        let mut file = self.encoder.expect("started above").file;
        let footer = file.finish().map_err(Error::Encode)?;
        let rows = u64::try_from(footer.file_metadata().num_rows()).unwrap_or(u64::MAX);
        Ok((std::mem::take(file.inner_mut()), rows))
    }
}

/// Encodes one column of a row group: its bytes depend on its own values alone.
fn encode_column(
    chunks: &[RecordBatch],
    (field, column, mut writers): (&FieldRef, usize, Vec<ArrowColumnWriter>),
) -> std::result::Result<Vec<ArrowColumnChunk>, ParquetError> {
    for chunk in chunks {
        let leaves = compute_leaves(field, chunk.column(column))?;
        assert!(leaves.len() == writers.len(), "a type has as many leaves in every chunk");
        for (leaf, writer) in leaves.iter().zip(&mut writers) {
            writer.write(leaf)?;
        }
    }
    writers.into_iter().map(ArrowColumnWriter::close).collect()
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
