//! Which contenders were measured, and how the run was scheduled.
//!
//! It must not fail: what cannot be told is called unknown.

use std::process::Command;

use alluvium_bench_kit::machine::UNKNOWN;

use crate::contest::python;

const LIBRARIES: [&str; 4] = ["deltalake", "duckdb", "polars", "pyarrow"];

/// Returns the priority of this process, and the versions of compiler and peers.
pub(crate) fn versions() -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("priority", priority()),
        ("rustc", output("rustc", &["--version"])),
        ("raft-engine", locked("raft-engine")),
    ];
    let versions = libraries();
    let unknown = || UNKNOWN.to_owned();
    for library in LIBRARIES {
        let prefix = format!("{library} ");
        let version = versions.lines().find_map(|line| line.strip_prefix(prefix.as_str()));
        lines.push((library, version.map_or_else(unknown, str::to_owned)));
    }
    lines
}

/// Says how the run is scheduled: on a busy machine that is what the figures depend on.
fn priority() -> String {
    let status = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces; the fields behind it do not.
    let fields: Vec<&str> = status.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(UNKNOWN);
    let (nice, policy) = (field(19), field(41));
    match policy {
        "0" => format!("nice {nice}"),
        _ => format!("scheduling policy {policy}, before all ordinary work"),
    }
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| UNKNOWN.to_owned())
}

fn libraries() -> String {
    let script = format!(
        "import importlib.metadata as m\nfor n in {LIBRARIES:?}:\n  try: print(n, m.version(n))\n  \
         except m.PackageNotFoundError: pass"
    );
    output(&python().to_string_lossy(), &["-c", &script])
}

/// Returns the version that the peer's Cargo.lock pins.
fn locked(package: &str) -> String {
    let lock = include_str!("../peers/raft-engine/Cargo.lock");
    let mark = format!("name = \"{package}\"\nversion = \"");
    let rest = lock.split_once(&mark).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split('"').next()).unwrap_or(UNKNOWN).to_owned()
}
