//! A process of a node, which does not outlive its owner.
//!
//! It must not be found by name: only the process that was started here is ended. Invariant: dropping it kills the
//! process and waits for its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A running node and where its words go.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    out: PathBuf,
    errors: PathBuf,
}

impl Daemon {
    /// Starts a program whose words go to files beside `directory`.
    pub(crate) fn start(mut command: Command, directory: &Path) -> Result<Self> {
        let (out, errors) = (directory.with_extension("out"), directory.with_extension("err"));
        let create =
            |path: &Path| File::create(path).with_context(|| format!("make {}", path.display()));
        command.stdin(Stdio::null()).stdout(create(&out)?).stderr(create(&errors)?);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("start {program}"))?;
        Ok(Self { child, out, errors })
    }

    /// Returns the first line that it printed, as soon as it is there; fails when the process is over.
    pub(crate) fn first_line(&mut self) -> Result<Option<String>> {
        self.check()?;
        let text = std::fs::read_to_string(&self.out).context("read what a node printed")?;
        Ok(text.split_once('\n').map(|(line, _)| line.to_owned()))
    }

    /// Fails when the process is over.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().context("look at a node")? {
            let told = std::fs::read_to_string(&self.errors).unwrap_or_default();
            let last = told.trim_end().lines().next_back().unwrap_or_default();
            bail!("a node ended, {status}: {last}");
        }
        Ok(())
    }

    /// Returns what it said to standard error.
    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill a node")?;
        self.child.wait().context("wait for a killed node")?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be over already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
