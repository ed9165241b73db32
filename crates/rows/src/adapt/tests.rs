//! Old rows under a new schema: added, widened, renamed, dropped, by id.

use alluvium_types::{DataType as T, FieldId};
use arrow::array::{Array, AsArray, Int32Array, StringArray, UInt64Array};
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};

use super::*;
use crate::samples::{field, key, schema, wide, wide_schema};

fn old() -> types::Schema {
    let fields = vec![key("k", T::Int32), field("gone", T::Utf8), field("n", T::Int32)];
    schema(fields, &["k"])
}

fn old_rows() -> RecordBatch {
    let arrow = with_index(&to_arrow(&old()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![i32::MIN, 2])),
        Arc::new(StringArray::from(vec!["a", "b"])),
        Arc::new(Int32Array::from(vec![Some(i32::MAX), None])),
        Arc::new(UInt64Array::from(vec![7, 8])),
    ];
    RecordBatch::try_new(arrow, columns).expect("rows")
}

#[test]
fn columns_follow_their_ids_and_the_index_stays() {
    let mut new = schema(
        vec![field("gone", T::Boolean), key("key", T::Int64), field("m", T::Float64)],
        &["key"],
    );
    // The new column has the dropped one's name and another id.
    (new.fields[0].id, new.fields[1].id, new.fields[2].id) = (FieldId(9), FieldId(1), FieldId(3));
    let adapted = adapt(&old_rows(), &old(), &new).expect("follows");
    assert_eq!(adapted.schema(), with_index(&to_arrow(&new)));
    assert_eq!(adapted.column(0).null_count(), 2);
    assert_eq!(adapted.column(1).as_primitive::<Int64Type>().value(0), i64::from(i32::MIN));
    let floats = adapted.column(2).as_primitive::<Float64Type>();
    assert_eq!((floats.value(0), floats.is_null(1)), (f64::from(i32::MAX), true));
    assert_eq!(adapted.column(3).as_primitive::<UInt64Type>().values(), &[7, 8]);
}

#[test]
fn the_same_schema_changes_nothing() {
    let batch = wide(50, 6);
    assert_eq!(adapt(&batch, &wide_schema(), &wide_schema()).expect("same"), batch);
}

#[test]
fn what_is_no_evolution_is_refused() {
    let narrow = schema(vec![key("k", T::Int16)], &["k"]);
    let error = adapt(&old_rows(), &old(), &narrow).expect_err("narrower");
    assert_eq!(error.kind(), types::ErrorKind::Internal);
    let mut required = schema(vec![key("k", T::Int32), key("new", T::Int32)], &["k"]);
    required.fields[1].id = FieldId(9);
    let error = adapt(&old_rows(), &old(), &required).expect_err("no value for it");
    assert_eq!(error.to_string(), "column \"new\" cannot become int32");
}
