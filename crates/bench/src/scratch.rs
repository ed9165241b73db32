//! Where benchmark data lives: one temporary directory, on the disk of the target directory.
//!
//! Not in `/tmp`, which may be memory. Invariant: everything is removed when the run ends.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// The directory of one run.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: TempDir,
    next: Cell<u64>,
}

impl Scratch {
    /// Makes the directory: in `parent`, else beside the target directory of this very program.
    pub(crate) fn new(parent: Option<&Path>) -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let beside = program.ancestors().nth(3).map(Path::to_path_buf);
        let parent = match parent {
            Some(parent) => parent.to_path_buf(),
            None => beside.context("this program is not in a target directory: say --dir")?,
        };
        let directory = tempfile::Builder::new().prefix("alluvium-bench-").tempdir_in(&parent);
        let directory = directory.with_context(|| format!("in {}", parent.display()))?;
        Ok(Self { directory, next: Cell::new(0) })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes an empty directory of its own for one process.
    pub(crate) fn fresh(&self) -> Result<PathBuf> {
        let number = self.next.replace(self.next.get() + 1);
        let path = self.path().join(format!("run-{number}"));
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }
}
