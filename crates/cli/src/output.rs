//! Results on standard output: tables for people, JSON, JSON lines and CSV for programs.
//!
//! It must not put anything but results there. Invariant: the machine formats have every field always, and
//! no row is left out of them.

use std::io::{self, Write};

use alluvium_engine::Error as EngineError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use comfy_table::{CellAlignment, Table, presets};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people
    Table,
    /// One JSON document
    Json,
    /// One JSON object a line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
}

/// Rows of a table that are shown; the machine formats print all.
const TABLE_ROWS_MAX: usize = 1_000;

/// The answer of a query as it comes.
pub(crate) struct Answer {
    pub(crate) index: u64,
    pub(crate) schema: SchemaRef,
    pub(crate) batches: BoxStream<'static, Result<RecordBatch, Failure>>,
}

impl Answer {
    pub(crate) fn of_engine(stream: alluvium_engine::QueryStream) -> Self {
        let (index, schema) = (stream.index().0, stream.schema());
        let failed = |error: EngineError| Failure::from(error).of_read();
        let batches = stream.map(move |batch| batch.map_err(failed)).boxed();
        Self { index, schema, batches }
    }

    pub(crate) async fn collect(mut self) -> Result<Vec<RecordBatch>, Failure> {
        let mut batches = Vec::new();
        while let Some(batch) = self.batches.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

/// A JSON object; its fields keep their order in tables.
pub(crate) type Record = Vec<(&'static str, Value)>;

/// Prints one record: in a table a field a line.
pub(crate) fn print_record(format: Format, record: &Record) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let printed = match format {
        Format::Table => {
            let mut table = new_table();
            for (name, value) in record {
                table.add_row([(*name).to_owned(), plain(value)]);
            }
            writeln!(out, "{table}")
        }
        Format::Json | Format::Jsonl => writeln!(out, "{}", object(record)),
        Format::Csv => write_csv(&mut out, std::slice::from_ref(record)),
    };
    printed.map_err(closed)
}

/// Prints records of one kind: in a table a record a line. `fields` are the header when there is none.
pub(crate) fn print_records(
    format: Format,
    fields: &[&'static str],
    records: &[Record],
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let printed = match format {
        Format::Table => {
            let mut table = new_table();
            table.set_header(fields);
            for record in records {
                table.add_row(record.iter().map(|(_, value)| plain(value)));
            }
            writeln!(out, "{table}")
        }
        Format::Json => {
            let objects: Vec<Value> = records.iter().map(object).collect();
            writeln!(out, "{}", Value::Array(objects))
        }
        Format::Jsonl => records.iter().try_for_each(|r| writeln!(out, "{}", object(r))),
        Format::Csv if records.is_empty() => writeln!(out, "{}", fields.join(",")),
        Format::Csv => write_csv(&mut out, records),
    };
    printed.map_err(closed)
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table
}

fn object(record: &Record) -> Value {
    let pairs = record.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

fn write_csv(out: &mut impl Write, records: &[Record]) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    if let Some(first) = records.first() {
        writer.write_record(first.iter().map(|(name, _)| *name))?;
    }
    for record in records {
        writer.write_record(record.iter().map(|(_, value)| plain(value)))?;
    }
    writer.flush()
}

/// The reader of standard output went away: nothing more can be said there.
fn closed(error: io::Error) -> Failure {
    Failure::io("write to standard output", &error)
}

/// Prints the answer of a query; returns its rows.
pub(crate) async fn print_answer(format: Format, answer: Answer) -> Result<u64, Failure> {
    match format {
        Format::Table => print_table(answer).await,
        Format::Json => print_json(answer).await,
        Format::Jsonl => print_jsonl(answer).await,
        Format::Csv => print_csv(answer).await,
    }
}

async fn print_table(mut answer: Answer) -> Result<u64, Failure> {
    let mut table = new_table();
    let fields = answer.schema.fields();
    table.set_header(fields.iter().map(|field| field.name()));
    for (position, field) in fields.iter().enumerate() {
        if field.data_type().is_numeric()
            && let Some(column) = table.column_mut(position)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut rows = 0;
    let options = FormatOptions::default().with_null("NULL");
    while let Some(batch) = answer.batches.next().await {
        let batch = batch?;
        let left = TABLE_ROWS_MAX.saturating_sub(rows);
        let cells = |column| ArrayFormatter::try_new(column, &options);
        let columns = batch.columns().iter().map(|column| cells(column.as_ref()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows().min(left) {
            table.add_row(columns.iter().map(|column| column.value(row).to_string()));
        }
        rows += batch.num_rows();
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{table}").map_err(closed)?;
    if TABLE_ROWS_MAX < rows {
        crate::terminal::note(&format!(
            "{TABLE_ROWS_MAX} of {rows} rows are shown; -o csv or -o jsonl prints all"
        ));
    }
    Ok(rows as u64)
}

async fn print_json(mut answer: Answer) -> Result<u64, Failure> {
    let mut out = io::stdout();
    let names: Vec<&str> = answer.schema.fields().iter().map(|f| f.name().as_str()).collect();
    let columns = serde_json::to_string(&names).map_err(|error| closed(error.into()))?;
    write!(out, "{{\"index\":{},\"columns\":{columns},\"rows\":", answer.index).map_err(closed)?;
    let builder = WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, JsonArray>(out);
    let mut rows = 0;
    while let Some(batch) = answer.batches.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    writer.finish()?;
    writeln!(writer.into_inner(), "}}").map_err(closed)?;
    Ok(rows)
}

async fn print_jsonl(mut answer: Answer) -> Result<u64, Failure> {
    let builder = WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, LineDelimited>(io::stdout());
    let mut rows = 0;
    while let Some(batch) = answer.batches.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    writer.finish()?;
    Ok(rows)
}

async fn print_csv(mut answer: Answer) -> Result<u64, Failure> {
    let mut writer = arrow::csv::Writer::new(io::stdout());
    let empty = RecordBatch::new_empty(SchemaRef::clone(&answer.schema));
    writer.write(&empty)?;
    let mut rows = 0;
    while let Some(batch) = answer.batches.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    Ok(rows)
}
