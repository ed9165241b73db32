//! Brings a machine that has only Rust to where the demonstration and the tests can run.
//!
//! It says what it installs and why before it does, installs nothing that is already there, and must not
//! ask for a password where nobody can answer. Invariant: on success everything asked for is present; on
//! failure the message holds the exact command to run by hand.

use crate::{child, ui};
use anyhow::{Context as _, Result, bail, ensure};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const NEXTEST_VERSION: &str = "0.9.143";

/// Readers of Parquet and a server of S3 that are not ours: the interoperability tests compare against them.
const PYTHON_PINS: [(&str, &str); 4] =
    [("pyarrow", "26.0.1"), ("polars", "2.1.0"), ("duckdb", "2.0.0"), ("moto[server]", "5.2.5")];

/// Peers that only the benchmarks measure against; they live in the same environment.
const BENCH_PINS: [(&str, &str); 1] = [("deltalake", "1.6.6")];

/// A Debian package, why it is needed, and how to see that it is there.
struct Need {
    package: &'static str,
    reason: &'static str,
    is_present: fn() -> bool,
}

const CXX: Need = Need {
    package: "g++",
    reason: "RocksDB is written in C++",
    is_present: || child::probe("c++", &["--version"]).is_some(),
};
const LIBCLANG: Need = Need {
    package: "libclang-dev",
    reason: "RocksDB's Rust bindings are generated from its header at build time",
    is_present: has_libclang,
};
const PYTHON: Need = Need {
    package: "python3",
    reason: "other Parquet readers check our files, and a server of S3 keeps them",
    is_present: || child::probe("python3", &["--version"]).is_some(),
};
const PYTHON_VENV: Need = Need {
    package: "python3-venv",
    reason: "these programs live in an environment of their own",
    is_present: || child::probe("python3", &["-c", "import venv, ensurepip"]).is_some(),
};

const ETCD: Need = Need {
    package: "etcd-server",
    reason: "the cluster benchmarks measure against it",
    is_present: || child::probe("etcd", &["--version"]).is_some(),
};

/// Makes sure that the workspace can be built.
pub(crate) fn build_tools() -> Result<()> {
    system_packages(&[CXX, LIBCLANG])
}

/// Makes sure that every test can run; returns the Python interpreter for the interoperability tests.
pub(crate) fn test_tools() -> Result<PathBuf> {
    system_packages(&[CXX, LIBCLANG, PYTHON, PYTHON_VENV])?;
    nextest()?;
    python()
}

/// Makes sure that every peer of the benchmarks can run; returns the Python interpreter that has them.
pub(crate) fn bench_tools() -> Result<PathBuf> {
    system_packages(&[CXX, LIBCLANG, PYTHON, PYTHON_VENV])?;
    let interpreter = python()?;
    if std::env::var_os("ALLUVIUM_PYTHON").is_none() && !has_pins(&interpreter, &BENCH_PINS) {
        ui::warn(&format!("missing: {}", requirements(&BENCH_PINS).join(" ")));
        pip_install(&interpreter, &BENCH_PINS)?;
    }
    Ok(interpreter)
}

/// Makes sure that the peers of the cluster benchmarks can run.
pub(crate) fn bench_cluster_tools() -> Result<()> {
    system_packages(&[CXX, LIBCLANG, ETCD])
}

fn system_packages(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.is_present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        ui::warn(&format!("missing: {} ({})", need.package, need.reason));
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let by_hand = format!("apt-get update && apt-get install -y {}", packages.join(" "));
    ensure!(child::probe("apt-get", &["--version"]).is_some(), manual(&by_hand, "no apt-get here"));
    let Some(prefix) = privilege() else { bail!(manual(&by_hand, "this needs root")) };
    let update = apt(prefix, &["update"]);
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&packages);
    update
        .and_then(|()| apt(prefix, &install))
        .with_context(|| manual(&by_hand, "apt-get failed"))?;
    let absent = missing.iter().find(|need| !(need.is_present)());
    ensure!(
        absent.is_none(),
        "installed, but still not found: {}",
        absent.map_or("", |n| n.package)
    );
    Ok(())
}

fn manual(command: &str, why: &str) -> String {
    format!("{why}: run `{command}` as root (or its like on another system), then try again")
}

