//! Rows on their way into messages: kept for a retry, made again for it, or sent once.
//!
//! It must not make a cut-off source look whole: when rows end in an error, the call is cancelled, never ended.
//! Invariant: every message is one whole Arrow stream that a server takes.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::oneshot;

use crate::Error;
use crate::limits::{ENVELOPE_BYTES, MESSAGE_BYTES, MESSAGE_BYTES_MAX, SHORT_APPEND_BYTES};

/// What a source of rows fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Rows as they come. An error ends them, and cancels the append.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, BoxError>>;

/// Rows that can be sent again until the outcome is known.
///
/// Rows that cannot, such as those of a pipe, are a [`BatchStream`] for [`crate::Client::append_once`]: there is no
/// retry of them.
#[derive(Clone)]
pub struct Rows {
    source: Source,
}

#[derive(Clone)]
enum Source {
    /// Encoded once, so that every try sends the same bytes.
    Kept {
        messages: Arc<[Bytes]>,
        bytes: usize,
    },
    Replayed {
        make: Arc<dyn Fn() -> BatchStream + Send + Sync>,
    },
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            Source::Kept { messages, bytes } => {
                write!(f, "Rows {{ messages: {}, bytes: {bytes} }}", messages.len())
            }
            Source::Replayed { .. } => f.write_str("Rows { replayed }"),
        }
    }
}

impl Rows {
    /// Keeps rows in memory, as they will be sent.
    ///
    /// # Errors
    /// [`Error::RowTooLarge`] for a row that no message holds; [`Error::Encode`].
    pub fn kept(batches: &[RecordBatch]) -> Result<Self, Error> {
        let encoded = batches.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let messages: Arc<[Bytes]> = encoded.into_iter().flatten().collect();
        let bytes = messages.iter().map(Bytes::len).sum();
        Ok(Self { source: Source::Kept { messages, bytes } })
    }

    /// Makes the rows anew for each try, as from a file that is read again: nothing is kept. They must be the same each
    /// time: a server that knows the first try refuses others, and the outcome is then told as unknown.
    #[must_use]
    pub fn replayed(make: impl Fn() -> BatchStream + Send + Sync + 'static) -> Self {
        Self { source: Source::Replayed { make: Arc::new(make) } }
    }

    /// Says whether sending them is a matter of moments.
    pub(crate) fn is_short(&self) -> bool {
        matches!(self.source, Source::Kept { bytes, .. } if bytes <= SHORT_APPEND_BYTES)
    }

    /// Returns the messages of one try; a failure goes to `failed`, and then they never end.
    pub(crate) fn messages(&self, failed: oneshot::Sender<BoxError>) -> BoxStream<'static, Bytes> {
        match &self.source {
            Source::Kept { messages, .. } => {
                let messages: Vec<Bytes> = messages.to_vec();
                stream::iter(messages).boxed()
            }
            Source::Replayed { make } => encoded(make(), failed),
        }
    }
}

/// Encodes rows as they come; a failure goes to `failed`, and then the messages never end.
pub(crate) fn encoded(
    batches: BatchStream,
    failed: oneshot::Sender<BoxError>,
) -> BoxStream<'static, Bytes> {
    let start = (batches, Some(failed));
    let messages = stream::unfold(start, |(mut batches, mut failed)| async move {
        let encoded = match batches.next().await? {
            Ok(batch) => encode(&batch).map_err(BoxError::from),
            Err(error) => Err(error),
        };
        match encoded {
            Ok(messages) => Some((stream::iter(messages), (batches, failed))),
            Err(error) => {
                if let Some(failed) = failed.take() {
                    // The call may have failed by itself and not listen any more.
                    drop(failed.send(error));
                }
                std::future::pending().await
            }
        }
    });
    messages.flatten().boxed()
}

/// Encodes a batch as whole Arrow streams, halving it until each fits a message. A row that no server takes is refused
/// here, before it is sent.
pub(crate) fn encode(batch: &RecordBatch) -> Result<Vec<Bytes>, Error> {
    let failed = |source| Error::Encode { source };
    let mut encoded = Vec::new();
    let mut waiting = vec![batch.clone()];
    while let Some(batch) = waiting.pop() {
        let rows = batch.num_rows();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(failed)?;
        writer.write(&batch).map_err(failed)?;
        let bytes = writer.into_inner().map_err(failed)?;
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

fn check_fits(bytes: usize) -> Result<(), Error> {
    let limit = MESSAGE_BYTES_MAX - ENVELOPE_BYTES;
    match bytes <= limit {
        true => Ok(()),
        false => Err(Error::RowTooLarge { bytes, limit }),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};
    use arrow::ipc::reader::StreamReader;

    use super::*;

    fn batch(values: Vec<String>) -> RecordBatch {
        let values: ArrayRef = Arc::new(StringArray::from(values));
        RecordBatch::try_from_iter([("x", values)]).expect("one column")
    }

    #[test]
    fn a_batch_larger_than_a_message_becomes_several_and_comes_back_whole() {
        let batch = batch((0..9).map(|i| format!("{i}").repeat(1 << 20)).collect());
        let messages = encode(&batch).expect("encodes");
        assert!(messages.iter().all(|message| message.len() <= MESSAGE_BYTES));
        let decode = |message: Bytes| {
            let reader =
                StreamReader::try_new(std::io::Cursor::new(message), None).expect("starts");
            reader.map(|batch| batch.expect("decodes")).collect::<Vec<_>>()
        };
        let back: Vec<_> = messages.into_iter().flat_map(decode).collect();
        let back = arrow::compute::concat_batches(&batch.schema(), &back).expect("one schema");
        assert_eq!(back, batch);
    }

    #[test]
    fn a_row_that_no_message_holds_is_refused_before_it_is_sent() {
        let error = Rows::kept(&[batch(vec!["small".to_owned(), "x".repeat(MESSAGE_BYTES_MAX)])])
            .expect_err("the second row is too large");
        assert!(matches!(error, Error::RowTooLarge { .. }) && !error.is_ambiguous(), "{error}");
    }

    #[tokio::test]
    async fn rows_that_end_in_an_error_never_look_ended() {
        let rows = Rows::replayed(|| {
            let good = Ok(batch(vec!["a".to_owned()]));
            stream::iter([good, Err("the disk is gone".into())]).boxed()
        });
        let (failed, failure) = oneshot::channel();
        let mut messages = rows.messages(failed);
        assert!(messages.next().await.is_some());
        let next = futures::future::select(messages.next(), failure).await;
        let futures::future::Either::Right((failure, _)) = next else { panic!("it ended") };
        assert_eq!(failure.expect("it is told").to_string(), "the disk is gone");
    }
}
