//! A server: the same answers as without one, and nothing lost when it stops or is killed.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::{CITIES, Lake, Piped, REGISTER, cities, index_of};

/// What differs from run to run: indexes, ids made of them, times, and bytes that hold these.
const VOLATILE: [&str; 23] = [
    "applied",
    "bytes",
    "bytes_in",
    "bytes_out",
    "changed_at",
    "cluster_id",
    "committed",
    "dataset",
    "digest",
    "digest_kept",
    "digest_recomputed",
    "durable",
    "entries",
    "file_bytes",
    "floor",
    "incarnation",
    "index",
    "log_bytes",
    "log_first",
    "log_last",
    "proposed_at_ms",
    "scrubs",
    "term",
];

/// Replaces what differs from run to run.
fn settled(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let settle = |(name, value): (String, Value)| match name.as_str() {
                volatile if VOLATILE.contains(&volatile) => (name, json!("..")),
                // The ids of files are indexes; how many there are is not.
                "files" if value.is_array() => {
                    let count = value.as_array().map(Vec::len);
                    (name, json!(count))
                }
                _ => (name, settled(value)),
            };
            Value::Object(fields.into_iter().map(settle).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(settled).collect()),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

/// Runs each command on both lakes, which must answer the same.
fn check_same(lakes: &[Lake; 2], commands: &[&[&str]]) {
    for command in commands {
        let [embedded, served] = lakes.each_ref().map(|lake| settled(lake.json(command)));
        assert_eq!(embedded, served, "{command:?}");
    }
}

#[test]
fn the_catalog_answers_the_same_with_and_without_a_server() {
    let lakes = Lake::both();
    let csv = lakes[0].file("t.csv", "id,n\n1,2\n");
    check_same(
        &lakes,
        &[
            &REGISTER,
            &REGISTER,
            &["dataset", "register", "t", "--schema-from", &csv, "--key", "id,n"],
            &["dataset", "list"],
            &["dataset", "evolve", "t", "--add", "x:decimal(9, 2)", "--rename", "n:m"],
            &["dataset", "show", "t"],
            &["dataset", "drop", "t", "--dry-run"],
            &["dataset", "drop", "t", "--yes"],
            &["dataset", "list"],
            &["status"],
            &["version"],
        ],
    );
}

#[test]
fn rows_answer_the_same_with_and_without_a_server() {
    let lakes = Lake::both();
    let csv = lakes[0].file("cities.csv", CITIES);
    let json = lakes[0].file("more.ndjson", "{\"id\": 3, \"name\": \"Ulm\"}\n{\"id\": 4}\n");
    check_same(
        &lakes,
        &[
            &REGISTER,
            &["append", "cities", &csv],
            &["upsert", "cities", &json],
            &["tombstone", "cities", "--key", "1", "--key", "7"],
            &["tombstone", "cities", "--where", "name = 'Ulm'"],
            &["sql", "SELECT * FROM cities ORDER BY id"],
            &["dataset", "show", "cities"],
        ],
    );
    let kinds = lakes.each_ref().map(|lake| {
        let log = lake.json(&["log", "tail", "-n", "1000"]);
        let records = log.as_array().expect("records").clone().into_iter().map(settled);
        let is_command = |record: &Value| record["actor"].is_string();
        let mut records: Vec<Value> = records.filter(is_command).collect();
        for record in &mut records {
            record["session"] = json!(record["session"].is_string());
        }
        records
    });
    assert_eq!(kinds[0], kinds[1]);
    assert_eq!(kinds[0].len(), 9, "a register, and four commands with a session each");
}

#[test]
fn the_care_of_files_answers_the_same_with_and_without_a_server() {
    let lakes = Lake::both().map(|lake| lake.with_cities().0);
    check_same(
        &lakes,
        &[
            &["seal", "cities"],
            &["tombstone", "cities", "--key", "2"],
            &["compact", "cities"],
            &["verify"],
            &["dataset", "show", "cities"],
            &["sql", "SELECT * FROM cities ORDER BY id"],
            &["expire", "cities"],
        ],
    );
}

#[test]
fn no_records_of_the_log_are_asked_for_and_none_come() {
    for lake in Lake::both() {
        lake.json(&REGISTER);
        assert_eq!(lake.json(&["log", "tail", "-n", "0"]), json!([]));
    }
}

/// Returns the lines of a log that somebody should look at. The consensus library warns at times of a vote
/// that came late when a node starts for the first time: that is its own business.
fn trouble(log: &str) -> Vec<&str> {
    let is_trouble = |line: &&str| line.contains(" WARN alluvium") || line.contains(" ERROR ");
    log.lines().filter(is_trouble).collect()
}

#[test]
fn a_server_that_is_told_to_stop_leaves_a_directory_that_opens_without_it() {
    let (mut lake, _) = Lake::served().with_cities();
    let (code, log) = lake.server().terminate();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(trouble(&log), Vec::<&str>::new());
    assert!(log.lines().any(|line| line.ends_with("stopped")), "{log}");
    let ran = lake.run(&["sql", "SELECT id, name, area FROM cities ORDER BY id", "-o", "json"]);
    assert_eq!(trouble(&ran.err), Vec::<&str>::new(), "a clean start has nothing to say");
    assert_eq!(ran.json()["rows"], cities());
    lake.start_server();
    assert_eq!(lake.cities(), cities());
}

#[test]
fn after_a_kill_every_acknowledged_write_is_there_and_nothing_else() {
    let mut lake = Lake::served();
    lake.json(&REGISTER);
    let mut last = 0;
    for id in 1..=6 {
        let file = lake.file("one.csv", format!("id,name,area\n{id},city {id},{id}.5\n"));
        let index = index_of(&lake.json(&["append", "cities", &file]));
        assert!(last < index, "indexes only grow");
        last = index;
        if id == 3 {
            assert_eq!(lake.json(&["seal", "cities"])["rows"], json!(3));
        }
    }
    lake.json(&["tombstone", "cities", "--key", "2", "--key", "5"]);
    let file = lake.file("new.csv", "id,name,area\n6,new,\n7,new,\n");
    lake.json(&["upsert", "cities", &file]);
    let expected = json!([
        {"id": 1, "name": "city 1", "area": 1.5},
        {"id": 3, "name": "city 3", "area": 3.5},
        {"id": 4, "name": "city 4", "area": 4.5},
        {"id": 6, "name": "new", "area": null},
        {"id": 7, "name": "new", "area": null},
    ]);
    assert_eq!(lake.cities(), expected);
    lake.server().kill();

    assert_eq!(lake.cities(), expected, "opened without a server");
    assert_eq!(lake.json(&["verify"])["damage"], json!([]));
    let past =
        lake.json(&["sql", "SELECT count(*) AS n FROM cities", "--as-of", &last.to_string()]);
    assert_eq!(past["rows"], json!([{"n": 6}]), "the past is there too");
    lake.start_server();
    assert_eq!(lake.cities(), expected, "and with the next server");
    let file = lake.file("next.csv", "id,name,area\n8,next,\n");
    assert_eq!(lake.json(&["append", "cities", &file])["rows"], json!(1));
    assert_eq!(lake.ids(), [1, 3, 4, 6, 7, 8]);
}

#[test]
fn an_append_that_a_kill_cuts_off_is_not_there_and_says_that_nobody_knows() {
    let (mut lake, _) = Lake::served().with_cities();
    let command = lake.command(&["append", "cities", "-", "-o", "json"]);
    let mut append = Piped::start(command);
    let input = append.input.as_mut().expect("piped");
    input.write_all(b"id,name,area\n").expect("it reads");
    let text = "x".repeat(4_096);
    // More than every buffer on the way: when all is written, the command has sent most of it.
    for id in 100..2_100 {
        input.write_all(format!("{id},{text},\n").as_bytes()).expect("it reads");
    }
    lake.server().kill();
    let ran = append.finish();
    assert_eq!(ran.out, "", "it was not acknowledged");
    let error = ran.error(1);
    assert_eq!((&error["kind"], &error["ambiguous"]), (&json!("UNAVAILABLE"), &json!(true)));
    let hint = error["hint"].as_str().expect("a hint");
    assert!(hint.starts_with("standard input cannot be read a second time"), "{hint}");
    assert_eq!(lake.cities(), cities(), "no row of an append that did not end");
    assert_eq!(lake.json(&["verify"])["damage"], json!([]));
}

#[test]
fn a_directory_with_a_server_is_refused_to_everyone_else() {
    let (lake, _) = Lake::served().with_cities();
    let dir = lake.dir();
    let plain = |args: &[&str]| {
        let mut command = crate::support::program(lake.root());
        command.args(args).args(["--data-dir", &dir]);
        crate::support::Ran::of(command.output().expect("it starts"))
    };
    let message = format!("data directory {dir} is in use by another process");
    let hint = "a running server has it: say --connect http://127.0.0.1:7171 (the address that it \
                printed) instead of --data-dir, or stop it";
    let text = plain(&["dataset", "list"]);
    assert_eq!((text.code, text.out.as_str()), (Some(1), ""));
    assert!(text.err.starts_with(&format!("error: {message}\n")), "{}", text.err);
    assert!(text.err.ends_with(&format!("hint: {hint}\n")), "{}", text.err);
    let second = plain(&["serve", "--listen", "127.0.0.1:0", "-o", "json"]);
    assert_eq!(second.out, "", "no address is announced");
    assert_eq!(second.error(1)["message"], json!(message));
    assert_eq!(lake.cities(), cities(), "the server answers on");
}

#[test]
fn a_refused_directory_leaves_no_doubt_that_nothing_happened() {
    let (lake, _) = Lake::served().with_cities();
    let file = lake.file("more.csv", CITIES);
    let commands: [&[&str]; 4] =
        [&["dataset", "list"], &["append", "cities", &file], &["seal", "cities"], &["verify"]];
    for args in commands {
        let mut command = crate::support::program(lake.root());
        command.args(args).args(["--data-dir", &lake.dir(), "-o", "json"]);
        let ran = crate::support::Ran::of(command.output().expect("it starts"));
        let error = ran.error(1);
        assert_eq!(error["kind"], json!("UNAVAILABLE"));
        assert_eq!(error["ambiguous"], json!(false), "{args:?}: it was never opened");
    }
}
