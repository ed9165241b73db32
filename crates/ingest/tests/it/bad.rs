//! Each cause of refusal has its own text, place and advice.

use alluvium_types::{DataType, Schema};

use crate::{TestFile, field, parcels};

fn check_with(
    schema: Option<&Schema>,
    name: &'static str,
    content: &[u8],
    message: &str,
    hint: &str,
) {
    let file = TestFile::new(name, content);
    let error = file.read(schema).expect_err(message);
    assert_eq!(file.plain(&error.to_string()), message);
    assert_eq!(error.hint().unwrap_or_default(), hint, "the hint of: {message}");
}

fn check_csv(content: &[u8], message: &str, hint: &str) {
    check_with(Some(&parcels()), "a.csv", content, message, hint);
}

fn check_json(content: &str, message: &str, hint: &str) {
    check_with(Some(&parcels()), "a.ndjson", content.as_bytes(), message, hint);
}

const KNOWN: &str = "columns are matched by exact name; the dataset has \"id\", \"city\", \"weight\", \
                     \"price\", \"sent\"; add one with `alluvium dataset evolve --add`";
const UTF8: &str = "convert the file to UTF-8, for example with iconv";
const WHOLE: &str = "NDJSON has one whole JSON object a line";

#[test]
fn museum_m25_each_csv_cause_has_its_own_text_and_advice() {
    check_csv(
        b"id,city\n1,Bonn\n2,K\xc3\xb6ln,extra\n",
        "line 3: 3 fields, the header has 2",
        "a field that contains the separator must be quoted",
    );
    check_csv(
        b"id,city\n1\n",
        "line 2: 1 fields, the header has 2",
        "every row has a field for each column; an empty field is NULL",
    );
    check_csv(b"id,city\n1,a\n2,K\xf6ln\n", "line 3, column \"city\": not valid UTF-8", UTF8);
    check_csv(b"id,c\xff\n", "line 1, column \"number 2\": not valid UTF-8", UTF8);
    check_csv(b"id\n1\nx7\n", "line 3, column \"id\": \"x7\" is not int64", "");
    check_csv(b"id\n1\n 2\n", "line 3, column \"id\": \" 2\" is not int64", "");
    check_csv(b"id,weight\n1,heavy\n", "line 2, column \"weight\": \"heavy\" is not float64", "");
    check_csv(
        b"id,price\n1,1.999\n",
        "line 2, column \"price\": \"1.999\" does not fit decimal128(10, 2) exactly",
        "",
    );
    check_csv(
        b"id,sent\n1,2024-05-01T10:00:00.0005\n",
        "line 2, column \"sent\": \"2024-05-01T10:00:00.0005\" does not fit timestamp(ms) exactly",
        "",
    );
    check_csv(b"id,sent\n1,soon\n", "line 2, column \"sent\": \"soon\" is not timestamp(ms)", "");
    check_csv(
        b"id,city\n,Bonn\n",
        "line 2, column \"id\": no value, and the column may not be NULL",
        "",
    );
    check_csv(
        b"id,town,zip\n1,a,2\n",
        "columns that the dataset does not have: \"town\", \"zip\"",
        KNOWN,
    );
    check_csv(b"ID,city\n1,a\n", "columns that the dataset does not have: \"ID\"", KNOWN);
    check_csv(
        b"city\nBonn\n",
        "columns that may not be NULL are missing: \"id\"",
        "columns are matched by exact name; the file has \"city\"",
    );
    check_csv(b"id,id\n1,2\n", "column \"id\" occurs twice in a.csv", "");
    check_csv(b"", "a.csv is empty", "");
}

#[test]
fn a_line_after_a_quoted_line_break_keeps_its_number() {
    check_csv(b"id,city\n1,\"a\nb\"\nx,c\n", "line 4, column \"id\": \"x\" is not int64", "");
}

