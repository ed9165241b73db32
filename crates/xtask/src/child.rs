//! Runs other programs: always from the root of the checkout, always with the same target directory.
//!
//! It must not swallow an exit status. Invariant: a child cargo never sees the `CARGO_PKG_*` variables of
//! xtask itself (build scripts that watch them would rebuild) nor an exported `RUSTFLAGS` (it would
//! silently replace the flags of `.cargo/config.toml` and split the build cache in two).

use crate::ui;
use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Once;

/// Many children, one notice.
static OVERRIDE_NOTICE: Once = Once::new();

const FLAG_OVERRIDES: [&str; 3] = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"];
const OWN_VARIABLES: [&str; 5] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
];

/// Returns the root of the checkout: the nearest directory above whose manifest is the workspace's.
pub(crate) fn root() -> Result<PathBuf> {
    let here = std::env::current_dir().context("read the current directory")?;
    for directory in here.ancestors() {
        let manifest = directory.join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&manifest) else { continue };
        if text.contains("[workspace.dependencies]") {
            return Ok(directory.to_path_buf());
        }
    }
    bail!("no workspace above {}: run this inside the checkout", here.display())
}

/// Returns the cache directory outside the checkout: `$ALLUVIUM_CACHE`, else `~/.cache/alluvium`.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    if let Some(set) = non_empty_var("ALLUVIUM_CACHE") {
        return Ok(PathBuf::from(set));
    }
    let home = non_empty_var("HOME").context("HOME is not set: set ALLUVIUM_CACHE instead")?;
    Ok(PathBuf::from(home).join(".cache/alluvium"))
}

/// Returns the target directory that every child cargo uses.
pub(crate) fn target_dir() -> Result<PathBuf> {
    match non_empty_var("CARGO_TARGET_DIR") {
        // Relative to the root, as cargo itself is started there.
        Some(set) => Ok(root()?.join(set)),
        None => Ok(cache_dir()?.join("target")),
    }
}

fn non_empty_var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns a cargo command with a clean environment.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: &[S]) -> Result<Command> {
    let program = non_empty_var("CARGO").unwrap_or_else(|| "cargo".to_owned());
    let mut command = Command::new(program);
    command.args(args).current_dir(root()?).env("CARGO_TARGET_DIR", target_dir()?);
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if OWN_VARIABLES.iter().any(|own| name.starts_with(own)) {
            command.env_remove(name);
        }
    }
    for name in FLAG_OVERRIDES {
        if non_empty_var(name).is_some() {
            OVERRIDE_NOTICE.call_once(|| {
                ui::warn(&format!("{name} is ignored: the flags are those of .cargo/config.toml"));
            });
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Runs a command with the terminal's own streams; fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = describe(command);
    ui::step(&shown);
    let status = command.status().with_context(|| format!("start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed ({status})");
    Ok(())
}

/// Runs a command and returns its standard output; fails when it does.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = describe(command);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("start `{shown}`"))?;
    ensure!(output.status.success(), "`{shown}` failed ({})", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` did not print text"))
}

/// Runs a command silently; returns its standard output, or nothing when it cannot run or fails.
pub(crate) fn probe(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8(output.stdout).ok()
}

/// Returns the command line as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program);
    let mut line = name.to_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}
