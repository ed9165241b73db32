//! `alluvium append`, `upsert` and `tombstone`: each one numbered command of a session of its own.

use std::time::Duration;

use alluvium_engine::{Caller, TombstoneKeys};
use alluvium_ingest::{Format as FileKind, Input, Source};
use alluvium_proto::v1;
use alluvium_server::convert::fields_from;
use alluvium_types::{Rejection, Schema, Sequence, limits};
use arrow::array::RecordBatch;
use serde_json::json;

use super::{caller, preview};
use crate::args::{FileFormat, Load, Tombstone};
use crate::backend::Backend;
use crate::client;
use crate::config::{Place, Settings};
use crate::failure::Failure;
use crate::output::print_record;
use crate::retry::{Patience, until_answered};
use crate::terminal::{Loading, grouped, note, rate};

/// How long a session of this program is remembered after its opening, beyond what its one command may take. A
/// try that lasts as long as a call may and the waits before the next one fit in it; nobody comes back to a session
/// later, because its number is not told, so a longer memory would only fill the table of sessions.
const SESSION_TTL: Duration = Duration::from_secs(15 * 60);
const _: () = assert!(client::DEADLINE.as_secs() + 60 < SESSION_TTL.as_secs());
/// Bytes of a file that a node takes in a second, at the very least.
const LOAD_BYTES_PER_SECOND_MIN: u64 = 1024 * 1024;

pub(super) async fn load(
    arguments: &Load,
    upsert: bool,
    backend: &Backend,
    settings: &Settings,
) -> Result<(), Failure> {
    let mut source = Source::at(&arguments.file);
    source.format = arguments.format.map(file_kind);
    let can_repeat = source.input != Input::Stdin;
    let dataset = backend.dataset(&arguments.name, None).await?;
    let schema = schema_of(&dataset)?;
    let mut reader = alluvium_ingest::open(&source, Some(&schema))?;
    // A file that is refused at its start asks nothing of the log, not even for a session.
    if !reader.look_ahead()? {
        preview::check_condition(arguments.condition, &dataset)?;
        return Err(alluvium_engine::Error::Rejected(Rejection::NoRows).into());
    }
    let ttl = session_ttl(&source.input, settings);
    let caller = in_session(caller(settings, arguments.condition), backend, ttl).await?;
    let loading = Loading::start();
    let mut first = Some(reader);
    let written = until_answered(Patience::STANDARD, can_repeat, || {
        let ready = first.take();
        let (source, schema, caller, loading) = (&source, &schema, &caller, loading.clone());
        async move {
            let open = || alluvium_ingest::open(source, Some(schema));
            let reader = ready.map_or_else(open, Ok)?;
            Box::pin(backend.load(caller, &arguments.name, upsert, (reader, loading))).await
        }
    });
    let written = written.await;
    let seconds = loading.finish();
    let written = written?;
    let speed = rate(written.count, seconds);
    note(&format!("{} rows in {seconds:.2} s ({speed})", grouped(written.count)));
    let record = vec![("index", json!(written.index)), ("rows", json!(written.count))];
    print_record(settings.output, &record)
}

fn file_kind(format: FileFormat) -> FileKind {
    match format {
        FileFormat::Parquet => FileKind::Parquet,
        FileFormat::Csv => FileKind::Csv,
        FileFormat::Ndjson => FileKind::Ndjson,
        FileFormat::ArrowFile => FileKind::ArrowFile,
        FileFormat::ArrowStream => FileKind::ArrowStream,
    }
}

pub(super) fn schema_of(dataset: &v1::Dataset) -> Result<Schema, Failure> {
    let fields = fields_from(dataset.columns.clone())?;
    Ok(Schema { fields, key_columns: dataset.key_columns.clone() })
}

/// Gives a caller a new session, so that its one command takes effect once however often it is sent.
async fn in_session(caller: Caller, backend: &Backend, ttl: Duration) -> Result<Caller, Failure> {
    let actor = caller.actor.clone();
    // A session that was opened twice holds nothing: opening may be repeated freely.
    let session = until_answered(Patience::STANDARD, true, || backend.open_session(&actor, ttl));
    let session = session.await.map_err(Failure::of_read)?;
    Ok(Caller { session: Some((session, Sequence(1))), ..caller })
}

