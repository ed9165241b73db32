//! Rows in and rows hidden: appends, upserts and tombstones, and the conditions on them.

use serde_json::json;

use crate::support::{CITIES, Lake, REGISTER, cities, index_of};

#[test]
fn an_append_adds_and_an_upsert_replaces() {
    let (lake, first) = Lake::embedded().with_cities();
    let file = lake.file("new.csv", "id,name,area\n3,Kiel,118.6\n4,Ulm,118.7\n");
    let upserted = lake.json(&["upsert", "cities", &file]);
    assert_eq!(upserted["rows"], json!(2));
    assert!(first < index_of(&upserted));
    let expected = json!([
        {"id": 1, "name": "Bonn", "area": 141.1},
        {"id": 2, "name": "Köln, am Rhein", "area": null},
        {"id": 3, "name": "Kiel", "area": 118.6},
        {"id": 4, "name": "Ulm", "area": 118.7},
    ]);
    assert_eq!(lake.cities(), expected);
    let appended = lake.json(&["append", "cities", &file]);
    assert_eq!(appended["rows"], json!(2));
    assert_eq!(lake.ids(), [1, 2, 3, 3, 4, 4], "an append replaces nothing");
    let past =
        lake.json(&["sql", "SELECT * FROM cities ORDER BY id", "--as-of", &first.to_string()]);
    assert_eq!((&past["rows"], &past["index"]), (&cities(), &json!(first)));
}

