//! Every format that rows come in and results go out.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::support::{CITIES, Lake, REGISTER, cities, index_of, parse};

const NDJSON: &str = "{\"id\":1,\"name\":\"Bonn\",\"area\":141.1}\n\
                      {\"area\":null,\"id\":2,\"name\":\"Köln, am Rhein\"}\n\n{\"area\":0.5,\"id\":3}";

/// The rows of [`CITIES`] as a batch.
fn batch() -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let names: ArrayRef =
        Arc::new(StringArray::from(vec![Some("Bonn"), Some("Köln, am Rhein"), None]));
    let areas: ArrayRef = Arc::new(Float64Array::from(vec![Some(141.1), None, Some(0.5)]));
    let columns = [("id", ids, false), ("name", names, true), ("area", areas, true)];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

pub(crate) fn parquet_file(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("writer");
    writer.write(batch).expect("write");
    writer.into_inner().expect("finish")
}

fn arrow_file(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).expect("writer");
    writer.write(batch).expect("write");
    writer.into_inner().expect("finish")
}

fn arrow_stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("writer");
    writer.write(batch).expect("write");
    writer.into_inner().expect("finish")
}

/// The same rows in every format: the name of a file, or none for a pipe, and the bytes.
fn inputs() -> Vec<(Option<&'static str>, Vec<u8>)> {
    let batch = batch();
    vec![
        (Some("cities.csv"), CITIES.into()),
        (Some("cities.ndjson"), NDJSON.into()),
        (Some("cities.parquet"), parquet_file(&batch)),
        (Some("cities.arrow"), arrow_file(&batch)),
        (None, CITIES.into()),
        (None, NDJSON.into()),
        (None, arrow_stream(&batch)),
    ]
}

/// Runs `append` or `upsert` with one input and returns its answer.
fn load(lake: &Lake, command: &str, dataset: &str, input: (Option<&str>, &[u8])) -> Value {
    match input {
        (Some(name), bytes) => lake.json(&[command, dataset, &lake.file(name, bytes)]),
        (None, bytes) => lake.run_with(&[command, dataset, "-", "-o", "json"], bytes).json(),
    }
}

fn register(lake: &Lake, name: &str) {
    let mut register = REGISTER;
    register[2] = name;
    lake.json(&register);
}

#[test]
fn an_append_reads_every_format_to_the_same_rows() {
    let lake = Lake::served();
    for (number, (name, bytes)) in inputs().iter().enumerate() {
        let dataset = format!("d{number}");
        register(&lake, &dataset);
        let answer = load(&lake, "append", &dataset, (*name, bytes));
        assert_eq!(answer["rows"], json!(3), "{name:?}");
        let rows = lake.rows(&format!("SELECT id, name, area FROM {dataset} ORDER BY id"));
        assert_eq!(rows, cities(), "{number}: {name:?}");
    }
}

#[test]
fn an_upsert_reads_every_format_to_the_same_rows() {
    let lake = Lake::served();
    let old = lake.file("old.csv", "id,name,area\n1,old,1\n3,old,\n");
    for (number, (name, bytes)) in inputs().iter().enumerate() {
        let dataset = format!("d{number}");
        register(&lake, &dataset);
        lake.json(&["append", &dataset, &old]);
        let answer = load(&lake, "upsert", &dataset, (*name, bytes));
        assert_eq!(answer["rows"], json!(3), "{name:?}");
        let rows = lake.rows(&format!("SELECT id, name, area FROM {dataset} ORDER BY id"));
        assert_eq!(rows, cities(), "{number}: {name:?}");
    }
}

#[test]
fn a_format_that_is_said_is_believed_and_a_binary_file_needs_none() {
    let lake = Lake::embedded();
    lake.json(&REGISTER);
    let misleading = lake.file("cities.csv", NDJSON);
    let said = lake.json(&["append", "cities", &misleading, "--format", "ndjson"]);
    assert_eq!(said["rows"], json!(3));
    assert_eq!(lake.cities(), cities());
    let misleading = lake.file("cities.json", parquet_file(&batch()));
    let found = lake.json(&["upsert", "cities", &misleading]);
    assert_eq!((&found["rows"], lake.cities()), (&json!(3), cities()));
}

