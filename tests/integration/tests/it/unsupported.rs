//! Types that no dataset holds: an error that names the column and the type, and a lake that is as it was.

use std::sync::Arc;

use alluvium_engine::{Error, RegisterOptions};
use alluvium_proto::v1;
use alluvium_proto::v1::data_type::Kind;
use alluvium_server::failures::kind_of;
use alluvium_types::ErrorKind;
use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{
    DataType, Field, Fields, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode,
};
use tonic::Code;

use crate::server::{arrow_stream, messages, with_server};
use crate::support::{Lake, caller, expect};

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn shared(name: &str, data_type: DataType) -> Arc<Field> {
    Arc::new(field(name, data_type))
}

fn map() -> DataType {
    let key = Field::new("keys", DataType::Utf8, false);
    let entries = Fields::from(vec![key, field("values", DataType::Int64)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

fn union() -> DataType {
    let fields = [field("a", DataType::Int64), field("b", DataType::Utf8)];
    DataType::Union(UnionFields::try_new([0, 1], fields).expect("two"), UnionMode::Sparse)
}

fn dictionary(value: DataType) -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(value))
}

/// Each type that is refused, the path of what is wrong within column `bad`, and the type there.
fn table() -> Vec<(DataType, &'static str, DataType)> {
    use DataType as T;
    let duration = || T::Duration(TimeUnit::Second);
    let interval = || T::Interval(IntervalUnit::MonthDayNano);
    let plain = [
        T::Null,
        T::Float16,
        T::Decimal256(76, 2),
        T::Decimal128(10, -2),
        T::FixedSizeBinary(0),
        T::FixedSizeBinary(70_000),
        duration(),
        interval(),
        T::Interval(IntervalUnit::YearMonth),
        T::Interval(IntervalUnit::DayTime),
        map(),
        union(),
        T::Struct(Fields::empty()),
        T::FixedSizeList(shared("item", T::Int64), 3),
        T::ListView(shared("item", T::Int64)),
        T::LargeListView(shared("item", T::Int64)),
        T::RunEndEncoded(
            Arc::new(Field::new("run_ends", T::Int32, false)),
            shared("values", T::Int64),
        ),
    ];
    let mut table: Vec<_> = plain.into_iter().map(|plain| (plain.clone(), "bad", plain)).collect();
    let list = |data_type: DataType| T::List(shared("element", data_type));
    let structure = |data_type: DataType| T::Struct(vec![field("x", data_type)].into());
    table.extend([
        (dictionary(T::Decimal256(40, 0)), "bad", T::Decimal256(40, 0)),
        (dictionary(list(duration())), "bad.item", duration()),
        (list(interval()), "bad.item", interval()),
        (T::LargeList(shared("element", map())), "bad.item", map()),
        (structure(union()), "bad.x", union()),
        (list(structure(duration())), "bad.item.x", duration()),
        (structure(list(dictionary(T::Null))), "bad.x.item", T::Null),
    ]);
    table
}

/// What every write changes: a refused one must leave it.
async fn state(lake: &Lake) -> (u64, String, usize) {
    let status = lake.node.status().await.expect("tells");
    let datasets = lake.node.datasets(None).await.expect("lists").1.len();
    (status.applied.0, status.digest, datasets)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_a_type_that_no_dataset_holds_is_refused_by_name_and_type() {
    let lake = Lake::keyed().await;
    let before = state(&lake).await;
    for (data_type, path, culprit) in table() {
        let columns = vec![field("good", DataType::Int64), field("bad", data_type)];
        let schema = Arc::new(Schema::new(columns));
        let options = RegisterOptions::keyed(&[]);
        let refused = lake.node.register(&caller(), "u", schema, options).await;
        let error = refused.expect_err(&culprit.to_string());
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(matches!(error, Error::Rows(_)), "{error:?}");
        let expected = format!("column {path:?} has type {culprit}, which a dataset cannot hold");
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(state(&lake).await, before, "nothing was proposed");
    lake.node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_such_a_type_are_refused_embedded_and_over_the_port_and_none_is_appended() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1)]).await;
    let before = state(&lake).await;
    Box::pin(with_server(&lake, async |mut client| {
        for (data_type, _, culprit) in table() {
            let columns =
                vec![Field::new("key", DataType::Utf8, false), field("value", data_type.clone())];
            let key: ArrayRef = Arc::new(StringArray::from(vec!["b"]));
            let arrays = vec![key, new_null_array(&data_type, 1)];
            let schema = Arc::new(Schema::new(columns));
            let batch = RecordBatch::try_new(schema, arrays).expect("a batch");
            let refused = lake.node.append(&caller(), "t", vec![batch.clone()]).await;
            let error = refused.expect_err(&culprit.to_string());
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            let text = error.to_string();
            let named = text.contains("\"value") && text.contains(&culprit.to_string());
            assert!(named, "{data_type}: {text}");

            use v1::append_request::Part;
            let target = v1::AppendTarget { name: "t".to_owned(), ..v1::AppendTarget::default() };
            let parts = vec![Part::Target(target), Part::ArrowStream(arrow_stream(&batch))];
            let status = client.append(messages(parts)).await.expect_err("the same over the port");
            let kind = (status.code(), kind_of(&status));
            assert_eq!(kind, (Code::InvalidArgument, ErrorKind::InvalidArgument), "{status:?}");
            // What comes over the port is read without Arrow's own conversion, and named by the kind of type.
            let (text, culprit) = (status.message(), culprit.to_string());
            let word = culprit.split('(').next().expect("a word");
            let named = text.contains("\"value") && text.contains(word);
            assert!(named, "{data_type} over the port: {text}");
        }
    }))
    .await;
    assert_eq!(state(&lake).await, before, "nothing was proposed");
    assert_eq!(lake.rows().await, expect(&[("a", 1)]));
    lake.node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_the_protocol_can_say_and_no_dataset_holds_is_refused_by_column() {
    let timestamp = |unit| Kind::Timestamp(v1::Timestamp { unit, zone: None });
    let decimal = |precision, scale| Kind::Decimal(v1::Decimal { precision, scale });
    let column = |name: &str, kind: Option<Kind>| v1::Column {
        name: name.to_owned(),
        r#type: Some(Box::new(v1::DataType { kind })),
        nullable: true,
        ..v1::Column::default()
    };
    let list = |kind| Some(Kind::List(Box::new(column("element", kind))));
    let structure = |fields| Some(Kind::Structure(v1::Struct { fields }));
    let mut deep = Some(Kind::Scalar(4));
    for _ in 0..9 {
        deep = list(deep);
    }
    let table = [
        (None, "column \"bad\": the message has no kind of a type"),
        (Some(Kind::Scalar(0)), "column \"bad\": the message has no scalar of a type"),
        (Some(Kind::Scalar(99)), "column \"bad\": scalar \"99\" is not possible"),
        (
            Some(Kind::FixedSizeBinary(0)),
            "column \"bad\" has an impossible type fixed_size_binary(0)",
        ),
        (
            Some(Kind::FixedSizeBinary(70_000)),
            "column \"bad\": fixed_size_binary \"70000\" is not possible",
        ),
        (Some(decimal(39, 0)), "column \"bad\" has an impossible type decimal128(39, 0)"),
        (Some(decimal(5, -1)), "column \"bad\" has an impossible type decimal128(5, -1)"),
        (Some(decimal(300, 0)), "column \"bad\": decimal \"300, 0\" is not possible"),
        (Some(timestamp(0)), "column \"bad\": the message has no unit of a timestamp"),
        (Some(timestamp(9)), "column \"bad\": unit \"9\" is not possible"),
        (list(Some(Kind::Scalar(99))), "column \"bad.element\": scalar \"99\" is not possible"),
        (structure(vec![]), "column \"bad\" has an impossible type struct<>"),
        (structure(vec![column("x", None)]), "column \"bad.x\": the message has no kind of a type"),
        (
            deep,
            "column \"bad.element.element.element.element.element.element.element.element\": it nests \
             deeper than 8 levels",
        ),
    ];
    let lake = Lake::keyed().await;
    let before = state(&lake).await;
    with_server(&lake, async |mut client| {
        for (kind, message) in table {
            let good = column("good", Some(Kind::Scalar(5)));
            let request = v1::RegisterRequest {
                name: "u".to_owned(),
                columns: vec![good, column("bad", kind)],
                ..v1::RegisterRequest::default()
            };
            let status = client.register(request).await.expect_err(message);
            assert_eq!(status.message(), message);
            let kind = (status.code(), kind_of(&status));
            assert_eq!(kind, (Code::InvalidArgument, ErrorKind::InvalidArgument), "{message}");
        }
    })
    .await;
    assert_eq!(state(&lake).await, before, "nothing was proposed");
    lake.node.shutdown().await.expect("stops");
}
