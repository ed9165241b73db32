//! `alluvium dataset`: register, list, show, evolve, drop.

use std::io::{self, IsTerminal};

use alluvium_ingest::Source;
use alluvium_proto::v1;
use alluvium_server::convert::fields_from;
use alluvium_types::{Field, Schema, SchemaChange};
use serde_json::{Value, json};

use super::{caller, preview};
use crate::args::{Condition, Dataset, DropDataset, Evolve, Register};
use crate::backend::Backend;
use crate::config::Settings;
use crate::failure::Failure;
use crate::output::{Format, Record, print_record, print_records};
use crate::terminal::{note, typed};
use crate::type_text;

pub(super) async fn run(
    command: &Dataset,
    backend: &Backend,
    settings: &Settings,
) -> Result<(), Failure> {
    match command {
        Dataset::Register(arguments) => register(arguments, backend, settings).await,
        Dataset::List(as_of) => list(as_of.as_of, backend, settings.output).await,
        Dataset::Show(show) => {
            let found = backend.dataset(&show.name, show.as_of.as_of).await?;
            print_dataset(settings.output, &found)
        }
        Dataset::Evolve(arguments) => evolve(arguments, backend, settings).await,
        Dataset::Drop(arguments) => drop_dataset(arguments, backend, settings).await,
    }
}

async fn register(
    arguments: &Register,
    backend: &Backend,
    settings: &Settings,
) -> Result<(), Failure> {
    let schema = match &arguments.schema_from {
        Some(path) => schema_of_file(&Source::at(path), &arguments.key)?,
        None => typed_schema(&arguments.column, &arguments.key)?,
    };
    let caller = caller(settings, arguments.condition);
    let answer = backend.register(&caller, &arguments.name, &schema, &arguments.files_in).await?;
    let record = vec![
        ("name", json!(arguments.name)),
        ("dataset_id", json!(answer.dataset_id)),
        ("incarnation", json!(answer.incarnation)),
        ("schema_version", json!(answer.schema_version)),
        ("existing", json!(answer.existing)),
        ("index", json!(answer.index)),
    ];
    print_record(settings.output, &record)
}

/// Returns the schema of a file's columns, and says which of its key columns it lets be NULL.
fn schema_of_file(source: &Source, key: &[String]) -> Result<Schema, Failure> {
    let inferred = alluvium_ingest::infer_schema(source, key)?;
    for column in &inferred.tightened {
        note(&format!(
            "column {column:?} may be NULL in {}, and never is: it becomes not-null, because it is \
             part of the key",
            source.name()
        ));
    }
    Ok(inferred.schema)
}

/// Returns the schema of columns as they were typed. A key column may not be NULL, said or not.
fn typed_schema(columns: &[String], key: &[String]) -> Result<Schema, Failure> {
    let fields = columns.iter().map(|text| type_text::column(text));
    let mut fields: Vec<Field> = fields.collect::<Result<_, _>>()?;
    for field in fields.iter_mut().filter(|field| key.contains(&field.name)) {
        field.nullable = false;
    }
    let schema = Schema { fields, key_columns: key.to_vec() };
    schema.validate()?;
    Ok(schema)
}

const LIST_FIELDS: [&str; 10] = [
    "name",
    "schema_version",
    "files",
    "file_rows",
    "file_bytes",
    "deltas",
    "delta_rows",
    "tombstones",
    "changed_at",
    "floor",
];

pub(super) async fn list(
    as_of: Option<u64>,
    backend: &Backend,
    format: Format,
) -> Result<(), Failure> {
    let datasets = backend.datasets(as_of).await?;
    match format {
        Format::Table | Format::Csv => {
            let records: Vec<Record> = datasets.iter().map(row).collect();
            print_records(format, &LIST_FIELDS, &records)
        }
        Format::Json | Format::Jsonl => {
            let records = datasets.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
            print_records(format, &LIST_FIELDS, &records)
        }
    }
}

fn row(dataset: &v1::Dataset) -> Record {
    vec![
        ("name", json!(dataset.name)),
        ("schema_version", json!(dataset.schema_version)),
        ("files", json!(dataset.files)),
        ("file_rows", json!(dataset.file_rows)),
        ("file_bytes", json!(dataset.file_bytes)),
        ("deltas", json!(dataset.deltas)),
        ("delta_rows", json!(dataset.delta_rows)),
        ("tombstones", json!(dataset.tombstones)),
        ("changed_at", json!(dataset.changed_at)),
        ("floor", json!(dataset.floor)),
    ]
}

