//! Queries: one statement, a file of them, a pipe of them, and what is wrong with one.

use serde_json::{Value, json};

use crate::support::{Lake, Piped, cities, parse};

#[test]
fn one_statement_is_answered_with_its_index_and_columns() {
    let (lake, appended) = Lake::embedded().with_cities();
    let answer = lake.json(&["sql", "SELECT id, name, area FROM cities ORDER BY id"]);
    assert_eq!((&answer["columns"], &answer["rows"]), (&json!(["id", "name", "area"]), &cities()));
    assert!(answer["index"].as_u64() >= Some(appended), "an acknowledged append is read");
    let none = lake.json(&["sql", "SELECT id FROM cities WHERE false;"]);
    assert_eq!((&none["columns"], &none["rows"]), (&json!(["id"]), &json!([])));
}

#[test]
fn statements_come_from_a_pipe_or_a_file_one_after_the_other() {
    let (lake, _) = Lake::embedded().with_cities();
    let text = "SELECT 1 AS a; -- not; here\nSELECT ';''' AS b;\n\n/* ; */ SELECT count(*) AS n\nFROM cities";
    let expected = [json!({"a": 1}), json!({"b": ";'"}), json!({"n": 3})];
    let piped = lake.run_with(&["sql", "-o", "jsonl"], text.as_bytes()).ok();
    assert_eq!(piped.lines().map(parse).collect::<Vec<Value>>(), expected);
    let file = lake.file("queries.sql", text);
    let read = lake.run(&["sql", "-f", &file, "-o", "jsonl"]).ok();
    assert_eq!(read, piped);
}

#[test]
fn a_script_ends_at_its_first_failure_and_keeps_what_it_printed() {
    let (lake, _) = Lake::served().with_cities();
    let text = "SELECT 1 AS a; SELECT * FROM nope; SELECT 2 AS a;";
    let ran = lake.run_with(&["sql", "-o", "jsonl"], text.as_bytes());
    assert_eq!(ran.out, "{\"a\":1}\n");
    assert_eq!(ran.error(1)["kind"], json!("NOT_FOUND"));
    let ran = lake.run_with(&["sql", "-o", "json"], b" \n ; ");
    let error = ran.error(2);
    assert_eq!(error["message"], json!("there is no statement"));
}

#[test]
fn a_syntax_error_names_its_line_and_column() {
    for lake in Lake::both() {
        let (lake, _) = lake.with_cities();
        let error = lake.error(1, &["sql", "SELEC 1"]);
        let message = error["message"].as_str().expect("text");
        assert!(message.starts_with("syntax error at line 1, column 1: "), "{message}");
        assert_eq!(
            (&error["kind"], &error["ambiguous"]),
            (&json!("INVALID_ARGUMENT"), &json!(false))
        );
        let error = lake.error(1, &["sql", "SELECT *\nFROM cities WHERE id = = 1"]);
        let message = error["message"].as_str().expect("text");
        assert!(message.starts_with("syntax error at line 2, column 24: "), "{message}");
        let text = lake.run(&["sql", "SELECT 'é' FRM cities WHERE"]);
        assert!(text.err.starts_with("error: syntax error at line 1, column "), "{}", text.err);
        assert_eq!((text.code, text.out.as_str()), (Some(1), ""));
    }
}

#[test]
fn a_syntax_error_in_a_script_names_the_line_of_the_script() {
    let (lake, _) = Lake::served().with_cities();
    let file = lake.file("queries.sql", "SELECT 1;\nSELECT 2;\nSELEC 3;\n");
    let ran = lake.run(&["sql", "-f", &file, "-o", "json"]);
    let error = ran.error(1);
    let message = error["message"].as_str().expect("text");
    assert!(message.starts_with("syntax error at line 3, column 1: "), "{message}");
}

