//! Arrow streams and files as clients send them: bytes from outside, decoded within a memory budget.
//!
//! It must not panic, believe a length, or return fewer rows than were sent: a stream without its end marker
//! is truncated. Invariant: before anything is allocated, it was charged to the budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{TakeOptions, cast, concat, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::{self, MessageHeader};
use bytes::Bytes;

use crate::Error;
use crate::error::StreamFault;
use crate::ipc::read_checked;
use crate::layout::{self, Allowance};
use crate::size::{ARRAY_BYTES_MAX, expanded_bytes, taken_bytes};
use crate::stream_schema::StreamSchema;

const FILE_MAGIC: &[u8] = b"ARROW1";
/// What pads the magic number at a file's start: to 8 bytes, or to as many as 64.
const FILE_ALIGNMENT: usize = 8;
const FILE_START_BYTES_MAX: usize = 64;
/// The end-of-stream marker.
const END_BYTES: usize = 8;
/// The footer's length and the magic number.
const FILE_END_BYTES: usize = 10;

/// What one stream may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Bytes of all its batches once decompressed and without dictionaries; at most 2 GiB.
    pub memory_bytes: u64,
    /// Rows of all its batches.
    pub rows: u64,
    /// Its batches.
    pub batches: u32,
}

impl StreamLimits {
    /// The limits of one request.
    #[must_use]
    pub fn standard() -> Self {
        Self { memory_bytes: 512 * 1024 * 1024, rows: 64 * 1024 * 1024, batches: 65_536 }
    }
}

/// Decodes an Arrow IPC stream or file. Dictionaries are undone; everything else keeps its type.
///
/// # Errors
/// [`Error::Stream`] for bytes that are not a whole valid stream, [`Error::Budget`] for one that is too large.
pub fn decode_stream(
    bytes: &Bytes,
    limits: StreamLimits,
) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
    let messages = messages_of(bytes).map_err(invalid)?;
    let (schema, rest) = read_schema(&messages).map_err(invalid)?;
    let limits = StreamLimits { memory_bytes: limits.memory_bytes.min(ARRAY_BYTES_MAX), ..limits };
    let mut reader = Reader { schema, limits, dictionaries: BTreeMap::new(), spent: 0, rows: 0 };
    let batches = reader.read_all(rest)?;
    Ok((reader.schema.rows, batches))
}

fn invalid(fault: StreamFault) -> Error {
    Error::Stream { fault }
}

/// Returns the messages of a stream, or of a file without its frame: they are the same in between.
fn messages_of(bytes: &Bytes) -> Result<Bytes, StreamFault> {
    if !bytes.starts_with(FILE_MAGIC) {
        return Ok(bytes.clone());
    }
    if !bytes.ends_with(FILE_MAGIC) {
        return Err(StreamFault::Truncated);
    }
    let footer_end = bytes.len().checked_sub(FILE_END_BYTES).ok_or(StreamFault::Truncated)?;
    let length = bytes[footer_end..].first_chunk::<4>().ok_or(StreamFault::Truncated)?;
    let length =
        usize::try_from(i32::from_le_bytes(*length)).map_err(|_negative| StreamFault::Bounds)?;
    let end = footer_end.checked_sub(length).ok_or(StreamFault::Bounds)?;
    let starts = (FILE_ALIGNMENT..=FILE_START_BYTES_MAX.min(end)).step_by(FILE_ALIGNMENT);
    let is_padding = |start: &usize| bytes[FILE_MAGIC.len()..*start].iter().all(|byte| *byte == 0);
    // Messages start with a marker that is not zero, so the longest padding ends where they begin.
    let start = starts.take_while(is_padding).last().ok_or(StreamFault::Bounds)?;
    Ok(bytes.slice(start..end))
}

fn read_schema(bytes: &Bytes) -> Result<(StreamSchema, Bytes), StreamFault> {
    let frame = layout::frame(bytes)?.ok_or(StreamFault::Truncated)?;
    let message = layout::message(&frame.metadata)?;
    let schema = message.header_as_schema().ok_or(StreamFault::Kind)?;
    Ok((StreamSchema::read(&schema)?, bytes.slice(frame.used..)))
}

struct Reader {
    schema: StreamSchema,
    limits: StreamLimits,
    dictionaries: BTreeMap<i64, ArrayRef>,
    /// Bytes charged so far. Invariant: at most `limits.memory_bytes`.
    spent: u64,
    rows: u64,
}

