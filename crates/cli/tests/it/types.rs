//! Files with columns of a type that no dataset holds: refused by column and type, and nothing registered.

use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{
    DataType, Field, Fields, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode,
};
use arrow::ipc::writer::FileWriter;
use serde_json::{Value, json};

use crate::formats::parquet_file;
use crate::support::Lake;

fn batch(data_type: &DataType) -> RecordBatch {
    let columns = [("good", &DataType::Int64), ("bad", data_type)];
    let fields = columns.map(|(name, data_type)| Field::new(name, data_type.clone(), true));
    let arrays = columns.map(|(_, data_type)| new_null_array(data_type, 2));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    RecordBatch::try_new(schema, arrays.to_vec()).expect("two columns")
}

fn arrow_file(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).expect("writer");
    writer.write(batch).expect("write");
    writer.into_inner().expect("finish")
}

fn map() -> DataType {
    let key = Field::new("keys", DataType::Utf8, false);
    let entries = Fields::from(vec![key, Field::new("values", DataType::Int64, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

fn union() -> DataType {
    let fields = [("a", DataType::Int64), ("b", DataType::Utf8)];
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
    DataType::Union(UnionFields::try_new([0, 1], fields).expect("two"), UnionMode::Sparse)
}

fn list(data_type: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", data_type, true)))
}

fn dictionary(data_type: DataType) -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(data_type))
}

/// Commands that were written into the log.
fn commands(lake: &Lake) -> Vec<Value> {
    let log = lake.json(&["log", "tail", "-n", "100"]);
    let kinds = log.as_array().expect("records").iter().map(|record| record["kind"].clone());
    kinds.filter(|kind| !["blank", "membership"].contains(&kind.as_str().unwrap_or(""))).collect()
}

#[test]
fn a_file_with_a_column_that_no_dataset_holds_registers_nothing_and_says_which() {
    let duration = DataType::Duration(TimeUnit::Millisecond);
    let interval = DataType::Interval(IntervalUnit::DayTime);
    let large = DataType::Decimal256(50, 3);
    // The type of the column, whether Parquet has it, the path of what is wrong, and the type there.
    let table = [
        (large.clone(), true, "bad", large.clone()),
        (map(), true, "bad", map()),
        (interval.clone(), true, "bad", interval.clone()),
        (duration.clone(), true, "bad", duration.clone()),
        (DataType::Float16, true, "bad", DataType::Float16),
        (list(interval.clone()), true, "bad.item", interval),
        (union(), false, "bad", union()),
        (dictionary(large.clone()), false, "bad", large),
        (dictionary(list(duration.clone())), false, "bad.item", duration),
    ];
    for lake in Lake::both() {
        // The directory is made by a register that succeeds.
        lake.json(&crate::support::REGISTER);
        let before = commands(&lake);
        for (data_type, is_in_parquet, path, culprit) in &table {
            let batch = batch(data_type);
            let mut files = vec![lake.file("bad.arrow", arrow_file(&batch))];
            if *is_in_parquet {
                files.push(lake.file("bad.parquet", parquet_file(&batch)));
            }
            for file in files {
                let error = lake.error(1, &["dataset", "register", "t", "--schema-from", &file]);
                let message = format!(
                    "the columns of {file} cannot become a dataset: column {path:?} has type \
                     {culprit}, which a dataset cannot hold"
                );
                let expected = json!({
                    "kind": "FILE", "message": message, "hint": null, "ambiguous": false
                });
                assert_eq!(error, expected, "{file}");
            }
        }
        assert_eq!(commands(&lake), before, "nothing was proposed");
        assert_eq!(lake.json(&["dataset", "list"]).as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn a_typed_column_that_no_dataset_holds_registers_nothing_and_says_which() {
    for lake in Lake::both() {
        lake.json(&crate::support::REGISTER);
        let before = commands(&lake);
        let table = [
            ("bad:decimal(39, 0)", "column \"bad\" has an impossible type decimal128(39, 0)"),
            (
                "bad:fixed_size_binary(0)",
                "column \"bad\" has an impossible type fixed_size_binary(0)",
            ),
        ];
        for (column, message) in table {
            let register =
                ["dataset", "register", "t", "--column", "good:int64", "--column", column];
            let error = lake.error(1, &register);
            assert_eq!(
                (&error["kind"], &error["message"]),
                (&json!("INVALID_ARGUMENT"), &json!(message))
            );
        }
        let words = ["interval", "map<utf8, int64>", "union", "decimal256(50, 3)", "duration(s)"];
        for word in words {
            let column = format!("bad:{word}");
            let error = lake.error(2, &["dataset", "register", "t", "--column", &column]);
            let message = error["message"].as_str().expect("text");
            assert!(message.contains(&format!("{word:?} is not a type")), "{message}");
        }
        assert_eq!(commands(&lake), before, "nothing was proposed");
    }
}
