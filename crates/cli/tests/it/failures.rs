//! What goes wrong: exit code, message, hint and kind, the same with and without a server, and no row
//! changed by it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use serde_json::{Value, json};

use crate::formats::parquet_file;
use crate::support::{Lake, Ran, cities, program};

/// Checks what a command that must fail says, as JSON.
#[track_caller]
fn check(lake: &Lake, args: &[&str], kind: &str, message: &str, hint: Option<&str>) {
    let code = if kind == "USAGE" { 2 } else { 1 };
    let error = lake.error(code, args);
    let expected = json!({"kind": kind, "message": message, "hint": hint, "ambiguous": false});
    assert_eq!(error, expected, "{args:?}");
}

/// Checks that a file is refused by append and upsert, and that no row of it is there.
#[track_caller]
fn check_file(
    lake: &Lake,
    name: &str,
    content: impl AsRef<[u8]>,
    message: &str,
    hint: Option<&str>,
) {
    let file = lake.file(name, content);
    check(lake, &["append", "cities", &file], "FILE", message, hint);
    check(lake, &["upsert", "cities", &file], "FILE", message, hint);
}

#[test]
fn a_dataset_that_is_not_there_is_named() {
    for lake in Lake::both() {
        let (lake, _) = lake.with_cities();
        let file = lake.file("more.csv", "id\n4\n");
        let message = "dataset \"nope\" does not exist";
        let commands: [&[&str]; 6] = [
            &["dataset", "show", "nope"],
            &["append", "nope", &file],
            &["tombstone", "nope", "--key", "1"],
            &["seal", "nope"],
            &["expire", "nope"],
            &["dataset", "evolve", "nope", "--add", "x:utf8"],
        ];
        for command in commands {
            check(&lake, command, "NOT_FOUND", message, None);
        }
        let message = "dataset \"Cities\" does not exist";
        let hint = Some("a dataset named \"cities\" exists");
        check(&lake, &["append", "Cities", &file], "NOT_FOUND", message, hint);
        let text = lake.run(&["append", "Cities", &file]);
        let expected = format!("error: {message}\nhint: a dataset named \"cities\" exists\n");
        assert_eq!((text.code, text.out.as_str(), text.err), (Some(1), "", expected));
    }
}

#[test]
fn a_name_that_is_taken_by_other_columns_is_a_conflict() {
    for lake in Lake::both() {
        let (lake, _) = lake.with_cities();
        let other = ["dataset", "register", "cities", "--column", "id:int64", "--key", "id"];
        let message = "dataset \"cities\" exists with another schema or other options; evolve it, or \
                       choose another name";
        let hint = Some("compare with `alluvium dataset show cities`");
        check(&lake, &other, "CONFLICT", message, hint);
        assert_eq!(lake.cities(), cities(), "columns and rows are as they were");
    }
}

#[test]
fn a_schema_that_cannot_be_is_refused_and_nothing_is_registered() {
    let lake = Lake::served();
    let refused = |columns: &[&str], kind: &str, words: &str| {
        let error = lake.error(
            if kind == "USAGE" { 2 } else { 1 },
            &[&["dataset", "register", "t"], columns].concat(),
        );
        let message = error["message"].as_str().expect("text");
        assert!(message.contains(words), "{columns:?}: {message}");
        assert_eq!((&error["kind"], &error["ambiguous"]), (&json!(kind), &json!(false)));
    };
    let invalid = "INVALID_ARGUMENT";
    refused(&["--column", "id"], "USAGE", "\"id\" is not a column");
    refused(&["--column", "id:complex"], "USAGE", "\"complex\" is not a type");
    refused(&["--column", "a:utf8", "--key", "b"], invalid, "key column \"b\"");
    refused(&["--column", "a:float64", "--key", "a"], invalid, "no exact equality");
    refused(&["--column", "a:utf8", "--column", "A:utf8"], invalid, "twice");
    let name = ["dataset", "register", "../t", "--column", "a:utf8"];
    let error = lake.error(1, &name);
    assert_eq!(error["kind"], json!(invalid));
    assert_eq!(lake.json(&["dataset", "list"]), json!([]));
}

#[test]
fn a_bad_csv_file_is_refused_by_line_and_column() {
    for lake in Lake::both() {
        let (lake, _) = lake.with_cities();
        let quoted = Some("a field that contains the separator must be quoted");
        let ragged = "id,name,area\n4,Ulm,1\n5,Köln, am Rhein,2\n";
        check_file(&lake, "a.csv", ragged, "line 3: 4 fields, the header has 3", quoted);
        let utf8 = Some("convert the file to UTF-8, for example with iconv");
        let latin = b"id,name\n4,Ulm\n5,K\xf6ln\n";
        check_file(&lake, "b.csv", latin, "line 3, column \"name\": not valid UTF-8", utf8);
        let typed = "id,area\n4,1.5\n5,large\n";
        check_file(
            &lake,
            "c.csv",
            typed,
            "line 3, column \"area\": \"large\" is not float64",
            None,
        );
        assert_eq!(lake.cities(), cities(), "a file is appended whole or not at all");
    }
}

