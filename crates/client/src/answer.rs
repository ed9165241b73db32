//! The answer of a query, batch by batch.
//!
//! It must not make a cut-off answer look whole. Invariant: it ends without an error only when the server ended it.

use std::pin::Pin;
use std::task::{Context, Poll};

use alluvium_proto::v1;
use alluvium_types::{ErrorKind, LogIndex};
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::Error;
use crate::call::{Fault, Try, until};
use crate::error::Failure;
use crate::verdict::{self, Again};

/// The answer of a query: a stream of batches. Dropping it cancels the query.
pub struct Rowset {
    index: LogIndex,
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, Error>>,
}

impl std::fmt::Debug for Rowset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rowset {{ index: {}, columns: {} }}", self.index, self.schema.fields().len())
    }
}

impl Rowset {
    /// Returns the index that the query reads at.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        self.index
    }

    /// Returns the columns.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// Returns all batches.
    ///
    /// # Errors
    /// The first error; what came before it is not an answer. [`crate::Client::query_all`] asks again.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, Error> {
        let mut batches = Vec::new();
        while let Some(batch) = self.batches.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl Stream for Rowset {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(context)
    }
}

/// Asks a query, and waits for its index and columns.
pub(crate) async fn ask(to: Try, message: v1::QueryRequest) -> Result<Head, Fault> {
    let mut lake = to.lake.clone();
    let answers = until(to.end, lake.query(to.streaming_request(message))).await?.into_inner();
    let mut decoding = Decoding {
        decoder: StreamDecoder::new(),
        answers,
        end: to.call_end,
        url: to.url,
        is_over: false,
    };
    let first = until(to.end, decoding.answers.message()).await?;
    let first = first.ok_or_else(|| cut_off("the answer has no first message"))?;
    let index = first.index.ok_or(Fault::Answer("the answer does not name its index"))?;
    let mut early = decode(&mut decoding.decoder, first.arrow_stream)?;
    // The decoder knows the columns only when it has seen the byte after them.
    let schema = loop {
        if let Some(schema) = decoding.decoder.schema() {
            break schema;
        }
        let next = until(to.call_end, decoding.answers.message()).await?;
        let next = next.ok_or_else(|| cut_off("the answer has no columns"))?;
        early.extend(decode(&mut decoding.decoder, next.arrow_stream)?);
    };
    Ok(Head { index, schema, early, rest: decoding })
}

/// An answer whose index and columns are there.
pub(crate) struct Head {
    pub(crate) index: u64,
    schema: SchemaRef,
    early: Vec<RecordBatch>,
    rest: Decoding,
}

/// All of an answer.
#[derive(Debug, Clone)]
pub struct Collected {
    /// The index that the query read at.
    pub index: LogIndex,
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

impl Collected {
    /// Returns how many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

impl Head {
    /// Hands the answer to the program: from here on it is not asked again.
    pub(crate) fn into_rowset(self) -> Rowset {
        let Self { index, schema, early, rest } = self;
        let rest = stream::try_unfold(rest, |mut rest| async move {
            let next = rest.next().await.map_err(|fault| read_error(fault, &rest.url))?;
            Ok::<_, Error>(next.map(|batches| (stream::iter(batches.into_iter().map(Ok)), rest)))
        });
        let rest = rest.map(|item| match item {
            Ok(batches) => batches.left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        });
        let batches = stream::iter(early.into_iter().map(Ok)).chain(rest.flatten()).boxed();
        Rowset { index: LogIndex(index), schema, batches }
    }

    /// Reads the answer to its end.
    pub(crate) async fn collect(self) -> Result<Collected, Fault> {
        let Self { index, schema, early: mut batches, mut rest } = self;
        while let Some(more) = rest.next().await? {
            batches.extend(more);
        }
        Ok(Collected { index: LogIndex(index), schema, batches })
    }
}

/// An answer on its way out of messages.
struct Decoding {
    decoder: StreamDecoder,
    answers: Streaming<v1::QueryResponse>,
    /// When the call is over.
    end: Instant,
    url: String,
    is_over: bool,
}

impl Decoding {
    async fn next(&mut self) -> Result<Option<Vec<RecordBatch>>, Fault> {
        if self.is_over {
            return Ok(None);
        }
        match until(self.end, self.answers.message()).await? {
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

fn decode(decoder: &mut StreamDecoder, bytes: Bytes) -> Result<Vec<RecordBatch>, Fault> {
    let mut buffer = Buffer::from(bytes);
    let mut batches = Vec::new();
    while !buffer.is_empty() {
        let decoded = decoder.decode(&mut buffer);
        batches.extend(decoded.map_err(|_not_arrow| Fault::Answer("the rows are not Arrow"))?);
    }
    Ok(batches)
}

fn cut_off(message: &str) -> Fault {
    // As the transport says it of a connection that broke.
    Fault::from(Status::unavailable(message))
}

/// Makes the error of an answer that fails after its head.
fn read_error(fault: Fault, url: &str) -> Error {
    let url = url.to_owned();
    match fault {
        Fault::Status(status) => {
            let told = verdict::read(&status);
            let failure = Failure { kind: told.kind, message: told.message, hint: told.hint, url };
            let failure = Box::new(failure);
            match told.verdict.again {
                Again::No => Error::Refused { failure },
                Again::OtherNode | Again::Later => Error::Unavailable { failure, tries: 1 },
            }
        }
        Fault::Answer(what) => Error::Malformed { what, url },
        Fault::Rows(source) => {
            let (kind, message) = (ErrorKind::Internal, source.to_string());
            Error::Refused { failure: Box::new(Failure { kind, message, hint: None, url }) }
        }
    }
}