#[test]
fn a_statement_that_means_nothing_or_writes_is_refused_with_its_kind() {
    let (lake, _) = Lake::served().with_cities();
    let cases = [
        ("SELECT * FROM citties", "NOT_FOUND", "did you mean \"cities\"?"),
        ("SELECT nam FROM cities", "NOT_FOUND", "did you mean \"name\"?"),
        ("DROP TABLE cities", "INVALID_ARGUMENT", "only SELECT, EXPLAIN, SHOW and DESCRIBE"),
        ("SELECT 1 / 0", "INVALID_ARGUMENT", "zero"),
    ];
    for (text, kind, words) in cases {
        let ran = lake.run(&["sql", text, "-o", "json"]);
        let error = ran.error(1);
        assert_eq!((&error["kind"], &error["ambiguous"]), (&json!(kind), &json!(false)), "{text}");
        let message = error["message"].as_str().expect("text");
        assert!(message.to_lowercase().contains(&words.to_lowercase()), "{text}: {message}");
    }
    let error = lake.error(1, &["sql", "SELECT 1", "--as-of", "1000000"]);
    assert_eq!(error["kind"], json!("OUT_OF_RANGE"));
    assert_eq!(lake.cities(), cities());
}

#[test]
fn a_statement_of_a_thousand_terms_ends_neither_the_server_nor_the_program() {
    let terms: String = (0..1_000).map(|id| format!(" OR id = {id}")).collect();
    let text = format!("SELECT count(*) AS n FROM cities WHERE false{terms}");
    for lake in Lake::both() {
        let (lake, _) = lake.with_cities();
        let file = lake.file("long.sql", &text);
        let ran = lake.run(&["sql", "-f", &file, "-o", "json"]);
        // Answered or refused by a limit: both are answers, the end of a process is not.
        match ran.code {
            Some(0) => assert_eq!(ran.json()["rows"], json!([{"n": 3}])),
            _ => assert_eq!(ran.error(1)["kind"], json!("LIMIT")),
        }
        assert_eq!(lake.ids(), [1, 2, 3], "the next statement is answered");
    }
}

#[test]
fn a_comment_behind_the_last_semicolon_is_no_statement() {
    let (lake, _) = Lake::served().with_cities();
    for text in
        ["SELECT 1 AS a; -- done", "SELECT 1 AS a;\n/* done */\n", "-- first\n; SELECT 1 AS a"]
    {
        let ran = lake.run_with(&["sql", "-o", "csv"], text.as_bytes());
        assert_eq!(ran.ok(), "a\n1\n", "{text:?}");
    }
}

#[test]
fn a_semicolon_within_any_text_that_sql_knows_ends_no_statement() {
    let (lake, _) = Lake::served().with_cities();
    for text in ["SELECT 'a;b' AS x", "SELECT E'a\\';b' AS x", "SELECT $$a;b$$ AS x"] {
        let rows = lake.rows(text);
        let value = rows[0]["x"].as_str().expect("text");
        assert!(value.starts_with('a') && value.ends_with(";b"), "{text}: {value}");
    }
}

#[test]
fn a_large_answer_comes_whole_and_a_table_says_what_it_leaves_out() {
    let (lake, _) = Lake::served().with_cities();
    let text = "SELECT value, 'row ' || value AS name FROM generate_series(1, 50000)";
    let lines = lake.run(&["sql", text, "-o", "jsonl"]).ok();
    let sum = |sum: u64, line| sum + parse(line)["value"].as_u64().expect("a number");
    assert_eq!((lines.lines().count(), lines.lines().fold(0, sum)), (50_000, 1_250_025_000));
    let table = lake.run(&["sql", text]);
    assert_eq!(table.err, "1000 of 50000 rows are shown; -o csv or -o jsonl prints all\n");
    let rows = table.ok().lines().filter(|line| line.contains("row ")).count();
    assert_eq!(rows, 1_000);
}

#[test]
fn a_reader_that_goes_away_is_no_doubt_about_a_query() {
    let (lake, _) = Lake::served().with_cities();
    let text = "SELECT value FROM generate_series(1, 200000)";
    for format in ["csv", "json", "jsonl"] {
        let mut query = Piped::start(lake.command(&["sql", text, "-o", format]));
        // Far more than a pipe holds: the program must notice.
        query.close_output();
        let ran = query.finish();
        assert_eq!(ran.code, Some(1), "{format}");
        assert!(ran.err.contains("standard output"), "{format}: {}", ran.err);
        assert!(!ran.err.contains("whether it took effect"), "{format}: {}", ran.err);
        assert!(!ran.err.contains("\"ambiguous\":true"), "{format}: {}", ran.err);
    }
}