/// Returns how long a load's session is remembered: its command is numbered when its last row was sent.
fn session_ttl(input: &Input, settings: &Settings) -> Duration {
    let bytes = match input {
        Input::Path(path) => {
            std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|file| file.len())
        }
        Input::Stdin => None,
    };
    let ttl = match (&settings.place, bytes) {
        // A call that takes longer than its deadline has failed.
        (Place::Server(_), _) => command_ttl(settings),
        (Place::Directory(_) | Place::Unknown, Some(bytes)) => {
            command_ttl(settings) + Duration::from_secs(bytes / LOAD_BYTES_PER_SECOND_MIN)
        }
        // A pipe into a node of this process may last as long as it likes.
        (Place::Directory(_) | Place::Unknown, None) => {
            Duration::from_millis(limits::SESSION_TTL_MS_DEFAULT)
        }
    };
    ttl.min(Duration::from_millis(limits::SESSION_TTL_MS_MAX))
}

/// Returns how long the session of a command is remembered whose length the time limit bounds.
fn command_ttl(settings: &Settings) -> Duration {
    let limit = settings.statement_timeout.unwrap_or_default();
    let most = Duration::from_millis(limits::SESSION_TTL_MS_MAX);
    SESSION_TTL.saturating_add(limit).min(most)
}

pub(super) async fn tombstone(
    arguments: &Tombstone,
    backend: &Backend,
    settings: &Settings,
) -> Result<(), Failure> {
    let dataset = backend.dataset(&arguments.name, None).await?;
    if dataset.key_columns.is_empty() {
        return Err(alluvium_engine::Error::Rejected(Rejection::Keyless).into());
    }
    let keys = keys_of(arguments, &dataset)?;
    if arguments.dry_run {
        preview::check_condition(arguments.condition, &dataset)?;
        let rows = preview::count_hidden(&dataset, &keys, backend).await?;
        return print_record(settings.output, &vec![("rows_that_would_be_hidden", json!(rows))]);
    }
    let caller = caller(settings, arguments.condition);
    let caller = in_session(caller, backend, command_ttl(settings)).await?;
    let written = until_answered(Patience::STANDARD, true, || {
        backend.tombstone(&caller, &arguments.name, keys.clone())
    });
    let written = written.await?;
    let record = vec![("index", json!(written.index)), ("keys", json!(written.count))];
    print_record(settings.output, &record)
}

fn keys_of(arguments: &Tombstone, dataset: &v1::Dataset) -> Result<TombstoneKeys, Failure> {
    if let Some(predicate) = &arguments.predicate {
        return Ok(TombstoneKeys::Predicate(predicate.clone()));
    }
    if let Some(path) = &arguments.keys_from {
        return Ok(TombstoneKeys::Batches(keys_in(&Source::at(path), &key_schema(dataset)?)?));
    }
    let columns = dataset.key_columns.len();
    let keys = arguments.key.iter().map(|text| typed_key(text, columns));
    Ok(TombstoneKeys::Texts(keys.collect::<Result<_, _>>()?))
}

fn key_schema(dataset: &v1::Dataset) -> Result<Schema, Failure> {
    let schema = schema_of(dataset)?;
    let fields = schema.key_fields().into_iter().cloned().collect();
    Ok(Schema { fields, key_columns: schema.key_columns })
}

/// Reads a file of keys. One without rows is one batch without rows: it names no key, but it names them.
fn keys_in(source: &Source, schema: &Schema) -> Result<Vec<RecordBatch>, Failure> {
    let batches = alluvium_ingest::open(source, Some(schema)).map_err(key_file_failure)?;
    let batches = batches.map(|batch| batch.map_err(key_file_failure));
    let mut batches = batches.collect::<Result<Vec<_>, _>>()?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(alluvium_rows::to_arrow(schema)));
    }
    Ok(batches)
}

