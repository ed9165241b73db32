//! NDJSON: one object a line.
//!
//! It must not join or split lines, or skip a bad one; blank lines are no rows. Invariant: at most one batch
//! of lines is in memory.

use std::sync::Arc;

use alluvium_types::{Field, Schema};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use serde_json::{Map, Value};

use crate::align::{Alignment, column_names};
use crate::json_values::{Fault, check, kind_name};
use crate::limits::{BATCH_BYTES, BATCH_ROWS, RECORD_BYTES_MAX};
use crate::separated::read_line;
use crate::source::{BYTE_ORDER_MARK, Stream};
use crate::text::excerpt;
use crate::{Error, Location};

/// Batches of an NDJSON file.
pub(crate) struct JsonBatches {
    name: String,
    stream: Stream,
    schema: Schema,
    /// The same columns, all nullable: NULLs are looked for before decoding, where the line is known.
    loose: SchemaRef,
    alignment: Alignment,
    line: Vec<u8>,
    line_number: u64,
}

/// Lines of one batch, each a checked object.
struct Lines {
    text: Vec<u8>,
    numbers: Vec<u64>,
    ends: Vec<usize>,
}

impl JsonBatches {
    pub(crate) fn open(name: &str, stream: Stream, schema: &Schema) -> Result<Self, Error> {
        let alignment = Alignment::new(name, &column_names(schema), schema)?;
        let arrow = alluvium_rows::to_arrow(schema);
        let nullable =
            |field: &Arc<arrow::datatypes::Field>| field.as_ref().clone().with_nullable(true);
        let fields: Vec<_> = arrow.fields().iter().map(nullable).collect();
        Ok(Self {
            name: name.to_owned(),
            stream,
            schema: schema.clone(),
            loose: Arc::new(arrow::datatypes::Schema::new(fields)),
            alignment,
            line: Vec::new(),
            line_number: 0,
        })
    }

    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        let mut lines = Lines { text: Vec::new(), numbers: Vec::new(), ends: Vec::new() };
        while lines.numbers.len() < BATCH_ROWS && lines.text.len() < BATCH_BYTES {
            if !self.read_object()? {
                break;
            }
            lines.text.extend_from_slice(&self.line);
            lines.text.push(b'\n');
            lines.ends.push(lines.text.len());
            lines.numbers.push(self.line_number);
        }
        if lines.numbers.is_empty() {
            return Ok(None);
        }
        let batch = match decode(&lines.text, &self.loose, lines.numbers.len()) {
            Ok(batch) => batch,
            Err(source) => return Err(self.explain(&lines, source)),
        };
        let locate = |row: usize| Location::Line(lines.numbers.get(row).copied().unwrap_or(0));
        self.alignment.batch(batch.columns(), batch.num_rows(), locate).map(Some)
    }

    /// Reads the next line that is not blank and checks that it is an object of the right kinds.
    fn read_object(&mut self) -> Result<bool, Error> {
        loop {
            let read = read_line(&mut self.stream, &mut self.line);
            self.line_number += 1;
            let line = self.line_number;
            let read = read.map_err(|source| Error::Read { name: self.name.clone(), source })?;
            let too_large = |_| Error::RecordTooLarge { line, limit: RECORD_BYTES_MAX };
            if !read.map_err(too_large)? {
                return Ok(false);
            }
            if line == 1 && self.line.starts_with(BYTE_ORDER_MARK) {
                self.line.drain(..BYTE_ORDER_MARK.len());
            }
            if !self.line.trim_ascii().is_empty() {
                let object = parse_object(&self.line, line)?;
                check_object(&object, &self.schema, line)?;
                return Ok(true);
            }
        }
    }

    /// Finds the line and column of a value that has the right kind and is still no value of its type.
    fn explain(&self, lines: &Lines, source: ArrowError) -> Error {
        let starts = std::iter::once(0).chain(lines.ends.iter().copied());
        for ((start, end), number) in starts.zip(&lines.ends).zip(&lines.numbers) {
            let text = lines.text.get(start..*end).unwrap_or_default();
            if decode(text, &self.loose, 1).is_ok() {
                continue;
            }
            for field in &self.schema.fields {
                if let Some(text) = refused(text, field, &self.loose) {
                    let (at, column) = (Location::Line(*number), field.name.clone());
                    return Error::Value { at, column, text, expected: field.data_type.clone() };
                }
            }
        }
        let at = Location::Line(lines.numbers.first().copied().unwrap_or(0));
        let operation = "decode JSON";
        Error::Rows { at, source: alluvium_rows::Error::Arrow { operation, source } }
    }
}

fn decode(text: &[u8], schema: &SchemaRef, rows: usize) -> Result<RecordBatch, ArrowError> {
    let builder = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(rows);
    let mut decoder = builder.build_decoder()?;
    let used = decoder.decode(text)?;
    let batch = decoder.flush()?;
    let rest = text.get(used..).unwrap_or_default();
    match batch {
        Some(batch) if batch.num_rows() == rows && rest.trim_ascii().is_empty() => Ok(batch),
        _ => Err(ArrowError::JsonError("a line is not one object".to_owned())),
    }
}

/// Returns the value of `field` in a line when it alone cannot be decoded.
fn refused(line: &[u8], field: &Field, schema: &SchemaRef) -> Option<String> {
    let (position, _) = schema.column_with_name(&field.name)?;
    let alone = Arc::new(schema.project(&[position]).ok()?);
    let object = parse_object(line, 0).ok()?;
    let value = object.get(&field.name)?;
    let one = Map::from_iter([(field.name.clone(), value.clone())]);
    let text = Value::Object(one).to_string();
    decode(text.as_bytes(), &alone, 1).is_err().then(|| show(value))
}

fn show(value: &Value) -> String {
    match value.as_str() {
        Some(text) => excerpt(text),
        None => excerpt(&value.to_string()),
    }
}

pub(crate) fn parse_object(bytes: &[u8], line: u64) -> Result<Map<String, Value>, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_invalid| Error::LineNotUtf8 { line })?;
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
        Error::Json { line, character: error.column(), reason }
    })?;
    let found = kind_name(&value);
    if let Value::Object(object) = value {
        return Ok(object);
    }
    Err(Error::NotAnObject { line, found })
}

fn check_object(object: &Map<String, Value>, schema: &Schema, line: u64) -> Result<(), Error> {
    let at = Location::Line(line);
    let unknown: Vec<String> =
        object.keys().filter(|name| schema.field(name).is_none()).cloned().collect();
    if !unknown.is_empty() {
        return Err(Error::UnknownAt { at, columns: unknown, known: column_names(schema) });
    }
    for field in &schema.fields {
        let value = object.get(&field.name).unwrap_or(&Value::Null);
        let column = field.name.clone();
        let expected = field.data_type.clone();
        match check(value, field) {
            Ok(()) => {}
            Err(Fault::Null) => return Err(Error::Null { at, column }),
            Err(Fault::Kind) => {
                return Err(Error::Value { at, column, text: show(value), expected });
            }
            Err(Fault::Digits) => {
                return Err(Error::Inexact { at, column, text: show(value), expected });
            }
        }
    }
    Ok(())
}
