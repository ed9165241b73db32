//! Tokens, places and names, without a catalog.

use super::*;

fn relations_of(sql: &str) -> Vec<(String, Option<u64>)> {
    let parsed = Parsed::new(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let name = |relation: &Relation| {
        let VersionedName { name, version } = relation.name();
        (name, version.map(|version| version.0))
    };
    parsed.relations.iter().map(name).collect()
}

#[test]
fn a_version_follows_its_table_and_nothing_else() {
    type Expected = [(&'static str, Option<u64>)];
    let cases: [(&str, &Expected); 8] = [
        ("SELECT 1 FROM t AS OF 5", &[("t", Some(5))]),
        ("SELECT 1 FROM t /* x */ AS -- y\n OF 5 AS a, u", &[("t", Some(5)), ("u", None)]),
        ("SELECT 1 FROM \"T\" VERSION AS OF 7", &[("T", Some(7))]),
        ("SELECT 1 FROM t FOR SYSTEM_VERSION AS OF 7 x", &[("t", Some(7))]),
        ("SELECT 1 FROM version AS OF 7", &[("version", Some(7))]),
        ("SELECT id AS of FROM t", &[("t", None)]),
        ("SELECT 'x AS OF 5' FROM t", &[("t", None)]),
        ("WITH c AS (SELECT 1 FROM t AS OF 2) SELECT 1 FROM c", &[("t", Some(2))]),
    ];
    for (sql, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
        assert_eq!(relations_of(sql), expected, "{sql}");
    }
}

#[test]
fn the_marker_of_versions_cannot_be_typed() {
    let error = Parsed::new("SELECT 1 FROM \"t\u{1}5\"").map(|_| ()).expect_err("refused");
    assert!(matches!(error, Error::Syntax { line: 1, .. }), "{error:?}");
}

#[test]
fn text_is_never_folded() {
    let mut names = Names::default();
    names.add("UserId");
    let parsed = Parsed::new("SELECT USERID, 'USERID', \"userid\", Other FROM T").expect("parses");
    let text = parsed.resolve(&names).expect("parses again").to_string();
    assert_eq!(text, "SELECT UserId, 'USERID', \"userid\", other FROM t");
}
