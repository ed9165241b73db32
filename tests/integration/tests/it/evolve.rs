//! Columns that change while old rows stay in the log and in files.

use std::sync::Arc;

use alluvium_engine::{RegisterOptions, SqlOptions};
use alluvium_types::{DataType, ErrorKind, Field, FieldId, LogIndex, SchemaChange};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes as arrow_types;
use arrow::util::pretty::pretty_format_batches;

use crate::support::{Lake, caller};

fn old_schema() -> arrow_types::SchemaRef {
    Arc::new(arrow_types::Schema::new(vec![
        arrow_types::Field::new("key", arrow_types::DataType::Utf8, false),
        arrow_types::Field::new("n", arrow_types::DataType::Int32, false),
        arrow_types::Field::new("note", arrow_types::DataType::Utf8, true),
    ]))
}

fn old_rows(key: &str, n: i32) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![key])),
        Arc::new(Int32Array::from(vec![n])),
        Arc::new(StringArray::from(vec!["old"])),
    ];
    RecordBatch::try_new(old_schema(), columns).expect("columns of their types")
}

fn new_rows(key: &str, amount: i64, extra: i64) -> RecordBatch {
    let schema = Arc::new(arrow_types::Schema::new(vec![
        arrow_types::Field::new("key", arrow_types::DataType::Utf8, false),
        arrow_types::Field::new("amount", arrow_types::DataType::Int64, false),
        arrow_types::Field::new("extra", arrow_types::DataType::Int64, true),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![key])),
        Arc::new(Int64Array::from(vec![amount])),
        Arc::new(Int64Array::from(vec![extra])),
    ];
    RecordBatch::try_new(schema, columns).expect("columns of their types")
}

/// Every kind of step in one command.
fn steps() -> Vec<SchemaChange> {
    let extra = Field {
        id: FieldId(0),
        name: "extra".to_owned(),
        data_type: DataType::Int64,
        nullable: true,
    };
    vec![
        SchemaChange::Widen { column: "n".to_owned(), to: DataType::Int64 },
        SchemaChange::Rename { column: "n".to_owned(), to: "amount".to_owned() },
        SchemaChange::Drop { column: "note".to_owned() },
        SchemaChange::Add(extra),
    ]
}

/// Makes `t` with one row in a file and one in the log, both of the old columns.
async fn old_lake() -> Lake {
    let lake = Lake::new().await;
    let options = RegisterOptions::keyed(&["key"]);
    lake.node.register(&caller(), "t", old_schema(), options).await.expect("registers");
    lake.node.append(&caller(), "t", vec![old_rows("a", 1)]).await.expect("appends");
    lake.node.seal(&caller(), "t").await.expect("seals");
    lake.node.append(&caller(), "t", vec![old_rows("b", 2)]).await.expect("appends");
    lake
}

/// Returns the rows as lines of `column value`, columns by name.
async fn table(lake: &Lake, at: Option<LogIndex>) -> String {
    let options = SqlOptions { as_of: at, ..SqlOptions::default() };
    let answer = lake.node.sql("SELECT * FROM t ORDER BY key", options).await.expect("runs");
    let batches = answer.collect().await.expect("reads");
    pretty_format_batches(&batches).expect("a table").to_string()
}

const NEW: &str = "\
+-----+--------+-------+
| key | amount | extra |
+-----+--------+-------+
| a   | 1      |       |
| b   | 2      |       |
| c   | 3000   | 4     |
+-----+--------+-------+";
const OLD: &str = "\
+-----+---+------+
| key | n | note |
+-----+---+------+
| a   | 1 | old  |
| b   | 2 | old  |
+-----+---+------+";

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_in_files_and_log_are_read_with_the_new_columns() {
    let lake = old_lake().await;
    let before = lake.node.applied();
    let evolved = lake.node.evolve(&caller(), "t", steps()).await.expect("evolves");
    assert_eq!(evolved.count, 4);
    lake.node.append(&caller(), "t", vec![new_rows("c", 3_000, 4)]).await.expect("appends");
    assert_eq!(table(&lake, None).await, NEW);
    assert_eq!(table(&lake, Some(before)).await, OLD, "as of the index before");
    let lake = lake.restart().await;
    assert_eq!(
        (table(&lake, None).await, table(&lake, Some(before)).await),
        (NEW.into(), OLD.into())
    );
    let report = lake.node.compact(&caller(), "t").await.expect("files of both schemas");
    assert_eq!((report.rows_in, report.rows_out), (3, 3));
    assert_eq!(
        (table(&lake, None).await, table(&lake, Some(before)).await),
        (NEW.into(), OLD.into())
    );
    let report = lake.node.verify().await.expect("looks");
    assert_eq!(
        (report.damage, report.rows),
        (vec![], 6),
        "of the file that is live, and of those that the past needs"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m23_rows_of_the_new_schema_are_taken_right_after_a_recovery() {
    let lake = old_lake().await;
    lake.node.evolve(&caller(), "t", steps()).await.expect("evolves");
    let lake = lake.restart().await;
    lake.node.append(&caller(), "t", vec![new_rows("c", 3_000, 4)]).await.expect("appends");
    let old = lake.node.append(&caller(), "t", vec![old_rows("d", 1)]).await;
    assert_eq!(old.expect_err("the old schema").kind(), ErrorKind::InvalidArgument);
    assert_eq!(table(&lake, None).await, NEW);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_steps_all_are_taken_or_none() {
    let lake = old_lake().await;
    let rename = |column: &str, to: &str| SchemaChange::Rename {
        column: column.to_owned(),
        to: to.to_owned(),
    };
    let drop = |column: &str| SchemaChange::Drop { column: column.to_owned() };
    let narrow = SchemaChange::Widen { column: "n".to_owned(), to: DataType::Int16 };
    for wrong in [rename("nope", "x"), rename("n", "key"), drop("key"), narrow] {
        let words = format!("{wrong:?}");
        let steps = vec![rename("note", "remark"), wrong];
        lake.node.evolve(&caller(), "t", steps).await.expect_err(&words);
        assert_eq!(table(&lake, None).await, OLD, "{words}");
    }
}