impl Reader {
    fn read_all(&mut self, mut rest: Bytes) -> Result<Vec<RecordBatch>, Error> {
        let mut batches = Vec::new();
        while let Some(frame) = layout::frame(&rest).map_err(invalid)? {
            rest = rest.slice(frame.used..);
            let message = layout::message(&frame.metadata).map_err(invalid)?;
            match message.header_type() {
                MessageHeader::RecordBatch => {
                    let batch = message.header_as_record_batch().ok_or(StreamFault::Kind);
                    batches.push(self.read_batch(&batch.map_err(invalid)?, frame.body)?);
                    let (needed, limit) = (batches.len() as u64, u64::from(self.limits.batches));
                    if limit < needed {
                        return Err(Error::Budget { unit: "batches", needed, limit });
                    }
                }
                MessageHeader::DictionaryBatch => {
                    let batch = message.header_as_dictionary_batch().ok_or(StreamFault::Kind);
                    self.read_dictionary(&batch.map_err(invalid)?, frame.body)?;
                }
                _ => return Err(invalid(StreamFault::Kind)),
            }
        }
        // The end marker is eight bytes; what follows would be lost.
        if END_BYTES < rest.len() {
            return Err(invalid(StreamFault::Trailing));
        }
        Ok(batches)
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Error> {
        let needed = self.spent.saturating_add(bytes);
        let limit = self.limits.memory_bytes;
        if limit < needed {
            return Err(Error::Budget { unit: "bytes of memory", needed, limit });
        }
        self.spent = needed;
        Ok(())
    }

    /// Checks, charges and reads one batch of a schema.
    fn read(
        &mut self,
        batch: &ipc::RecordBatch<'_>,
        body: Bytes,
        schema: &SchemaRef,
    ) -> Result<RecordBatch, Error> {
        let limit = self.limits.rows;
        let needed = u64::try_from(batch.length()).unwrap_or(0).saturating_add(self.rows);
        if limit < needed {
            return Err(Error::Budget { unit: "rows", needed, limit });
        }
        let allowance = Allowance { rows: limit, compressed: true };
        let bytes = layout::check(batch, schema, &body, allowance).map_err(invalid)?;
        self.charge(bytes)?;
        let read = read_checked(body, *batch, schema).map_err(invalid)?;
        // Many views may share one value: whoever copies them out needs this much.
        let expanded = read.columns().iter().map(|column| expanded_bytes(column));
        self.charge(expanded.fold(0, u64::saturating_add).saturating_sub(bytes))?;
        Ok(read)
    }

    fn read_batch(
        &mut self,
        batch: &ipc::RecordBatch<'_>,
        body: Bytes,
    ) -> Result<RecordBatch, Error> {
        let wire = Arc::clone(&self.schema.wire);
        let read = self.read(batch, body, &wire)?;
        self.rows += read.num_rows() as u64;
        let mut columns = read.columns().to_vec();
        for (position, column) in columns.iter_mut().enumerate() {
            if let Some(id) = self.schema.dictionaries[position] {
                *column = self.undo_dictionary(column, id, position)?;
            }
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema.rows), columns);
        rows.map_err(|source| invalid(StreamFault::Values(source)))
    }

    fn undo_dictionary(
        &mut self,
        indices: &ArrayRef,
        id: i64,
        position: usize,
    ) -> Result<ArrayRef, Error> {
        let values = match self.dictionaries.get(&id) {
            Some(values) => Arc::clone(values),
            // A writer may leave out the dictionary of a column that is all NULL.
            None => arrow::array::new_empty_array(self.schema.rows.field(position).data_type()),
        };
        let values_fault = |source| invalid(StreamFault::Values(source));
        let keys = cast(indices, &DataType::Int64).map_err(values_fault)?;
        let keys = keys.as_primitive();
        let in_range = |key: i64| usize::try_from(key).is_ok_and(|key| key < values.len());
        if !keys.iter().flatten().all(in_range) {
            return Err(invalid(StreamFault::Dictionary));
        }
        self.charge(taken_bytes(&values, keys))?;
        if values.is_empty() {
            return Ok(arrow::array::new_null_array(values.data_type(), keys.len()));
        }
        take(&values, keys, Some(TakeOptions { check_bounds: true })).map_err(values_fault)
    }

    fn read_dictionary(
        &mut self,
        dictionary: &ipc::DictionaryBatch<'_>,
        body: Bytes,
    ) -> Result<(), Error> {
        let missing = || invalid(StreamFault::Dictionary);
        let id = dictionary.id();
        let values = self.schema.dictionary_values(id).ok_or_else(missing)?.clone();
        let schema = Arc::new(Schema::new(vec![Field::new("values", values, true)]));
        let read = self.read(&dictionary.data().ok_or_else(missing)?, body, &schema)?;
        let mut values = Arc::clone(read.column(0));
        if dictionary.isDelta() {
            let earlier = Arc::clone(self.dictionaries.get(&id).ok_or_else(missing)?);
            self.charge(expanded_bytes(&earlier))?;
            let joined = concat(&[earlier.as_ref(), values.as_ref()]);
            values = joined.map_err(|source| invalid(StreamFault::Values(source)))?;
        }
        self.dictionaries.insert(id, values);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
