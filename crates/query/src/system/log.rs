//! `system.log`: the entries that the log still holds, in bounded chunks.
//!
//! Must not: read entries that the statement's bounds rule out.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use alluvium_materialize::LogError;
use alluvium_state_machine::record::ResultRecord;
use alluvium_state_machine::{Key, Table, catalog, record_at};
use alluvium_types::{
    Command, Entry, EntryKind, Envelope, LogIndex, Outcome, RowSource, StageContent,
};

use crate::Error;
use crate::table::QueryScope;

/// Entries that are read at once.
const CHUNK_ENTRIES: u64 = 512;

/// Which entries a statement can use: inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    low: u64,
    high: u64,
}

impl Bounds {
    pub(super) fn all(at: LogIndex) -> Self {
        Self { low: 0, high: at.0 }
    }

    /// Returns the bounds that conditions on `index` leave.
    pub(super) fn of(filters: &[Expr], at: LogIndex) -> Self {
        let mut bounds = Self::all(at);
        filters.iter().for_each(|filter| bounds.narrow(filter));
        bounds
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "other conditions narrow nothing")]
    fn narrow(&mut self, filter: &Expr) {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                self.narrow(left);
                self.narrow(right);
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let swapped = op.swap();
                match (is_index(left), number(right), number(left), is_index(right), swapped) {
                    (true, Some(value), _, _, _) => self.apply(*op, value),
                    (_, _, Some(value), true, Some(op)) => self.apply(op, value),
                    _ => {}
                }
            }
            Expr::Between(between) if !between.negated && is_index(&between.expr) => {
                if let (Some(low), Some(high)) = (number(&between.low), number(&between.high)) {
                    self.apply(Operator::GtEq, low);
                    self.apply(Operator::LtEq, high);
                }
            }
            _ => {}
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "other operators narrow nothing")]
    fn apply(&mut self, op: Operator, value: u64) {
        match op {
            Operator::Eq => {
                self.low = self.low.max(value);
                self.high = self.high.min(value);
            }
            Operator::Gt => self.low = self.low.max(value.saturating_add(1)),
            Operator::GtEq => self.low = self.low.max(value),
            Operator::Lt => self.high = self.high.min(value.saturating_sub(1)),
            Operator::LtEq => self.high = self.high.min(value),
            _ => {}
        }
    }
}

fn is_index(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if column.name == "index")
}

fn number(expr: &Expr) -> Option<u64> {
    let Expr::Literal(value, _) = expr else { return None };
    let ScalarValue::UInt64(number) = value.cast_to(&DataType::UInt64).ok()? else { return None };
    number
}

pub(super) fn schema() -> SchemaRef {
    let column =
        |name: &str, data_type: &DataType, nullable| Field::new(name, data_type.clone(), nullable);
    let (number, text) = (DataType::UInt64, DataType::Utf8);
    Arc::new(Schema::new(vec![
        column("index", &number, false),
        column("term", &number, true),
        column("kind", &text, false),
        column("actor", &text, true),
        column("session", &number, true),
        column("sequence", &number, true),
        column("proposed_at_ms", &number, true),
        column("dataset", &text, true),
        column("rows", &number, true),
        column("bytes", &number, false),
        column("outcome", &text, true),
    ]))
}

/// Returns the log's entries within `bounds`, read as the iterator is asked.
pub(super) fn chunks(
    scope: Arc<QueryScope>,
    bounds: Bounds,
) -> impl Iterator<Item = PlanResult<RecordBatch>> {
    let mut next = None;
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let chunk = read_chunk(&scope, bounds, &mut next);
        ended = !matches!(chunk, Ok(Some(_)));
        chunk.map_err(DataFusionError::from).transpose()
    })
}

/// Reads the next chunk; `next` is where it begins, none before the first.
fn read_chunk(
    scope: &QueryScope,
    bounds: Bounds,
    next: &mut Option<u64>,
) -> Result<Option<RecordBatch>, Error> {
    let unreadable =
        |index: LogIndex, source| Error::Delta { dataset: "system.log".to_owned(), index, source };
    let held = scope.sources.system.log_bounds();
    let held = held.map_err(|source| unreadable(LogIndex(bounds.low), source))?;
    let Some((first, last)) = held else { return Ok(None) };
    let begin = next.unwrap_or(bounds.low).max(first.0);
    let end = bounds.high.min(last.0).min(begin.saturating_add(CHUNK_ENTRIES - 1));
    if end < begin {
        return Ok(None);
    }
    let mut rows = Vec::with_capacity(usize::try_from(end - begin + 1).expect("a chunk is small"));
    for index in (begin..=end).map(LogIndex) {
        match scope.sources.log.entry(index) {
            Ok(entry) => rows.push(Row::of(scope, index, &entry)?),
            // Purged between the question for the bounds and this one.
            Err(LogError::Purged { .. }) => {}
            Err(source) => return Err(unreadable(index, Arc::new(source))),
        }
    }
    *next = Some(end + 1);
    batch(&rows).map(Some)
}

struct Row {
    index: u64,
    term: Option<u64>,
    kind: &'static str,
    envelope: Option<Envelope>,
    dataset: Option<String>,
    bytes: u64,
    outcome: Option<String>,
}

