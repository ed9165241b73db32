//! Every type there and back; every impossible message refused with its field's name.

use super::*;

fn field(name: &str, data_type: DataType) -> Field {
    Field { id: FieldId(7), name: name.to_owned(), data_type, nullable: true }
}

#[test]
fn every_type_survives_the_way_there_and_back() {
    let scalars = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::Utf8,
        DataType::Binary,
        DataType::FixedSizeBinary(16),
        DataType::Date32,
        DataType::Time64Microsecond,
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".to_owned())),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Decimal128(38, 10),
    ];
    let nested = DataType::List(Box::new(field("item", DataType::Utf8)));
    let structure =
        DataType::Struct(vec![field("a", nested.clone()), field("b", DataType::Date32)]);
    for data_type in scalars.into_iter().chain([nested, structure]) {
        let one = field("x", data_type);
        assert_eq!(fields_from(vec![field_to(&one)]), Ok(vec![one]));
    }
}

#[test]
fn every_change_survives_the_way_there_and_back() {
    let changes = vec![
        SchemaChange::Add(field("x", DataType::Int8)),
        SchemaChange::Widen { column: "x".to_owned(), to: DataType::Int64 },
        SchemaChange::Rename { column: "x".to_owned(), to: "y".to_owned() },
        SchemaChange::Drop { column: "y".to_owned() },
    ];
    assert_eq!(changes_from(changes.iter().map(change_to).collect()), Ok(changes));
}

#[test]
fn what_is_impossible_is_named() {
    let with = |kind| {
        let r#type = Some(v1::DataType { kind });
        let column = v1::Column {
            id: 0,
            name: "x".to_owned(),
            r#type: r#type.map(Box::new),
            nullable: true,
        };
        fields_from(vec![column]).expect_err("impossible").to_string()
    };
    use v1::data_type::Kind;
    assert_eq!(with(None), "column \"x\": the message has no kind of a type");
    assert_eq!(with(Some(Kind::Scalar(0))), "column \"x\": the message has no scalar of a type");
    assert_eq!(with(Some(Kind::Scalar(99))), "column \"x\": scalar \"99\" is not possible");
    assert_eq!(
        with(Some(Kind::FixedSizeBinary(70_000))),
        "column \"x\": fixed_size_binary \"70000\" is not possible"
    );
    let decimal = v1::Decimal { precision: 300, scale: 0 };
    assert_eq!(
        with(Some(Kind::Decimal(decimal))),
        "column \"x\": decimal \"300, 0\" is not possible"
    );
    let message = v1::DatasetOptions {
        compression: Some("zstd".to_owned()),
        compression_level: Some(23),
        ..v1::DatasetOptions::default()
    };
    let error = options_from(Some(message)).expect_err("no such level").to_string();
    assert_eq!(error, "compression_level \"23\" is not possible");
}

#[test]
fn a_type_nested_without_end_is_refused_before_the_stack_is() {
    let mut column = field_to(&field("x", DataType::Int8));
    for _ in 0..50 {
        let kind = Some(v1::data_type::Kind::List(Box::new(column)));
        let r#type = Some(v1::DataType { kind });
        column = v1::Column {
            id: 0,
            name: "x".to_owned(),
            r#type: r#type.map(Box::new),
            nullable: true,
        };
    }
    let fault = Box::new(Error::NestedTooDeep { limit: 8 });
    let column_path = ["x"; 9].join(".");
    assert_eq!(fields_from(vec![column]), Err(Error::Column { column: column_path, fault }));
}

#[test]
fn how_a_dataset_is_kept_survives_the_way_there_and_back() {
    let codecs = [Codec::Uncompressed, Codec::Snappy, Codec::Lz4Raw, Codec::Zstd { level: 7 }];
    for codec in codecs {
        let mut options = DatasetOptions::standard();
        options.recipe.codec = codec;
        options.seal_rows = 7;
        assert_eq!(options_from(Some(options_to(&options))), Ok(options));
    }
}
