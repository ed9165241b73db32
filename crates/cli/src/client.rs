//! A client of `alluvium.v1.Lake`.
//!
//! It must not make a cut-off file look whole: when reading fails in the middle of an append, the call is
//! cancelled, never ended. Invariant: every call has a deadline.

use std::future::Future;
use std::time::Duration;

use alluvium_engine::{Caller, TombstoneKeys};
use alluvium_ingest::Reader;
use alluvium_proto::v1;
use alluvium_proto::v1::lake_client::LakeClient;
use alluvium_server::convert::caller_to;
use alluvium_server::limits::REQUEST_BYTES_MAX;
use alluvium_types::ErrorKind;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, Stream};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming, TimeoutExpired};

use crate::failure::Failure;
use crate::output::Answer;
use crate::terminal::Loading;

/// Bytes of one message of rows: below what a server takes, whatever the encoding adds.
const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes around the rows of a message, at most.
const ENVELOPE_BYTES: usize = 1024;
/// Bytes of one message of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Keys in one message of texts.
const KEYS_PER_MESSAGE: usize = 4_096;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may last when nobody says.
pub(crate) const DEADLINE: Duration = Duration::from_secs(600);
/// What is waited beyond a deadline for a server to say itself that it passed.
const GRACE: Duration = Duration::from_secs(1);
/// How long the end of a call is away when its deadline is more than a clock holds.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A connection to a server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    lake: LakeClient<Channel>,
    deadline: Duration,
}

impl Client {
    /// Prepares a connection; it is made by the first call, and again when it breaks.
    pub(crate) fn new(url: &str, deadline: Option<Duration>) -> Result<Self, Failure> {
        let endpoint =
            Endpoint::from_shared(url.to_owned()).ok().filter(|_| url.starts_with("http://"));
        let endpoint = endpoint.ok_or_else(|| {
            Failure::usage(format!("{url:?} is not the URL of a server"))
                .with_hint("for example http://127.0.0.1:7171")
        })?;
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect_lazy();
        let lake = LakeClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { lake, deadline: deadline.unwrap_or(DEADLINE) })
    }

    /// Returns the client for one call; clones share the connection.
    pub(crate) fn lake(&self) -> LakeClient<Channel> {
        self.lake.clone()
    }

    /// Puts the deadline on a request.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    /// Returns when a call that begins now is over, whatever the server says or does not say. The deadline on the
    /// request ends with the first byte of the answer, and an answer may stop in its middle.
    fn end(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.deadline.saturating_add(GRACE)).unwrap_or_else(|| now + FOREVER)
    }

    /// Waits for the answer of a call that begins now.
    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        Ok(until(self.end(), call).await?.into_inner())
    }

    pub(crate) async fn sql(&self, text: &str, as_of: Option<u64>) -> Result<Answer, Failure> {
        let message =
            v1::QueryRequest { sql: text.to_owned(), as_of, ..v1::QueryRequest::default() };
        let end = self.end();
        let answer = until(end, self.lake().query(self.request(message))).await;
        let mut answers = answer.map_err(read_failure)?.into_inner();
        let first = until(end, answers.message()).await.map_err(read_failure)?;
        let first = first.ok_or_else(|| cut_off("the answer has no first message"))?;
        let index = first.index.ok_or_else(|| cut_off("the answer does not name its index"))?;
        let mut decoder = StreamDecoder::new();
        let mut early = decode(&mut decoder, first.arrow_stream)?;
        // The decoder knows the columns only when it has seen the byte after them.
        let schema = loop {
            if let Some(schema) = decoder.schema() {
                break schema;
            }
            let next = until(end, answers.message()).await.map_err(read_failure)?;
            let next = next.ok_or_else(|| cut_off("the answer has no columns"))?;
            early.extend(decode(&mut decoder, next.arrow_stream)?);
        };
        let rest = Decoding { decoder, answers, end, is_over: false };
        let rest = stream::try_unfold(rest, |mut rest| async move {
            Ok(rest.next().await?.map(|batches| (stream::iter(batches.into_iter().map(Ok)), rest)))
        });
        let rest = rest.map(|item| match item {
            Ok(batches) => batches.left_stream(),
            Err(failure) => stream::iter([Err(failure)]).right_stream(),
        });
        let batches = stream::iter(early.into_iter().map(Ok)).chain(rest.flatten()).boxed();
        Ok(Answer { index, schema, batches })
    }

    /// Appends or upserts the rows of a file as one unit.
    pub(crate) async fn load(
        &self,
        caller: &Caller,
        name: &str,
        upsert: bool,
        rows: Rows,
    ) -> Result<v1::WriteResponse, Failure> {
        use v1::append_request::Part;
        let caller = Some(caller_to(caller));
        let target = Part::Target(v1::AppendTarget { caller, name: name.to_owned(), upsert });
        let (failed, failure) = oneshot::channel();
        let parts = stream::iter([target]).chain(rows.parts(failed).map(Part::ArrowStream));
        let requests = parts.map(|part| v1::AppendRequest { part: Some(part) });
        let mut lake = self.lake();
        // Dropping the call cancels it, and a cancelled append leaves nothing visible.
        tokio::select! {
            answer = self.answer(lake.append(self.request(requests))) => Ok(answer?),
            Ok(failure) = failure => Err(failure),
        }
    }

    pub(crate) async fn tombstone(
        &self,
        caller: &Caller,
        name: &str,
        keys: TombstoneKeys,
    ) -> Result<v1::WriteResponse, Failure> {
        use v1::tombstone_request::Part;
        let (predicate, parts) = match keys {
            TombstoneKeys::Predicate(predicate) => (Some(predicate), Vec::new()),
            TombstoneKeys::Texts(keys) => {
                (None, keys.chunks(KEYS_PER_MESSAGE).map(texts).collect())
            }
            TombstoneKeys::Batches(batches) => {
                let mut parts = Vec::new();
                for batch in &batches {
                    parts.extend(encode(batch)?.into_iter().map(Part::ArrowStream));
                }
                (None, parts)
            }
        };
        let caller = Some(caller_to(caller));
        let name = name.to_owned();
        let target = v1::TombstoneTarget { caller, name, predicate, dry_run: false };
        let parts = std::iter::once(Part::Target(target)).chain(parts);
        let requests = parts.map(|part| v1::TombstoneRequest { part: Some(part) });
        let request = self.request(stream::iter(requests.collect::<Vec<_>>()));
        Ok(self.answer(self.lake().tombstone(request)).await?)
    }

    pub(crate) async fn preview(
        &self,
        name: &str,
        predicate: &str,
    ) -> Result<v1::WriteResponse, Failure> {
        let (name, predicate) = (name.to_owned(), Some(predicate.to_owned()));
        let target = v1::TombstoneTarget { caller: None, name, predicate, dry_run: true };
        let part = Some(v1::tombstone_request::Part::Target(target));
        let request = self.request(stream::iter([v1::TombstoneRequest { part }]));
        self.answer(self.lake().tombstone(request)).await.map_err(read_failure)
    }
}

