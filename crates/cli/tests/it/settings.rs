//! Settings from flags, the environment and a file; exit codes of a wrong command line; addresses.

use std::net::TcpListener;
use std::process::Command;

use serde_json::json;

use crate::support::{Lake, REGISTER, Ran, parse, program};

fn run(command: &mut Command) -> Ran {
    Ran::of(command.output().expect("it starts"))
}

#[test]
fn a_wrong_command_line_ends_with_two_and_help_with_zero() {
    let lake = Lake::embedded();
    let code = |args: &[&str]| run(program(lake.root()).args(args)).code;
    for wrong in [
        &[][..],
        &["nonsense"],
        &["dataset", "register", "t"],
        &["tombstone", "t"],
        &["tombstone", "t", "--key", "1", "--where", "true"],
        &["status", "-o", "xml"],
        &["status", "--data-dir", "x", "--connect", "http://127.0.0.1:1"],
    ] {
        assert_eq!(code(wrong), Some(2), "{wrong:?}");
    }
    assert_eq!((code(&["--help"]), code(&["append", "--help"])), (Some(0), Some(0)));
    let version = run(program(lake.root()).args(["version", "-o", "json"])).json();
    assert_eq!(version, json!({"version": env!("CARGO_PKG_VERSION")}));
}

#[test]
fn a_value_that_cannot_be_is_refused_with_what_can_be() {
    let lake = Lake::embedded();
    let cases = [
        ("--query-memory", "much", "\"much\" is not a number of bytes", "a number with B, KiB"),
        ("--statement-timeout", "0", "\"0\" is not a time", "a number with ms, s, m or h"),
        ("--connect", "localhost:7171", "\"localhost:7171\" is not the URL of a server", "http://"),
        ("--config", "nope.toml", "there is no file nope.toml", ""),
    ];
    for (flag, value, message, hint) in cases {
        let ran = run(program(lake.root()).args(["status", "-o", "json", flag, value]));
        let error = ran.error(2);
        assert_eq!((&error["kind"], &error["message"]), (&json!("USAGE"), &json!(message)));
        assert!(error["hint"].as_str().unwrap_or_default().contains(hint), "{error}");
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let lake = Lake::embedded();
    lake.json(&REGISTER);
    let text = format!("data_dir = {:?}\noutput = \"json\"\n", lake.dir());
    let file = lake.file("settings.toml", &text);
    let list = ["dataset", "list", "--config", &file];
    let listed = run(program(lake.root()).args(list)).json();
    assert_eq!(listed[0]["name"], json!("cities"), "directory and format are the file's");
    let names = |text: &str| text.starts_with("name,schema_version,");
    let ran = run(program(lake.root()).args(list).env("ALLUVIUM_OUTPUT", "csv"));
    assert!(names(&ran.ok()));
    let ran =
        run(program(lake.root()).args(list).args(["-o", "csv"]).env("ALLUVIUM_OUTPUT", "json"));
    assert!(names(&ran.ok()));
    let mut command = program(lake.root());
    command.args(["dataset", "list", "-o", "csv"]).env("ALLUVIUM_DATA_DIR", lake.dir());
    assert!(names(&run(&mut command).ok()));
}

#[test]
fn a_typo_in_the_file_is_named_with_what_was_meant() {
    let lake = Lake::embedded();
    let file = lake.file("settings.toml", "ouput = \"json\"\n");
    let ran = run(program(lake.root()).args(["version", "--config", &file]));
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    let message = "settings.toml has a key \"ouput\" that does not exist\n";
    assert!(ran.err.contains(message), "{}", ran.err);
    assert!(ran.err.ends_with("hint: did you mean \"output\"?\n"), "{}", ran.err);
}

#[test]
fn who_asks_is_a_setting_like_every_other() {
    let lake = Lake::embedded();
    let mut command = lake.command(&REGISTER);
    run(command.env("ALLUVIUM_ACTOR", "Ada")).ok();
    let log = lake.json(&["log", "tail"]);
    let mut records = log.as_array().expect("records").iter();
    let registered = records.find(|record| record["kind"] == json!("register"));
    assert_eq!(registered.expect("it is in the log")["actor"], json!("Ada"));
}

#[test]
fn a_directory_may_be_called_a_number() {
    let lake = Lake::embedded();
    let mut command = program(lake.root());
    command.args(REGISTER).args(["-o", "json"]).env("ALLUVIUM_DATA_DIR", "2024");
    assert_eq!(run(&mut command).json()["name"], json!("cities"));
    assert!(lake.root().join("2024").is_dir());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a port must be taken by somebody else")]
fn a_server_refuses_an_address_that_is_exposed_taken_or_none() {
    let lake = Lake::embedded();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken =
        taken.local_addr().map(|address| (taken, address.to_string())).expect("its address");
    let serve =
        |listen: &str| run(lake.command(&["serve", "-o", "json"]).args(["--listen", listen]));
    let ran = serve("0.0.0.0:0");
    let error = ran.error(2);
    let message = "0.0.0.0:0 is reachable from other machines, and this server checks nobody";
    assert_eq!(error["message"], json!(message));
    let ran = serve(&taken.1);
    let error = ran.error(1);
    assert_eq!(error["hint"], json!("choose another port, or 0 for any"));
    let message = error["message"].as_str().expect("text");
    assert!(message.starts_with(&format!("cannot listen on {}", taken.1)), "{message}");
    let error = serve("here").error(2);
    assert_eq!(error["message"], json!("\"here\" is not an address to listen on"));
    let ran = run(program(lake.root()).args(["serve", "-o", "json"]));
    assert_eq!(ran.error(2)["message"], json!("a server needs a directory"));
    assert!(!std::path::Path::new(&lake.dir()).exists(), "none of them made the directory");
}

#[test]
fn an_error_comes_in_the_format_that_results_come_in() {
    let lake = Lake::embedded();
    lake.json(&REGISTER);
    let ran = lake.run(&["seal", "nope", "-o", "jsonl"]);
    assert_eq!(parse(&ran.err)["error"]["kind"], json!("NOT_FOUND"));
    for format in ["table", "csv"] {
        let ran = lake.run(&["seal", "nope", "-o", format]);
        assert_eq!(ran.err, "error: dataset \"nope\" does not exist\n", "{format}");
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    }
}
