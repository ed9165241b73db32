//! Rows into and out of the node, message by message.
//!
//! It must not use rows before they are validated, or read ahead of who takes them: a slow log slows the
//! sender, a slow receiver slows the query. Invariant: one message of a client is decoded at a time.

use alluvium_engine::{Node, QueryStream, TombstoneKeys};
use alluvium_proto::v1;
use alluvium_types::ErrorKind;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::{Status, Streaming};

use crate::convert::caller_from;
use crate::failures::{engine_status, rows_status, status};
use crate::limits::{RESPONSE_CHUNK_BYTES, STREAM_LIMITS, TEXT_KEYS_MAX, TOMBSTONE_BYTES_MAX};
use crate::replies;

fn misuse(message: &str) -> Status {
    status(ErrorKind::InvalidArgument, message, None)
}

fn decode(bytes: &Bytes) -> Result<Vec<RecordBatch>, Status> {
    let decoded = alluvium_rows::decode_stream(bytes, STREAM_LIMITS);
    decoded.map(|(_, batches)| batches).map_err(|error| rows_status(&error))
}

/// Appends or upserts what a client streams, as one visible unit.
pub(crate) async fn append(
    node: &Node,
    mut requests: Streaming<v1::AppendRequest>,
) -> Result<v1::WriteResponse, Status> {
    use v1::append_request::Part;
    let first = requests.message().await?.and_then(|request| request.part);
    let Some(Part::Target(target)) = first else {
        return Err(misuse("the first message of an append must be its target"));
    };
    let caller = caller_from(target.caller);
    let mut appender = node.appender(caller, &target.name, target.upsert);
    while let Some(request) = requests.message().await? {
        match request.part {
            Some(Part::ArrowStream(bytes)) => {
                for batch in decode(&bytes)? {
                    appender.push(batch).await.map_err(|error| engine_status(node, &error))?;
                }
            }
            Some(Part::Target(_)) => return Err(misuse("an append has one target")),
            None => return Err(misuse("a message of an append has neither target nor rows")),
        }
    }
    let written = appender.finish().await.map_err(|error| engine_status(node, &error))?;
    Ok(replies::written(&written))
}

/// Hides rows by the keys or the predicate that a client sends.
pub(crate) async fn tombstone(
    node: &Node,
    mut requests: Streaming<v1::TombstoneRequest>,
) -> Result<v1::WriteResponse, Status> {
    use v1::tombstone_request::Part;
    let first = requests.message().await?.and_then(|request| request.part);
    let Some(Part::Target(target)) = first else {
        return Err(misuse("the first message of a tombstone must be its target"));
    };
    let mut keys = Keys::default();
    while let Some(request) = requests.message().await? {
        match request.part {
            Some(Part::ArrowStream(bytes)) => keys.add_stream(&bytes)?,
            Some(Part::Texts(texts)) => keys.add_texts(texts)?,
            Some(Part::Target(_)) => return Err(misuse("a tombstone has one target")),
            None => return Err(misuse("a message of a tombstone has neither target nor keys")),
        }
    }
    let keys = keys.finish(target.predicate)?;
    if target.dry_run {
        let TombstoneKeys::Predicate(predicate) = keys else {
            return Err(misuse("a dry run needs a predicate; keys are counted by a query"));
        };
        let preview = node.preview_tombstone(&target.name, &predicate).await;
        return Ok(replies::written(&preview.map_err(|error| engine_status(node, &error))?));
    }
    let caller = caller_from(target.caller);
    let written = node.tombstone(&caller, &target.name, keys).await;
    Ok(replies::written(&written.map_err(|error| engine_status(node, &error))?))
}

/// The keys of a tombstone as they come in.
#[derive(Default)]
struct Keys {
    batches: Vec<RecordBatch>,
    /// Whether a stream came: one without rows names no keys, which is not the same as naming nothing.
    has_stream: bool,
    texts: Vec<Vec<String>>,
    bytes: usize,
}

impl Keys {
    fn add_stream(&mut self, bytes: &Bytes) -> Result<(), Status> {
        let batches = decode(bytes)?;
        self.has_stream = true;
        self.charge(batches.iter().map(RecordBatch::get_array_memory_size).sum())?;
        self.batches.extend(batches);
        Ok(())
    }

