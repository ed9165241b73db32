//! From text to a running plan: names, the session, DataFusion's own planning.
//!
//! Must not: run on a thread with a small stack (see `deep`). Invariant: every part of a statement is planned
//! as of the query's index, or of an earlier one that the statement names.

use std::sync::Arc;

use datafusion::error::Result as PlanResult;
use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement;

use alluvium_state_machine::catalog as metadata_catalog;
use alluvium_types::{Field, LogIndex};

use crate::Error;
use crate::catalog::{MAIN, QueryCatalog};
use crate::metadata::DatasetAt;
use crate::recover::{nearest, recover};
use crate::session::SharedSession;
use crate::sources::Sources;
use crate::sql::{Names, Parsed, Relation, VersionedName};
use crate::stop::Stop;
use crate::table::QueryScope;

/// Plans the statements of an engine.
pub(crate) struct Planner {
    pub(crate) sources: Sources,
    pub(crate) session: SharedSession,
}

impl Planner {
    /// Returns the session of one query.
    pub(crate) fn state(
        &self,
        scope: &Arc<QueryScope>,
        memory_bytes: usize,
    ) -> Result<SessionState, Error> {
        let catalog = Arc::new(QueryCatalog::new(Arc::clone(scope)));
        self.session.open(catalog, Arc::clone(&scope.stores), memory_bytes)
    }

    /// Plans one statement and starts it; no row is read before the answer is polled.
    pub(crate) async fn start(
        &self,
        sql: &str,
        scope: &Arc<QueryScope>,
        memory_bytes: usize,
        stop: &Stop,
    ) -> Result<SendableRecordBatchStream, Error> {
        let statement = self.understand(sql, scope.at)?;
        let state = self.state(scope, memory_bytes)?;
        let recovered = |error| recover(error, &scope.stats, memory_bytes);
        let plan = state.statement_to_plan(statement).await.map_err(recovered)?;
        check_plan(&plan)?;
        let physical = state.create_physical_plan(&plan).await.map_err(recovered)?;
        let (guarded, has_nested_loops) = stop.guard(physical).map_err(recovered)?;
        let context = match has_nested_loops {
            true => without_spilling(&state).map_err(recovered)?,
            false => state.task_ctx(),
        };
        execute_stream(guarded, context).map_err(recovered)
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

/// DataFusion 54 executes the left side of a nested-loop join again when it has to spill, and operators below it
/// that have run once panic. Without a place to spill to, it says that memory ran out.
fn without_spilling(state: &SessionState) -> PlanResult<Arc<TaskContext>> {
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled).build()?;
    let runtime =
        RuntimeEnv { disk_manager: Arc::new(disk), ..state.runtime_env().as_ref().clone() };
    let context = TaskContext::from(state).with_runtime(Arc::new(runtime));
    Ok(Arc::new(context))
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