#[test]
fn a_bad_row_far_down_a_file_leaves_none_of_the_rows_before_it() {
    for lake in Lake::both() {
        let (lake, _) = lake.with_cities();
        let mut text = "id,name,area\n".to_owned();
        text.extend((100..20_100).map(|id| format!("{id},a,1\n")));
        text.push_str("x,b,2\n");
        let message = "line 20002, column \"id\": \"x\" is not int64";
        let file = lake.file("far.csv", &text);
        check(&lake, &["append", "cities", &file], "FILE", message, None);
        let ran = lake.run_with(&["append", "cities", "-", "-o", "json"], text.as_bytes());
        assert_eq!(ran.error(1)["message"], json!(message));
        assert_eq!(lake.cities(), cities());
    }
}

#[test]
fn other_bad_files_are_refused_by_their_place() {
    for lake in Lake::both() {
        let (lake, _) = lake.with_cities();
        let whole = Some("NDJSON has one whole JSON object a line");
        let message = "line 2, character 8: not valid JSON: expected value";
        check_file(&lake, "a.ndjson", "{\"id\": 4}\n{\"id\": }\n", message, whole);
        let message = "line 1, column \"id\": \"4\" is not int64";
        check_file(&lake, "b.ndjson", "{\"id\": \"4\"}\n", message, None);
        let id: ArrayRef = Arc::new(StringArray::from(vec!["4"]));
        let batch = RecordBatch::try_from_iter([("id", id)]).expect("one column");
        let message = "row 1: column \"id\" has type Utf8, the schema says int64";
        check_file(&lake, "c.parquet", parquet_file(&batch), message, None);
        assert_eq!(lake.cities(), cities());
    }
}

#[test]
fn a_file_that_is_no_file_is_refused_by_name() {
    let (lake, _) = Lake::served().with_cities();
    let missing = lake.root().join("nope.csv").display().to_string();
    let message = format!("cannot open {missing}: No such file or directory (os error 2)");
    check(&lake, &["append", "cities", &missing], "FILE", &message, None);
    let empty = lake.file("empty.csv", "");
    let message = format!("{empty} is empty");
    check(&lake, &["append", "cities", &empty], "FILE", &message, None);
    let ran = lake.run_with(&["append", "cities", "-", "-o", "json"], b"PAR1 and so on PAR1");
    let message = "Parquet cannot be read from standard input: its index is at the end of the file";
    let error = ran.error(1);
    assert_eq!(error["message"], json!(message));
    assert_eq!(error["hint"], json!("give the file's path, or pipe an Arrow IPC stream"));
    let missing = lake.root().join("nope.sql").display().to_string();
    let message = format!("cannot read {missing}: No such file or directory (os error 2)");
    check(&lake, &["sql", "-f", &missing], "IO", &message, None);
}

#[test]
fn a_dataset_without_a_key_takes_no_command_that_needs_one() {
    for lake in Lake::both() {
        lake.json(&["dataset", "register", "plain", "--column", "id:int64"]);
        let file = lake.file("plain.csv", "id\n1\n2\n");
        lake.json(&["append", "plain", &file]);
        let commands: [&[&str]; 3] = [
            &["upsert", "plain", &file],
            &["tombstone", "plain", "--where", "id = 1"],
            &["tombstone", "plain", "--keys-from", &file],
        ];
        for command in commands {
            let ran = lake.run(&[command, &["-o", "json"]].concat());
            let error = ran.error(ran.code.expect("it ended by itself"));
            let message = error["message"].as_str().expect("text");
            assert!(
                ran.code != Some(0) && message.contains("no key columns"),
                "{command:?}: {message}"
            );
            assert_eq!(error["ambiguous"], json!(false));
        }
        assert_eq!(lake.rows("SELECT id FROM plain ORDER BY id"), json!([{"id": 1}, {"id": 2}]));
    }
}

#[test]
fn a_typed_key_for_a_dataset_without_one_is_not_blamed_on_its_commas() {
    let lake = Lake::served();
    lake.json(&["dataset", "register", "plain", "--column", "id:int64"]);
    let ran = lake.run(&["tombstone", "plain", "--key", "1", "-o", "json"]);
    let error = ran.error(ran.code.expect("it ended by itself"));
    let message = error["message"].as_str().expect("text");
    assert!(ran.code != Some(0) && message.contains("no key columns"), "{message}");
    let hint = error["hint"].as_str().unwrap_or_default();
    assert!(!hint.contains("comma"), "{hint}");
}

#[test]
fn a_key_that_is_none_is_refused() {
    for lake in Lake::both() {
        let (lake, _) = lake.with_cities();
        let message = "key column \"id\": \"x\" is no int64";
        check(&lake, &["tombstone", "cities", "--key", "x"], "INVALID_ARGUMENT", message, None);
        let message = "the key has 1 columns, \"1,2\" has 2 values";
        let hint = Some("a value with a comma stands in quotes");
        check(&lake, &["tombstone", "cities", "--key", "1,2"], "USAGE", message, hint);
        let twice = lake.file("twice.csv", "id\n4\n4\n");
        let error = lake.error(1, &["upsert", "cities", &twice]);
        let message = error["message"].as_str().expect("text");
        assert_eq!(message, "the same key occurs twice in one upsert, in rows 1 and 2");
        let error = lake.error(1, &["tombstone", "cities", "--where", "id = (SELECT 1)"]);
        assert_eq!(error["message"], json!("the predicate is refused: subqueries are not allowed"));
        assert_eq!(lake.cities(), cities());
    }
}

