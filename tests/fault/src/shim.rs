//! The shim: a small library that counts, kills and fails the system calls of a process.

use std::ffi::OsStr;
use std::hash::BuildHasher as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use alluvium_stdx::FixedState;
use anyhow::{Context as _, Result, ensure};

const SOURCE: &str = include_str!("../shim.c");

/// What happens to the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing; its calls are counted.
    Count,
    /// It is killed before call `n / 2` (even `n`) or after it (odd).
    Kill(u64),
    /// The sync of that number fails once, and later ones claim success.
    SyncError(u64),
    /// Calls that need space fail while the control file exists.
    Full,
    /// Calls that change files fail.
    ReadOnly,
}

/// A compiled shim.
#[derive(Debug, Clone)]
pub struct Shim {
    library: PathBuf,
}

/// What a process asked of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Calls that change files.
    pub calls: u64,
    /// Syncs among them.
    pub syncs: u64,
}

impl Shim {
    /// Compiles the shim once per process.
    ///
    /// # Errors
    /// When there is no C compiler: `cargo xtask test` installs one.
    pub fn build() -> Result<Self> {
        static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
        let library = LIBRARY.get_or_init(|| compile().ok());
        let library = library.clone().context("the C compiler failed: run `cargo xtask test`")?;
        Ok(Self { library })
    }

    /// Puts a process under a fault on the files below `dir`.
    pub fn apply(&self, command: &mut Command, fault: &Fault, dir: &Path) {
        let mode = match fault {
            Fault::Count => "count".to_owned(),
            Fault::Kill(at) => format!("kill:{at}"),
            Fault::SyncError(at) => format!("sync-error:{at}"),
            Fault::Full => "full".to_owned(),
            Fault::ReadOnly => "read-only".to_owned(),
        };
        command
            .env("LD_PRELOAD", &self.library)
            .env("ALLUVIUM_FAULT", mode)
            .env("ALLUVIUM_FAULT_DIR", dir)
            .env("ALLUVIUM_FAULT_COUNT", count_file(dir))
            .env("ALLUVIUM_FAULT_CONTROL", control_file(dir));
    }
}

/// Returns where a counting process leaves its counts: beside the directory, so that it is not counted.
#[must_use]
pub fn count_file(dir: &Path) -> PathBuf {
    beside(dir, "count")
}

/// Returns the file that switches [`Fault::Full`] on. A number in it is how many calls still find space.
#[must_use]
pub fn control_file(dir: &Path) -> PathBuf {
    beside(dir, "full")
}

/// Reads the counts that a process left.
///
/// # Errors
/// When it did not end by itself.
pub fn counts(dir: &Path) -> Result<Counts> {
    let text = std::fs::read_to_string(count_file(dir))?;
    let mut numbers = text.split_whitespace().map(str::parse);
    let mut next = || numbers.next().context("a number is missing");
    Ok(Counts { calls: next()??, syncs: next()?? })
}

fn beside(dir: &Path, extension: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(OsStr::new("."));
    name.push(OsStr::new(extension));
    PathBuf::from(name)
}

#[expect(clippy::disallowed_methods, reason = "a file for the compiler need not be durable")]
fn compile() -> Result<PathBuf> {
    // Tests run as processes of their own: each builds under a name of its own, and all leave the same file.
    let name = format!("alluvium-shim-{:016x}.so", FixedState.hash_one(SOURCE));
    let library = std::env::temp_dir().join(&name);
    let dir = tempfile::Builder::new().prefix(&name).tempdir()?;
    let (source, built) = (dir.path().join("shim.c"), dir.path().join("shim.so"));
    std::fs::write(&source, SOURCE)?;
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([built.as_os_str(), source.as_os_str(), OsStr::new("-ldl")])
        .output()?;
    ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(&built, &library)?;
    Ok(library)
}
