//! Opens a source and reads it batch by batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium_types::Schema;
use arrow::array::RecordBatch;

use crate::columnar::{ColumnarBatches, Decoder};
use crate::infer::sample;
use crate::ndjson::JsonBatches;
use crate::separated::CsvBatches;
use crate::source::{Opened, Source};
use crate::{Error, Format};

/// Reads batches of one schema. After an error it is at its end.
pub struct Reader {
    batches: Batches,
    format: Format,
    schema: Schema,
    position: Arc<AtomicU64>,
    length: Option<u64>,
    is_over: bool,
    /// A batch that was read and not yet handed out.
    ahead: Option<RecordBatch>,
}

/// The columns of a file as those of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inferred {
    /// The columns; those of the key are not nullable.
    pub schema: Schema,
    /// Key columns that the file lets be NULL. None of them is.
    pub tightened: Vec<String>,
}

enum Batches {
    Csv(CsvBatches),
    Json(JsonBatches),
    Columnar(ColumnarBatches),
}

/// How far a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes (of a text file or stream) or rows (of a Parquet file) that were read.
    pub done: u64,
    /// How many there are, when that is known.
    pub total: Option<u64>,
}

/// Opens `source` for the columns of `target`, or for its own when there is no target.
///
/// # Errors
/// When it cannot be opened, or its columns are not those of `target`.
pub fn open(source: &Source, target: Option<&Schema>) -> Result<Reader, Error> {
    let mut opened = source.open()?;
    let (format, length) = (opened.format, opened.length);
    let position = Arc::clone(&opened.position);
    let (batches, schema) = match format {
        Format::Csv | Format::Ndjson => {
            let schema = match target {
                Some(target) => target.clone(),
                None => infer_text(&mut opened, &[])?,
            };
            (open_text(opened, &schema)?, schema)
        }
        Format::Parquet | Format::ArrowFile | Format::ArrowStream => {
            let name = opened.name.clone();
            let decoder = Decoder::open(source, opened)?;
            let own = || canonical(&name, &decoder.schema(), &[]);
            let schema = target.map_or_else(own, |target| Ok(target.clone()))?;
            let batches = ColumnarBatches::new(decoder, &name, format, &schema)?;
            assert!(*batches.schema() == schema, "a reader has the schema it was opened for");
            (Batches::Columnar(batches), schema)
        }
    };
    Ok(Reader { batches, format, schema, position, length, is_over: false, ahead: None })
}

/// Returns the schema of a dataset for the columns of `source`, with the given key.
///
/// Text files are judged by their first mebibyte; key columns become not nullable. Where a file says that one may
/// be NULL, it is read to its end: whoever says so may have such rows, and none could be kept.
///
/// # Errors
/// When it cannot be read, its columns have no place in a dataset, or a key column holds a NULL.
pub fn infer_schema(source: &Source, key_columns: &[String]) -> Result<Inferred, Error> {
    let mut opened = source.open()?;
    match opened.format {
        Format::Csv | Format::Ndjson => {
            // Text says of no column that it may be NULL.
            let schema = infer_text(&mut opened, key_columns)?;
            Ok(Inferred { schema, tightened: Vec::new() })
        }
        Format::Parquet | Format::ArrowFile | Format::ArrowStream => {
            let (name, format) = (opened.name.clone(), opened.format);
            let decoder = Decoder::open(source, opened)?;
            let arrow = decoder.schema();
            let schema = canonical(&name, &arrow, key_columns)?;
            let is_key = |name: &String| key_columns.contains(name);
            let nullable = arrow.fields().iter().filter(|field| field.is_nullable());
            let tightened: Vec<String> =
                nullable.map(|field| field.name().clone()).filter(is_key).collect();
            if !tightened.is_empty() {
                let decoder = decoder.narrowed(source, &tightened)?;
                decoder.refuse_nulls(&name, format, &tightened)?;
            }
            Ok(Inferred { schema, tightened })
        }
    }
}

fn open_text(opened: Opened, schema: &Schema) -> Result<Batches, Error> {
    match opened.format {
        Format::Ndjson => {
            Ok(Batches::Json(JsonBatches::open(&opened.name, opened.stream, schema)?))
        }
        Format::Csv | Format::Parquet | Format::ArrowFile | Format::ArrowStream => {
            Ok(Batches::Csv(CsvBatches::open(&opened.name, opened.stream, schema)?))
        }
    }
}

fn infer_text(opened: &mut Opened, key_columns: &[String]) -> Result<Schema, Error> {
    let sample = sample(opened)?;
    let (inferred, records) = sample.infer(&opened.name, opened.format)?;
    let schema = canonical(&opened.name, &inferred, key_columns)?;
    if !key_columns.is_empty() {
        refuse_null_keys(opened, records, &schema)?;
    }
    Ok(schema)
}

/// Refuses a key without a value in the sample of a text file.
fn refuse_null_keys(opened: &Opened, records: &[u8], schema: &Schema) -> Result<(), Error> {
    let sample = Opened {
        name: opened.name.clone(),
        format: opened.format,
        stream: Box::new(std::io::Cursor::new(records.to_vec())),
        position: Arc::default(),
        length: None,
    };
    let mut batches = open_text(sample, schema)?;
    loop {
        match batches.next() {
            Ok(Some(_)) => {}
            Err(Error::Null { at, column }) => return Err(Error::NullKey { at, column }),
            // What else is wrong with a row is for those to hear who append it.
            Ok(None) | Err(_) => return Ok(()),
        }
    }
}

fn canonical(
    name: &str,
    schema: &arrow::datatypes::Schema,
    key_columns: &[String],
) -> Result<Schema, Error> {
    alluvium_rows::from_arrow(schema, key_columns)
        .map_err(|source| Error::Schema { name: name.to_owned(), source })
}

impl Reader {
    /// Returns the columns of every batch.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Returns the format that was given or found.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Reads the first batch that is still to come, and keeps it; says whether there is one.
    ///
    /// # Errors
    /// As the batch itself.
    pub fn look_ahead(&mut self) -> Result<bool, Error> {
        if self.ahead.is_none() {
            self.ahead = self.next().transpose()?;
        }
        Ok(self.ahead.is_some())
    }

    /// Returns how far the reader is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match &self.batches {
            Batches::Columnar(batches) if batches.rows().1.is_some() => {
                let (done, total) = batches.rows();
                Progress { done, total }
            }
            Batches::Columnar(_) | Batches::Csv(_) | Batches::Json(_) => {
                Progress { done: self.position.load(Ordering::Relaxed), total: self.length }
            }
        }
    }
}

impl Batches {
    fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        match self {
            Self::Csv(batches) => batches.next(),
            Self::Json(batches) => batches.next(),
            Self::Columnar(batches) => batches.next(),
        }
    }
}

impl Iterator for Reader {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(batch) = self.ahead.take() {
            return Some(Ok(batch));
        }
        if self.is_over {
            return None;
        }
        let next = self.batches.next();
        self.is_over = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("format", &self.format).finish_non_exhaustive()
    }
}
