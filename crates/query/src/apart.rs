//! Runs a query on the threads of queries, and hands its batches over to whoever asked.
//!
//! Must not: let a query work on the thread of its reader: one that works for long without a pause would keep that
//! thread from everything else. Invariant: an answer that ends without an error was read to its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::{Either, select};
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::{mpsc, oneshot};

use alluvium_stdx::Spawner;

use crate::Error;
use crate::memory::MemoryShare;
use crate::stop::{Stop, StopOnDrop};

/// Batches that wait for their reader; the query waits when there are as many.
const BATCHES_AHEAD: usize = 2;

enum Handed {
    Batch(PlanResult<RecordBatch>),
    End,
}

/// The reader wants rows.
struct Asked;

/// Starts a query in a task of its own; it reads nothing before the stream is asked for rows. Dropping the stream
/// stops it.
pub(crate) async fn start<F>(
    spawner: &dyn Spawner,
    stop: Stop,
    started: F,
) -> Result<SendableRecordBatchStream, Error>
where
    F: Future<Output = Result<(SendableRecordBatchStream, MemoryShare), Error>> + Send + 'static,
{
    let guard = StopOnDrop(stop);
    let (mut tell, told) = oneshot::channel();
    let (sender, mut receiver) = mpsc::channel(BATCHES_AHEAD);
    let (ask, asked) = oneshot::channel();
    let work = async move {
        match unless_gone(started, &mut tell).await {
            // It may have waited for memory still, which others get instead.
            None => {}
            Some(Err(error)) => drop(tell.send(Err(error))),
            Some(Ok((batches, memory))) => {
                // An error means that the reader has gone.
                if tell.send(Ok(batches.schema())).is_ok() && asked.await.is_ok() {
                    hand_over(batches, &sender).await;
                }
                // What others may take is free only now.
                drop(memory);
            }
        }
    };
    spawner.task("query", work.boxed());
    let schema = told.await.map_err(|_gone| Error::from_lost_query())??;
    let mut ask = Some(ask);
    let batches = stream::poll_fn(move |context| {
        let _held = &guard;
        if let Some(ask) = ask.take() {
            // An error means that the task was lost, which the channel tells too.
            drop(ask.send(Asked));
        }
        receiver.poll_recv(context).map(|handed| match handed {
            Some(Handed::Batch(batch)) => Some(batch),
            Some(Handed::End) => None,
            None => Some(Err(lost())),
        })
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches.fuse())))
}

/// Runs work that belongs to a query in a task of its own.
pub(crate) async fn run<T, F>(spawner: &dyn Spawner, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (mut tell, told) = oneshot::channel();
    let work = async move {
        if let Some(done) = unless_gone(work, &mut tell).await {
            drop(tell.send(done));
        }
    };
    spawner.task("query", work.boxed());
    told.await.map_err(|_gone| Error::from_lost_query())?
}

/// Works until it is done, or until nobody waits for it any more.
async fn unless_gone<T, R>(
    work: impl Future<Output = T>,
    reader: &mut oneshot::Sender<R>,
) -> Option<T> {
    let (work, gone) = (std::pin::pin!(work), std::pin::pin!(reader.closed()));
    match select(work, gone).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(((), _)) => None,
    }
}

async fn hand_over(mut batches: SendableRecordBatchStream, sender: &mpsc::Sender<Handed>) {
    loop {
        let next = {
            let gone = std::pin::pin!(sender.closed());
            // A bug of an operator must not look like a server that went away.
            let next = AssertUnwindSafe(batches.next()).catch_unwind();
            match select(next, gone).await {
                Either::Left((next, _)) => next.unwrap_or_else(|_panic| Some(Err(lost()))),
                Either::Right(((), _)) => return,
            }
        };
        let is_last = next.as_ref().is_none_or(Result::is_err);
        let handed = next.map_or(Handed::End, Handed::Batch);
        if sender.send(handed).await.is_err() {
            return;
        }
        if is_last {
            // After an error nothing follows; its reader takes no more.
            return;
        }
    }
}

fn lost() -> DataFusionError {
    DataFusionError::Internal("the query's task ended without an answer".to_owned())
}

impl Error {
    fn from_lost_query() -> Self {
        Self::Internal { source: Arc::new(lost()) }
    }
}
