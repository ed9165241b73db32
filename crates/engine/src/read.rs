//! Reading: SQL, the catalog, the log, and how the node is doing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use alluvium_query::QueryRequest;
use alluvium_state_machine::record::DatasetRecord;
use alluvium_state_machine::{MetaStore, catalog};
use alluvium_stdx::Spawner;
use alluvium_types::{DatasetName, FileId, LogIndex};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::{oneshot, watch};

use crate::buckets::is_shared;
use crate::jobs::Failure;
use crate::leases::Lease;
use crate::node::Node;
use crate::{DatasetInfo, Error, SqlOptions, Status};

/// The answer of a query, batch by batch. Dropping it cancels the query; so do its time limit and the node's
/// shutdown, whether somebody reads on or not.
pub struct QueryStream {
    schema: SchemaRef,
    index: LogIndex,
    limit: Duration,
    // Read by whoever polls, emptied by the guard at the deadline; held for one poll only.
    running: Arc<Mutex<Option<Running>>>,
    explain: Explanation,
    /// Closed when the stream is dropped: then the guard has nothing left to do.
    _read: oneshot::Sender<()>,
    shutdown: watch::Receiver<bool>,
}

/// Makes an error of a query one of the node's.
type Explanation = Arc<dyn Fn(alluvium_query::Error) -> Error + Send + Sync>;

/// What a query holds while it runs: its plan, its memory, and the files that it may yet read.
struct Running {
    batches: alluvium_query::QueryStream,
    _lease: Lease,
}

impl QueryStream {
    fn new(
        batches: alluvium_query::QueryStream,
        lease: Lease,
        (limit, shutdown): (Duration, watch::Receiver<bool>),
        explain: Explanation,
    ) -> (Self, Guard) {
        let (schema, index) = (Arc::clone(&batches.schema), batches.index);
        let running = Arc::new(Mutex::new(Some(Running { batches, _lease: lease })));
        let (read, dropped) = oneshot::channel();
        let stop = shutdown.clone();
        let guard = Guard { running: Arc::downgrade(&running), limit, dropped, stop };
        (Self { schema, index, limit, running, explain, _read: read, shutdown }, guard)
    }

    /// Returns the columns of the answer.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Returns the index that the query reads at.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        self.index
    }

    /// Returns all batches.
    ///
    /// # Errors
    /// The first error of the query; what came before it is not an answer.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, Error> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(query) = running.as_mut() else {
            if *self.shutdown.borrow() {
                return Poll::Ready(Some(Err(alluvium_raft::Error::Shutdown.into())));
            }
            let timeout_ms = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
            let late = alluvium_query::Error::Deadline { timeout_ms };
            return Poll::Ready(Some(Err(late.into())));
        };
        let batch = query.batches.poll_next_unpin(cx);
        batch.map(|item| item.map(|batch| batch.map_err(|error| (self.explain)(error))))
    }
}

impl std::fmt::Debug for QueryStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QueryStream {{ index: {} }}", self.index())
    }
}

/// Takes from a query what it holds when its time is over, for a reader who does not ask any more.
struct Guard {
    running: Weak<Mutex<Option<Running>>>,
    limit: Duration,
    dropped: oneshot::Receiver<()>,
    stop: watch::Receiver<bool>,
}

impl Guard {
    async fn watch(mut self) {
        tokio::select! {
            // Nothing is ever sent: the other end is dropped, and what it held is gone with it.
            _ = self.dropped => return,
            () = tokio::time::sleep(self.limit) => {}
            // A node that stops waits for no reader.
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
        if let Some(running) = self.running.upgrade() {
            let over = running.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(over);
        }
    }
}

impl Node {
    /// Runs one SQL statement at one index and streams its answer.
    ///
    /// By default the index is linearizable: it has everything that was acknowledged before the call.
    ///
    /// # Errors
    /// What is wrong with the statement, a limit that was met, or damage that was found.
    pub async fn sql(&self, text: &str, options: SqlOptions) -> Result<QueryStream, Error> {
        let newest = self.read_index(&options).await?;
        let at = self.readable(options.as_of, newest)?;
        let lease = self.lease(at);
        self.await_files_for(at, &options).await?;
        let request = QueryRequest {
            at,
            timeout: options.timeout,
            memory_bytes: options.memory_bytes,
            row_limit: options.row_limit,
            ..QueryRequest::at(at)
        };
        let limit = options.timeout.unwrap_or_else(|| self.statement_timeout());
        let explain = self.explanation();
        let batches = self.query().run(text, request).await.map_err(|error| explain(error))?;
        let (stream, guard) = QueryStream::new(batches, lease, (limit, self.stopping()), explain);
        self.tasks().task("query-guard", guard.watch().boxed());
        Ok(stream)
    }

