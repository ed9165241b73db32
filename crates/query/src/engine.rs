//! The engine: text in, a stream of batches out, at one index.
//!
//! Must not: run two parts of one statement at different states of the metadata. Invariant: every part is read
//! as of the request's index, or of an earlier one that the statement names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement;

use alluvium_state_machine::catalog as metadata_catalog;
use alluvium_state_machine::record::DatasetRecord;
use alluvium_types::{Field, LogIndex};

use crate::Error;
use crate::catalog::{MAIN, QueryCatalog};
use crate::files::Footers;
use crate::metadata::DatasetAt;
use crate::predicate::{self, ResolvedKeys};
use crate::recover::{nearest, recover};
use crate::request::QueryRequest;
use crate::session::SharedSession;
use crate::sources::Sources;
use crate::sql::{Names, Parsed, Relation, VersionedName};
use crate::stores::QueryStores;
use crate::stream::{Limits, QueryStats, QueryStream, Running};
use crate::table::QueryScope;
use crate::tombstones::Resolver;

/// Bytes of Parquet footers that are kept decoded.
const FOOTER_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// How queries run.
#[derive(Debug, Clone)]
pub struct QueryConfig {
    /// Bytes that one query may hold before it spills, unless its request says less.
    pub memory_bytes: usize,
    /// Where it spills to.
    pub spill_dir: PathBuf,
    /// How many parts of a plan run at once.
    pub target_partitions: usize,
    /// How long a query may take, unless its request says otherwise.
    pub default_timeout_ms: u64,
    /// Bytes of resolved tombstones that are kept for all queries.
    pub tombstone_cache_bytes: usize,
}

/// Answers queries. Made once; queries share its caches.
pub struct QueryEngine {
    config: QueryConfig,
    sources: Sources,
    session: SharedSession,
    resolver: Arc<Resolver>,
    footers: Arc<Footers>,
}

impl std::fmt::Debug for QueryEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryEngine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl QueryEngine {
    /// Returns an engine over `sources`.
    ///
    /// # Errors
    /// [`Error::Setup`] when DataFusion cannot be configured.
    pub fn new(config: QueryConfig, sources: Sources) -> Result<Self, Error> {
        let session = SharedSession::new(config.spill_dir.clone(), config.target_partitions)?;
        let view = Arc::clone(&sources.view);
        let resolver = Arc::new(Resolver::new(view, config.tombstone_cache_bytes));
        let footers = Arc::new(Footers::new(FOOTER_CACHE_BYTES));
        Ok(Self { config, sources, session, resolver, footers })
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
        let started = limits.hold(self.start(sql, &scope, memory_bytes)).await?;
        let rows_left = request.row_limit;
        let running = Running { batches: started, limits, rows_left, memory_bytes };
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
        let scope = self.scope(at);
        let memory_bytes = self.memory_of(&request);
        let state = self.state(&scope, memory_bytes)?;
        let dataset = DatasetAt::of(&self.sources.view, dataset.clone(), at)?;
        let resolved = predicate::resolve(&state, &scope, dataset, predicate, memory_bytes);
        limits.hold(resolved).await
    }

    fn memory_of(&self, request: &QueryRequest) -> usize {
        let limit = self.config.memory_bytes;
        request.memory_bytes.map_or(limit, |asked| asked.min(limit))
    }

    fn scope(&self, at: LogIndex) -> Arc<QueryScope> {
        Arc::new(QueryScope {
            at,
            sources: self.sources.clone(),
            stores: Arc::new(QueryStores::new(Arc::clone(&self.sources.buckets))),
            resolver: Arc::clone(&self.resolver),
            footers: Arc::clone(&self.footers),
            stats: Arc::new(QueryStats::default()),
        })
    }

    fn state(&self, scope: &Arc<QueryScope>, memory_bytes: usize) -> Result<SessionState, Error> {
        let catalog = Arc::new(QueryCatalog::new(Arc::clone(scope)));
        self.session.open(catalog, Arc::clone(&scope.stores), memory_bytes)
    }

