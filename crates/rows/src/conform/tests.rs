//! Encodings are undone, values are kept, and the first difference is named.

use alluvium_types::DataType as T;
use arrow::array::{
    BinaryViewArray, Date64Array, DictionaryArray, Int64Array, LargeListArray, LargeStringArray,
    StringArray, StringViewArray, Time32SecondArray, Time64NanosecondArray,
};
use arrow::datatypes::{Int8Type, Int32Type};

use super::*;
use crate::samples::{column, field, key, schema, wide, wide_schema};

fn refusal(batch: &RecordBatch, schema: &types::Schema) -> String {
    conform(batch, schema).expect_err("refused").to_string()
}

fn two() -> types::Schema {
    schema(vec![key("a", T::Int64), field("b", T::Utf8)], &["a"])
}

fn pair(names: [&str; 2]) -> RecordBatch {
    let a: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let b: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let columns = if names[0] == "b" { [b, a] } else { [a, b] };
    RecordBatch::try_from_iter(names.into_iter().zip(columns)).expect("two columns")
}

#[test]
fn rows_that_fit_come_back_unchanged() {
    let batch = wide(200, 1);
    assert_eq!(conform(&batch, &wide_schema()).expect("fits"), batch);
}

#[test]
fn the_first_difference_is_named() {
    let cases = [
        (pair(["b", "a"]), "column 0 is \"b\" where \"a\" belongs"),
        (pair(["a", "c"]), "column \"b\" is missing"),
        (pair(["A", "b"]), "column \"a\" is missing"),
    ];
    for (batch, expected) in cases {
        assert!(refusal(&batch, &two()).contains(expected), "{}", refusal(&batch, &two()));
    }
    let more = schema(vec![key("a", T::Int64)], &["a"]);
    assert_eq!(refusal(&pair(["a", "b"]), &more), "column \"b\" is not part of the schema");
    let other = schema(vec![key("a", T::Int32), field("b", T::Utf8)], &["a"]);
    assert!(refusal(&pair(["a", "b"]), &other).contains("\"a\" has type Int64"));
}

#[test]
fn a_null_where_none_may_be_is_named_by_column_and_row() {
    let array = Arc::new(Int64Array::from(vec![Some(1), None]));
    let keyed = schema(vec![key("a", T::Int64)], &["a"]);
    let found = refusal(&column("a", array), &keyed);
    assert_eq!(found, "column \"a\" is NULL in row 2, and may not be");
    // A dictionary hides its NULLs among its values.
    let values = StringArray::from(vec![Some("x"), None]);
    let keys = arrow::array::Int8Array::from(vec![0, 1, 0]);
    let dictionary = DictionaryArray::<Int8Type>::new(keys, Arc::new(values));
    let keyed = schema(vec![key("a", T::Utf8)], &["a"]);
    let found = refusal(&column("a", Arc::new(dictionary)), &keyed);
    assert!(found.contains("row 2"), "{found}");
}

#[test]
fn every_representation_of_a_value_conforms_to_the_same_array() {
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("")]));
    let dictionary: DictionaryArray<Int8Type> = [Some("a"), None, Some("")].into_iter().collect();
    let same: [ArrayRef; 3] = [
        Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("")])),
        Arc::new(StringViewArray::from(vec![Some("a"), None, Some("")])),
        Arc::new(dictionary),
    ];
    let schema_of = |data_type| schema(vec![field("c", data_type)], &[]);
    for array in same {
        let found = conform(&column("c", array), &schema_of(T::Utf8)).expect("fits");
        assert_eq!(found.column(0), &text);
    }
    let check = |array: ArrayRef, to: T, expected: &str| {
        let found = conform(&column("c", array), &schema_of(to)).expect("fits");
        let shown = arrow::util::display::array_value_to_string(found.column(0), 0);
        assert_eq!(shown.expect("shown"), expected);
    };
    let millis = T::Timestamp(types::TimeUnit::Millisecond, None);
    check(Arc::new(Date64Array::from(vec![1])), millis, "1970-01-01T00:00:00.001");
    check(Arc::new(Time32SecondArray::from(vec![61])), T::Time64Microsecond, "00:01:01");
    check(Arc::new(BinaryViewArray::from(vec![b"\xff".as_slice()])), T::Binary, "ff");
    let list = LargeListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(7)])]);
    check(Arc::new(list), T::List(Box::new(field("item", T::Int32))), "[7]");
}

#[test]
fn a_value_that_would_be_rounded_is_refused_with_its_row() {
    let times = schema(vec![field("c", T::Time64Microsecond)], &[]);
    let exact: ArrayRef = Arc::new(Time64NanosecondArray::from(vec![2_000]));
    let found = conform(&column("c", exact), &times).expect("whole microseconds");
    assert_eq!(
        found.column(0).as_primitive::<arrow::datatypes::Time64MicrosecondType>().value(0),
        2
    );
    let cut = Arc::new(Time64NanosecondArray::from(vec![2_000, 1]));
    assert!(refusal(&column("c", cut), &times).contains("row 2"));
}

#[test]
fn text_repeated_by_views_beyond_an_array_is_refused_before_it_is_copied() {
    let long = "x".repeat(1 << 20);
    let block = arrow::buffer::Buffer::from(long.as_bytes());
    let view = arrow::array::ByteView::new(1 << 20, b"xxxx").as_u128();
    let views = ScalarBuffer::from(vec![view; 3_000]);
    let array = StringViewArray::try_new(views, vec![block], None).expect("valid views");
    let error = conform(&column("c", Arc::new(array)), &schema(vec![field("c", T::Utf8)], &[]));
    assert_eq!(error.expect_err("3 GB").kind(), types::ErrorKind::ResourceExhausted);
}

#[test]
fn a_decimal_with_more_digits_than_its_type_is_refused_wherever_it_is() {
    let array = |value: i128| {
        let values = arrow::array::Decimal128Array::from(vec![Some(1), None, Some(value)]);
        values.with_precision_and_scale(4, 2).expect("Arrow does not look at the values")
    };
    let flat = schema(vec![field("a", T::Decimal128(4, 2))], &[]);
    let fits = column("a", Arc::new(array(9_999)));
    assert_eq!(conform(&fits, &flat).expect("four digits").num_rows(), 3);
    let expected = "column \"a\": the value in row 3 does not fit";
    assert!(refusal(&column("a", Arc::new(array(10_000))), &flat).starts_with(expected));
    let inner = field("x", T::Decimal128(4, 2));
    let nested = schema(vec![field("a", T::Struct(vec![inner.clone()]))], &[]);
    let fields = vec![arrow_field(&inner)].into();
    let rows = StructArray::new(fields, vec![Arc::new(array(-10_000))], None);
    assert!(refusal(&column("a", Arc::new(rows)), &nested).contains("\"a.x\""));
}
