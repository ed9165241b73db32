//! The same rows from every format.

use std::sync::Arc;

use alluvium_ingest::{Format, Input, Source, infer_schema, open};
use alluvium_types::{DataType, TimeUnit};
use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, LargeStringArray, RecordBatch, UInt8Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;

use crate::{TestFile, parcels, show};

const ROWS: &str = "\
+----+------+--------+-------+---------------------+
| id | city | weight | price | sent                |
+----+------+--------+-------+---------------------+
| 1  | Köln | 2.5    | 9.90  | 2024-05-01T10:00:00 |
| 2  |      |        |       |                     |
+----+------+--------+-------+---------------------+";

const CSV: &str = "city,id,sent,price,weight\nKöln,1,2024-05-01T10:00:00,9.9,2.5\n,2,,,\n";

#[test]
fn csv_columns_are_matched_by_name_and_empty_fields_are_null() {
    let batches = TestFile::new("a.csv", CSV).read(Some(&parcels())).expect("valid");
    assert_eq!(show(&batches), ROWS);
    assert!(batches[0].column(1).is_null(1), "an empty text field of a nullable column is NULL");
    let marked = format!("\u{feff}{CSV}");
    let batches = TestFile::new("a.csv", marked).read(Some(&parcels())).expect("valid");
    assert_eq!(show(&batches), ROWS);
}

#[test]
fn json_keys_may_be_absent_or_in_any_order() {
    let text = "{\"price\":\"9.90\",\"city\":\"Köln\",\"sent\":\"2024-05-01T10:00:00\",\
                \"id\":1,\"weight\":2.5}\r\n\n{\"id\":2,\"city\":null}";
    let batches = TestFile::new("a.jsonl", text).read(Some(&parcels())).expect("valid");
    assert_eq!(show(&batches), ROWS);
}

/// Other encodings of the same values: a dictionary, 64-bit offsets, a narrower integer.
fn encoded() -> RecordBatch {
    let cities: DictionaryArray<Int32Type> = [Some("Köln"), None].into_iter().collect();
    let id: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    RecordBatch::try_from_iter_with_nullable([
        ("city", Arc::new(cities) as ArrayRef, true),
        ("id", id, false),
    ])
    .expect("columns of one length")
}

const ENCODED_ROWS: &str = "\
+----+------+--------+-------+------+
| id | city | weight | price | sent |
+----+------+--------+-------+------+
| 1  | Köln |        |       |      |
| 2  |      |        |       |      |
+----+------+--------+-------+------+";

fn arrow_stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("writer");
    writer.write(batch).expect("write");
    writer.into_inner().expect("finish")
}

fn arrow_file(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).expect("writer");
    writer.write(batch).expect("write");
    writer.into_inner().expect("finish")
}

pub(crate) fn parquet_file(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("writer");
    writer.write(batch).expect("write");
    writer.into_inner().expect("finish")
}

#[test]
fn binary_formats_are_known_by_content_and_encodings_are_undone() {
    let batch = encoded();
    for (content, format) in [
        (arrow_stream(&batch), Format::ArrowStream),
        (arrow_file(&batch), Format::ArrowFile),
        (parquet_file(&batch), Format::Parquet),
    ] {
        let file = TestFile::new("misleading.csv", content);
        let reader = open(&file.source(), Some(&parcels())).expect("opens");
        assert_eq!(reader.format(), format);
        let batches: Vec<_> = reader.collect::<Result<_, _>>().expect("valid");
        assert_eq!(show(&batches), ENCODED_ROWS);
    }
}

#[test]
fn a_wider_type_than_the_dataset_is_refused() {
    let id: ArrayRef = Arc::new(LargeStringArray::from(vec!["1"]));
    let batch = RecordBatch::try_from_iter([("id", id)]).expect("one column");
    let error = TestFile::new("a.parquet", parquet_file(&batch)).read(Some(&parcels()));
    let message = error.expect_err("text is no number").to_string();
    assert_eq!(message, "row 1: column \"id\" has type LargeUtf8, the schema says int64");
    let id: ArrayRef = Arc::new(UInt8Array::from(vec![Some(1), None]));
    let batch = RecordBatch::try_from_iter([("id", id)]).expect("one column");
    let schema = alluvium_types::Schema {
        fields: vec![crate::field("id", DataType::UInt64, false)],
        key_columns: Vec::new(),
    };
    let error = TestFile::new("a.arrow", arrow_file(&batch)).read(Some(&schema));
    let message = error.expect_err("a NULL").to_string();
    assert_eq!(message, "row 2, column \"id\": no value, and the column may not be NULL");
}