#[test]
fn museum_m25_each_json_cause_has_its_own_text_and_advice() {
    check_json(
        "{\"id\": 1}\n{\"id\": }\n",
        "line 2, character 8: not valid JSON: expected value",
        WHOLE,
    );
    check_json(
        "{\"id\": 1\n}\n",
        "line 1, character 8: not valid JSON: EOF while parsing an object",
        WHOLE,
    );
    check_json(
        "{\"id\": 1} {\"id\": 2}\n",
        "line 1, character 11: not valid JSON: trailing characters",
        WHOLE,
    );
    check_json("[1]\n", "line 1: a JSON object is expected, found an array", "");
    check_json("{\"id\": \"1\"}\n", "line 1, column \"id\": \"1\" is not int64", "");
    check_json("\n\n{\"id\": 1.5}\n", "line 3, column \"id\": \"1.5\" is not int64", "");
    check_json("{\"id\": 1, \"city\": 5}\n", "line 1, column \"city\": \"5\" is not utf8", "");
    check_json(
        "{\"id\": 1, \"price\": 1.999}\n",
        "line 1, column \"price\": \"1.999\" does not fit decimal128(10, 2) exactly",
        "",
    );
    check_json(
        "{\"id\": 1}\n{\"id\": 2, \"sent\": \"2024-13-01T00:00:00\"}\n",
        "line 2, column \"sent\": \"2024-13-01T00:00:00\" is not timestamp(ms)",
        "",
    );
    check_json(
        "{\"id\": null}\n",
        "line 1, column \"id\": no value, and the column may not be NULL",
        "",
    );
    check_json("{}\n", "line 1, column \"id\": no value, and the column may not be NULL", "");
    check_json(
        "{\"id\": 1, \"town\": \"a\"}\n",
        "line 1: columns that the dataset does not have: \"town\"",
        KNOWN,
    );
    check_with(
        Some(&parcels()),
        "a.ndjson",
        b"{\"id\": 1}\n{\"city\": \"K\xf6ln\"}\n",
        "line 2: not valid UTF-8",
        UTF8,
    );
}

#[test]
fn a_number_too_large_for_its_column_names_its_line() {
    let schema = Schema { fields: vec![field("n", DataType::Int8, true)], key_columns: Vec::new() };
    let text = b"{\"n\": 1}\n{\"n\": 300}\n";
    check_with(Some(&schema), "a.ndjson", text, "line 2, column \"n\": \"300\" is not int8", "");
    let text = b"n\n1\n300\n";
    check_with(Some(&schema), "a.csv", text, "line 3, column \"n\": \"300\" is not int8", "");
}

#[test]
fn a_quote_that_is_never_closed_does_not_swallow_the_file() {
    let mut text = b"id,city\n1,\"never closed\n".to_vec();
    text.resize(alluvium_ingest::RECORD_BYTES_MAX + 1024 * 1024, b'x');
    let hint = "look for a quote that is opened and never closed before it";
    check_csv(&text, "line 2 has more than 16777216 bytes", hint);
    let mut text = b"{\"id\": \"".to_vec();
    text.resize(alluvium_ingest::RECORD_BYTES_MAX + 1024 * 1024, b'x');
    let text = String::from_utf8(text).expect("ascii");
    check_json(&text, "line 1 has more than 16777216 bytes", hint);
}

#[test]
fn a_list_column_cannot_come_from_csv() {
    let list = DataType::List(Box::new(field("item", DataType::Int64, true)));
    let schema = Schema { fields: vec![field("tags", list, true)], key_columns: Vec::new() };
    check_with(
        Some(&schema),
        "a.csv",
        b"tags\n1\n",
        "column \"tags\": CSV has no form for list<int64>",
        "use Parquet, NDJSON or Arrow IPC",
    );
}

#[test]
fn a_sample_without_rows_says_so() {
    check_with(
        None,
        "a.csv",
        b"id,city\n",
        "a.csv has a header and no row, so its column types cannot be inferred",
        "name the columns with --column name:type",
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let file = TestFile::new("a.csv", "id\n1\n");
    let source = alluvium_ingest::Source::at(file.dir.path().join("b.csv"));
    let error = alluvium_ingest::open(&source, None).expect_err("missing");
    assert_eq!(file.plain(&error.to_string()), "cannot open b.csv");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert_eq!(cause, "No such file or directory (os error 2)");
}
