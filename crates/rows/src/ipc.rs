//! The body of an entry: one encapsulated Arrow record batch without its schema, which its version names.
//!
//! It must not compress, skip validation, or copy a buffer that is aligned. Invariant: every part of a body
//! starts at a multiple of 64 bytes.

use std::sync::Arc;

use alluvium_types::KeyBlock;
use alluvium_types::codec::ALIGNMENT;
use alluvium_types::limits::BATCH_ROWS_MAX;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::writer::{
    CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions, write_message,
};
use arrow::ipc::{MessageHeader, MetadataVersion};
use bytes::Bytes;

use crate::Error;
use crate::error::StreamFault;
use crate::layout::{self, Allowance};
use crate::schema::unsupported;

/// Returns the body that carries a conformed batch.
///
/// # Errors
/// [`Error::Unsupported`] for a column that was not conformed, [`Error::Budget`] for too many rows.
pub fn encode_body(batch: &RecordBatch) -> Result<Bytes, Error> {
    let (needed, limit) = (batch.num_rows() as u64, u64::from(BATCH_ROWS_MAX));
    if limit < needed {
        return Err(Error::Budget { unit: "rows", needed, limit });
    }
    let failed = Error::arrow("encode rows");
    let options =
        IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5).map_err(&failed)?;
    let mut tracker = DictionaryTracker::new(true);
    let mut compression = CompressionContext::default();
    let (dictionaries, message) = IpcDataGenerator::default()
        .encode(batch, &mut tracker, &options, &mut compression)
        .map_err(&failed)?;
    if !dictionaries.is_empty() {
        return Err(dictionary_column(batch));
    }
    let mut body = Vec::with_capacity(message.ipc_message.len() + message.arrow_data.len() + 128);
    write_message(&mut body, message, &options).map_err(&failed)?;
    assert!(body.len().is_multiple_of(ALIGNMENT), "a body's end is not aligned");
    Ok(body.into())
}

fn dictionary_column(batch: &RecordBatch) -> Error {
    let schema = batch.schema();
    let nested = |field: &&Arc<arrow::datatypes::Field>| field.data_type().to_string();
    let found = schema.fields().iter().find(|field| nested(field).contains("Dictionary"));
    let found = found.expect("a dictionary was encoded, so a column has one");
    unsupported(found.name(), found.data_type())
}

/// Returns the rows of a body, validated; their buffers lie in `body` when it is aligned.
///
/// # Errors
/// [`Error::Body`]: bytes that were hashed on the way in are no longer rows of this schema.
pub fn decode_body(body: &Bytes, schema: &SchemaRef) -> Result<RecordBatch, Error> {
    read_body(body, schema).map_err(|fault| Error::Body { fault })
}

fn read_body(body: &Bytes, schema: &SchemaRef) -> Result<RecordBatch, StreamFault> {
    let frame = layout::frame(body)?.ok_or(StreamFault::Truncated)?;
    if frame.used != body.len() {
        return Err(StreamFault::Trailing);
    }
    let message = layout::message(&frame.metadata)?;
    if message.header_type() != MessageHeader::RecordBatch {
        return Err(StreamFault::Kind);
    }
    let batch = message.header_as_record_batch().ok_or(StreamFault::Kind)?;
    let allowance = Allowance { rows: u64::from(BATCH_ROWS_MAX), compressed: false };
    layout::check(&batch, schema, &frame.body, allowance)?;
    read_checked(frame.body.clone(), batch, schema)
}

/// Lets Arrow read a batch whose metadata was checked; its values are validated in full.
pub(crate) fn read_checked(
    body: Bytes,
    batch: arrow::ipc::RecordBatch<'_>,
    schema: &SchemaRef,
) -> Result<RecordBatch, StreamFault> {
    #[expect(clippy::disallowed_types, reason = "Arrow's own type; it stays empty")]
    let no_dictionaries = std::collections::HashMap::new();
    let (rows, schema, version) = (batch.length(), Arc::clone(schema), MetadataVersion::V5);
    let read =
        read_record_batch(&Buffer::from(body), batch, schema, &no_dictionaries, None, &version);
    let read = read.map_err(StreamFault::Values)?;
    let is_whole = u64::try_from(rows).is_ok_and(|rows| rows == read.num_rows() as u64);
    if is_whole { Ok(read) } else { Err(StreamFault::Length) }
}

/// Returns an upsert's body: the rows, then at the next multiple of 64 bytes their key block.
#[must_use]
pub fn join_keys(rows: &Bytes, keys: &KeyBlock) -> Bytes {
    let start = rows.len().next_multiple_of(ALIGNMENT);
    let mut body = Vec::with_capacity(start + keys.as_bytes().len());
    body.extend_from_slice(rows);
    body.resize(start, 0);
    body.extend_from_slice(keys.as_bytes());
    body.into()
}

/// Returns the Arrow part of a body, of `rows_bytes` bytes.
///
/// # Errors
/// [`Error::Body`] when the body is shorter.
pub fn rows_part(body: &Bytes, rows_bytes: u32) -> Result<Bytes, Error> {
    let end = rows_bytes as usize;
    if body.len() < end {
        return Err(Error::Body { fault: StreamFault::Truncated });
    }
    Ok(body.slice(..end))
}

/// Returns the key block behind the Arrow part of an upsert's body.
///
/// # Errors
/// [`Error::Body`] when the body is shorter, or what [`KeyBlock::parse`] says.
pub fn keys_part(body: &Bytes, rows_bytes: u32) -> Result<KeyBlock, Error> {
    let start = (rows_bytes as usize).next_multiple_of(ALIGNMENT);
    if body.len() < start {
        return Err(Error::Body { fault: StreamFault::Truncated });
    }
    Ok(KeyBlock::parse(body.slice(start..))?)
}

#[cfg(test)]
mod tests;
