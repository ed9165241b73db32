//! Schemas that are refused, and why.

use super::*;

fn field(name: &str, data_type: DataType, nullable: bool) -> Field {
    Field { id: FieldId(0), name: name.to_owned(), data_type, nullable }
}

fn check(fields: Vec<Field>, keys: &[&str], expect: Result<(), Error>) {
    let key_columns = keys.iter().map(|&key| key.to_owned()).collect();
    assert_eq!(Schema { fields, key_columns }.validate(), expect);
}

#[test]
fn a_schema_without_columns_is_refused() {
    check(vec![], &[], Err(Error::SchemaEmpty));
}

#[test]
fn columns_that_differ_by_case_alone_are_duplicates() {
    let fields = vec![field("Id", DataType::Int64, false), field("iD", DataType::Utf8, true)];
    check(fields, &[], Err(Error::DuplicateColumn { name: "iD".to_owned() }));
}

#[test]
fn a_column_name_is_refused_when_it_is_empty_too_long_reserved_or_not_all_seen() {
    let named = |name: &str| Schema {
        fields: vec![field(name, DataType::Int64, false)],
        key_columns: Vec::new(),
    };
    let because = |name: &str, reason| Err(Error::ColumnName { name: name.to_owned(), reason });
    let long = "x".repeat(257);
    let unseen = "it has a character that cannot be seen";
    let table = [
        ("", "it is empty"),
        (long.as_str(), "it is longer than 256 bytes"),
        ("a\0b", "it has a control character"),
        ("a\nb", "it has a control character"),
        ("\u{feff}id", unseen),
        ("i\u{200b}d", unseen),
        ("i\u{200d}d", unseen),
        ("i\u{2060}d", unseen),
        ("i\u{ad}d", unseen),
        ("id\u{fe0f}", unseen),
        ("id\u{3164}", unseen),
        ("id\u{e0061}", unseen),
        ("\u{202e}di", unseen),
        ("\u{2066}id\u{2069}", unseen),
        ("id\u{200f}", unseen),
        ("id\u{61c}", unseen),
    ];
    for (name, reason) in table {
        assert_eq!(named(name).validate(), because(name, reason), "{name:?}");
    }
    let reserved = Err(Error::ColumnReserved { name: "_Alluvium_index".to_owned() });
    assert_eq!(named("_Alluvium_index").validate(), reserved);
    // Names come with people's files: any script, any sign that can be seen.
    for name in
        ["id", "with space", "größe", "e\u{301}", "p\u{430}y", "Κωδικός", "価格 (¥)", "%", "a.b"]
    {
        assert_eq!(named(name).validate(), Ok(()), "{name:?}");
    }
}

#[test]
fn a_key_must_exist_once_and_never_be_null() {
    let id = || field("id", DataType::Int64, false);
    let maybe = || field("maybe", DataType::Utf8, true);
    check(vec![id(), maybe()], &["id"], Ok(()));
    check(vec![id()], &["x"], Err(Error::KeyMissing { name: "x".to_owned() }));
    check(vec![id()], &["id", "id"], Err(Error::KeyTwice { name: "id".to_owned() }));
    check(vec![maybe()], &["maybe"], Err(Error::KeyNullable { name: "maybe".to_owned() }));
}

#[test]
fn a_floating_point_key_is_refused_because_nan_equals_nothing() {
    let expect = Error::KeyType { name: "f".to_owned(), data_type: DataType::Float64 };
    check(vec![field("f", DataType::Float64, false)], &["f"], Err(expect));
}

#[test]
fn the_systems_own_columns_cannot_be_taken() {
    let name = "_Alluvium_index";
    let expect = Error::ColumnReserved { name: name.to_owned() };
    check(vec![field(name, DataType::UInt64, false)], &[], Err(expect));
}

#[test]
fn impossible_parameters_are_refused() {
    for data_type in [
        DataType::Decimal128(39, 0),
        DataType::Decimal128(3, 4),
        DataType::FixedSizeBinary(0),
        DataType::Struct(vec![]),
    ] {
        let expect = Error::IllegalType { name: "x".to_owned(), data_type: data_type.clone() };
        check(vec![field("x", data_type, true)], &[], Err(expect));
    }
}

#[test]
fn nesting_has_a_limit() {
    let deep = (0..9)
        .fold(DataType::Int8, |inner, _| DataType::List(Box::new(field("item", inner, true))));
    let expect = Error::NestedTooDeep { name: "item".to_owned(), limit: 8 };
    check(vec![field("x", deep, true)], &[], Err(expect));
}

#[test]
fn widening_never_rounds_and_never_changes_signedness() {
    let widens = [
        (DataType::Int8, DataType::Int64),
        (DataType::UInt16, DataType::UInt32),
        (DataType::Float32, DataType::Float64),
        (DataType::Int32, DataType::Float64),
        (DataType::Decimal128(5, 2), DataType::Decimal128(9, 2)),
    ];
    for (from, to) in widens {
        assert!(from.widens_to(&to), "{from} to {to}");
        assert!(!to.widens_to(&from), "{to} to {from}");
    }
    for (from, to) in [
        (DataType::Int64, DataType::Float64),
        (DataType::UInt8, DataType::Int16),
        (DataType::Utf8, DataType::Binary),
        (DataType::Int32, DataType::Int32),
    ] {
        assert!(!from.widens_to(&to), "{from} to {to}");
    }
}
