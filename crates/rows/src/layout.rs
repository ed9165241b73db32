//! What IPC metadata claims, checked against the bytes that are there before Arrow believes it.
//!
//! Arrow's reader panics on offsets out of range and on short null masks, and allocates what a compressed
//! buffer says it holds. It must not get to see such metadata. Invariant: after [`check`], every buffer lies
//! in the body, every mask covers its node, and the counts are exactly what the schema needs.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow has forty types; those without a place in a dataset share one arm"
)]

use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc;
use bytes::Bytes;

use crate::error::StreamFault;
use crate::lz4;

const MARKER: [u8; 4] = [0xff; 4];
const PREFIX_BYTES: usize = 8;
/// The prefix of a compressed buffer that holds its decompressed length.
const LENGTH_BYTES: usize = 8;
const STORED: i64 = -1;
const VIEW_BYTES: u64 = 16;

/// One encapsulated message.
pub(crate) struct Frame {
    pub(crate) metadata: Bytes,
    pub(crate) body: Bytes,
    /// Bytes of the whole frame.
    pub(crate) used: usize,
}

/// Returns the first message of `bytes`; none at the end-of-stream marker.
pub(crate) fn frame(bytes: &Bytes) -> Result<Option<Frame>, StreamFault> {
    let prefix = bytes.get(..PREFIX_BYTES).ok_or(StreamFault::Truncated)?;
    if !prefix.starts_with(&MARKER) {
        return Err(StreamFault::Marker);
    }
    let length = i32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
    let length = usize::try_from(length).map_err(|_negative| StreamFault::Bounds)?;
    if length == 0 {
        return Ok(None);
    }
    let metadata_end = PREFIX_BYTES.checked_add(length).ok_or(StreamFault::Bounds)?;
    if bytes.len() < metadata_end {
        return Err(StreamFault::Truncated);
    }
    let metadata = bytes.slice(PREFIX_BYTES..metadata_end);
    let body_bytes = usize::try_from(message(&metadata)?.bodyLength());
    let body_bytes = body_bytes.map_err(|_negative| StreamFault::Bounds)?;
    let used = metadata_end.checked_add(body_bytes).ok_or(StreamFault::Bounds)?;
    if bytes.len() < used {
        return Err(StreamFault::Truncated);
    }
    let body = bytes.slice(metadata_end..used);
    Ok(Some(Frame { metadata, body, used }))
}

/// Parses a message's metadata, verified by flatbuffers.
pub(crate) fn message(metadata: &[u8]) -> Result<ipc::Message<'_>, StreamFault> {
    let message = ipc::root_as_message(metadata).map_err(|_invalid| StreamFault::Metadata)?;
    if message.version() != ipc::MetadataVersion::V5 {
        return Err(StreamFault::Version);
    }
    Ok(message)
}

/// What a batch may ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    pub(crate) rows: u64,
    pub(crate) compressed: bool,
}

/// Checks a batch's metadata against its schema and body; returns the bytes it has once decompressed.
pub(crate) fn check(
    batch: &ipc::RecordBatch<'_>,
    schema: &Schema,
    body: &[u8],
    allowance: Allowance,
) -> Result<u64, StreamFault> {
    let rows = u64::try_from(batch.length()).map_err(|_negative| StreamFault::Bounds)?;
    if allowance.rows < rows {
        return Err(StreamFault::Length);
    }
    let codec = codec(batch)?;
    if codec.is_some() && !allowance.compressed {
        return Err(StreamFault::Compressed);
    }
    let buffers = batch.buffers().ok_or(StreamFault::Layout)?;
    let sizes = buffers.iter().map(|buffer| buffer_size(buffer, body, codec));
    let sizes = sizes.collect::<Result<Vec<u64>, _>>()?;
    let total = sizes.iter().copied().fold(0, u64::saturating_add);
    let nodes = batch.nodes().ok_or(StreamFault::Layout)?;
    let mut walk = Walk {
        nodes: nodes.iter().map(|node| (node.length(), node.null_count())).collect(),
        sizes,
        variadic: batch.variadicBufferCounts().into_iter().flatten().collect(),
        // Only a boolean has as many as eight values in a byte.
        length_max: total.saturating_mul(8),
        at: Position::default(),
    };
    for field in schema.fields() {
        let top_level = walk.field(field)?;
        if top_level != rows {
            return Err(StreamFault::Length);
        }
    }
    walk.finish()?;
    Ok(total)
}

fn codec(batch: &ipc::RecordBatch<'_>) -> Result<Option<ipc::CompressionType>, StreamFault> {
    let Some(compression) = batch.compression() else { return Ok(None) };
    let codec = compression.codec();
    let is_known = codec == ipc::CompressionType::LZ4_FRAME || codec == ipc::CompressionType::ZSTD;
    if !is_known || compression.method() != ipc::BodyCompressionMethod::BUFFER {
        return Err(StreamFault::Compression);
    }
    Ok(Some(codec))
}