fn whole(dataset: &v1::Dataset) -> Result<Record, Failure> {
    let fields = fields_from(dataset.columns.clone())?;
    let mut record = row(dataset);
    record.extend([
        ("dataset_id", json!(dataset.dataset_id)),
        ("incarnation", json!(dataset.incarnation)),
        ("columns", Value::Array(fields.iter().map(column_json).collect())),
        ("key_columns", json!(dataset.key_columns)),
        ("bucket", json!(dataset.bucket)),
        ("index", json!(dataset.index)),
    ]);
    Ok(record)
}

fn column_json(field: &Field) -> Value {
    json!({
        "name": field.name,
        "type": field.data_type.to_string(),
        "nullable": field.nullable,
        "id": field.id.0,
    })
}

/// Prints a dataset; in a table its columns follow below it.
pub(super) fn print_dataset(format: Format, dataset: &v1::Dataset) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Jsonl => print_record(format, &whole(dataset)?),
        Format::Table | Format::Csv => {
            if format == Format::Table {
                let mut record = row(dataset);
                record.push(("bucket", json!(dataset.bucket)));
                print_record(format, &record)?;
            }
            let fields = fields_from(dataset.columns.clone())?;
            let key = &dataset.key_columns;
            let position = |name: &String| key.iter().position(|k| k == name).map(|at| at + 1);
            let column = |field: &Field| -> Record {
                vec![
                    ("column", json!(field.name)),
                    ("type", json!(field.data_type.to_string())),
                    ("nullable", json!(field.nullable)),
                    ("key", json!(position(&field.name))),
                ]
            };
            let records: Vec<Record> = fields.iter().map(column).collect();
            print_records(format, &["column", "type", "nullable", "key"], &records)
        }
    }
}

async fn evolve(arguments: &Evolve, backend: &Backend, settings: &Settings) -> Result<(), Failure> {
    let changes = changes(arguments)?;
    if changes.is_empty() {
        return Err(Failure::usage("nothing to change was named")
            .with_hint("--add, --widen, --rename or --drop"));
    }
    let caller = caller(settings, arguments.condition);
    let answer = backend.evolve(&caller, &arguments.name, changes).await?;
    let record = vec![("index", json!(answer.index)), ("changes", json!(answer.count))];
    print_record(settings.output, &record)
}

fn changes(arguments: &Evolve) -> Result<Vec<SchemaChange>, Failure> {
    let mut changes = Vec::new();
    for text in &arguments.add {
        changes.push(SchemaChange::Add(type_text::column(text)?));
    }
    for text in &arguments.widen {
        let Field { name, data_type, .. } = type_text::column(text)?;
        changes.push(SchemaChange::Widen { column: name, to: data_type });
    }
    for text in &arguments.rename {
        let (column, to) = text.split_once(':').ok_or_else(|| {
            Failure::usage(format!("{text:?} does not say what to rename")).with_hint("OLD:NEW")
        })?;
        changes.push(SchemaChange::Rename { column: column.to_owned(), to: to.to_owned() });
    }
    changes
        .extend(arguments.drop.iter().map(|column| SchemaChange::Drop { column: column.clone() }));
    Ok(changes)
}

async fn drop_dataset(
    arguments: &DropDataset,
    backend: &Backend,
    settings: &Settings,
) -> Result<(), Failure> {
    let found = backend.dataset(&arguments.name, None).await?;
    preview::check_condition(arguments.condition, &found)?;
    if arguments.dry_run {
        return print_dataset(settings.output, &found);
    }
    if !arguments.yes {
        confirm(&found)?;
    }
    // The name may have been dropped and made anew since it was shown: then nothing happens.
    let condition = Condition { expected_index: Some(found.changed_at) };
    let answer = backend.drop_dataset(&caller(settings, condition), &arguments.name).await?;
    print_record(settings.output, &vec![("index", json!(answer.index))])
}

fn confirm(dataset: &v1::Dataset) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("dropping a dataset deletes its rows, files and history")
            .with_hint("say --yes, or --dry-run to see what would be deleted"));
    }
    let rows = dataset.file_rows + dataset.delta_rows;
    let files = dataset.files;
    let effect = format!("This deletes {rows} rows in {files} files and all history.");
    match typed(&effect, "the name", &dataset.name)? {
        true => Ok(()),
        false => Err(Failure::usage("that is not its name; nothing was dropped")),
    }
}
