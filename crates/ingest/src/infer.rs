//! Column types from the start of a text file.
//!
//! It must not decide past its sample: a later value of another type is an error at its line. Invariant: the
//! sample ends at the end of a record.

use std::io::{Cursor, Read};

use arrow::csv::reader::Format as CsvFormat;
use arrow::datatypes::Schema;
use arrow::json::reader::infer_json_schema_from_iterator;
use serde_json::Value;

use crate::limits::SAMPLE_BYTES;
use crate::ndjson::parse_object;
use crate::separated::Records;
use crate::source::{BYTE_ORDER_MARK, Opened};
use crate::{Error, Format};

/// Takes a sample off the start of the stream, and puts it back in front.
pub(crate) fn sample(opened: &mut Opened) -> Result<Sample, Error> {
    let mut bytes = Vec::new();
    let taken = opened.stream.by_ref().take(SAMPLE_BYTES as u64).read_to_end(&mut bytes);
    taken.map_err(|source| opened.read_error(source))?;
    let is_whole = bytes.len() < SAMPLE_BYTES;
    let empty: Box<dyn std::io::BufRead + Send> = Box::new(std::io::empty());
    let rest = std::mem::replace(&mut opened.stream, empty);
    opened.stream = Box::new(Cursor::new(bytes.clone()).chain(rest));
    Ok(Sample { bytes, is_whole })
}

/// The start of a file, and whether that is all of it.
pub(crate) struct Sample {
    bytes: Vec<u8>,
    is_whole: bool,
}

impl Sample {
    /// Returns the columns of a text file, and the records by which they were judged.
    pub(crate) fn infer(&self, name: &str, format: Format) -> Result<(Schema, &[u8]), Error> {
        match format {
            Format::Ndjson => self.infer_json(name),
            Format::Csv | Format::Parquet | Format::ArrowFile | Format::ArrowStream => {
                self.infer_csv(name)
            }
        }
    }

    fn infer_csv(&self, name: &str) -> Result<(Schema, &[u8]), Error> {
        let mut records = Records::open(name, self.bytes.as_slice())?;
        let (mut count, mut last_start) = (0_usize, 0);
        let mut doubtful: Option<Error> = None;
        loop {
            let read = next_checked(&mut records);
            // A fault in the last record of a cut sample may be the cut itself.
            if let (Some(error), true) =
                (doubtful.take(), self.is_whole || !matches!(read, Ok(false)))
            {
                return Err(error);
            }
            match read {
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => doubtful = Some(error),
            }
            last_start = records.start();
            count += 1;
        }
        if count == 0 {
            return Err(Error::NothingToInfer { name: name.to_owned() });
        }
        let end = if self.is_whole { self.bytes.len() as u64 } else { last_start };
        let whole = usize::try_from(end).ok().and_then(|end| self.bytes.get(..end));
        let whole = whole.unwrap_or(&self.bytes);
        let (schema, _) =
            CsvFormat::default().with_header(true).infer_schema(whole, None).map_err(|source| {
                Error::Arrow { name: name.to_owned(), format: Format::Csv, source }
            })?;
        Ok((schema, whole))
    }

    fn infer_json(&self, name: &str) -> Result<(Schema, &[u8]), Error> {
        let end = match self.is_whole {
            true => self.bytes.len(),
            false => self.bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0),
        };
        let whole = self.bytes.get(..end).unwrap_or_default();
        let whole = whole.strip_prefix(BYTE_ORDER_MARK).unwrap_or(whole);
        let mut objects = Vec::new();
        for (line, text) in (1_u64..).zip(whole.split(|byte| *byte == b'\n')) {
            if !text.trim_ascii().is_empty() {
                objects.push(Value::Object(parse_object(text.trim_ascii_end(), line)?));
            }
        }
        if objects.is_empty() {
            return Err(Error::NothingToInfer { name: name.to_owned() });
        }
        let objects = objects.iter().map(Ok::<_, arrow::error::ArrowError>);
        let schema = infer_json_schema_from_iterator(objects).map_err(|source| Error::Arrow {
            name: name.to_owned(),
            format: Format::Ndjson,
            source,
        })?;
        Ok((schema, whole))
    }
}

/// Reads a record and checks that all of it is text; false at the end.
fn next_checked(records: &mut Records<&[u8]>) -> Result<bool, Error> {
    let Some(line) = records.next()? else { return Ok(false) };
    let fault = (0..records.header().len()).find_map(|column| records.text(column, line).err());
    fault.map_or(Ok(true), Err)
}