/// The dataset may well have the columns that a file of keys may not.
#[expect(clippy::wildcard_enum_match_arm, reason = "other errors are those of every file")]
fn key_file_failure(error: alluvium_ingest::Error) -> Failure {
    let (at, columns, known) = match &error {
        alluvium_ingest::Error::Unknown { columns, known } => (String::new(), columns, known),
        alluvium_ingest::Error::UnknownAt { at, columns, known } => {
            (format!("{at}: "), columns, known)
        }
        _ => return error.into(),
    };
    let list = |names: &[String]| -> String {
        names.iter().map(|name| quoted(name, '"')).collect::<Vec<_>>().join(", ")
    };
    let message = format!("{at}columns that are not part of the key: {}", list(columns));
    Failure::file(message, Some(format!("a file of keys has the columns {} alone", list(known))))
}

/// Splits a key at its commas; a value that has one stands in quotes, as in CSV.
fn typed_key(text: &str, columns: usize) -> Result<Vec<String>, Failure> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    let is_read = reader.read_record(&mut record).unwrap_or(false);
    let values: Vec<String> = match is_read {
        true => record.iter().map(str::to_owned).collect(),
        // An empty text is the key of one empty value.
        false => vec![String::new()],
    };
    if values.len() != columns {
        let found = values.len();
        let message = format!("the key has {columns} columns, {text:?} has {found} values");
        return Err(Failure::usage(message).with_hint("a value with a comma stands in quotes"));
    }
    Ok(values)
}

/// Quotes a name or text for SQL.
pub(super) fn quoted(text: &str, quote: char) -> String {
    let doubled = text.replace(quote, &format!("{quote}{quote}"));
    format!("{quote}{doubled}{quote}")
}

/// Runs a query whose answer is one number.
pub(super) async fn count(backend: &Backend, query: &str) -> Result<u64, Failure> {
    let batches = backend.sql(query, None).await?.collect().await?;
    let column = batches.first().map(|batch| batch.column(0));
    let values = column.and_then(|column| {
        column.as_any().downcast_ref::<arrow::array::Int64Array>().filter(|v| v.len() == 1)
    });
    let value = values.map(|values| values.value(0)).and_then(|value| u64::try_from(value).ok());
    value.ok_or_else(|| Failure::check(format!("{query:?} did not answer with one number")))
}

#[cfg(test)]
mod tests {
    use crate::args::LogFormat;
    use crate::output::Format;

    use super::*;

    #[test]
    fn a_session_outlives_its_command_by_a_quarter_of_an_hour() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        file.as_file().set_len(100 * LOAD_BYTES_PER_SECOND_MIN).expect("a hole");
        let large = Input::Path(file.path().to_owned());
        let settings = |place: Place, limit: Option<u64>| Settings {
            buckets: std::collections::BTreeMap::new(),
            place,
            data_dir: None,
            listen: None,
            output: Format::Json,
            query_memory: None,
            statement_timeout: limit.map(Duration::from_secs),
            log_level: None,
            log_format: LogFormat::Text,
            actor: "tester".to_owned(),
        };
        let served = |limit| settings(Place::Server("http://127.0.0.1:1".to_owned()), limit);
        let embedded = |limit| settings(Place::Directory("node".into()), limit);
        let seconds = |input: &Input, settings| session_ttl(input, &settings).as_secs();
        assert_eq!(seconds(&Input::Stdin, served(None)), 900);
        assert_eq!(seconds(&large, served(None)), 900);
        assert_eq!(seconds(&large, served(Some(3_600))), 900 + 3_600);
        assert_eq!(seconds(&large, embedded(None)), 900 + 100);
        assert_eq!(seconds(&Input::Stdin, embedded(None)), 24 * 60 * 60, "a pipe takes its time");
        let most = limits::SESSION_TTL_MS_MAX / 1_000;
        assert_eq!(seconds(&large, served(Some(u64::MAX))), most);
    }

    #[test]
    fn a_typed_key_is_split_as_csv_and_must_have_a_value_a_column() {
        assert_eq!(typed_key("a,b", 2), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(typed_key("\"a,b\"", 1), Ok(vec!["a,b".to_owned()]));
        assert_eq!(typed_key("", 1), Ok(vec![String::new()]));
        let failure = typed_key("a,b", 1).expect_err("one column");
        assert_eq!(failure.message, "the key has 1 columns, \"a,b\" has 2 values");
    }

    #[test]
    fn quotes_within_names_and_texts_are_doubled() {
        assert_eq!(quoted("a\"b", '"'), "\"a\"\"b\"");
        assert_eq!(quoted("O'Hare", '\''), "'O''Hare'");
    }
}