impl Row {
    fn of(scope: &QueryScope, index: LogIndex, entry: &Entry) -> Result<Self, Error> {
        let dataset_name = "system.log".to_owned();
        let term = scope.sources.system.term(index);
        let term = term.map_err(|source| Error::Delta { dataset: dataset_name, index, source })?;
        let envelope = match entry.kind() {
            EntryKind::Command => Some(entry.envelope().map_err(|source| Error::Delta {
                dataset: "system.log".to_owned(),
                index,
                source: Arc::new(source),
            })?),
            EntryKind::Blank | EntryKind::Membership => None,
        };
        let kind = match (&envelope, entry.kind()) {
            (Some(envelope), _) => envelope.command.kind().name(),
            (None, EntryKind::Membership) => "membership",
            (None, EntryKind::Blank | EntryKind::Command) => "blank",
        };
        let dataset = envelope.as_ref().map(|e| dataset_of(scope, e)).transpose()?.flatten();
        let outcome = envelope.as_ref().map(|e| outcome_of(scope, index, e)).transpose()?.flatten();
        let bytes = entry.as_bytes().len() as u64;
        Ok(Self {
            index: index.0,
            term: term.map(|term| term.0),
            kind,
            envelope,
            dataset,
            bytes,
            outcome,
        })
    }

    fn rows(&self) -> Option<u64> {
        let source = match &self.envelope.as_ref()?.command {
            Command::Append(append) => append.source,
            Command::Upsert(upsert) => upsert.source,
            Command::Stage(stage) => {
                return match stage.content {
                    StageContent::Rows { rows, .. } | StageContent::KeyedRows { rows, .. } => {
                        Some(u64::from(rows))
                    }
                    StageContent::Keys => None,
                };
            }
            Command::OpenSession(_)
            | Command::Register(_)
            | Command::Evolve(_)
            | Command::Tombstone(_)
            | Command::Seal(_)
            | Command::Compact(_)
            | Command::Attest(_)
            | Command::Expire(_)
            | Command::Swept(_)
            | Command::Drop(_)
            | Command::Checkpoint(_) => return None,
        };
        match source {
            RowSource::Inline { rows, .. } => Some(u64::from(rows)),
            RowSource::Staged { .. } => None,
        }
    }
}

fn dataset_of(scope: &QueryScope, envelope: &Envelope) -> Result<Option<String>, Error> {
    if let Command::Register(register) = &envelope.command {
        return Ok(Some(register.name.to_string()));
    }
    let Some(key) = envelope.command.dataset() else { return Ok(None) };
    let record = catalog::dataset(scope.sources.view.as_ref(), key, LogIndex::MAX)?;
    Ok(Some(record.map_or_else(|| key.to_string(), |record| record.name.to_string())))
}

/// The session remembers its last answers; older ones are not known any more.
/// Says what became of a numbered command. An entry that repeats one took no effect: it must not look like a second one.
fn outcome_of(
    scope: &QueryScope,
    index: LogIndex,
    envelope: &Envelope,
) -> Result<Option<String>, Error> {
    let Some(session) = envelope.session else { return Ok(None) };
    let key = Key::session_result(session.id, session.sequence);
    let view = scope.sources.view.as_ref();
    let found = record_at::<ResultRecord>(view, Table::SessionResult, &key, LogIndex::MAX)?;
    Ok(found.map(|record| match record.response.index {
        first if first == index => describe(&record.response.outcome),
        first => format!("repeats {first}"),
    }))
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::SessionOpened { .. } => "session opened".to_owned(),
        Outcome::Registered { existing: true, .. } => "existing".to_owned(),
        Outcome::Registered { existing: false, .. } => "registered".to_owned(),
        Outcome::Evolved { schema_version } => format!("schema {}", schema_version.0),
        Outcome::Staged { part, .. } => format!("part {part}"),
        Outcome::Appended { rows } => format!("{rows} rows appended"),
        Outcome::Upserted { rows } => format!("{rows} rows upserted"),
        Outcome::Tombstoned { keys } => format!("{keys} keys hidden"),
        Outcome::Sealed { rows, .. } => format!("{rows} rows sealed"),
        Outcome::CompactionPlanned { file } => format!("file {file} planned"),
        Outcome::Attested { file } => format!("file {file} attested"),
        Outcome::Expired { floor, .. } => format!("floor {floor}"),
        Outcome::Swept { files } => format!("{files} files swept"),
        Outcome::Dropped => "dropped".to_owned(),
        Outcome::Checked => "checked".to_owned(),
        Outcome::Rejected(rejection) => format!("rejected: {rejection}"),
    }
}

fn batch(rows: &[Row]) -> Result<RecordBatch, Error> {
    let number = |f: &dyn Fn(&Row) -> Option<u64>| -> ArrayRef {
        Arc::new(rows.iter().map(f).collect::<UInt64Array>())
    };
    let text = |f: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(f).collect::<StringArray>())
    };
    let envelope = |row: &Row| row.envelope.clone();
    let columns = vec![
        number(&|row| Some(row.index)),
        number(&|row| row.term),
        text(&|row| Some(row.kind.to_owned())),
        text(&|row| envelope(row).map(|envelope| envelope.actor)),
        number(&|row| row.envelope.as_ref()?.session.map(|session| session.id.0)),
        number(&|row| row.envelope.as_ref()?.session.map(|session| session.sequence.0)),
        number(&|row| row.envelope.as_ref().map(|envelope| envelope.proposed_at_ms)),
        text(&|row| row.dataset.clone()),
        number(&|row| row.rows()),
        number(&|row| Some(row.bytes)),
        text(&|row| row.outcome.clone()),
    ];
    let batch = RecordBatch::try_new(schema(), columns);
    batch.map_err(|source| Error::Rows { source: Arc::new(source) })
}