    fn add_texts(&mut self, texts: v1::TextKeys) -> Result<(), Status> {
        if TEXT_KEYS_MAX < self.texts.len() + texts.keys.len() {
            let message = format!("a tombstone takes at most {TEXT_KEYS_MAX} keys as text");
            let hint = Some("send them as an Arrow stream".to_owned());
            return Err(status(ErrorKind::ResourceExhausted, message, hint));
        }
        self.texts.extend(texts.keys.into_iter().map(|key| key.values));
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Status> {
        self.bytes = self.bytes.saturating_add(bytes);
        if TOMBSTONE_BYTES_MAX < self.bytes {
            let message = format!(
                "the keys of a tombstone have {} bytes, the limit is {TOMBSTONE_BYTES_MAX}",
                self.bytes
            );
            return Err(status(ErrorKind::ResourceExhausted, message, None));
        }
        Ok(())
    }

    fn finish(self, predicate: Option<String>) -> Result<TombstoneKeys, Status> {
        match (predicate, self.has_stream, self.texts.is_empty()) {
            (Some(predicate), false, true) => Ok(TombstoneKeys::Predicate(predicate)),
            (None, true, true) => Ok(TombstoneKeys::Batches(self.batches)),
            (None, false, false) => Ok(TombstoneKeys::Texts(self.texts)),
            (None, false, true) => Err(misuse("a tombstone needs keys or a predicate")),
            _ => Err(misuse("a tombstone has an Arrow stream, texts or a predicate: one of them")),
        }
    }
}

/// Messages of a query's answer.
pub(crate) type Answers = BoxStream<'static, Result<v1::QueryResponse, Status>>;

/// Encodes an answer as it is made. The first message has the index and the schema.
pub(crate) fn answers(node: &Node, query: QueryStream) -> Result<Answers, Status> {
    let index = query.index().0;
    let writer = StreamWriter::try_new(Vec::new(), &query.schema()).map_err(|e| encoding(&e))?;
    let mut encoder = Encoder { node: node.clone(), query, writer: Some(writer) };
    let first = encoder.take()?;
    let head = v1::QueryResponse { index: Some(index), arrow_stream: first };
    let rest = stream::try_unfold(encoder, |mut encoder| async move {
        let bytes = encoder.next().await?;
        Ok::<_, Status>(bytes.map(|bytes| (stream::iter(split(bytes)), encoder)))
    });
    let rest = rest.map(|chunks| match chunks {
        Ok(chunks) => chunks.map(Ok).left_stream(),
        Err(error) => stream::iter([Err(error)]).right_stream(),
    });
    Ok(stream::iter([Ok(head)]).chain(rest.flatten()).boxed())
}

fn split(bytes: Bytes) -> Vec<v1::QueryResponse> {
    let starts = (0..bytes.len()).step_by(RESPONSE_CHUNK_BYTES);
    let chunk = |start: usize| {
        let end = (start + RESPONSE_CHUNK_BYTES).min(bytes.len());
        v1::QueryResponse { index: None, arrow_stream: bytes.slice(start..end) }
    };
    starts.map(chunk).collect()
}

fn encoding(error: &ArrowError) -> Status {
    status(ErrorKind::Internal, format!("cannot encode the answer: {error}"), None)
}

/// A query and the writer of its answer; none when the end was written.
struct Encoder {
    node: Node,
    query: QueryStream,
    writer: Option<StreamWriter<Vec<u8>>>,
}

impl Encoder {
    /// Returns what was written since the last time.
    fn take(&mut self) -> Result<Bytes, Status> {
        let writer = self.writer.as_mut().ok_or_else(|| misuse("the answer has ended"))?;
        writer.flush().map_err(|error| encoding(&error))?;
        Ok(Bytes::from(std::mem::take(writer.get_mut())))
    }

    /// Returns the bytes of the next batch, or of the end, or nothing after it.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(writer) = self.writer.as_mut() else { return Ok(None) };
        match self.query.next().await {
            Some(Ok(batch)) => {
                writer.write(&batch).map_err(|error| encoding(&error))?;
                self.take().map(Some)
            }
            Some(Err(error)) => Err(engine_status(&self.node, &error)),
            None => {
                writer.finish().map_err(|error| encoding(&error))?;
                let bytes = self.take()?;
                self.writer = None;
                Ok(Some(bytes))
            }
        }
    }
}
