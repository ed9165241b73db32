//! Which contenders were measured.
//!
//! It must not fail: what cannot be told is called unknown.

use std::process::Command;

use alluvium_bench_kit::machine::UNKNOWN;

/// Returns the version of etcd that is installed.
pub(crate) fn versions() -> [(&'static str, String); 1] {
    let output = Command::new("etcd").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "));
    [("etcd", version.unwrap_or(UNKNOWN).to_owned())]
}
