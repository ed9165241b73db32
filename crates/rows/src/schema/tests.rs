//! Types canonicalize, ids travel as metadata, and what cannot be held is refused by name.

use super::*;
use crate::samples::{arrow_schema, wide_schema};

fn one(data_type: DataType) -> Result<types::DataType, String> {
    let schema = arrow_schema(vec![Field::new("c", data_type, true)]);
    let schema = from_arrow(&schema, &[]).map_err(|error| error.to_string())?;
    Ok(schema.fields[0].data_type.clone())
}

#[test]
fn a_schema_survives_the_way_to_arrow_and_back_without_its_ids() {
    let mut schema = wide_schema();
    let back = from_arrow(&to_arrow(&schema), &schema.key_columns).expect("legal");
    schema.fields.iter_mut().for_each(|field| field.id = types::FieldId(0));
    assert_eq!(back, schema);
}

#[test]
fn field_ids_are_metadata_once_they_are_given() {
    let arrow = to_arrow(&wide_schema());
    assert_eq!(arrow.field(2).metadata().get(FIELD_ID_KEY).map(String::as_str), Some("3"));
    let indexed = with_index(&arrow);
    let last = indexed.field(indexed.fields().len() - 1);
    assert_eq!(last.name(), INDEX_COLUMN);
    assert_eq!(last.metadata().get(FIELD_ID_KEY).map(String::as_str), Some("2147483647"));
    assert!(!last.is_nullable());
}

#[test]
fn representations_of_one_meaning_become_one_type() {
    let millis = types::DataType::Timestamp(types::TimeUnit::Millisecond, None);
    let cases = [
        (DataType::LargeUtf8, types::DataType::Utf8),
        (DataType::Utf8View, types::DataType::Utf8),
        (DataType::BinaryView, types::DataType::Binary),
        (DataType::Date64, millis),
        (DataType::Time32(TimeUnit::Second), types::DataType::Time64Microsecond),
        (DataType::Decimal64(10, 2), types::DataType::Decimal128(10, 2)),
        (
            DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8)),
            types::DataType::Utf8,
        ),
    ];
    for (from, expected) in cases {
        assert_eq!(one(from.clone()).as_ref(), Ok(&expected), "{from}");
    }
    let element = Arc::new(Field::new("element", DataType::Utf8View, true));
    let expected = one(DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))));
    assert_eq!(one(DataType::LargeList(element)), expected);
}

#[test]
fn a_type_without_a_place_is_refused_with_its_column_and_its_path() {
    for data_type in [
        DataType::Null,
        DataType::Float16,
        DataType::Decimal256(40, 2),
        DataType::Decimal128(10, -2),
        DataType::Duration(TimeUnit::Second),
        DataType::Struct(arrow::datatypes::Fields::empty()),
    ] {
        let error = one(data_type.clone()).expect_err("refused");
        assert!(error.contains("\"c\"") && error.contains(&data_type.to_string()), "{error}");
    }
    let inner = Field::new("inner", DataType::Null, true);
    let error = one(DataType::Struct(vec![inner].into())).expect_err("refused");
    assert!(error.contains("\"c.inner\""), "{error}");
    let deep = (0..20)
        .fold(DataType::Int8, |inner, _| DataType::List(Arc::new(Field::new("item", inner, true))));
    assert!(one(deep).expect_err("refused").contains("deep"));
}

#[test]
fn key_columns_lose_their_nullability_and_reserved_names_are_refused() {
    let arrow = arrow_schema(vec![Field::new("k", DataType::Utf8, true)]);
    let schema = from_arrow(&arrow, &["k".to_owned()]).expect("legal");
    assert!(!schema.fields[0].nullable);
    let reserved = arrow_schema(vec![Field::new(INDEX_COLUMN, DataType::UInt64, false)]);
    let error = from_arrow(&reserved, &[]).expect_err("reserved");
    assert_eq!(error.kind(), types::ErrorKind::InvalidArgument);
}