fn texts(keys: &[Vec<String>]) -> v1::tombstone_request::Part {
    let keys = keys.iter().map(|values| v1::TextKey { values: values.clone() });
    v1::tombstone_request::Part::Texts(v1::TextKeys { keys: keys.collect() })
}

/// Waits for a part of an answer, at most until `end`.
async fn until<T>(
    end: Instant,
    part: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout_at(end, part).await {
        Ok(part) => part,
        Err(_elapsed) => Err(Status::from_error(Box::new(TimeoutExpired(())))),
    }
}

pub(crate) fn read_failure(status: Status) -> Failure {
    Failure::from(status).of_read()
}

fn cut_off(message: &str) -> Failure {
    Failure::of_kind(ErrorKind::Unavailable, message.to_owned(), None).of_read()
}

/// The rows of a file on their way into messages.
pub(crate) struct Rows {
    pub(crate) reader: Reader,
    pub(crate) loading: Loading,
}

impl Rows {
    /// Returns Arrow streams, each of one message; a failure goes to `failed` and the stream never ends.
    fn parts(self, failed: oneshot::Sender<Failure>) -> impl Stream<Item = Bytes> + Send + 'static {
        let start = (self, Some(failed), 0_u64);
        let messages = stream::unfold(start, |(mut rows, mut failed, mut sent)| async move {
            match rows.next(&mut sent) {
                Ok(Some(messages)) => Some((stream::iter(messages), (rows, failed, sent))),
                Ok(None) => None,
                Err(failure) => {
                    if let Some(failed) = failed.take() {
                        // The call may have failed by itself and not listen any more.
                        drop(failed.send(failure));
                    }
                    std::future::pending().await
                }
            }
        });
        messages.flatten()
    }

    fn next(&mut self, sent: &mut u64) -> Result<Option<Vec<Bytes>>, Failure> {
        let Some(batch) = self.reader.next().transpose()? else { return Ok(None) };
        *sent += batch.num_rows() as u64;
        self.loading.advance(self.reader.progress(), *sent);
        encode(&batch).map(Some)
    }
}

