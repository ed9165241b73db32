//! What a dataset can hold, and what happens to rows that do not fit.

use std::sync::Arc;

use alluvium_parquet::{
    Codec, Error, ParquetTableWriter, Recipe, canonical_schema, check_supported,
};
use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit};

use crate::rows::random;

fn write(schema: &Schema, batch: &RecordBatch) -> Result<u64, Error> {
    ParquetTableWriter::write_all(schema, &Recipe::standard(), [batch]).map(|file| file.rows)
}

fn one_column(name: &str, nullable: bool, column: ArrayRef) -> RecordBatch {
    let field = Field::new(name, column.data_type().clone(), nullable);
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).expect("batch")
}

#[test]
fn every_supported_type_passes_and_its_canonical_schema_is_a_fixed_point() {
    let schema = random(1, 1).schema();
    assert_eq!(check_supported(&schema), Ok(()));
    let canonical = canonical_schema(&schema);
    assert_eq!(canonical_schema(&canonical), canonical);
}

#[test]
fn unsupported_types_are_refused_with_the_path_to_them() {
    let pair = Field::new_struct(
        "entries",
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int8, true)],
        false,
    );
    let map = DataType::Map(Arc::new(pair), false);
    let inner = Field::new("m", map.clone(), true);
    let deep =
        DataType::List(Arc::new(Field::new("item", DataType::Struct(vec![inner].into()), true)));
    for (data_type, column, refused) in [
        (map.clone(), "c", map.clone()),
        (deep, "c.item.m", map),
        (DataType::Float16, "c", DataType::Float16),
        (DataType::Duration(TimeUnit::Second), "c", DataType::Duration(TimeUnit::Second)),
        (DataType::Interval(IntervalUnit::DayTime), "c", DataType::Interval(IntervalUnit::DayTime)),
        (DataType::Decimal256(50, 2), "c", DataType::Decimal256(50, 2)),
        (DataType::FixedSizeBinary(0), "c", DataType::FixedSizeBinary(0)),
    ] {
        let schema = Schema::new(vec![Field::new("c", data_type, true)]);
        let error = check_supported(&schema).expect_err("unsupported");
        assert_eq!((error.column.as_str(), &error.data_type), (column, &refused));
    }
}

#[test]
fn rows_that_do_not_fit_are_refused_by_name() {
    let batch = one_column("c", true, Arc::new(Int32Array::from(vec![Some(1), None])));
    let schema =
        |name: &str, data_type, nullable| Schema::new(vec![Field::new(name, data_type, nullable)]);
    let renamed = write(&schema("d", DataType::Int32, true), &batch);
    assert!(matches!(renamed, Err(Error::ColumnMismatch { .. })), "{renamed:?}");
    let retyped = write(&schema("c", DataType::Int64, true), &batch);
    assert!(matches!(retyped, Err(Error::ColumnMismatch { .. })), "{retyped:?}");
    let required = write(&schema("c", DataType::Int32, false), &batch);
    assert!(matches!(required, Err(Error::NullInRequired { ref column }) if column == "c"));
    let more = write(&Schema::empty(), &batch);
    assert!(matches!(more, Err(Error::ColumnCount { expected: 0, found: 1 })), "{more:?}");
}

#[test]
fn recipes_that_this_build_cannot_follow_are_refused() {
    let good = Recipe::standard;
    let check = |recipe: Recipe| recipe.check().map_err(|error| error.to_string());
    let version = check(Recipe { writer_version: 2, ..good() });
    assert_eq!(
        version,
        Err("recipe names writer version 2, which this build does not have".into())
    );
    for level in [0, 23] {
        let refused = check(Recipe { codec: Codec::Zstd { level }, ..good() });
        assert_eq!(refused, Err(format!("recipe names zstd level {level}, outside 1 to 22")));
    }
    let tiny = check(Recipe { row_group_rows: 1, ..good() });
    assert_eq!(tiny, Err("recipe names row groups of 1 rows, outside the limits".into()));
    assert_eq!(check(good()), Ok(()));
}

#[test]
fn a_file_without_rows_keeps_its_schema() {
    let batch = one_column("c", true, Arc::new(StringArray::from(Vec::<&str>::new())));
    let file = ParquetTableWriter::write_all(&batch.schema(), &Recipe::standard(), [&batch]);
    let file = file.expect("write");
    assert_eq!(alluvium_parquet::verify(file.bytes, 0).expect("verify").rows, 0);
}
