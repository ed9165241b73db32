//! Results on standard output: tables for people, JSON, JSON lines and CSV for programs.
//!
//! It must not put anything but results there. Invariant: the machine formats have every field always, and
//! no row is left out of them.

use std::io::{self, Write};
use std::sync::Arc;

use alluvium_engine::Error as EngineError;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::json::writer::{
    EncoderOptions, JsonArray, JsonFormat, LineDelimited, WriterBuilder, make_encoder,
};
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
        Format::Json => print_json(&mut io::stdout(), answer).await,
        Format::Jsonl => {
            let mut rows = objects::<LineDelimited>();
            write_batches(&mut io::stdout(), &mut Vec::new(), &mut rows, answer).await
        }
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
    put(&mut io::stdout(), format!("{table}\n").as_bytes())?;
    if TABLE_ROWS_MAX < rows {
        crate::terminal::note(&format!(
            "{TABLE_ROWS_MAX} of {rows} rows are shown; -o csv or -o jsonl prints all"
        ));
    }
    Ok(rows as u64)
}

/// Prints one document. An error before the first row leaves nothing; a later one ends the document, which says
/// then that rows are missing.
async fn print_json(out: &mut impl Write, answer: Answer) -> Result<u64, Failure> {
    let names: Vec<&str> = answer.schema.fields().iter().map(|f| f.name().as_str()).collect();
    let columns = serde_json::to_string(&names).map_err(|error| closed(error.into()))?;
    let head = format!("{{\"index\":{},\"columns\":{columns},\"rows\":", answer.index);
    let mut head = head.into_bytes();
    let mut rows = objects::<JsonArray>();
    let printed = write_batches(out, &mut head, &mut rows, answer).await;
    let tail: &[u8] = match &printed {
        Ok(_) => b"}\n",
        Err(_) if head.is_empty() => b",\"complete\":false}\n",
        Err(_) => return printed,
    };
    rows.finish()?;
    let ended = put(out, &[head.as_slice(), rows.get_ref(), tail].concat());
    // What failed first comes first.
    printed.and_then(|printed| ended.map(|()| printed))
}

/// Returns an encoder of rows as JSON objects, in the frame that `F` puts around them.
fn objects<F: JsonFormat>() -> arrow::json::Writer<Vec<u8>, F> {
    WriterBuilder::new().with_explicit_nulls(true).build::<_, F>(Vec::new())
}

/// Prints the batches as they come, and before the first one the head, which is empty then.
async fn write_batches<F: JsonFormat>(
    out: &mut impl Write,
    head: &mut Vec<u8>,
    rows: &mut arrow::json::Writer<Vec<u8>, F>,
    mut answer: Answer,
) -> Result<u64, Failure> {
    let mut count = 0;
    while let Some(batch) = answer.batches.next().await {
        let batch = batch?;
        count += batch.num_rows() as u64;
        if let Err(error) = rows.write(&batch) {
            // Half a row is nothing to print.
            rows.get_mut().clear();
            return Err(error.into());
        }
        put(out, &std::mem::take(head))?;
        put(out, &std::mem::take(rows.get_mut()))?;
    }
    Ok(count)
}

async fn print_csv(mut answer: Answer) -> Result<u64, Failure> {
    let builder = arrow::csv::WriterBuilder::new();
    let header = RecordBatch::new_empty(SchemaRef::clone(&answer.schema));
    put(&mut io::stdout(), &csv_of(builder.clone(), &header)?)?;
    let builder = builder.with_header(false);
    let mut rows = 0;
    while let Some(batch) = answer.batches.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        put(&mut io::stdout(), &csv_of(builder.clone(), &batch)?)?;
    }
    Ok(rows)
}

fn csv_of(builder: arrow::csv::WriterBuilder, batch: &RecordBatch) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    builder.build(&mut bytes).write(&without_nesting(batch)?)?;
    Ok(bytes)
}

/// Returns the rows with lists and structures as JSON texts: CSV has no form of its own for them.
fn without_nesting(batch: &RecordBatch) -> Result<RecordBatch, Failure> {
    let pairs = batch.schema_ref().fields().iter().zip(batch.columns());
    let columns = pairs.map(|(field, column)| match field.data_type().is_nested() {
        true => Ok((field.name(), json_texts(field, column)?)),
        false => Ok((field.name(), ArrayRef::clone(column))),
    });
    let columns = columns.collect::<Result<Vec<_>, Failure>>()?;
    if columns.is_empty() {
        return Ok(batch.clone());
    }
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn json_texts(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, Failure> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, column.as_ref(), &options)?;
    let mut text = |row| {
        let mut bytes = Vec::new();
        encoder.encode(row, &mut bytes);
        String::from_utf8(bytes).expect("JSON is text")
    };
    let texts = (0..column.len()).map(|row| column.is_valid(row).then(|| text(row)));
    Ok(Arc::new(StringArray::from_iter(texts)))
}

/// Writes encoded rows to standard output.
fn put(out: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    out.write_all(bytes).and_then(|()| out.flush()).map_err(closed)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    /// Prints batches of these ids, then a failure if there is one; returns what was printed and the result.
    async fn print_ids(ids: &[&[i64]], failure: Option<Failure>) -> (String, Result<u64, Failure>) {
        let batch = |ids: &&[i64]| {
            let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
            RecordBatch::try_from_iter([("id", ids)]).expect("one column")
        };
        let schema = batch(&ids.first().copied().unwrap_or_default()).schema();
        let batches: Vec<_> = ids.iter().map(batch).map(Ok).chain(failure.map(Err)).collect();
        let answer = Answer { index: 7, schema, batches: futures::stream::iter(batches).boxed() };
        let mut out = Vec::new();
        let printed = print_json(&mut out, answer).await;
        (String::from_utf8(out).expect("text"), printed)
    }

    #[tokio::test]
    async fn an_answer_that_fails_is_nothing_or_one_document_that_says_so() {
        let whole = |rows: &str| format!("{{\"index\":7,\"columns\":[\"id\"],\"rows\":{rows}}}\n");
        let failure = Failure::check("it ends here");
        assert_eq!(print_ids(&[], None).await, (whole("[]"), Ok(0)));
        let all = print_ids(&[&[1, 2], &[], &[3]], None).await;
        assert_eq!(all, (whole("[{\"id\":1},{\"id\":2},{\"id\":3}]"), Ok(3)));
        let none = print_ids(&[], Some(failure.clone())).await;
        assert_eq!(none, (String::new(), Err(failure.clone())));
        for (ids, rows) in [(&[&[1_i64, 2][..]][..], "[{\"id\":1},{\"id\":2}]"), (&[&[]], "[]")] {
            let (out, printed) = print_ids(ids, Some(failure.clone())).await;
            let cut = whole(rows).replace("]}\n", "],\"complete\":false}\n");
            assert_eq!((out.as_str(), printed), (cut.as_str(), Err(failure.clone())));
            let document: Value = serde_json::from_str(&out).expect("one document");
            assert_eq!(document["complete"], Value::Bool(false));
        }
    }

    #[test]
    fn a_nested_value_is_json_in_csv_and_null_is_still_empty() {
        let lists = [Some(vec![Some(1), None]), None, Some(vec![])];
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 9]));
        let batch = RecordBatch::try_from_iter([("list", lists), ("id", ids)]).expect("columns");
        let bytes = csv_of(arrow::csv::WriterBuilder::new(), &batch).expect("it has a form");
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(text, "list,id\n\"[1,null]\",7\n,8\n[],9\n");
    }
}