    /// Returns what makes an error of a query one of this node's. A file that is not there is damage on a node that is
    /// alone; a member asks the others for it.
    fn explanation(&self) -> Explanation {
        let member = self.cluster().is_some().then(|| self.without_owner());
        Arc::new(move |error| {
            let missing = matches!(
                alluvium_storage::Error::find_in(&error),
                Some(alluvium_storage::Error::Missing { .. })
            );
            match (&member, error) {
                (
                    Some(member),
                    alluvium_query::Error::DataFile { dataset, file, key, bucket, source },
                ) if missing => {
                    member.replica().forget(FileId(file));
                    member.jobs().wake();
                    match is_shared(&bucket) {
                        // There is no other copy to wait for.
                        true => {
                            alluvium_query::Error::DataFile { dataset, file, key, bucket, source }
                                .into()
                        }
                        false => Error::FileNotHere { dataset, file },
                    }
                }
                (_, error) => error.into(),
            }
        })
    }

    async fn await_files_for(&self, at: LogIndex, options: &SqlOptions) -> Result<(), Error> {
        let limit = options.timeout.unwrap_or_else(|| self.statement_timeout());
        let files = self.await_files(at, options.local || options.max_stale.is_some());
        let waited = tokio::time::timeout(limit, files).await;
        waited.map_err(|_elapsed| Error::NotReached { index: at, applied: self.applied() })?
    }

    async fn read_index(&self, options: &SqlOptions) -> Result<LogIndex, Error> {
        self.check_trusted()?;
        if let Some(index) = options.at_least {
            let limit = options.timeout.unwrap_or_else(|| self.statement_timeout());
            let waited = tokio::time::timeout(limit, self.wait_applied(index)).await;
            waited.map_err(|_elapsed| Error::NotReached { index, applied: self.applied() })??;
        }
        let is_answered_here =
            options.local || options.max_stale.is_some_and(|max_stale| self.is_fresh(max_stale));
        match is_answered_here {
            true => Ok(self.applied()),
            false => Ok(self.linearizable().await?),
        }
    }

    /// Waits until this node has applied `index`.
    ///
    /// # Errors
    /// When the node stops before.
    pub async fn wait_applied(&self, index: LogIndex) -> Result<(), Error> {
        Ok(self.raft().wait_applied(index).await?)
    }

    fn readable(&self, as_of: Option<LogIndex>, newest: LogIndex) -> Result<LogIndex, Error> {
        match as_of {
            Some(index) if index > newest || index.0 == 0 => {
                Err(Error::IndexOutOfRange { index, low: LogIndex(1), high: newest })
            }
            Some(index) => Ok(index),
            None => Ok(newest),
        }
    }

    /// Returns the live datasets, by name, and the index at which they were listed.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn datasets(
        &self,
        as_of: Option<LogIndex>,
    ) -> Result<(LogIndex, Vec<DatasetInfo>), Error> {
        let newest = self.linearizable().await?;
        let at = self.readable(as_of, newest)?;
        let mut found = Vec::new();
        for record in catalog::list(self.view(), at)? {
            match self.describe(&record, at) {
                // Expired since the list was read: it is not to be seen at this index any more.
                Err(Error::IndexOutOfRange { .. }) => {}
                described => found.push(described?),
            }
        }
        Ok((at, found))
    }

    /// Returns one dataset.
    ///
    /// # Errors
    /// When it does not exist at that index, or the index cannot be read.
    pub async fn dataset(&self, name: &str, as_of: Option<LogIndex>) -> Result<DatasetInfo, Error> {
        let parsed: DatasetName = name.parse()?;
        let newest = self.linearizable().await?;
        let at = self.readable(as_of, newest)?;
        match catalog::find(self.view(), &parsed, at)? {
            Some(record) if as_of.is_none() => self.describe_newest(record, at),
            Some(record) => self.describe(&record, at),
            None => Err(self.not_found(name, at)?),
        }
    }

