//! Rows as Arrow streams, made before anything is measured.
//!
//! It must not know a cluster. Invariant: every stream is whole: a schema, one batch, the end marker.

use std::sync::Arc;

use alluvium_proto::v1;
use alluvium_stdx::Prng;
use anyhow::Result;
use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use crate::limits;

/// The column of a dataset of values.
pub(crate) const VALUE: [(&str, v1::Scalar); 1] = [("value", v1::Scalar::Binary)];
/// The columns of a dataset of readings.
pub(crate) const READING: [(&str, v1::Scalar); 4] = [
    ("at_us", v1::Scalar::Int64),
    ("device", v1::Scalar::Int64),
    ("reading", v1::Scalar::Float64),
    ("state", v1::Scalar::Utf8),
];

const STATES: [&str; 4] = ["idle", "charging", "driving", "maintenance"];
const DEVICES: u64 = 5_000;

/// Makes values of random bytes, always the same ones: nothing that compresses them may gain by it.
pub(crate) fn values(bytes: usize, count: usize) -> Vec<Bytes> {
    let mut prng = Prng::from_seed(1);
    let value = |_| {
        let mut value = vec![0; bytes];
        prng.fill(&mut value);
        Bytes::from(value)
    };
    (0..count).map(value).collect()
}

/// Makes the stream of one row with one value.
pub(crate) fn of_value(value: &Bytes) -> Result<Bytes> {
    of_values(std::slice::from_ref(value))
}

/// Makes the stream of a row for each value.
pub(crate) fn of_values(values: &[Bytes]) -> Result<Bytes> {
    let values = values.iter().map(Bytes::as_ref).collect();
    let column: ArrayRef = Arc::new(BinaryArray::from_vec(values));
    encode(&VALUE, vec![column])
}

/// Makes the streams of a batch of readings, each small enough for a message.
pub(crate) fn readings(count: usize) -> Result<Vec<Bytes>> {
    let mut prng = Prng::from_seed(2);
    let mut streams = Vec::new();
    let mut left = count;
    while left > 0 {
        let part = left.min(limits::MESSAGE_ROWS_MAX);
        streams.push(reading_part(&mut prng, part)?);
        left -= part;
    }
    Ok(streams)
}

fn reading_part(prng: &mut Prng, count: usize) -> Result<Bytes> {
    let (mut at, mut devices, mut readings, mut states) = (vec![], vec![], vec![], vec![]);
    for row in 0..count {
        at.push(1_700_000_000_000_000 + i64::try_from(row)? * 250);
        devices.push(i64::try_from(prng.below(DEVICES))?);
        readings.push(prng.below(1_000_000) as f64 / 1_000.0);
        states.push(*prng.pick(&STATES).expect("there are states"));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(at)),
        Arc::new(Int64Array::from(devices)),
        Arc::new(Float64Array::from(readings)),
        Arc::new(StringArray::from(states)),
    ];
    encode(&READING, columns)
}

fn encode(names: &[(&str, v1::Scalar)], columns: Vec<ArrayRef>) -> Result<Bytes> {
    let field = |((name, _), column): (&(&str, v1::Scalar), &ArrayRef)| {
        Field::new(*name, DataType::clone(column.data_type()), false)
    };
    let fields: Vec<Field> = names.iter().zip(&columns).map(field).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    Ok(Bytes::from(writer.into_inner()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::ipc::reader::StreamReader;

    #[test]
    fn a_batch_is_cut_into_whole_streams() {
        let streams = readings(limits::MESSAGE_ROWS_MAX + 3).expect("encodes");
        let rows = |bytes: &Bytes| {
            let batches = StreamReader::try_new(bytes.as_ref(), None).expect("a stream");
            batches.map(|batch| batch.expect("whole").num_rows()).sum::<usize>()
        };
        let counts: Vec<usize> = streams.iter().map(rows).collect();
        assert_eq!(counts, [limits::MESSAGE_ROWS_MAX, 3]);
        assert_eq!(values(256, 3).iter().map(Bytes::len).max(), Some(256));
    }
}
