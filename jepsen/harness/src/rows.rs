//! Rows of whole numbers, to and from Arrow: every workload's datasets have no other columns.
//!
//! It must not know a workload. Invariant: what is encoded and decoded is the same rows in the same order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use crate::outcome::Fault;

/// One value; nothing for NULL.
pub(crate) type Cell = Option<i64>;
/// The values of a row, in the order of the columns.
pub(crate) type Row = Vec<Cell>;

/// Encodes rows as one whole Arrow stream.
pub(crate) fn encode(columns: &[&str], rows: &[Vec<i64>]) -> Result<Bytes, Fault> {
    stream(columns, rows).map_err(|error| Fault::unsent(error.to_string()))
}

fn stream(columns: &[&str], rows: &[Vec<i64>]) -> Result<Bytes, ArrowError> {
    let fields: Vec<Field> =
        columns.iter().map(|name| Field::new(*name, DataType::Int64, false)).collect();
    let column = |position: usize| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row[position])))
    };
    let arrays = (0..columns.len()).map(column).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    Ok(Bytes::from(writer.into_inner()?))
}

/// Takes the messages of an answer and gives its rows at the end.
#[derive(Default)]
pub(crate) struct Decoding {
    decoder: StreamDecoder,
    rows: Vec<Row>,
}

impl Decoding {
    pub(crate) fn take(&mut self, bytes: Bytes) -> Result<(), Fault> {
        let unreadable = |error: ArrowError| Fault::unusable(error.to_string());
        let mut buffer = Buffer::from(bytes);
        while !buffer.is_empty() {
            match self.decoder.decode(&mut buffer).map_err(unreadable)? {
                Some(batch) => self.rows.extend(rows_of(&batch).map_err(unreadable)?),
                None if buffer.is_empty() => break,
                None => {}
            }
        }
        Ok(())
    }

    /// Returns the rows, unless the answer was cut off.
    pub(crate) fn finish(mut self) -> Result<Vec<Row>, Fault> {
        self.decoder.finish().map_err(|error| Fault::unusable(error.to_string()))?;
        Ok(self.rows)
    }
}

fn rows_of(batch: &RecordBatch) -> Result<Vec<Row>, ArrowError> {
    let numbers = |column: &ArrayRef| cast(column, &DataType::Int64);
    let columns = batch.columns().iter().map(numbers).collect::<Result<Vec<_>, _>>()?;
    let cell = |column: &ArrayRef, row: usize| {
        let numbers = column.as_primitive::<Int64Type>();
        numbers.is_valid(row).then(|| numbers.value(row))
    };
    let row = |row: usize| columns.iter().map(|column| cell(column, row)).collect();
    Ok((0..batch.num_rows()).map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_however_the_bytes_are_cut() {
        let rows = vec![vec![1, -7], vec![i64::MAX, i64::MIN]];
        let bytes = encode(&["a", "b"], &rows).expect("encodes");
        for cut in [0, 1, bytes.len() / 2, bytes.len()] {
            let mut decoding = Decoding::default();
            decoding.take(bytes.slice(..cut)).expect("the first part");
            decoding.take(bytes.slice(cut..)).expect("the second part");
            let back = decoding.finish().expect("it is whole");
            let expected: Vec<Row> =
                rows.iter().map(|row| row.iter().copied().map(Some).collect()).collect();
            assert_eq!(back, expected, "cut at {cut}");
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_gives_no_rows() {
        let bytes = encode(&["a"], &[vec![1]]).expect("encodes");
        let mut decoding = Decoding::default();
        let is_refused = decoding.take(bytes.slice(..bytes.len() - 12)).is_err();
        assert!(is_refused || decoding.finish().is_err());
    }
}
