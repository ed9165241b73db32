//! The jepsen harness: built with the program that it breaks, and run.
//!
//! It must not turn a run that failed or that nobody can judge into one that passed. Invariant: a program with planted bugs
//! never stays under the program's name.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{child, setup, ui};

/// The run of continuous integration: about two minutes.
const SHORT: [&str; 6] = [
    "--nemesis",
    "kill/leader,kill/all,pause/leader,partition/leader-minority,partition/oneway-in,wire/loss,\
     wire/dup-reorder,powercut/one,powercut/all",
    "--seconds",
    "50",
    "--seed",
    "1",
];
/// The planted bugs that continuous integration must see caught.
const SHORT_PROOF: [&str; 5] = [
    "--self-proof",
    "--plants",
    "ack-before-fsync,stale-local-read,truncate-at-first-bad-checksum,retry-failed-fsync,\
     dedup-accepts-other-payload",
    "--seconds",
    "10",
];
const PLANTED: &str = "alluvium-cli/planted";
/// What the harness ends with when the machine cannot do what was asked.
const SKIPPED: i32 = 3;

/// Runs the harness in release. Its exit code says what the run was, so it is ours.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    setup::build_tools()?;
    let says = |name: &str| args.iter().any(|arg| arg == name);
    let is_planted = says("--self-proof") || says("--plant");
    let program = build("release", is_planted)?;
    let mut command = harness("release", Some(program.as_path()).filter(|_| !says("--binary")))?;
    if !says("--out") {
        command.arg("--out").arg(child::target_dir()?.join("jepsen/out"));
    }
    for arg in args {
        match arg.as_str() {
            "--ci" => command.args(SHORT),
            other => command.arg(other),
        };
    }
    ui::step(&child::describe(&command));
    let status = command.status().context("start the harness")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Runs the short version with the build that the tests have, and the short proof that it bites.
pub(crate) fn in_ci() -> Result<()> {
    let planted = build("debug", true)?;
    let program = build("debug", false)?;
    let out = child::target_dir()?.join("jepsen");
    let mut short = harness("debug", Some(&program))?;
    judge(short.args(SHORT).arg("--out").arg(out.join("short")))?;
    let mut proof = harness("debug", Some(&planted))?;
    judge(proof.args(SHORT_PROOF).arg("--out").arg(out.join("proof")))
}

/// Builds program and harness together, so that both have the same features; returns a copy of the program.
fn build(profile: &str, is_planted: bool) -> Result<PathBuf> {
    let mut build = child::cargo(&["build"])?;
    match profile {
        "release" => build.args(["--release", "-p", "alluvium-cli", "-p", "alluvium-jepsen"]),
        // With the features of the tests, whose build this is.
        _ => build.args(["--workspace", "--bins"]),
    };
    if is_planted {
        build.args(["--features", PLANTED]);
    }
    child::run(&mut build)?;
    let target = child::target_dir()?;
    let dir = target.join("jepsen");
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let name = if is_planted { "alluvium-planted" } else { "alluvium" };
    let copy = dir.join(format!("{name}-{profile}"));
    let built = target.join(profile).join("alluvium");
    // Not over the file: a process may run it.
    drop(std::fs::remove_file(&copy));
    std::fs::copy(&built, &copy).with_context(|| format!("copy {}", built.display()))?;
    Ok(copy)
}

fn harness(profile: &str, program: Option<&Path>) -> Result<Command> {
    let harness = child::target_dir()?.join(profile).join("alluvium-jepsen");
    let mut command = Command::new(harness);
    command.current_dir(child::root()?);
    if let Some(program) = program {
        command.arg("--binary").arg(program);
    }
    Ok(command)
}

fn judge(command: &mut Command) -> Result<()> {
    ui::step(&child::describe(command));
    let status = command.status().context("start the harness")?;
    match status.code() {
        Some(0) => Ok(()),
        // The harness said why.
        Some(SKIPPED) => {
            ui::say("SKIPPED: this machine cannot do what the harness needs");
            Ok(())
        }
        _ => bail!("the harness ended with {status}"),
    }
}
