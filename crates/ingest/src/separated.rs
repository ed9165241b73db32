//! CSV: a header, then records with a field for each of its columns.
//!
//! It must not pad or cut a record. An empty field is NULL, except in a text column that may not be NULL,
//! where it is the empty text. Invariant: at most one batch and one record are in memory.

use std::io::{self, BufRead, Read};

use alluvium_types::{DataType, Schema};
use arrow::array::{ArrayRef, RecordBatch, StringBuilder, new_null_array};
use csv::{ByteRecord, ReaderBuilder};

use crate::align::Alignment;
use crate::limits::{BATCH_BYTES, BATCH_ROWS, RECORD_BYTES_MAX};
use crate::source::Stream;
use crate::text::{has_text_form, parse_cells};
use crate::{Error, Location};

/// Records of a CSV file.
pub(crate) struct Records<R> {
    name: String,
    reader: csv::Reader<Limited<R>>,
    header: Vec<String>,
    record: ByteRecord,
}

impl<R: Read> Records<R> {
    pub(crate) fn open(name: &str, stream: R) -> Result<Self, Error> {
        let limited = Limited { inner: stream, taken: 0, exceeded: false };
        let mut builder = ReaderBuilder::new();
        let reader = builder.has_headers(false).flexible(true).from_reader(limited);
        let record = ByteRecord::new();
        let mut records = Self { name: name.to_owned(), reader, header: Vec::new(), record };
        if !records.read()? {
            return Err(Error::Empty { name: name.to_owned() });
        }
        let column = |(position, field)| match std::str::from_utf8(field) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => {
                let column = format!("number {}", position + 1);
                Err(Error::NotUtf8 { at: Location::Line(1), column })
            }
        };
        records.header = records.record.iter().enumerate().map(column).collect::<Result<_, _>>()?;
        Ok(records)
    }

    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    /// Reads the next record as it is; returns false at the end.
    fn read(&mut self) -> Result<bool, Error> {
        self.reader.get_mut().taken = 0;
        let line = self.reader.position().line();
        match self.reader.read_byte_record(&mut self.record) {
            Ok(more) => Ok(more),
            Err(_) if self.reader.get_ref().exceeded => {
                Err(Error::RecordTooLarge { line, limit: RECORD_BYTES_MAX })
            }
            Err(error) => {
                let kind = error.into_kind();
                let source = if let csv::ErrorKind::Io(source) = kind {
                    source
                } else {
                    // A flexible reader of bytes has no other failure than that of its input.
                    io::Error::new(io::ErrorKind::InvalidData, format!("{kind:?}"))
                };
                Err(Error::Read { name: self.name.clone(), source })
            }
        }
    }

    /// Reads the next record and checks its shape; returns its line.
    pub(crate) fn next(&mut self) -> Result<Option<u64>, Error> {
        if !self.read()? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let (expected, found) = (self.header.len(), self.record.len());
        if expected != found {
            return Err(Error::Ragged { line, expected, found });
        }
        Ok(Some(line))
    }

    /// Returns a field of the record as text.
    pub(crate) fn text(&self, column: usize, line: u64) -> Result<&str, Error> {
        let bytes = self.record.get(column).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_invalid| {
            let column = self.header.get(column).cloned().unwrap_or_default();
            Error::NotUtf8 { at: Location::Line(line), column }
        })
    }

    /// Returns the offset of the record's first byte.
    pub(crate) fn start(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::byte)
    }

    fn bytes(&self) -> usize {
        self.record.as_slice().len()
    }
}

/// Batches of a CSV file.
pub(crate) struct CsvBatches {
    records: Records<Stream>,
    alignment: Alignment,
}

impl CsvBatches {
    pub(crate) fn open(name: &str, stream: Stream, schema: &Schema) -> Result<Self, Error> {
        let records = Records::open(name, stream)?;
        let alignment = Alignment::new(name, records.header(), schema)?;
        if let Some((_, field)) = alignment.present().find(|(_, field)| !has_text_form(field)) {
            let (column, data_type) = (field.name.clone(), field.data_type.clone());
            return Err(Error::NoTextForm { column, data_type });
        }
        Ok(Self { records, alignment })
    }

    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        let width = self.records.header().len();
        let mut cells: Vec<StringBuilder> = (0..width).map(|_| StringBuilder::new()).collect();
        let mut lines = Vec::new();
        let mut bytes = 0;
        while lines.len() < BATCH_ROWS && bytes < BATCH_BYTES {
            let Some(line) = self.records.next()? else { break };
            bytes += self.records.bytes();
            lines.push(line);
            self.add_cells(&mut cells, line)?;
        }
        if lines.is_empty() {
            return Ok(None);
        }
        let locate = |row: usize| Location::Line(lines.get(row).copied().unwrap_or(0));
        let mut columns = empty_columns(width, lines.len());
        for (position, field) in self.alignment.present() {
            let column = parse_cells(&cells[position].finish(), field, locate)?;
            columns[position] = column;
        }
        self.alignment.batch(&columns, lines.len(), locate).map(Some)
    }

    fn add_cells(&self, cells: &mut [StringBuilder], line: u64) -> Result<(), Error> {
        for (position, field) in self.alignment.present() {
            let text = self.records.text(position, line)?;
            let is_text = field.data_type == DataType::Utf8;
            match (text.is_empty(), field.nullable) {
                (false, _) => cells[position].append_value(text),
                (true, true) => cells[position].append_null(),
                (true, false) if is_text => cells[position].append_value(text),
                (true, false) => {
                    let (at, column) = (Location::Line(line), field.name.clone());
                    return Err(Error::Null { at, column });
                }
            }
        }
        Ok(())
    }
}

fn empty_columns(width: usize, rows: usize) -> Vec<ArrayRef> {
    let empty = new_null_array(&arrow::datatypes::DataType::Null, rows);
    vec![empty; width]
}

/// Fails when one record takes more bytes than it may: an open quote must not swallow the file.
pub(crate) struct Limited<R> {
    inner: R,
    taken: usize,
    exceeded: bool,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if RECORD_BYTES_MAX < self.taken {
            self.exceeded = true;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let count = self.inner.read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

/// Reads a line of at most [`RECORD_BYTES_MAX`] bytes into `line`, without its end; false at the end.
pub(crate) fn read_line(
    stream: &mut impl BufRead,
    line: &mut Vec<u8>,
) -> io::Result<Result<bool, TooLong>> {
    line.clear();
    let limit = RECORD_BYTES_MAX as u64 + 1;
    let count = stream.by_ref().take(limit).read_until(b'\n', line)?;
    if count as u64 == limit && line.last() != Some(&b'\n') {
        return Ok(Err(TooLong));
    }
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    Ok(Ok(count > 0))
}

/// A line over its limit.
pub(crate) struct TooLong;