    /// Describes a dataset at `at` or, when it changes meanwhile, at a later index: an answer must not name a change that is
    /// above its own index.
    fn describe_newest(
        &self,
        mut record: DatasetRecord,
        mut at: LogIndex,
    ) -> Result<DatasetInfo, Error> {
        loop {
            let before = catalog::counters(self.view(), record.dataset)?.changed_at;
            let described = self.describe(&record, at)?;
            let after = catalog::counters(self.view(), record.dataset)?.changed_at;
            if before == after && after <= at {
                return Ok(described);
            }
            at = self.applied();
            let Some(newer) = catalog::find(self.view(), &record.name, at)? else {
                return Err(self.not_found(record.name.as_str(), at)?);
            };
            record = newer;
        }
    }

    fn describe(&self, record: &DatasetRecord, at: LogIndex) -> Result<DatasetInfo, Error> {
        let (view, dataset) = (self.view(), record.dataset);
        let schema = catalog::schema(view, dataset, record.schema_version, at)?;
        let files = catalog::files(view, dataset, at)?;
        let live: Vec<_> = files.iter().filter(|file| file.is_live()).collect();
        let attested = || live.iter().filter_map(|file| file.attested());
        let deltas = catalog::deltas(view, dataset, at)?;
        let changed_at = catalog::counters(view, dataset)?.changed_at;
        let tombstones = catalog::tombstones(view, dataset, at)?.len() as u64;
        // Read last: what an expire prunes between two reads above is then an error, not a smaller dataset.
        let newest = catalog::dataset(view, dataset, LogIndex::MAX)?;
        let floor = newest.map_or(LogIndex::MAX, |newest| newest.floor);
        if at < floor {
            let high = self.applied();
            return Err(Error::IndexOutOfRange { index: at, low: floor, high });
        }
        Ok(DatasetInfo {
            name: record.name.clone(),
            dataset,
            schema_version: record.schema_version,
            schema: alluvium_rows::to_arrow(&schema),
            key_columns: schema.key_columns,
            bucket: record.bucket.clone(),
            // Its last change may be above the index of the answer; nobody may expect that one who saw only this.
            changed_at: changed_at.min(at),
            floor: record.floor,
            files: live.len() as u64,
            file_bytes: attested().map(|file| file.digest.len_bytes).sum(),
            file_rows: attested().map(|file| file.rows).sum(),
            deltas: deltas.len() as u64,
            delta_rows: deltas.iter().map(|(_, delta)| delta.rows).sum(),
            tombstones,
            index: at,
        })
    }

    /// Says what keeps the node from answering as it should; nothing when it is ready.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(why) = self.quarantine() {
            reasons.push(format!("in quarantine: {why}"));
        }
        if !self.has_caught_up() {
            reasons.push("it has not applied everything that was acknowledged yet".to_owned());
        }
        if self.raft().status().leader.is_none() {
            reasons.push("no leader is known".to_owned());
        }
        if let Some(task) = self.failed_task() {
            reasons.push(format!("its task {task} failed"));
        }
        if self.is_stopping() {
            reasons.push("it is stopping".to_owned());
        }
        reasons
    }

    /// Says how the node is doing.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub async fn status(&self) -> Result<Status, Error> {
        let raft = self.raft().status();
        let bounds = self.raft().log_bounds()?;
        let none = LogIndex(0);
        let applied = *self.raft().applied().borrow();
        let failures = self.jobs().failures();
        let scrub = self.scrub().state();
        let durable = self.store().durable().map_or(LogIndex(0), |entry| entry.index);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: format!("{:032x}", self.cluster_id()),
            node_id: self.node_id(),
            leader: raft.leader,
            members: self.members(),
            term: raft.term.0,
            log: (bounds.first.unwrap_or(none), bounds.last.unwrap_or(none)),
            log_bytes: self.pressure().log_bytes(),
            committed: bounds.committed,
            applied: applied.index,
            durable,
            snapshot: raft.snapshot,
            digest: applied.digest.to_string(),
            agreed_at: self.raft().agreed_at(),
            quarantine: self.quarantine(),
            datasets: catalog::list(self.view(), applied.index)?.len() as u64,
            jobs: catalog::planned(self.view())?.len() as u64,
            files_missing: self.files_missing()?,
            job_errors: failures
                .iter()
                .map(|((dataset, file), failure)| {
                    let Failure { reason, tries, .. } = failure;
                    format!("file {file} of {dataset}, tried {tries} times: {reason}")
                })
                .collect(),
            scrubs: scrub.passes,
            damage: scrub.damage,
        })
    }
}