#[test]
fn a_directory_that_is_not_there_is_not_made_by_asking_for_rows() {
    let lake = Lake::embedded();
    let message = format!("there is no data directory {}", lake.dir());
    let hint = Some("`alluvium serve` and `alluvium dataset register` make one");
    let commands: [&[&str]; 4] =
        [&["sql", "SELECT 1"], &["dataset", "list"], &["status"], &["seal", "cities"]];
    for command in commands {
        check(&lake, command, "USAGE", &message, hint);
    }
    assert!(!Path::new(&lake.dir()).exists());
    let ran = Ran::of(program(lake.root()).args(["status"]).output().expect("it starts"));
    let expected = "error: where? neither a directory nor a server was named\n\
                    hint: say --data-dir DIR or --connect URL, or set ALLUVIUM_CONNECT\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(2), expected));
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let lake = Lake::embedded();
    lake.file("thesis.tex", "years of work");
    let dir = lake.root().display().to_string();
    let mut command = program(lake.root());
    command.args(["dataset", "list", "-o", "json", "--data-dir", &dir]);
    let ran = Ran::of(command.output().expect("it starts"));
    let error = ran.error(1);
    let message = format!("{dir} is not a data directory and not empty: it holds \"thesis.tex\"");
    assert_eq!((&error["kind"], &error["message"]), (&json!("INVALID_ARGUMENT"), &json!(message)));
    let mut text = String::new();
    let mut file = File::open(lake.root().join("thesis.tex")).expect("it is there");
    file.read_to_string(&mut text).expect("it reads");
    assert_eq!(text, "years of work");
}

/// A port of this machine on which nothing listens: nobody has served TCPMUX for decades.
const NOBODY: &str = "http://127.0.0.1:1";

fn ask_nobody(args: &[&str]) -> Value {
    let home = tempfile::tempdir().expect("temporary directory");
    let mut command = program(home.path());
    command.args(args).args(["-o", "json", "--connect", NOBODY]);
    Ran::of(command.output().expect("it starts")).error(1)
}

#[test]
fn a_server_that_is_not_there_is_not_waited_for_by_a_read() {
    for args in [&["dataset", "list"][..], &["sql", "SELECT 1"], &["status"]] {
        let error = ask_nobody(args);
        assert_eq!((&error["kind"], &error["ambiguous"]), (&json!("UNAVAILABLE"), &json!(false)));
        assert_eq!(error["hint"], json!("is the server running, and at this address?"));
        let message = error["message"].as_str().expect("text");
        assert!(message.starts_with("the connection failed: "), "{message}");
        assert!(message.contains("Connection refused"), "{message}");
    }
}

#[test]
fn a_write_that_reached_no_server_leaves_no_doubt() {
    for args in [
        &["dataset", "register", "t", "--column", "id:int64"][..],
        &["dataset", "evolve", "t", "--add", "x:utf8"],
        &["seal", "t"],
    ] {
        let error = ask_nobody(args);
        assert_eq!(error["kind"], json!("UNAVAILABLE"));
        assert_eq!(error["ambiguous"], json!(false), "{args:?}: nobody took the connection");
    }
}

/// Returns the data files below a directory.
fn data_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn damage_is_found_named_and_never_read_as_rows() {
    let (lake, _) = Lake::embedded().with_cities();
    lake.json(&["seal", "cities"]);
    let files = data_files(Path::new(&lake.dir()));
    assert_eq!(files.len(), 1, "{files:?}");
    flip_a_bit(&files[0]);
    let ran = lake.run(&["verify", "-o", "json"]);
    let error = ran.error(1);
    assert_eq!((&error["kind"], &error["ambiguous"]), (&json!("CORRUPT"), &json!(false)));
    let message = error["message"].as_str().expect("text");
    assert!(message.starts_with("1 thing is wrong: cities: "), "{message}");
    let report = crate::support::parse(&ran.out);
    let damage = report["damage"].as_array().expect("a list");
    assert_eq!(damage.len(), 1, "the report comes out all the same: {report}");
    assert!(damage[0].as_str().is_some_and(|what| what.starts_with("cities: ")), "{report}");
    let ran = lake.run(&["sql", "SELECT id, name, area FROM cities", "-o", "jsonl"]);
    assert_eq!((ran.out.as_str(), &ran.error(1)["kind"]), ("", &json!("CORRUPT")));
}

/// Flips a bit of the first column's values, right behind the magic number.
fn flip_a_bit(path: &Path) {
    flip_a_bit_at(path, 24);
}

pub(crate) fn flip_a_bit_at(path: &Path, at: u64) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).expect("it opens");
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut byte)).expect("it reads");
    byte[0] ^= 1;
    file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&byte)).expect("it writes");
}
