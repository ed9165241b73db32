//! Parquet and Arrow IPC: files that carry their own schema.
//!
//! It must not let a damaged file end the program: a decoder that panics is a typed error. Invariant: one
//! batch of rows is decoded at a time.

use std::fs::File;
use std::io::{BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use alluvium_types::Schema;
use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::align::Alignment;
use crate::limits::BATCH_ROWS;
use crate::source::{Input, Opened, Source};
use crate::{Error, Format, Location};

/// Batches of a file that has a schema.
pub(crate) struct ColumnarBatches {
    decoder: Decoder,
    name: String,
    format: Format,
    alignment: Alignment,
    rows: u64,
}

/// An open decoder, and what it says of its columns.
pub(crate) enum Decoder {
    Parquet { reader: Box<ParquetRecordBatchReader>, schema: SchemaRef, rows: u64 },
    File { reader: Box<FileReader<BufReader<File>>> },
    Stream { reader: Box<StreamReader<Box<dyn Read + Send>>> },
}

impl Decoder {
    pub(crate) fn open(source: &Source, opened: Opened) -> Result<Self, Error> {
        let (name, format) = (opened.name.clone(), opened.format);
        let open = || match format {
            Format::Parquet => open_parquet(source, &opened.name, None),
            Format::ArrowFile => open_arrow_file(source, &opened.name),
            Format::ArrowStream | Format::Csv | Format::Ndjson => {
                let name = opened.name.clone();
                let stream: Box<dyn Read + Send> = Box::new(opened.stream);
                let reader = StreamReader::try_new(stream, None);
                let reader = reader.map_err(|source| Error::Arrow { name, format, source })?;
                Ok(Self::Stream { reader: Box::new(reader) })
            }
        };
        catch_unwind(AssertUnwindSafe(open))
            .unwrap_or_else(|_panic| Err(Error::Damaged { name, format, row: 0 }))
    }

    /// Opens a file again for some of its columns, where that spares reading the others.
    pub(crate) fn narrowed(self, source: &Source, columns: &[String]) -> Result<Self, Error> {
        match self {
            Self::Parquet { .. } => {
                let name = source.name();
                let open = || open_parquet(source, &name, Some(columns));
                let damaged = |_panic| {
                    Err(Error::Damaged { name: name.clone(), format: Format::Parquet, row: 0 })
                };
                catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(damaged)
            }
            Self::File { .. } | Self::Stream { .. } => Ok(self),
        }
    }

    /// Reads to the end and refuses a NULL in `columns`.
    pub(crate) fn refuse_nulls(
        mut self,
        name: &str,
        format: Format,
        columns: &[String],
    ) -> Result<(), Error> {
        let mut rows = 0_u64;
        while let Some(batch) = self.next_caught(name, format, rows)? {
            for column in columns {
                let nulls = batch.column_by_name(column).and_then(|values| values.logical_nulls());
                let first = nulls.and_then(|nulls| nulls.iter().position(|is_valid| !is_valid));
                if let Some(row) = first {
                    let at = Location::Row(rows + row as u64 + 1);
                    return Err(Error::NullKey { at, column: column.clone() });
                }
            }
            rows += batch.num_rows() as u64;
        }
        Ok(())
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        match self {
            Self::Parquet { schema, .. } => SchemaRef::clone(schema),
            Self::File { reader } => reader.schema(),
            Self::Stream { reader } => reader.schema(),
        }
    }

    fn rows(&self) -> Option<u64> {
        match self {
            Self::Parquet { rows, .. } => Some(*rows),
            Self::File { .. } | Self::Stream { .. } => None,
        }
    }

    /// Returns the next batch behind `rows` rows; a panic of the decoder is an error.
    fn next_caught(
        &mut self,
        name: &str,
        format: Format,
        rows: u64,
    ) -> Result<Option<RecordBatch>, Error> {
        match catch_unwind(AssertUnwindSafe(|| self.next())) {
            Ok(next) => next.transpose().map_err(|source| {
                let name = name.to_owned();
                Error::Arrow { name, format, source }
            }),
            Err(_panic) => Err(Error::Damaged { name: name.to_owned(), format, row: rows + 1 }),
        }
    }

    fn next(&mut self) -> Option<Result<RecordBatch, ArrowError>> {
        match self {
            Self::Parquet { reader, .. } => reader.next(),
            Self::File { reader } => reader.next(),
            Self::Stream { reader } => reader.next(),
        }
    }
}

fn file_of(source: &Source, format: Format) -> Result<File, Error> {
    let Input::Path(path) = &source.input else { return Err(Error::NotSeekable { format }) };
    File::open(path).map_err(|error| Error::Open { name: source.name(), source: error })
}

fn open_parquet(source: &Source, name: &str, columns: Option<&[String]>) -> Result<Decoder, Error> {
    let file = file_of(source, Format::Parquet)?;
    let failed = |source| Error::Parquet { name: name.to_owned(), source };
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
    let schema = SchemaRef::clone(builder.schema());
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let wanted = match columns {
        Some(columns) => {
            let fields = schema.fields().iter().enumerate();
            let wanted = fields.filter(|(_, field)| columns.contains(field.name()));
            ProjectionMask::roots(builder.parquet_schema(), wanted.map(|(position, _)| position))
        }
        None => ProjectionMask::all(),
    };
    let builder = builder.with_projection(wanted).with_batch_size(BATCH_ROWS);
    let reader = builder.build().map_err(failed)?;
    Ok(Decoder::Parquet { reader: Box::new(reader), schema, rows })
}

fn open_arrow_file(source: &Source, name: &str) -> Result<Decoder, Error> {
    let format = Format::ArrowFile;
    let file = BufReader::new(file_of(source, format)?);
    let failed = |source| Error::Arrow { name: name.to_owned(), format, source };
    let reader = FileReader::try_new(file, None).map_err(failed)?;
    Ok(Decoder::File { reader: Box::new(reader) })
}

impl ColumnarBatches {
    pub(crate) fn new(
        decoder: Decoder,
        name: &str,
        format: Format,
        schema: &Schema,
    ) -> Result<Self, Error> {
        let names: Vec<String> =
            decoder.schema().fields().iter().map(|field| field.name().clone()).collect();
        let alignment = Alignment::new(name, &names, schema)?;
        Ok(Self { decoder, name: name.to_owned(), format, alignment, rows: 0 })
    }

    /// Returns the rows read so far, and how many there are when the file says it.
    pub(crate) fn rows(&self) -> (u64, Option<u64>) {
        (self.rows, self.decoder.rows())
    }

    pub(crate) fn schema(&self) -> &Schema {
        self.alignment.schema()
    }

    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        loop {
            let next = self.decoder.next_caught(&self.name, self.format, self.rows)?;
            let Some(batch) = next else { return Ok(None) };
            if batch.num_rows() == 0 {
                continue;
            }
            let first = self.rows + 1;
            let locate = |row: usize| Location::Row(first + row as u64);
            let aligned = self.alignment.batch(batch.columns(), batch.num_rows(), locate)?;
            self.rows += batch.num_rows() as u64;
            return Ok(Some(aligned));
        }
    }
}