#[test]
fn types_of_text_are_inferred_and_keys_become_not_null() {
    let file = TestFile::new("a.csv", CSV);
    let schema = infer_schema(&file.source(), &["id".to_owned()]).expect("inferred").schema;
    let columns: Vec<_> =
        schema.fields.iter().map(|f| (f.name.as_str(), f.data_type.clone(), f.nullable)).collect();
    let sent = DataType::Timestamp(TimeUnit::Second, None);
    assert_eq!(
        columns,
        [
            ("city", DataType::Utf8, true),
            ("id", DataType::Int64, false),
            ("sent", sent, true),
            ("price", DataType::Float64, true),
            ("weight", DataType::Float64, true),
        ]
    );
    let file = TestFile::new("a.txt", "{\"n\": 1, \"tags\": [\"x\"]}\n{\"n\": 2.5}\n");
    let batches = file.read(None).expect("valid");
    assert_eq!(batches[0].schema().field(0).data_type(), &arrow::datatypes::DataType::Float64);
}

#[test]
fn binary_columns_are_matched_by_name_whatever_their_order() {
    let parcels = parcels();
    for (name, bytes) in
        [("a.parquet", parquet_file(&encoded())), ("a.arrow", arrow_file(&encoded()))]
    {
        let batches = TestFile::new(name, bytes).read(Some(&parcels)).expect("valid");
        assert_eq!(show(&batches), ENCODED_ROWS, "the file has city before id, and two of five");
    }
    let id: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("id", Arc::clone(&id)), ("town", id)]);
    let file = TestFile::new("a.parquet", parquet_file(&batch.expect("two columns")));
    let error = file.read(Some(&parcels)).expect_err("an unknown column");
    assert_eq!(error.to_string(), "columns that the dataset does not have: \"town\"");
}

/// A file of one column "other" and two nullable ones, of which the second holds a NULL in its third row.
fn with_nullable_keys() -> RecordBatch {
    let a: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let b: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(2), None]));
    let columns = [("other", Arc::clone(&a), true), ("a", a, true), ("b", b, true)];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

#[test]
fn a_key_that_may_be_null_is_named_and_one_that_is_null_is_refused_in_every_format() {
    let batch = with_nullable_keys();
    let files = [
        ("a.parquet", parquet_file(&batch)),
        ("a.arrow", arrow_file(&batch)),
        ("a.arrows", arrow_stream(&batch)),
    ];
    for (name, bytes) in files {
        let file = TestFile::new(name, bytes);
        let inferred = infer_schema(&file.source(), &["a".to_owned()]).expect("no NULL in it");
        assert_eq!(inferred.tightened, ["a"], "{name}");
        assert!(inferred.schema.field("a").is_some_and(|field| !field.nullable), "{name}");
        let keys = ["a".to_owned(), "b".to_owned()];
        let error = infer_schema(&file.source(), &keys).expect_err("a NULL");
        let expected = "row 3, column \"b\": no value, and a key column may not be NULL";
        assert_eq!(error.to_string(), expected, "{name}");
    }
    for (name, text, line) in [
        ("a.csv", "a,b\n1,2\n3,\n", 3),
        ("a.ndjson", "{\"a\":1,\"b\":2}\n{\"a\":3,\"b\":null}\n", 2),
    ] {
        let file = TestFile::new(name, text);
        let error = infer_schema(&file.source(), &["b".to_owned()]).expect_err("no value");
        let expected =
            format!("line {line}, column \"b\": no value, and a key column may not be NULL");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_reader_that_looked_ahead_still_returns_every_row_once() {
    let file = TestFile::new("a.csv", CSV);
    let mut reader = open(&file.source(), Some(&parcels())).expect("opens");
    assert!(reader.look_ahead().expect("a batch") && reader.look_ahead().expect("the same"));
    let batches = reader.collect::<Result<Vec<_>, _>>().expect("valid");
    assert_eq!(show(&batches), ROWS);
    let file = TestFile::new("b.csv", "id,city\n");
    let mut reader = open(&file.source(), Some(&parcels())).expect("opens");
    assert!(!reader.look_ahead().expect("no batch") && reader.next().is_none());
}

#[test]
fn a_file_larger_than_its_sample_is_read_whole_in_bounded_batches() {
    let mut text = "id,city\n".to_owned();
    for id in 0..200_000 {
        text.push_str(&format!("{id},\"city {id}\"\n"));
    }
    assert!(text.len() > 2 * alluvium_ingest::SAMPLE_BYTES);
    let batches = TestFile::new("a.csv", text).read(None).expect("valid");
    assert!(batches.iter().all(|batch| batch.num_rows() <= alluvium_ingest::BATCH_ROWS));
    let all = concat_batches(&batches[0].schema(), &batches).expect("one schema");
    assert_eq!(all.num_rows(), 200_000);
    let last = show(&[all.slice(199_999, 1)]);
    assert!(last.contains("| 199999 | city 199999 |"), "{last}");
}

#[test]
fn parquet_cannot_come_through_a_pipe() {
    let source = Source { input: Input::Stdin, format: Some(Format::Parquet) };
    let error = open(&source, None).expect_err("not seekable");
    assert_eq!(
        error.to_string(),
        "Parquet cannot be read from standard input: its index is at the end of the file"
    );
}
