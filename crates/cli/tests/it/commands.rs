//! Datasets and their care: what each command answers, and what is there afterwards.

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::formats::parquet_file;
use crate::support::{Lake, REGISTER, USER, index_of, parse};

/// Picks fields of an object.
fn pick(object: &Value, fields: &[&str]) -> Value {
    let pairs = fields.iter().map(|&field| (field.to_owned(), object[field].clone()));
    Value::Object(pairs.collect())
}

fn names(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn column(name: &str, data_type: &str, nullable: bool, id: u32) -> Value {
    json!({"name": name, "type": data_type, "nullable": nullable, "id": id})
}

#[test]
fn a_dataset_is_registered_once_and_then_listed_and_shown() {
    let lake = Lake::embedded();
    let first = lake.json(&REGISTER);
    assert_eq!(pick(&first, &["name", "existing"]), json!({"name": "cities", "existing": false}));
    let again = lake.json(&REGISTER);
    assert_eq!(again["existing"], json!(true));
    let identity = ["dataset_id", "incarnation", "schema_version"];
    assert_eq!(pick(&again, &identity), pick(&first, &identity));

    let shown = lake.json(&["dataset", "show", "cities"]);
    assert_eq!(pick(&shown, &identity), pick(&first, &identity));
    let columns = [
        column("id", "int64", false, 1),
        column("name", "utf8", true, 2),
        column("area", "float64", true, 3),
    ];
    assert_eq!(shown["columns"], json!(columns), "a key column is never NULL");
    assert_eq!(
        pick(&shown, &["key_columns", "files", "deltas", "delta_rows", "bucket"]),
        json!({
            "key_columns": ["id"], "files": 0, "deltas": 0, "delta_rows": 0, "bucket": "local"
        })
    );

    let listed = lake.json(&["dataset", "list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!(names(&listed[0]), names(&shown), "a list has what a dataset has");
    assert_eq!(pick(&listed[0], &identity), pick(&first, &identity));
    let before = (index_of(&first) - 1).to_string();
    assert_eq!(lake.json(&["dataset", "list", "--as-of", &before]), json!([]));
}

#[test]
fn a_dataset_takes_its_columns_from_a_file() {
    let lake = Lake::served();
    let id: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let name: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let batch = RecordBatch::try_from_iter([("id", id), ("name", name)]).expect("two columns");
    let text = "{\"id\": 1, \"tags\": [\"x\"], \"open\": true}\n";
    let files = [
        lake.file("a.csv", "id,when,share\n7,2024-05-01T10:00:00,0.5\n"),
        lake.file("b.parquet", parquet_file(&batch)),
        lake.file("c.ndjson", text),
    ];
    let expected = [
        vec![("id", "int64"), ("when", "timestamp(s)"), ("share", "float64")],
        vec![("id", "int32"), ("name", "utf8")],
        vec![("id", "int64"), ("tags", "list<utf8>"), ("open", "boolean")],
    ];
    for (file, expected) in files.iter().zip(expected) {
        let name = file.rsplit('/').next().expect("a name").replace('.', "_");
        let made = lake.json(&["dataset", "register", &name, "--schema-from", file, "--key", "id"]);
        assert_eq!(pick(&made, &["name", "existing"]), json!({"name": name, "existing": false}));
        let shown = lake.json(&["dataset", "show", &name]);
        assert_eq!(shown["key_columns"], json!(["id"]));
        let columns = shown["columns"].as_array().expect("columns").iter();
        let columns: Vec<Value> = columns.map(|c| pick(c, &["name", "type", "nullable"])).collect();
        // The key first; what a file says of the other columns is tested where files are read.
        assert_eq!(columns[0]["nullable"], json!(false), "{file}");
        let mut found: Vec<(&str, &str)> = columns
            .iter()
            .map(|c| (c["name"].as_str().expect("text"), c["type"].as_str().expect("text")))
            .collect();
        let mut expected = expected;
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{file}");
    }
}

#[test]
fn a_key_that_a_file_lets_be_null_is_told_of_and_one_that_is_null_is_refused() {
    let lake = Lake::served();
    let file = |name: &str, ids: Vec<Option<i32>>| {
        let id: ArrayRef = Arc::new(Int32Array::from(ids));
        let columns = [("id", id, true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("one column");
        lake.file(name, parquet_file(&batch))
    };
    let register = |name: &str, file: &str| {
        let from =
            ["dataset", "register", name, "--schema-from", file, "--key", "id", "-o", "json"];
        lake.run(&from)
    };
    let whole = file("whole.parquet", vec![Some(1), Some(2)]);
    let ran = register("whole", &whole);
    let told = format!(
        "column \"id\" may be NULL in {whole}, and never is: it becomes not-null, because it is part \
         of the key\n"
    );
    assert_eq!((ran.code, ran.err), (Some(0), told));
    assert_eq!(lake.json(&["dataset", "show", "whole"])["columns"][0]["nullable"], json!(false));
    let holed = file("holed.parquet", vec![Some(1), None]);
    let text = lake.file("holed.csv", "id,n\n1,1\n,2\n");
    for (file, place) in [(holed, "row 2"), (text, "line 3")] {
        let ran = register("holed", &file);
        assert_eq!(ran.out, "");
        let message = format!("{place}, column \"id\": no value, and a key column may not be NULL");
        assert_eq!(
            pick(&ran.error(1), &["kind", "message"]),
            json!({"kind": "FILE", "message": message})
        );
    }
    let text = lake.file("text.csv", "id,n\n1,1\n2,\n");
    assert_eq!(register("text", &text).err, "", "text says of no column that it may be NULL");
    let listed = lake.json(&["dataset", "list"]);
    let listed = listed.as_array().expect("datasets").iter();
    let names: Vec<_> = listed.map(|dataset| dataset["name"].clone()).collect();
    assert_eq!(names, ["text", "whole"]);
}

#[test]
fn columns_are_added_widened_renamed_and_dropped_in_one_step() {
    let lake = Lake::served();
    let columns = ["--column", "id:int64", "--column", "n:int32", "--column", "a:utf8"];
    let key = ["--column", "b:utf8", "--key", "id"];
    lake.json(&[&["dataset", "register", "t"], &columns[..], &key].concat());
    let file = lake.file("t.csv", "id,n,a,b\n1,5,x,y\n");
    lake.json(&["append", "t", &file]);
    let steps = ["--add", "c:date32", "--widen", "n:int64", "--rename", "a:city", "--drop", "b"];
    let evolved = lake.json(&[&["dataset", "evolve", "t"], &steps[..]].concat());
    assert_eq!((names(&evolved), &evolved["changes"]), (vec!["changes", "index"], &json!(4)));

    let shown = lake.json(&["dataset", "show", "t"]);
    let columns = [
        column("id", "int64", false, 1),
        column("n", "int64", true, 2),
        column("city", "utf8", true, 3),
        column("c", "date32", true, 5),
    ];
    assert_eq!(shown["columns"], json!(columns), "identities stay, and none is used twice");
    assert_eq!(shown["changed_at"], evolved["index"]);
    let file = lake.file("t2.csv", "id,n,city,c\n2,6000000000,z,2024-05-01\n");
    lake.json(&["append", "t", &file]);
    let expected = json!([
        {"id": 1, "n": 5, "city": "x", "c": null},
        {"id": 2, "n": 6_000_000_000_u64, "city": "z", "c": "2024-05-01"},
    ]);
    assert_eq!(lake.rows("SELECT * FROM t ORDER BY id"), expected);
    let before = (index_of(&evolved) - 1).to_string();
    let old = lake.json(&["sql", "SELECT * FROM t", "--as-of", &before]);
    assert_eq!(old["columns"], json!(["id", "n", "a", "b"]), "the past has its own columns");

    let error = lake.error(1, &["dataset", "evolve", "t", "--add", "d:utf8", "--drop", "id"]);
    assert_eq!(error["message"], json!("column \"id\" is part of the key"));
    let same = lake.json(&["dataset", "show", "t"]);
    assert_eq!(same["columns"], shown["columns"], "all steps or none");
}

#[test]
fn a_dataset_is_dropped_only_when_that_is_said_and_a_new_one_is_empty() {
    let (lake, _) = Lake::served().with_cities();
    let drop = ["dataset", "drop", "cities"];
    let error = lake.error(2, &drop);
    assert_eq!(error["message"], json!("dropping a dataset deletes its rows, files and history"));
    assert_eq!(error["hint"], json!("say --yes, or --dry-run to see what would be deleted"));
    let shown = lake.json(&["dataset", "drop", "cities", "--dry-run"]);
    assert_eq!(pick(&shown, &["name", "delta_rows"]), json!({"name": "cities", "delta_rows": 3}));
    assert_eq!(lake.ids(), [1, 2, 3], "nothing was dropped so far");

    let dropped = lake.json(&["dataset", "drop", "cities", "--yes"]);
    assert_eq!(names(&dropped), ["index"]);
    assert_eq!(lake.json(&["dataset", "list"]), json!([]));
    assert_eq!(lake.error(1, &drop)["kind"], json!("NOT_FOUND"));
    let anew = lake.json(&REGISTER);
    assert_eq!(
        pick(&anew, &["existing", "incarnation"]),
        json!({
            "existing": false, "incarnation": index_of(&anew)
        })
    );
    assert_eq!(lake.ids(), Vec::<i64>::new());
}

#[test]
fn rows_are_sealed_compacted_and_expired_and_stay_the_same() {
    let (lake, appended) = Lake::served().with_cities();
    let sealed = lake.json(&["seal", "cities"]);
    assert_eq!(names(&sealed), ["files", "index", "rows"]);
    assert_eq!((sealed["files"].as_array().map(Vec::len), &sealed["rows"]), (Some(1), &json!(3)));
    let again = lake.json(&["seal", "cities"]);
    assert_eq!(pick(&again, &["files", "rows"]), json!({"files": [], "rows": 0}));

    lake.json(&["tombstone", "cities", "--key", "2"]);
    let compacted = lake.json(&["compact", "cities"]);
    let counts = ["files_in", "files_out", "rows_in", "rows_hidden", "rows_out"];
    assert_eq!(
        pick(&compacted, &counts),
        json!({
            "files_in": 1, "files_out": 1, "rows_in": 3, "rows_hidden": 1, "rows_out": 2
        })
    );
    assert!(compacted["bytes_in"].as_u64() > Some(0) && compacted["bytes_out"].as_u64() > Some(0));
    let again = lake.json(&["compact", "cities"]);
    assert_eq!(
        pick(&again, &counts),
        json!({
            "files_in": 0, "files_out": 0, "rows_in": 0, "rows_hidden": 0, "rows_out": 0
        })
    );

    let at = ["--as-of", &appended.to_string()];
    let past = lake.json(&[&["sql", "SELECT count(*) AS n FROM cities"], &at[..]].concat());
    assert_eq!(past["rows"], json!([{"n": 3}]), "the past keeps what is hidden now");
    let expired = lake.json(&["expire", "cities"]);
    assert_eq!(names(&expired), ["index", "versions_pruned"]);
    assert!(expired["versions_pruned"].as_u64() > Some(0), "{expired}");
    let error = lake.error(1, &[&["sql", "SELECT * FROM cities"], &at[..]].concat());
    assert_eq!(error["kind"], json!("OUT_OF_RANGE"));
    assert_eq!(lake.ids(), [1, 3]);
    let shown = lake.json(&["dataset", "show", "cities"]);
    assert_eq!(
        pick(&shown, &["files", "file_rows", "deltas", "tombstones"]),
        json!({
            "files": 1, "file_rows": 2, "deltas": 0, "tombstones": 0
        })
    );
    assert!(shown["floor"].as_u64() > Some(appended));
}

#[test]
fn the_log_tells_who_did_what_in_order() {
    let (lake, appended) = Lake::served().with_cities();
    let hidden = lake.json(&["tombstone", "cities", "--where", "id = 2", "--actor", "Ada"]);
    let tail = lake.json(&["log", "tail", "-n", "3"]);
    let tail = tail.as_array().expect("records");
    let told: Vec<Value> = tail.iter().map(|r| pick(r, &["kind", "actor", "rows"])).collect();
    assert_eq!(
        told,
        [
            json!({"kind": "append", "actor": USER, "rows": 3}),
            json!({"kind": "open_session", "actor": "Ada", "rows": null}),
            json!({"kind": "tombstone", "actor": "Ada", "rows": 1}),
        ]
    );
    assert_eq!((&tail[0]["index"], &tail[2]["index"]), (&json!(appended), &hidden["index"]));
    assert_eq!(tail[2]["detail"], json!("where id = 2"));
    let session = format!("{}/1", tail[1]["index"]);
    assert_eq!(tail[2]["session"], json!(session), "its only command");

    let one = lake.json(&["log", "show", &appended.to_string()]);
    assert_eq!(one, tail[0], "one entry is told as in the list");
    let shown = lake.json(&["dataset", "show", "cities"]);
    let life = format!("{}@{}", shown["dataset_id"].as_str().expect("text"), shown["incarnation"]);
    assert_eq!(one["dataset"], json!(life));
    assert!(one["proposed_at_ms"].as_u64() > Some(1_700_000_000_000), "{one}");
    let lines = lake.run(&["log", "tail", "-n", "2", "-o", "jsonl"]).ok();
    let lines: Vec<Value> = lines.lines().map(parse).collect();
    assert_eq!(lines, tail[1..], "the last ones, the newest last");
    let beyond = (index_of(&hidden) + 1).to_string();
    let error = lake.error(1, &["log", "show", &beyond]);
    let message = format!("the log has no entry at index {beyond}");
    assert_eq!(
        pick(&error, &["kind", "message"]),
        json!({"kind": "NOT_FOUND", "message": message})
    );
}

#[test]
fn a_sound_directory_is_verified_and_its_status_agrees() {
    let (lake, _) = Lake::embedded().with_cities();
    lake.json(&["seal", "cities"]);
    let report = lake.json(&["verify"]);
    assert_eq!(
        pick(&report, &["files", "rows", "damage", "notices"]),
        json!({
            "files": 1, "rows": 3, "damage": [], "notices": []
        })
    );
    assert_eq!(lake.json(&["verify"]), report, "looking adds no entry");
    assert_eq!(report["digest_kept"], report["digest_recomputed"]);
    assert!(report["entries"].as_u64() > Some(3), "{report}");
    let status = lake.json(&["status"]);
    let told = [
        "applied",
        "cluster_id",
        "committed",
        "datasets",
        "digest",
        "durable",
        "job_errors",
        "jobs",
        "leader",
        "log_bytes",
        "log_first",
        "log_last",
        "node_id",
        "snapshot",
        "term",
        "version",
    ];
    let missing: Vec<_> = told.iter().filter(|field| !names(&status).contains(field)).collect();
    assert_eq!(missing, Vec::<&&str>::new());
    let plain = ["datasets", "jobs", "job_errors", "node_id", "leader", "version"];
    assert_eq!(
        pick(&status, &plain),
        json!({
            "datasets": 1, "jobs": 0, "job_errors": [], "node_id": 1, "leader": 1,
            "version": env!("CARGO_PKG_VERSION"),
        })
    );
    assert_eq!(status["applied"], status["committed"]);
    assert!(index_of(&report) <= status["applied"].as_u64().expect("a number"));
}