    async fn start(
        &self,
        sql: &str,
        scope: &Arc<QueryScope>,
        memory_bytes: usize,
    ) -> Result<datafusion::execution::SendableRecordBatchStream, Error> {
        let statement = self.understand(sql, scope.at)?;
        let state = self.state(scope, memory_bytes)?;
        let recovered = |error| recover(error, &scope.stats, memory_bytes);
        let plan = state.statement_to_plan(statement).await.map_err(recovered)?;
        check_plan(&plan)?;
        let physical = state.create_physical_plan(&plan).await.map_err(recovered)?;
        execute_stream(physical, state.task_ctx()).map_err(recovered)
    }

    /// Parses a statement and spells its names as the catalog does.
    fn understand(&self, sql: &str, at: LogIndex) -> Result<Statement, Error> {
        let parsed = Parsed::new(sql)?;
        let mut names = Names::default();
        for relation in &parsed.relations {
            self.resolve_name(relation, at, &mut names)?;
        }
        parsed.resolve(&names)
    }

    fn resolve_name(
        &self,
        relation: &Relation,
        query_at: LogIndex,
        names: &mut Names,
    ) -> Result<(), Error> {
        // Other schemas have lower-case names only, which folding gives.
        let is_main = relation.schema().is_none_or(|schema| schema.eq_ignore_ascii_case(MAIN));
        if !is_main {
            return Ok(());
        }
        let VersionedName { name, version } = relation.name();
        let at = version.unwrap_or(query_at);
        if query_at < at {
            return Err(Error::AsOfAhead { asked: at, at: query_at });
        }
        let Some(dataset) = self.dataset_named(&name, relation.is_quoted(), at)? else {
            return Err(self.table_not_found(&name, at)?);
        };
        names.add(dataset.name());
        dataset.schema.fields.iter().for_each(|field| add_field(names, field));
        let spelled = VersionedName { name: dataset.name().to_owned(), version };
        names.add_table(relation.location(), spelled.join());
        Ok(())
    }

    fn dataset_named(
        &self,
        name: &str,
        quoted: bool,
        at: LogIndex,
    ) -> Result<Option<DatasetAt>, Error> {
        let view = &self.sources.view;
        if let Some(exact) = DatasetAt::find(view, name, at)? {
            return Ok(Some(exact));
        }
        if quoted {
            return Ok(None);
        }
        let folded = name.to_lowercase();
        // Names alone: what a dataset has expired must not hide that its name is meant.
        let names = metadata_catalog::names(view.as_ref(), at)?.into_iter().map(|(name, _)| name);
        let candidates: Vec<_> = names.filter(|name| name.to_lowercase() == folded).collect();
        match candidates.as_slice() {
            [] => Ok(None),
            [only] => DatasetAt::find(view, only, at),
            [_, ..] => Err(Error::TableAmbiguous { name: name.to_owned(), candidates }),
        }
    }

    fn table_not_found(&self, name: &str, at: LogIndex) -> Result<Error, Error> {
        let names = metadata_catalog::names(self.sources.view.as_ref(), at)?;
        let suggestion = nearest(name, names.iter().map(|(name, _)| name.as_str()));
        Ok(Error::TableNotFound { name: name.to_owned(), at, suggestion })
    }
}

fn add_field(names: &mut Names, field: &Field) {
    names.add(&field.name);
    field.data_type.children().iter().for_each(|child| add_field(names, child));
}

/// Refuses what a parsed question may still hide: SELECT INTO, data changes inside WITH, settings.
fn check_plan(plan: &LogicalPlan) -> Result<(), Error> {
    let options =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let refused = |_| {
        let first = plan.display().to_string();
        let statement = first.split([':', ' ']).next().unwrap_or_default().to_uppercase();
        Error::NotAQuery { statement }
    };
    options.verify_plan(plan).map_err(refused)
}

#[cfg(test)]
mod tests;