#[test]
fn rows_are_hidden_by_the_texts_of_their_keys() {
    let (lake, appended) = Lake::embedded().with_cities();
    let keys = ["tombstone", "cities", "--key", "1", "--key", "3", "--key", "99"];
    let counted = lake.json(&[&keys[..], &["--dry-run"]].concat());
    assert_eq!(counted, json!({"rows_that_would_be_hidden": 2}));
    assert_eq!(lake.ids(), [1, 2, 3], "nothing is hidden by a dry run");
    let hidden = lake.json(&keys);
    assert_eq!(hidden["keys"], json!(3), "keys, whether rows have them or not");
    assert_eq!(lake.ids(), [2]);
    let past = lake.json(&["sql", "SELECT id FROM cities", "--as-of", &appended.to_string()]);
    assert_eq!(past["rows"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_key_of_two_columns_may_have_commas_and_quotes() {
    let lake = Lake::served();
    let columns = ["--column", "a:utf8", "--column", "b:utf8", "--key", "a,b"];
    lake.json(&[&["dataset", "register", "t"], &columns[..]].concat());
    let file = lake.file("t.csv", "a,b\n\"x,y\",z\nx,\"y,z\"\nO'Hare,\"5\"\"\"\n");
    lake.json(&["append", "t", &file]);
    let keys = ["tombstone", "t", "--key", "\"x,y\",z", "--key", "O'Hare,\"5\"\"\""];
    let counted = lake.json(&[&keys[..], &["--dry-run"]].concat());
    assert_eq!(counted, json!({"rows_that_would_be_hidden": 2}));
    assert_eq!(lake.json(&keys)["keys"], json!(2));
    assert_eq!(lake.rows("SELECT * FROM t"), json!([{"a": "x", "b": "y,z"}]));
    let error = lake.error(2, &["tombstone", "t", "--key", "x"]);
    assert_eq!(error["message"], json!("the key has 2 columns, \"x\" has 1 values"));
}

#[test]
fn rows_are_hidden_by_a_file_of_keys_or_a_pipe() {
    let (lake, _) = Lake::served().with_cities();
    let more: String = (10..1_010).map(|id| format!("{id},city {id},\n")).collect();
    let file = lake.file("more.csv", format!("id,name,area\n{more}"));
    assert_eq!(lake.json(&["append", "cities", &file])["rows"], json!(1_000));
    let keys: String = (10..1_010).map(|id| format!("{{\"id\": {id}}}\n")).collect();
    let file = lake.file("keys.ndjson", format!("{keys}{{\"id\": 10}}\n"));
    let hidden = lake.json(&["tombstone", "cities", "--keys-from", &file]);
    assert_eq!(hidden["keys"], json!(1_000), "a key that is named twice is one key");
    assert_eq!(lake.ids(), [1, 2, 3]);
    let few = lake.file("few.ndjson", "{\"id\": 2}\n{\"id\": 3}\n{\"id\": 10}\n");
    let counted = lake.json(&["tombstone", "cities", "--keys-from", &few, "--dry-run"]);
    assert_eq!(counted, json!({"rows_that_would_be_hidden": 2}), "only visible rows count");
    let piped = ["tombstone", "cities", "--keys-from", "-", "-o", "json"];
    assert_eq!(lake.run_with(&piped, b"id\n2\n").json()["keys"], json!(1));
    assert_eq!(lake.ids(), [1, 3]);
}

#[test]
fn rows_are_hidden_by_a_predicate() {
    let (lake, _) = Lake::embedded().with_cities();
    let test = ["tombstone", "cities", "--where", "area IS NULL OR name = 'Bonn'"];
    let counted = lake.json(&[&test[..], &["--dry-run"]].concat());
    assert_eq!(counted, json!({"rows_that_would_be_hidden": 2}));
    assert_eq!(lake.json(&test)["keys"], json!(2));
    assert_eq!(lake.ids(), [3]);
    assert_eq!(lake.json(&test)["keys"], json!(0), "nothing is left that matches");
}

#[test]
fn a_condition_that_does_not_hold_changes_nothing() {
    let (lake, appended) = Lake::served().with_cities();
    let file = lake.file("more.csv", "id,name,area\n4,Ulm,118.7\n");
    let stale = (appended - 1).to_string();
    let commands: [&[&str]; 4] = [
        &["append", "cities", &file],
        &["upsert", "cities", &file],
        &["tombstone", "cities", "--key", "1"],
        &["dataset", "evolve", "cities", "--add", "x:utf8"],
    ];
    for command in commands {
        let error = lake.error(1, &[command, &["--expected-index", &stale]].concat());
        let message = format!("the dataset last changed at index {appended}, not at {stale}");
        assert_eq!(
            error,
            json!({
                "kind": "PRECONDITION",
                "message": message,
                "hint": "read the dataset again, then decide",
                "ambiguous": false,
            }),
            "{command:?}"
        );
    }
    assert_eq!(lake.cities(), cities());
    let expected = appended.to_string();
    let done = lake.json(&["append", "cities", &file, "--expected-index", &expected]);
    assert_eq!(done["rows"], json!(1));
    assert_eq!(lake.ids(), [1, 2, 3, 4]);
}

#[test]
fn a_file_without_rows_appends_nothing_and_says_so() {
    for lake in Lake::both() {
        lake.json(&REGISTER);
        let file = lake.file("header.csv", "id,name,area\n");
        let error = lake.error(1, &["append", "cities", &file]);
        assert_eq!(error["message"], json!("there is no row in it"));
        assert_eq!(lake.ids(), Vec::<i64>::new());
    }
}

/// Returns the commands in the log, without what a node writes there by itself.
fn commands_in_log(lake: &Lake) -> Vec<serde_json::Value> {
    let log = lake.json(&["log", "tail", "-n", "1000"]);
    let records = log.as_array().expect("records").iter();
    records.filter(|record| record["actor"].is_string()).cloned().collect()
}

#[test]
fn a_file_that_is_refused_before_its_first_row_leaves_no_entry_in_the_log() {
    for lake in Lake::both() {
        let (lake, _) = lake.with_cities();
        let before = commands_in_log(&lake);
        let files = [
            lake.file("ragged.csv", "id,name,area\n4,Ulm,1\n5,a,b,2\n"),
            lake.file("latin.csv", b"id,name\n4,K\xf6ln\n"),
            lake.file("type.csv", "id,area\n4,large\n"),
            lake.file("unknown.csv", "id,town\n4,Ulm\n"),
            lake.file("header.csv", "id,name,area\n"),
            lake.file("empty.csv", ""),
            lake.file("bad.ndjson", "{\"id\": }\n"),
            lake.file("cut.parquet", "PAR1"),
        ];
        for file in &files {
            lake.error(1, &["append", "cities", file]);
            lake.error(1, &["upsert", "cities", file]);
        }
        let keys = lake.file("keys.csv", "id\nx\n");
        lake.error(1, &["tombstone", "cities", "--keys-from", &keys]);
        assert_eq!(commands_in_log(&lake), before);
        assert_eq!(lake.cities(), cities());
    }
}

#[test]
fn a_file_without_rows_is_refused_by_its_condition_first() {
    let (lake, appended) = Lake::served().with_cities();
    let file = lake.file("header.csv", "id,name,area\n");
    let stale = (appended - 1).to_string();
    let error = lake.error(1, &["append", "cities", &file, "--expected-index", &stale]);
    assert_eq!(error["kind"], json!("PRECONDITION"));
    let seen = appended.to_string();
    let error = lake.error(1, &["append", "cities", &file, "--expected-index", &seen]);
    assert_eq!(error["message"], json!("there is no row in it"));
}

#[test]
fn columns_of_a_file_are_matched_by_name() {
    for lake in Lake::both() {
        let (lake, _) = lake.with_cities();
        let reordered = lake.file("reordered.csv", "area,id,name\n118.7,4,Ulm\n");
        lake.json(&["append", "cities", &reordered]);
        let fewer = lake.file("fewer.csv", "name,id\nKiel,5\n");
        lake.json(&["append", "cities", &fewer]);
        let expected = json!([
            {"id": 4, "name": "Ulm", "area": 118.7},
            {"id": 5, "name": "Kiel", "area": null},
        ]);
        let found = lake.rows("SELECT id, name, area FROM cities WHERE 3 < id ORDER BY id");
        assert_eq!(found, expected);
        let refused = [
            ("id,town\n6,Ulm\n", "columns that the dataset does not have: \"town\""),
            ("ID,name\n6,Ulm\n", "columns that the dataset does not have: \"ID\""),
            ("name,area\nUlm,1\n", "columns that may not be NULL are missing: \"id\""),
            ("id,area\n6,wide\n", "line 2, column \"area\": \"wide\" is not float64"),
        ];
        for (text, message) in refused {
            let file = lake.file("refused.csv", text);
            let error = lake.error(1, &["append", "cities", &file]);
            assert_eq!((&error["kind"], &error["message"]), (&json!("FILE"), &json!(message)));
        }
        assert_eq!(lake.ids(), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn a_file_without_keys_hides_nothing_wherever_the_command_works() {
    let answers = Lake::both().map(|lake| {
        let (lake, _) = lake.with_cities();
        let file = lake.file("keys.csv", "id\n");
        let ran = lake.run(&["tombstone", "cities", "--keys-from", &file, "-o", "json"]);
        assert_eq!(lake.ids(), [1, 2, 3]);
        ran
    });
    let [embedded, served] = answers;
    assert_eq!(embedded.code, served.code, "{}{}", embedded.err, served.err);
}

#[test]
fn a_dry_run_counts_the_rows_of_a_thousand_keys() {
    for lake in Lake::both() {
        let (lake, _) = lake.with_cities();
        let keys: String = (1..1_000).map(|id| format!("{id}\n")).collect();
        let file = lake.file("keys.csv", format!("id\n{keys}"));
        let counted = lake.json(&["tombstone", "cities", "--keys-from", &file, "--dry-run"]);
        assert_eq!(counted, json!({"rows_that_would_be_hidden": 3}));
        assert_eq!(lake.ids(), [1, 2, 3], "a server that was asked still answers");
    }
}

/// Checks that a dry run says what the real run says, and that the real run refuses.
fn check_dry_run(lake: &Lake, dataset: &str, predicate: &str) {
    let test = ["tombstone", dataset, "--where", predicate];
    let error = lake.error(1, &test);
    let dry = lake.error(1, &[&test[..], &["--dry-run"]].concat());
    assert_eq!(dry["message"], error["message"], "{predicate}");
}

#[test]
fn a_dry_run_refuses_a_dataset_without_a_key_as_the_real_run_does() {
    let lake = Lake::served();
    lake.json(&["dataset", "register", "plain", "--column", "id:int64"]);
    let file = lake.file("plain.csv", "id\n1\n2\n");
    lake.json(&["append", "plain", &file]);
    check_dry_run(&lake, "plain", "id = 1");
}

#[test]
fn a_dry_run_refuses_a_predicate_as_the_real_run_does() {
    let (lake, _) = Lake::served().with_cities();
    for predicate in ["id = (SELECT 1)", "random() < 2", "id = 1) OR (true", "area", "nope = 1"] {
        check_dry_run(&lake, "cities", predicate);
    }
    assert_eq!(lake.cities(), cities());
}

#[test]
fn a_whole_row_is_no_key_and_the_error_does_not_deny_its_columns() {
    let (lake, _) = Lake::served().with_cities();
    let file = lake.file("rows.csv", CITIES);
    let error = lake.error(1, &["tombstone", "cities", "--keys-from", &file]);
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("\"name\", \"area\""), "{message}");
    // The dataset has both columns; they are only no part of its key.
    assert!(!message.contains("the dataset does not have"), "{message}");
    let hint = error["hint"].as_str().unwrap_or_default();
    assert!(!hint.contains("evolve --add"), "{hint}");
    assert_eq!(lake.cities(), cities());
}
