//! A quick run of the real program: does it run and print its table. No figure is looked at.

use std::process::Command;

#[test]
fn a_quick_run_of_the_log_benchmark_prints_a_table() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium-bench"));
    command.args(["wal", "--quick", "--millis", "1", "--dir"]).arg(directory.path());
    let output = command.output().expect("it starts");
    let (text, told) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    for contender in ["Alluvium", "limit: bare loop", "limit: bare group commit"] {
        assert!(text.contains(&format!("| {contender} | yes | ")), "{contender} in {text}");
    }
    // A program that only `cargo xtask bench` builds: its row says so, and the run goes on.
    assert!(text.contains("| raft-engine | yes | "), "{text}");
    let left = std::fs::read_dir(directory.path()).expect("it is there").count();
    assert_eq!(left, 0, "the run removes what it made");
}
