//! What each command does, in the order in which it does it.
//!
//! It must not hold rules: those are in `tidy`. Invariant: a command fails when any of its steps failed,
//! and the long ones run the steps that are left, so that one run shows everything that is wrong.

use crate::tidy::doc_hash;
use crate::tree::Tree;
use crate::{child, deny, jepsen, setup, stats as size_tables, tidy as rules, ui};
use anyhow::{Context as _, Result, bail, ensure};
use std::process::Command;

const SAMPLE: &str = "tests/testdata/flights-200k.parquet";
const BENCH: &str = "crates/bench/Cargo.toml";
/// Peers that are programs of their own, with dependencies that the product must not share.
const BENCH_PEERS: [&str; 1] = ["crates/bench/peers/raft-engine/Cargo.toml"];
const FUZZ: &str = "fuzz/Cargo.toml";
const CODEGEN: &str = "crates/proto/codegen/Cargo.toml";

/// How long the sweeps of a full run are, unless their variables say otherwise.
const SWEEPS: [(&str, &str); 2] = [
    // Of each of eight shards of the log's model.
    ("ALLUVIUM_SEEDS", "500"),
    // Of each kill test.
    ("ALLUVIUM_FAULT_POINTS", "64"),
];

/// Builds the program in release and runs its demonstration on the committed sample.
pub(crate) fn demo(args: &[String]) -> Result<()> {
    setup::build_tools()?;
    child::run(&mut child::cargo(&["build", "--release", "--package", "alluvium-cli"])?)?;
    let target = child::target_dir()?;
    let root = child::root()?;
    let mut command = Command::new(target.join("release/alluvium"));
    command.current_dir(&root).arg("demo").arg("--data-dir").arg(target.join("demo"));
    child::run(command.arg("--sample").arg(root.join(SAMPLE)).args(args))
}

/// Installs what is missing, then runs every check and every test; the tests come last.
pub(crate) fn test(args: &[String]) -> Result<()> {
    let python = setup::test_tools()?;
    let mut tests =
        child::cargo(&["nextest", "run", "--workspace", "--profile", "ci", "--no-tests", "fail"])?;
    tests.args(args).env("ALLUVIUM_PYTHON", python);
    for (name, value) in SWEEPS {
        if std::env::var_os(name).is_none() {
            tests.env(name, value);
        }
    }
    Steps::default()
        .run("format", format_check())
        .run("tidy", tidy())
        .run("deny", deny::check())
        .run("clippy", clippy())
        .run("fuzz targets", fuzz_targets())
        .run("doc tests", doc_tests())
        .run("jepsen", jepsen::in_ci())
        .run("tests", child::run(&mut tests))
        .conclude("test")
}

/// The gate before a commit. Changes nothing.
pub(crate) fn verify() -> Result<()> {
    Steps::default()
        .run("format", format_check())
        .run("tidy", tidy())
        .run("deny", deny::check())
        .run("clippy", clippy())
        .run("core tests", core_tests())
        .run("doc links", doc_links())
        .conclude("verify")
}

/// Checks the repository's own rules.
pub(crate) fn tidy() -> Result<()> {
    let found = rules::run(&Tree::read(&child::root()?)?);
    for violation in &found {
        ui::say(&violation.render());
    }
    ensure!(found.is_empty(), "tidy found {} violations", found.len());
    Ok(())
}

/// Formats the code and refreshes the hashes of the format pages.
#[expect(
    clippy::disallowed_methods,
    reason = "a page under version control need not survive a crash"
)]
pub(crate) fn fix() -> Result<()> {
    child::run(&mut child::cargo(&["fmt", "--all"])?)?;
    let root = child::root()?;
    let tree = Tree::read(&root)?;
    for (path, text) in doc_hash::refreshed(&tree) {
        std::fs::write(root.join(path), text).with_context(|| format!("write {path}"))?;
        ui::say(&format!("refreshed {path}"));
    }
    Ok(())
}

/// Runs the fault tests at every point: a kill before and after each call that changes a file.
pub(crate) fn fault(args: &[String]) -> Result<()> {
    let python = setup::test_tools()?;
    // The whole workspace is built, so that nothing is built with other features; the profile selects.
    let mut tests = child::cargo(&["nextest", "run", "--workspace", "--profile", "fault"])?;
    tests.args(args);
    child::run(tests.env("ALLUVIUM_PYTHON", python).env("ALLUVIUM_FAULT_POINTS", "all"))
}

/// Runs the load under which openraft's issue 2116 lost a quorum, for minutes.
pub(crate) fn load(args: &[String]) -> Result<()> {
    let minutes: u64 = match args {
        [] => 5,
        [flag, minutes] if flag == "--minutes" => minutes.parse().context("--minutes N")?,
        _ => bail!("usage: cargo xtask load [--minutes N]"),
    };
    let python = setup::test_tools()?;
    // The tests' own build: its assertions are those under which openraft panicked.
    let mut tests = child::cargo(&["nextest", "run", "--workspace", "--profile", "load"])?;
    tests.arg("--no-capture").env("ALLUVIUM_PYTHON", python);
    child::run(tests.env("ALLUVIUM_LOAD_SECONDS", (minutes * 60).to_string()))
}

