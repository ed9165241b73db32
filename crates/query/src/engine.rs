//! The engine: text in, a stream of batches out, at one index.
//!
//! Must not: run two parts of one statement at different states of the metadata. Invariant: every part is read
//! as of the request's index, or of an earlier one that the statement names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::SendableRecordBatchStream;

use alluvium_state_machine::record::DatasetRecord;
use alluvium_stdx::Spawner;
use alluvium_types::LogIndex;

use crate::Error;
use crate::apart;
use crate::deep::deep;
use crate::deltas::DeltaRows;
use crate::files::Footers;
use crate::memory::{MemoryShare, SharedMemory};
use crate::metadata::DatasetAt;
use crate::planner::Planner;
use crate::predicate::{self, ResolvedKeys};
use crate::request::QueryRequest;
use crate::session::SharedSession;
use crate::sources::Sources;
use crate::stop::Stop;
use crate::stores::QueryStores;
use crate::stream::{Limits, QueryStats, QueryStream, Running};
use crate::table::QueryScope;
use crate::tombstones::Resolver;

/// Bytes of Parquet footers that are kept decoded.
const FOOTER_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// How queries run.
#[derive(Debug, Clone)]
pub struct QueryConfig {
    /// Bytes that one query may hold before it spills, unless its request says less. All that run hold at
    /// most twice as much; the others wait, within their time.
    pub memory_bytes: usize,
    /// Where it spills to.
    pub spill_dir: PathBuf,
    /// How many parts of a plan run at once.
    pub target_partitions: usize,
    /// How long a query may take, unless its request says otherwise.
    pub default_timeout_ms: u64,
    /// Bytes of resolved tombstones that are kept for all queries.
    pub tombstone_cache_bytes: usize,
    /// Bytes of decoded rows of the log that are kept for all queries.
    pub delta_cache_bytes: usize,
}

/// Answers queries. Made once; queries share its caches.
pub struct QueryEngine {
    config: QueryConfig,
    planner: Arc<Planner>,
    memory: Arc<SharedMemory>,
    resolver: Arc<Resolver>,
    footers: Arc<Footers>,
    delta_rows: Arc<DeltaRows>,
    spawner: Arc<dyn Spawner>,
}

impl std::fmt::Debug for QueryEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryEngine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl QueryEngine {
    /// Returns an engine over `sources`, whose queries run in tasks of `spawner`. Nothing that must not wait may run
    /// on its threads.
    ///
    /// # Errors
    /// [`Error::Setup`] when DataFusion cannot be configured.
    pub fn new(
        config: QueryConfig,
        sources: Sources,
        spawner: Arc<dyn Spawner>,
    ) -> Result<Self, Error> {
        let session = SharedSession::new(config.spill_dir.clone(), config.target_partitions)?;
        let view = Arc::clone(&sources.view);
        let resolver = Arc::new(Resolver::new(view, config.tombstone_cache_bytes));
        let footers = Arc::new(Footers::new(FOOTER_CACHE_BYTES));
        let delta_rows = Arc::new(DeltaRows::new(config.delta_cache_bytes));
        let memory = Arc::new(SharedMemory::new(config.memory_bytes));
        let planner = Arc::new(Planner { sources, session });
        Ok(Self { config, planner, memory, resolver, footers, delta_rows, spawner })
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// Why it is refused or cannot be planned; failures while running come through the stream.
    pub async fn run(&self, sql: &str, request: QueryRequest) -> Result<QueryStream, Error> {
        let default = Duration::from_millis(self.config.default_timeout_ms);
        let timeout = request.timeout.unwrap_or(default);
        let mut limits = Limits::new(timeout, request.cancel.cancelled());
        let scope = self.scope(request.at);
        let memory_bytes = self.memory_of(&request);
        let stop = Stop::default();
        let started = self.start(sql.to_owned(), Arc::clone(&scope), memory_bytes, stop.clone());
        let started = apart::start(self.spawner.as_ref(), stop, started);
        let batches = limits.hold(started).await?;
        let rows_left = request.row_limit;
        let running = Running { batches, limits, rows_left, memory_bytes };
        Ok(QueryStream::new(request.at, Arc::clone(&scope.stats), running))
    }

    /// Returns the distinct keys of the visible rows for which `predicate` is true.
    ///
    /// # Errors
    /// [`Error::Predicate`] for one that replicas could answer differently, [`Error::KeyNotUnique`] when
    /// hiding the keys would hide rows that do not match, and whatever reading rows can end in.
    pub async fn resolve_predicate(
        &self,
        dataset: &DatasetRecord,
        at: LogIndex,
        predicate: &str,
    ) -> Result<ResolvedKeys, Error> {
        let request = QueryRequest::at(at);
        let default = Duration::from_millis(self.config.default_timeout_ms);
        let mut limits = Limits::new(default, request.cancel.cancelled());
        let memory_bytes = self.memory_of(&request);
        let resolved = self.resolve(dataset.clone(), self.scope(at), predicate, memory_bytes);
        limits.hold(apart::run(self.spawner.as_ref(), resolved)).await
    }

    /// Plans a statement once there is memory for it, and starts it.
    fn start(
        &self,
        sql: String,
        scope: Arc<QueryScope>,
        memory_bytes: usize,
        stop: Stop,
    ) -> impl Future<Output = Result<(SendableRecordBatchStream, MemoryShare), Error>> + use<> {
        let (memory, planner) = (Arc::clone(&self.memory), Arc::clone(&self.planner));
        async move {
            let memory = memory.take(memory_bytes).await;
            // The share goes with the work: planning that nobody waits for any more still counts.
            deep(move || async move {
                let batches = planner.start(&sql, &scope, memory_bytes, &stop).await?;
                Ok((batches, memory))
            })
            .await
        }
    }

    fn resolve(
        &self,
        dataset: DatasetRecord,
        scope: Arc<QueryScope>,
        predicate: &str,
        memory_bytes: usize,
    ) -> impl Future<Output = Result<ResolvedKeys, Error>> + use<> {
        let (memory, planner) = (Arc::clone(&self.memory), Arc::clone(&self.planner));
        let text = predicate.to_owned();
        async move {
            let memory = memory.take(memory_bytes).await;
            let (planned, _memory) = deep(move || async move {
                let state = planner.state(&scope, memory_bytes)?;
                let dataset = DatasetAt::of(&planner.sources.view, dataset, scope.at)?;
                let planned = predicate::plan(&state, &scope, dataset, &text, memory_bytes).await?;
                Ok((planned, memory))
            })
            .await?;
            planned.resolve().await
        }
    }

    fn memory_of(&self, request: &QueryRequest) -> usize {
        let limit = self.config.memory_bytes;
        request.memory_bytes.map_or(limit, |asked| asked.min(limit))
    }

    fn scope(&self, at: LogIndex) -> Arc<QueryScope> {
        Arc::new(QueryScope {
            at,
            sources: self.planner.sources.clone(),
            stores: Arc::new(QueryStores::new(Arc::clone(&self.planner.sources.buckets))),
            resolver: Arc::clone(&self.resolver),
            footers: Arc::clone(&self.footers),
            delta_rows: Arc::clone(&self.delta_rows),
            stats: Arc::new(QueryStats::default()),
        })
    }
}

#[cfg(test)]
mod tests;