/// Returns the cells of a table with one space between them, a line each.
fn cells(table: &str) -> Vec<String> {
    let lines = table.lines().filter_map(|line| line.strip_prefix('│')?.strip_suffix('│'));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_query_is_answered_in_every_format() {
    let (lake, _) = Lake::served().with_cities();
    let query = |format| {
        let sql = "SELECT id, name, area FROM cities ORDER BY id";
        lake.run(&["sql", sql, "-o", format]).ok()
    };
    let table = cells(&query("table"));
    assert_eq!(table, ["id name area", "1 Bonn 141.1", "2 Köln, am Rhein NULL", "3 NULL 0.5"]);
    let document = parse(&query("json"));
    assert_eq!(document["columns"], json!(["id", "name", "area"]));
    assert_eq!(document["rows"], cities());
    let lines: Vec<Value> = query("jsonl").lines().map(parse).collect();
    assert_eq!(json!(lines), cities());
    assert_eq!(query("csv"), CITIES);
}

#[test]
fn a_query_without_rows_still_names_its_columns_in_every_format() {
    let (lake, _) = Lake::served().with_cities();
    let query =
        |format| lake.run(&["sql", "SELECT id FROM cities WHERE id > 9", "-o", format]).ok();
    assert_eq!(cells(&query("table")), ["id"]);
    assert_eq!(parse(&query("json"))["rows"], json!([]));
    assert_eq!(query("jsonl"), "");
    assert_eq!(query("csv"), "id\n");
}

#[test]
fn a_list_of_datasets_is_printed_in_every_format() {
    let (lake, appended) = Lake::served().with_cities();
    let list = |format| lake.run(&["dataset", "list", "-o", format]).ok();
    let fields = [
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
    let objects = parse(&list("json"));
    let dataset = &objects[0];
    let values: Vec<String> = fields.iter().map(|&field| dataset[field].to_string()).collect();
    let values: Vec<&str> = values.iter().map(|value| value.trim_matches('"')).collect();
    assert_eq!((&dataset["changed_at"], &dataset["delta_rows"]), (&json!(appended), &json!(3)));
    assert_eq!(cells(&list("table")), [fields.join(" "), values.join(" ")]);
    assert_eq!(list("csv"), format!("{}\n{}\n", fields.join(","), values.join(",")));
    let lines: Vec<Value> = list("jsonl").lines().map(parse).collect();
    assert_eq!(json!(lines), objects);
}

#[test]
fn the_answer_to_a_write_is_printed_in_every_format() {
    let lake = Lake::served();
    lake.json(&REGISTER);
    let file = lake.file("cities.csv", CITIES);
    let write = |format| {
        let ran = lake.run(&["append", "cities", &file, "-o", format]);
        assert!(ran.err.starts_with("3 rows in "), "what people want to know: {:?}", ran.err);
        assert_eq!(ran.err.lines().count(), 1);
        ran.ok()
    };
    let first = parse(&write("json"));
    // Each append opens a session of its own and then is one entry.
    let index = |number: u64| index_of(&first) + 2 * number;
    assert_eq!(first, json!({"index": index(0), "rows": 3}));
    assert_eq!(parse(&write("jsonl")), json!({"index": index(1), "rows": 3}));
    assert_eq!(write("csv"), format!("index,rows\n{},3\n", index(2)));
    assert_eq!(cells(&write("table")), [format!("index {}", index(3)), "rows 3".to_owned()]);
    assert_eq!(lake.rows("SELECT count(*) AS n FROM cities"), json!([{"n": 12}]));
}

#[test]
fn a_list_column_is_printed_in_every_format() {
    let lake = Lake::served();
    lake.json(&["dataset", "register", "t", "--column", "tags:list<utf8>"]);
    let file = lake.file("t.ndjson", "{\"tags\": [\"a\", \"b\"]}\n");
    lake.json(&["append", "t", &file]);
    let query = |format| lake.run(&["sql", "SELECT tags FROM t", "-o", format]);
    assert_eq!(cells(&query("table").ok()), ["tags", "[a, b]"]);
    assert_eq!(parse(&query("json").ok())["rows"], json!([{"tags": ["a", "b"]}]));
    assert_eq!(query("jsonl").ok(), "{\"tags\":[\"a\",\"b\"]}\n");
    assert_eq!(query("csv").ok(), "tags\n\"[\"\"a\"\",\"\"b\"\"]\"\n");
}

#[test]
fn what_is_no_finite_number_is_still_json() {
    let (lake, _) = Lake::served().with_cities();
    let sql = "SELECT CAST('NaN' AS double precision) AS x, 9007199254740993 AS y";
    let answer = lake.json(&["sql", sql]);
    assert_eq!(answer["rows"][0]["y"], json!(9_007_199_254_740_993_u64), "no digit is lost");
    assert_eq!(answer["rows"][0]["x"], Value::Null, "JSON has no word for it");
}