/// Encodes a batch as whole Arrow streams, halving it until each fits a message. A row that no server takes is
/// refused here, before it is sent.
fn encode(batch: &RecordBatch) -> Result<Vec<Bytes>, Failure> {
    let mut encoded = Vec::new();
    let mut waiting = vec![batch.clone()];
    while let Some(batch) = waiting.pop() {
        let rows = batch.num_rows();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
        writer.write(&batch)?;
        let bytes = writer.into_inner()?;
        if MESSAGE_BYTES < bytes.len() && 1 < rows {
            waiting.push(batch.slice(rows / 2, rows - rows / 2));
            waiting.push(batch.slice(0, rows / 2));
        } else {
            check_fits(bytes.len())?;
            encoded.push(Bytes::from(bytes));
        }
    }
    Ok(encoded)
}

fn check_fits(bytes: usize) -> Result<(), Failure> {
    let limit = REQUEST_BYTES_MAX - ENVELOPE_BYTES;
    if bytes <= limit {
        return Ok(());
    }
    let message = format!("a row has {bytes} bytes encoded, the limit of a message is {limit}");
    let hint = "keep large values in files of their own, and their names in rows".to_owned();
    Err(Failure::of_kind(ErrorKind::ResourceExhausted, message, Some(hint)))
}

fn decode(decoder: &mut StreamDecoder, bytes: Bytes) -> Result<Vec<RecordBatch>, Failure> {
    let mut buffer = Buffer::from(bytes);
    let mut batches = Vec::new();
    while !buffer.is_empty() {
        match decoder.decode(&mut buffer)? {
            Some(batch) => batches.push(batch),
            None if buffer.is_empty() => break,
            None => {}
        }
    }
    Ok(batches)
}

/// An answer on its way out of messages.
struct Decoding {
    decoder: StreamDecoder,
    answers: Streaming<v1::QueryResponse>,
    /// When the call is over.
    end: Instant,
    is_over: bool,
}

impl Decoding {
    async fn next(&mut self) -> Result<Option<Vec<RecordBatch>>, Failure> {
        if self.is_over {
            return Ok(None);
        }
        match until(self.end, self.answers.message()).await.map_err(read_failure)? {
            Some(message) => decode(&mut self.decoder, message.arrow_stream).map(Some),
            None => {
                self.is_over = true;
                match is_ended(&mut self.decoder) {
                    true => Ok(None),
                    false => Err(cut_off("the answer was cut off")),
                }
            }
        }
    }
}

/// Says whether a decoder has seen the end marker. Its own `finish` is content with an end between two batches; only a
/// decoder that has ended refuses another byte.
fn is_ended(decoder: &mut StreamDecoder) -> bool {
    decoder.finish().is_ok() && decoder.decode(&mut Buffer::from(vec![0_u8])).is_err()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn a_batch_larger_than_a_message_becomes_several_and_comes_back_whole() {
        let values = StringArray::from_iter_values((0..9).map(|i| format!("{i}").repeat(1 << 20)));
        let batch =
            RecordBatch::try_from_iter([("x", Arc::new(values) as ArrayRef)]).expect("one column");
        let messages = encode(&batch).expect("encodes");
        assert!(messages.iter().all(|message| message.len() <= MESSAGE_BYTES));
        let mut back = Vec::new();
        for message in messages {
            back.extend(decode(&mut StreamDecoder::new(), message).expect("decodes"));
        }
        let back = arrow::compute::concat_batches(&batch.schema(), &back).expect("one schema");
        assert_eq!(back, batch);
    }

    #[test]
    fn an_answer_that_ends_between_two_batches_has_not_ended() {
        let values: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let batch = RecordBatch::try_from_iter([("x", values)]).expect("one column");
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("begins");
        writer.write(&batch).expect("writes");
        let cut = writer.get_ref().clone();
        writer.finish().expect("ends");
        let whole = writer.into_inner().expect("ended");
        let ended = |bytes: Vec<u8>| {
            let mut decoder = StreamDecoder::new();
            decode(&mut decoder, Bytes::from(bytes)).expect("decodes");
            is_ended(&mut decoder)
        };
        assert!(ended(whole) && !ended(cut));
    }

    #[test]
    fn a_row_that_no_message_holds_is_refused_before_it_is_sent() {
        let value = "x".repeat(REQUEST_BYTES_MAX);
        let values: ArrayRef = Arc::new(StringArray::from(vec!["small", &value]));
        let batch = RecordBatch::try_from_iter([("x", values)]).expect("one column");
        let failure = encode(&batch).expect_err("the second row is too large");
        assert_eq!((failure.kind, failure.ambiguous), ("LIMIT", false));
        assert!(failure.message.contains("the limit of a message is"), "{}", failure.message);
    }

    #[tokio::test]
    async fn a_url_that_is_none_is_refused_with_an_example() {
        for bad in ["", "localhost", "http://", "https://x", "127.0.0.1:7171"] {
            let failure = Client::new(bad, None).expect_err(bad);
            assert_eq!(failure.hint.as_deref(), Some("for example http://127.0.0.1:7171"));
        }
    }
}