/// Runs the benchmarks.
pub(crate) fn bench(args: &[String]) -> Result<()> {
    ensure!(child::root()?.join(BENCH).exists(), "there is no {BENCH}: nothing to run");
    let python = setup::bench_tools()?;
    for peer in BENCH_PEERS {
        child::run(&mut child::cargo(&["build", "--release", "--manifest-path", peer])?)?;
    }
    // Together with the program, so that both are built with the same features: one release build.
    let packages = ["--package", "alluvium-cli", "--package", "alluvium-bench"];
    child::run(child::cargo(&["build", "--release"])?.args(packages))?;
    let mut command = Command::new(child::target_dir()?.join("release/alluvium-bench"));
    command.current_dir(child::root()?).env("ALLUVIUM_PYTHON", python);
    child::run(command.args(args))
}

/// Runs the benchmarks of three nodes, with the program of this checkout unless `--binary` names another one.
pub(crate) fn bench_cluster(args: &[String]) -> Result<()> {
    setup::bench_cluster_tools()?;
    let is_given = args.iter().any(|arg| arg == "--binary" || arg.starts_with("--binary="));
    let mut build = child::cargo(&["build", "--release", "--package", "alluvium-bench-cluster"])?;
    if !is_given {
        // Together, so that both are built with the same features.
        build.args(["--package", "alluvium-cli"]);
    }
    child::run(&mut build)?;
    let release = child::target_dir()?.join("release");
    let mut command = Command::new(release.join("alluvium-bench-cluster"));
    command.current_dir(child::root()?);
    // The page of this checkout is written, also where several share the target directory.
    command.env("CARGO_MANIFEST_DIR", child::root()?.join("crates/bench-cluster"));
    if !is_given {
        command.arg("--binary").arg(release.join("alluvium"));
    }
    child::run(command.args(args))
}

/// Regenerates the committed protobuf code.
pub(crate) fn codegen(args: &[String]) -> Result<()> {
    ensure!(child::root()?.join(CODEGEN).exists(), "there is no {CODEGEN}: nothing to run");
    let mut command = child::cargo(&["run", "--manifest-path", CODEGEN, "--"])?;
    child::run(command.args(args))
}

/// Prints how large files and functions are.
pub(crate) fn stats() -> Result<()> {
    let tree = Tree::read(&child::root()?)?;
    ui::say(&size_tables::render(&tree));
    Ok(())
}

fn format_check() -> Result<()> {
    child::run(&mut child::cargo(&["fmt", "--all", "--check"])?)
}

fn clippy() -> Result<()> {
    let args = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    child::run(&mut child::cargo(&args)?)
}

/// Checks that the fuzz targets compile. What they do is tested with the log; to search needs a nightly compiler.
fn fuzz_targets() -> Result<()> {
    let args = ["check", "--quiet", "--locked", "--no-default-features", "--manifest-path", FUZZ];
    child::run(&mut child::cargo(&args)?)
}

fn core_tests() -> Result<()> {
    child::run(&mut child::cargo(&["nextest", "run"])?)
}

fn doc_tests() -> Result<()> {
    // The whole workspace, although few crates have examples: a selection of packages would select other
    // features of the shared dependencies, and build all of these a second time.
    child::run(&mut child::cargo(&["test", "--doc", "--workspace", "--quiet"])?)
}

fn doc_links() -> Result<()> {
    let mut command = child::cargo(&["doc", "--no-deps", "--quiet"])?;
    child::run(command.env("RUSTDOCFLAGS", "-D rustdoc::broken_intra_doc_links"))
}

/// The steps of a command and how each of them ended.
#[derive(Default)]
struct Steps {
    failed: Vec<&'static str>,
    count: usize,
}

impl Steps {
    fn run(mut self, name: &'static str, outcome: Result<()>) -> Self {
        self.count += 1;
        if let Err(error) = outcome {
            ui::warn(&format!("{name}: {error:#}"));
            self.failed.push(name);
        }
        self
    }

    fn conclude(self, command: &str) -> Result<()> {
        if self.failed.is_empty() {
            ui::step(&format!("{command}: all {} steps are green", self.count));
            return Ok(());
        }
        bail!(
            "{command}: {} of {} steps failed: {}",
            self.failed.len(),
            self.count,
            self.failed.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Steps;
    use anyhow::anyhow;

    #[test]
    fn one_failed_step_fails_the_command_and_is_named() {
        let steps = Steps::default().run("a", Ok(())).run("b", Err(anyhow!("x"))).run("c", Ok(()));
        let error = steps.conclude("test").expect_err("b failed");
        assert_eq!(error.to_string(), "test: 1 of 3 steps failed: b");
        assert!(Steps::default().run("a", Ok(())).conclude("test").map_err(drop) == Ok(()));
    }
}