/// Returns what to put before `apt-get`: nothing for root, `sudo` where it can work.
fn privilege() -> Option<&'static [&'static str]> {
    let is_root = child::probe("id", &["-u"]).is_some_and(|id| id.trim() == "0");
    if is_root {
        return Some(&[]);
    }
    if child::probe("sudo", &["-n", "true"]).is_some() {
        return Some(&["sudo", "-n"]);
    }
    let can_ask = std::io::stdin().is_terminal() && child::probe("sudo", &["--version"]).is_some();
    can_ask.then_some(&["sudo"])
}

fn apt(prefix: &[&str], args: &[&str]) -> Result<()> {
    // `env` carries the variable through sudo, which clears the environment.
    let words = [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], args].concat();
    let (program, rest) = words.split_first().context("a command has a first word")?;
    child::run(Command::new(program).args(rest))
}

/// Whether both libclang and its own C headers are installed; the library alone cannot parse anything.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let mut libraries: Vec<PathBuf> =
        ["/usr/lib", "/usr/lib64", "/usr/local/lib"].iter().map(PathBuf::from).collect();
    let mut headers: Vec<PathBuf> = vec!["/usr/lib/clang".into(), "/usr/lib64/clang".into()];
    for name in names_in(Path::new("/usr/lib")) {
        let directory = Path::new("/usr/lib").join(&name);
        if name.starts_with("llvm-") {
            libraries.push(directory.join("lib"));
            headers.push(directory.join("lib/clang"));
        } else if name.ends_with("-linux-gnu") {
            libraries.push(directory);
        }
    }
    let has_header = |directory: &PathBuf| {
        let versions = names_in(directory);
        versions.iter().any(|version| directory.join(version).join("include/stddef.h").exists())
    };
    libraries.iter().any(|directory| names_in(directory).iter().any(|name| is_libclang(name)))
        && headers.iter().any(has_header)
}

fn is_libclang(name: &str) -> bool {
    let is_library = name.starts_with("libclang.so") || name.starts_with("libclang-");
    is_library && name.contains(".so") && !name.starts_with("libclang-cpp")
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn nextest() -> Result<()> {
    let present = child::cargo(&["nextest", "--version"])?.output();
    if present.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    ui::warn("missing: cargo-nextest (runs each test in a process of its own)");
    let args = ["install", "cargo-nextest", "--locked", "--version", NEXTEST_VERSION];
    child::run(&mut child::cargo(&args)?)
}

/// Returns an interpreter with the pinned readers, from a virtual environment in the cache directory.
fn python() -> Result<PathBuf> {
    if let Some(own) = std::env::var_os("ALLUVIUM_PYTHON") {
        return Ok(own.into());
    }
    let directory = child::cache_dir()?.join("venv");
    let interpreter = directory.join("bin/python");
    if has_pins(&interpreter, &PYTHON_PINS) {
        return Ok(interpreter);
    }
    let wanted = requirements(&PYTHON_PINS).join(" ");
    ui::warn(&format!("missing: {wanted} in {}", directory.display()));
    child::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    pip_install(&interpreter, &PYTHON_PINS)?;
    Ok(interpreter)
}

fn pip_install(interpreter: &Path, pins: &[(&str, &str)]) -> Result<()> {
    let mut install = Command::new(interpreter);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    child::run(install.args(requirements(pins)))?;
    let found = has_pins(interpreter, pins);
    ensure!(found, "pip ran, and {} does not find {pins:?}", interpreter.display());
    Ok(())
}

fn requirements(pins: &[(&str, &str)]) -> Vec<String> {
    pins.iter().map(|(name, version)| format!("{name}=={version}")).collect()
}

fn has_pins(interpreter: &Path, pins: &[(&str, &str)]) -> bool {
    let checks: Vec<String> = pins
        .iter()
        .map(|(name, version)| {
            // What stands in brackets are parts of the package.
            let package = name.split('[').next().unwrap_or(name);
            format!("assert m.version('{package}') == '{version}'")
        })
        .collect();
    let script = format!("import importlib.metadata as m\n{}", checks.join("\n"));
    interpreter.exists() && child::probe(&interpreter.to_string_lossy(), &["-c", &script]).is_some()
}

#[cfg(test)]
mod tests {
    use super::is_libclang;

    #[test]
    fn the_c_interface_of_clang_is_told_from_the_cpp_one() {
        for name in ["libclang.so", "libclang.so.1", "libclang-14.so", "libclang-14.so.1"] {
            assert!(is_libclang(name), "{name}");
        }
        for name in ["libclang-cpp.so.14", "libclang-common.a", "libclangAST.so"] {
            assert!(!is_libclang(name), "{name}");
        }
    }
}
