//! `--expected-index`: every command that writes does so only if the dataset is as its caller saw it.

use serde_json::{Value, json};

use crate::support::{CITIES, Lake, REGISTER, cities, index_of};

/// Everything that a write could change.
fn state(lake: &Lake) -> (Value, Value) {
    let mut shown = lake.json(&["dataset", "show", "cities"]);
    // Where it was read, and what the log grew by: a refusal is an entry as well.
    shown.as_object_mut().expect("an object").remove("index");
    (shown, lake.cities())
}

fn changed_at(lake: &Lake) -> u64 {
    lake.json(&["dataset", "show", "cities"])["changed_at"].as_u64().expect("a number")
}

/// Runs a command under a condition that no longer holds: it is refused and says why.
#[track_caller]
fn refused(lake: &Lake, (stale, actual): (u64, u64), command: &[&str]) {
    let condition = stale.to_string();
    let error = lake.error(1, &[command, &["--expected-index", &condition]].concat());
    let expected = json!({
        "kind": "PRECONDITION",
        "message": format!("the dataset last changed at index {actual}, not at {stale}"),
        "hint": "read the dataset again, then decide",
        "ambiguous": false,
    });
    assert_eq!(error, expected, "{command:?}");
}

/// Runs a command under the condition that the dataset is as it was just seen.
#[track_caller]
fn holds(lake: &Lake, command: &[&str]) -> Value {
    let seen = changed_at(lake).to_string();
    lake.json(&[command, &["--expected-index", &seen]].concat())
}

#[test]
fn every_write_is_refused_when_the_dataset_changed_since_it_was_seen() {
    for lake in Lake::both() {
        let (lake, appended) = lake.with_cities();
        let before = state(&lake);
        let (file, key) = (lake.file("more.csv", CITIES), lake.file("keys.csv", "id\n1\n"));
        let commands: [&[&str]; 14] = [
            &REGISTER,
            &["dataset", "evolve", "cities", "--add", "x:utf8"],
            &["dataset", "drop", "cities", "--yes"],
            &["dataset", "drop", "cities", "--dry-run"],
            &["append", "cities", &file],
            &["upsert", "cities", &file],
            &["tombstone", "cities", "--key", "1"],
            &["tombstone", "cities", "--keys-from", &key],
            &["tombstone", "cities", "--where", "id = 1"],
            &["tombstone", "cities", "--where", "id = 17"],
            &["tombstone", "cities", "--key", "1", "--dry-run"],
            &["seal", "cities"],
            &["compact", "cities"],
            &["expire", "cities"],
        ];
        for command in commands {
            refused(&lake, (appended - 1, appended), command);
        }
        assert_eq!(state(&lake), before, "nothing was changed");
        assert_eq!(lake.cities(), cities());
    }
}

#[test]
fn every_write_is_done_when_the_dataset_is_as_it_was_seen() {
    for lake in Lake::both() {
        let first = lake.json(&[&REGISTER[..], &["--expected-index", "0"]].concat());
        assert_eq!(first["existing"], json!(false), "zero: there was none");
        assert_eq!(holds(&lake, &REGISTER)["existing"], json!(true));
        refused(&lake, (0, index_of(&first)), &REGISTER);
        let file = lake.file("cities.csv", CITIES);
        assert_eq!(holds(&lake, &["append", "cities", &file])["rows"], json!(3));
        assert_eq!(holds(&lake, &["upsert", "cities", &file])["rows"], json!(3));
        assert_eq!(holds(&lake, &["seal", "cities"])["rows"], json!(6), "hidden ones included");
        assert_eq!(holds(&lake, &["dataset", "evolve", "cities", "--add", "x:utf8"])["changes"], 1);
        assert_eq!(holds(&lake, &["tombstone", "cities", "--key", "2"])["keys"], json!(1));
        let compacted = holds(&lake, &["compact", "cities"]);
        assert_eq!(compacted["rows_out"], json!(2), "its own seal is no change of the dataset");
        let expired = holds(&lake, &["expire", "cities"]);
        assert!(index_of(&compacted) < index_of(&expired));
        assert_eq!(lake.ids(), [1, 3]);
        holds(&lake, &["dataset", "drop", "cities", "--yes"]);
        assert_eq!(lake.json(&["dataset", "list"]), json!([]));
    }
}

#[test]
fn a_compaction_without_work_is_refused_all_the_same() {
    for lake in Lake::both() {
        let (lake, appended) = lake.with_cities();
        lake.json(&["seal", "cities"]);
        assert_eq!(lake.json(&["compact", "cities"])["files_in"], json!(0), "nothing to do");
        refused(&lake, (appended - 1, appended), &["compact", "cities"]);
        refused(&lake, (appended + 1, appended), &["seal", "cities"]);
        assert_eq!(holds(&lake, &["compact", "cities"])["files_in"], json!(0));
        assert_eq!(holds(&lake, &["seal", "cities"])["rows"], json!(0));
    }
}