/// Returns a buffer's bytes once decompressed, having checked that it can hold no more.
fn buffer_size(
    buffer: &ipc::Buffer,
    body: &[u8],
    codec: Option<ipc::CompressionType>,
) -> Result<u64, StreamFault> {
    let start = usize::try_from(buffer.offset()).map_err(|_negative| StreamFault::Bounds)?;
    let length = usize::try_from(buffer.length()).map_err(|_negative| StreamFault::Bounds)?;
    let end = start.checked_add(length).ok_or(StreamFault::Bounds)?;
    let bytes = body.get(start..end).ok_or(StreamFault::Bounds)?;
    let Some(codec) = codec else { return Ok(length as u64) };
    if bytes.is_empty() {
        return Ok(0);
    }
    let (prefix, content) = bytes.split_at_checked(LENGTH_BYTES).ok_or(StreamFault::Compression)?;
    let claimed = i64::from_le_bytes(prefix.try_into().expect("eight bytes were split off"));
    if claimed == STORED {
        return Ok(content.len() as u64);
    }
    let claimed = u64::try_from(claimed).map_err(|_negative| StreamFault::Compression)?;
    // zstd decompresses into a buffer of the claimed length and no further; LZ4 would grow it.
    let is_lz4 = codec == ipc::CompressionType::LZ4_FRAME;
    if is_lz4 && 0 < claimed && lz4::decompressed_len(content) != Some(claimed) {
        return Err(StreamFault::Compression);
    }
    Ok(claimed)
}

#[derive(Default)]
struct Position {
    node: usize,
    buffer: usize,
    variadic: usize,
}

/// The claims of a batch, consumed in the order of its schema.
struct Walk {
    nodes: Vec<(i64, i64)>,
    sizes: Vec<u64>,
    variadic: Vec<i64>,
    length_max: u64,
    at: Position,
}

impl Walk {
    /// Consumes a field's nodes and buffers, its children's too, and returns its length.
    fn field(&mut self, field: &Field) -> Result<u64, StreamFault> {
        let (length, nulls) = self.node()?;
        let mask = self.buffer()?;
        // Arrow slices the mask before it validates: a short one would panic.
        if 0 < nulls && mask.saturating_mul(8) < length {
            return Err(StreamFault::Bounds);
        }
        match field.data_type() {
            DataType::Utf8 | DataType::Binary => {
                self.whole_buffer(4)?;
                self.buffer()?;
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                self.whole_buffer(8)?;
                self.buffer()?;
            }
            DataType::Utf8View | DataType::BinaryView => self.views()?,
            DataType::List(element) => {
                self.whole_buffer(4)?;
                self.field(element)?;
            }
            DataType::LargeList(element) => {
                self.whole_buffer(8)?;
                self.field(element)?;
            }
            DataType::Struct(fields) => {
                for nested in fields {
                    self.field(nested)?;
                }
            }
            other => self.whole_buffer(other.primitive_width().map_or(1, |width| width as u64))?,
        }
        Ok(length)
    }

    fn views(&mut self) -> Result<(), StreamFault> {
        let count = *self.variadic.get(self.at.variadic).ok_or(StreamFault::Layout)?;
        self.at.variadic += 1;
        let count = usize::try_from(count).map_err(|_negative| StreamFault::Bounds)?;
        let left = self.sizes.len().saturating_sub(self.at.buffer);
        if left <= count {
            return Err(StreamFault::Layout);
        }
        self.whole_buffer(VIEW_BYTES)?;
        self.at.buffer += count;
        Ok(())
    }

    fn node(&mut self) -> Result<(u64, u64), StreamFault> {
        let (length, nulls) = *self.nodes.get(self.at.node).ok_or(StreamFault::Layout)?;
        self.at.node += 1;
        let length = u64::try_from(length).map_err(|_negative| StreamFault::Bounds)?;
        let nulls = u64::try_from(nulls).map_err(|_negative| StreamFault::Bounds)?;
        if length < nulls || self.length_max < length {
            return Err(StreamFault::Bounds);
        }
        Ok((length, nulls))
    }

    /// Consumes a buffer of values of one width. Arrow panics where a part of a value is left over.
    fn whole_buffer(&mut self, width: u64) -> Result<(), StreamFault> {
        if self.buffer()?.is_multiple_of(width) { Ok(()) } else { Err(StreamFault::Bounds) }
    }

    fn buffer(&mut self) -> Result<u64, StreamFault> {
        let size = *self.sizes.get(self.at.buffer).ok_or(StreamFault::Layout)?;
        self.at.buffer += 1;
        Ok(size)
    }

    fn finish(self) -> Result<(), StreamFault> {
        let Position { node, buffer, variadic } = self.at;
        let is_done = node == self.nodes.len() && buffer == self.sizes.len();
        match is_done && variadic == self.variadic.len() {
            true => Ok(()),
            false => Err(StreamFault::Layout),
        }
    }
}
