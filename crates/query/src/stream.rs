//! The answer of a query: batches, the index they are true at, and what it took.
//!
//! Must not: go on after an error, a deadline or a cancellation. Invariant: after the first `Err` or `None`
//! the plan is dropped, and with it every task and spill file.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Future, Stream, StreamExt};
use tokio::time::Sleep;

use alluvium_types::{DatasetKey, LogIndex};

use crate::Error;
use crate::recover::recover;
use crate::request::Cancelled;

/// What a query did so far. Read it at any time; it is complete when the stream has ended.
#[derive(Debug, Default)]
pub struct QueryStats {
    rows: AtomicU64,
    rows_hidden: AtomicU64,
    files_read: AtomicU64,
    files_pruned: AtomicU64,
    delta_bytes: AtomicU64,
    truncated: AtomicBool,
    /// For errors that know a dataset by its key alone; written by planning, read when something fails.
    datasets: Mutex<Vec<(DatasetKey, String)>>,
}

impl QueryStats {
    /// Returns how many rows were returned.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Returns how many rows of the files and deltas read are hidden by tombstones.
    #[must_use]
    pub fn rows_hidden(&self) -> u64 {
        self.rows_hidden.load(Ordering::Relaxed)
    }

    /// Returns how many data files statistics could not rule out.
    #[must_use]
    pub fn files_read(&self) -> u64 {
        self.files_read.load(Ordering::Relaxed)
    }

    /// Returns how many data files statistics ruled out.
    #[must_use]
    pub fn files_pruned(&self) -> u64 {
        self.files_pruned.load(Ordering::Relaxed)
    }

    /// Returns how many bytes of rows came from the log.
    #[must_use]
    pub fn delta_bytes(&self) -> u64 {
        self.delta_bytes.load(Ordering::Relaxed)
    }

    /// Says whether the row limit cut the answer.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated.load(Ordering::Relaxed)
    }

    pub(crate) fn note_hidden(&self, rows: usize) {
        self.rows_hidden.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn note_files(&self, read: usize, pruned: usize) {
        self.files_read.fetch_add(read as u64, Ordering::Relaxed);
        self.files_pruned.fetch_add(pruned as u64, Ordering::Relaxed);
    }

    pub(crate) fn note_bytes(&self, bytes: u64) {
        self.delta_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn note_dataset(&self, key: DatasetKey, name: &str) {
        let mut datasets = self.datasets.lock().unwrap_or_else(PoisonError::into_inner);
        datasets.push((key, name.to_owned()));
    }

    /// Returns a dataset's name, or its id when the query did not name it.
    pub(crate) fn dataset_name(&self, id: impl std::fmt::Display, incarnation: u64) -> String {
        let id = id.to_string();
        let datasets = self.datasets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |key: &DatasetKey| key.incarnation.0 == incarnation && key.id.to_string() == id;
        let found = datasets.iter().find(|(key, _)| is_it(key));
        found.map_or(id, |(_, name)| name.clone())
    }
}

/// A query's answer, batch by batch. Dropping it ends the query.
pub struct QueryStream {
    /// The columns.
    pub schema: SchemaRef,
    /// The index at which the answer is true.
    pub index: LogIndex,
    /// What it took.
    pub stats: Arc<QueryStats>,
    running: Option<Running>,
}

/// The parts of a query that has not ended.
pub(crate) struct Running {
    pub(crate) batches: SendableRecordBatchStream,
    pub(crate) limits: Limits,
    pub(crate) rows_left: Option<u64>,
    pub(crate) memory_bytes: usize,
}

/// When to stop.
pub(crate) struct Limits {
    deadline: Pin<Box<Sleep>>,
    timeout_ms: u64,
    cancelled: Cancelled,
}

impl Limits {
    pub(crate) fn new(timeout: Duration, cancelled: Cancelled) -> Self {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Self { deadline: Box::pin(tokio::time::sleep(timeout)), timeout_ms, cancelled }
    }

    /// Returns why to stop now, if there is a reason.
    pub(crate) fn poll_reason(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        if Pin::new(&mut self.cancelled).poll(context).is_ready() {
            return Poll::Ready(Error::Cancelled);
        }
        let timeout_ms = self.timeout_ms;
        self.deadline.as_mut().poll(context).map(|()| Error::Deadline { timeout_ms })
    }

    /// Runs `work` until there is a reason to stop.
    pub(crate) async fn hold<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|context| match self.poll_reason(context) {
            Poll::Ready(reason) => Poll::Ready(Err(reason)),
            Poll::Pending => work.as_mut().poll(context),
        })
        .await
    }
}

impl QueryStream {
    pub(crate) fn new(index: LogIndex, stats: Arc<QueryStats>, running: Running) -> Self {
        let schema = running.batches.schema();
        Self { schema, index, stats, running: Some(running) }
    }

    /// Returns the whole answer.
    ///
    /// # Errors
    /// The first error; there is no partial answer.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, Error> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl std::fmt::Debug for QueryStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QueryStream(at {})", self.index)
    }
}

impl Running {
    fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
        stats: &QueryStats,
    ) -> Poll<Option<Result<RecordBatch, Error>>> {
        if let Poll::Ready(reason) = self.limits.poll_reason(context) {
            return Poll::Ready(Some(Err(reason)));
        }
        let memory_bytes = self.memory_bytes;
        let polled = self.batches.poll_next_unpin(context);
        polled.map(|batch| {
            let batch = batch?.map_err(|error| recover(error, stats, memory_bytes));
            Some(batch.map(|batch| self.within_rows(batch, stats)))
        })
    }

    fn within_rows(&mut self, batch: RecordBatch, stats: &QueryStats) -> RecordBatch {
        let Some(left) = self.rows_left else { return batch };
        let rows = batch.num_rows() as u64;
        if rows <= left {
            self.rows_left = Some(left - rows);
            return batch;
        }
        stats.truncated.store(true, Ordering::Relaxed);
        self.rows_left = Some(0);
        batch.slice(0, usize::try_from(left).expect("less than the rows of a batch"))
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(running) = &mut this.running else { return Poll::Ready(None) };
        let polled = running.poll_batch(context, &this.stats);
        let ends = match &polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(batch))) => {
                this.stats.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                this.stats.is_truncated()
            }
            Poll::Ready(Some(Err(_)) | None) => true,
        };
        if ends {
            this.running = None;
        }
        polled
    }
}
