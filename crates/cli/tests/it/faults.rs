//! A server whose directory fails it: what it says, its exit code, and what is there afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Lake, Ran, parse, program};

/// The syncs of a server that fail, one in each run; the first ones are made while it opens its directory.
const FAILED_SYNCS: [&str; 3] = ["30", "37", "44"];

/// Compiles the library that makes one sync of a process fail, as the fault tests do.
#[expect(clippy::disallowed_methods, reason = "a file for the compiler need not be durable")]
fn shim(into: &Path) -> PathBuf {
    let (source, library) = (into.join("shim.c"), into.join("shim.so"));
    std::fs::write(&source, include_str!("../../../../tests/fault/shim.c")).expect("writes");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl");
    let compiled = Ran::of(compiler.output().expect("a C compiler"));
    assert_eq!(compiled.code, Some(0), "{}", compiled.err);
    library
}

/// Returns the error that a server ended with: the last line of its log.
fn last_error(log: &str) -> Value {
    parse(log.lines().last().expect("it said why"))["error"].clone()
}

#[test]
fn a_server_whose_log_cannot_be_synced_ends_with_code_1_and_loses_nothing_that_it_acknowledged() {
    let mut log_syncs_failed = 0;
    for sync in FAILED_SYNCS {
        let (mut lake, _) = Lake::embedded().with_cities();
        let library = shim(lake.root());
        let (dir, mode) = (lake.dir(), format!("sync-error:{sync}"));
        lake.start_server_under(&[
            ("LD_PRELOAD", library.as_path()),
            ("ALLUVIUM_FAULT", Path::new(&mode)),
            ("ALLUVIUM_FAULT_DIR", Path::new(&dir)),
        ]);
        let mut acknowledged = vec![1, 2, 3];
        let refused = loop {
            let id = acknowledged.len() as i64 + 1;
            assert!(id < 100, "sync {sync}: a hundred appends, and no sync failed");
            let file = lake.file("one.csv", format!("id,name\n{id},city {id}\n"));
            let ran = lake.run(&["append", "cities", &file, "-o", "json"]);
            if ran.code != Some(0) {
                break ran;
            }
            acknowledged.push(id);
        };
        let error = refused.error(1);
        assert_eq!((&error["kind"], refused.out.as_str()), (&json!("UNAVAILABLE"), ""), "{sync}");
        let (code, out, log) = lake.server().ended();
        let segment = format!("failed {dir}/wal/segment-");
        log_syncs_failed += usize::from(out.contains(&segment));
        assert_eq!(code, Some(1), "sync {sync}, {out}: {log}");
        let error = last_error(&log);
        assert_eq!((&error["kind"], &error["ambiguous"]), (&json!("UNAVAILABLE"), &json!(false)));
        let message = error["message"].as_str().expect("text");
        assert!(message.starts_with("the node stopped by itself: "), "{message}");
        assert_eq!(error["hint"], json!("start it again: it recovers from its directory"));
        // The refused row may be there: its caller was told that nobody knows.
        lake.start_server();
        let mut found = lake.ids();
        found.retain(|id| *id != acknowledged.len() as i64 + 1);
        assert_eq!(found, acknowledged, "sync {sync}");
    }
    assert!(0 < log_syncs_failed, "no sync of the log failed");
}

#[test]
fn a_server_on_a_damaged_log_ends_with_code_1_and_announces_no_address() {
    let (lake, _) = Lake::embedded().with_cities();
    lake.json(&["seal", "cities"]);
    let wal = Path::new(&lake.dir()).join("wal");
    let files =
        std::fs::read_dir(&wal).expect("a log").map(|entry| entry.expect("an entry").path());
    let is_first = |path: &PathBuf| path.to_string_lossy().contains("segment-");
    let segment = files.filter(is_first).min().expect("a segment");
    // Behind the segment's header: the first record, which everything else vouches for.
    crate::failures::flip_a_bit_at(&segment, 4096 + 130);
    let before = std::fs::read(&segment).expect("readable");
    let mut command = program(lake.root());
    let dir = lake.dir();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir", &dir, "-o", "json"]);
    let ran = Ran::of(command.output().expect("it starts"));
    assert_eq!(ran.out, "", "no address is announced");
    let error = ran.error(1);
    assert_eq!((&error["kind"], &error["ambiguous"]), (&json!("CORRUPT"), &json!(false)));
    let message = error["message"].as_str().expect("text");
    let named = message.contains("segment 1 is damaged at offset 4224");
    assert!(named, "segment and offset: {message}");
    assert_eq!(std::fs::read(&segment).expect("readable"), before, "not a byte was changed");
}
