//! The steering of `shim.c`: syncs that fail once and then lie, and a wall clock of the node's own.
//!
//! Must not be trusted to have done what it was told: the page counts what was really done. Invariant: the offsets are
//! those of `struct page`.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_stdx::Clock as _;

use crate::command::Line;
use crate::error::Error;
use crate::limits;

const SOURCE: &str = include_str!("shim.c");
const PAGE_BYTES: u64 = 4096;

const FAIL_SYNCS: u64 = 0;
const FAILED_SYNCS: u64 = 8;
const LIED_SYNCS: u64 = 16;
const SHOWN_CLOCKS: u64 = 32;
const COURSE: u64 = 40;
const COURSES: [u64; 2] = [48, 72];
const FILTER: u64 = 96;
const FILTER_BYTES: usize = 64;
const FAILED_PATH: u64 = 160;
const FAILED_PATH_BYTES: usize = 512;

/// Compiles the shim, and returns where it is.
pub(crate) fn compile(scratch: &Path) -> Result<PathBuf, Error> {
    let (source, library) = (scratch.join("shim.c"), scratch.join("shim.so"));
    #[expect(clippy::disallowed_methods, reason = "nobody needs it after a power cut")]
    fs::write(&source, SOURCE).map_err(Error::io(format!("write {}", source.display())))?;
    let line = Line::of(&["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]);
    line.path(&library).path(&source).arg("-ldl").run(limits::COMMAND * 3)?;
    Ok(library)
}

/// What the shim of a node did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) failed_syncs: u64,
    pub(crate) lied_syncs: u64,
    pub(crate) shown_clocks: u64,
    pub(crate) failed_path: String,
}

/// The page of one node.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    file: File,
}

impl Page {
    pub(crate) fn make(path: PathBuf) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(Error::io(format!("make {}", path.display())))?;
        file.set_len(PAGE_BYTES).map_err(Error::io(format!("size {}", path.display())))?;
        Ok(Self { path, file })
    }

    /// Returns the variables of a process that the shim is to be in.
    pub(crate) fn env(&self, library: &Path, directory: &Path) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        vec![
            ("LD_PRELOAD".to_owned(), text(library)),
            ("ALLUVIUM_WORLD_PAGE".to_owned(), text(&self.path)),
            ("ALLUVIUM_WORLD_DIR".to_owned(), text(directory)),
        ]
    }

    /// Lets the next `count` syncs of files with `filter` in their path fail.
    pub(crate) fn fail_syncs(&self, count: u64, filter: &str) -> Result<(), Error> {
        let mut bytes = [0; FILTER_BYTES];
        assert!(filter.len() < FILTER_BYTES, "the filter ends with a zero");
        bytes[..filter.len()].copy_from_slice(filter.as_bytes());
        self.put(FILTER, &bytes)?;
        self.put(FAIL_SYNCS, &count.to_ne_bytes())
    }

    /// Shows a wall time that is ahead by `ahead_ms` now, and then runs at `rate_ppm` millionths of the true speed.
    pub(crate) fn bend_clock(&self, ahead_ms: i64, rate_ppm: i64) -> Result<(), Error> {
        let wall_ms = i64::try_from(alluvium_stdx::SystemClock::new().wall_ms()).unwrap_or(0);
        // The course in use is not the one that is written: a reader sees one or the other.
        let next = self.number(COURSE)? % 2;
        let courses = [wall_ms, wall_ms + ahead_ms].map(|ms| ms * 1_000_000);
        let at = COURSES[usize::try_from(next).unwrap_or(0)];
        let numbers = [courses[0], courses[1], rate_ppm].map(i64::to_ne_bytes);
        self.put(at, numbers.as_flattened())?;
        self.put(COURSE, &(next + 1).to_ne_bytes())
    }

    pub(crate) fn straighten_clock(&self) -> Result<(), Error> {
        self.put(COURSE, &0_u64.to_ne_bytes())
    }

    pub(crate) fn done(&self) -> Result<Done, Error> {
        let mut path = [0; FAILED_PATH_BYTES];
        self.file
            .read_exact_at(&mut path, FAILED_PATH)
            .map_err(Error::io(format!("read {}", self.path.display())))?;
        let end = path.iter().position(|byte| *byte == 0).unwrap_or(0);
        Ok(Done {
            failed_syncs: self.number(FAILED_SYNCS)?,
            lied_syncs: self.number(LIED_SYNCS)?,
            shown_clocks: self.number(SHOWN_CLOCKS)?,
            failed_path: String::from_utf8_lossy(&path[..end]).into_owned(),
        })
    }

    fn number(&self, at: u64) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        let read = self.file.read_exact_at(&mut bytes, at);
        read.map_err(Error::io(format!("read {}", self.path.display())))?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let written = self.file.write_all_at(bytes, at);
        written.map_err(Error::io(format!("write {}", self.path.display())))
    }
}

/// Returns how far the wall clock of a process with this environment is ahead of the machine's.
pub(crate) fn probe_clock(env: &[(String, String)]) -> Result<i64, Error> {
    let now_ms = || {
        let mut line = Line::of(&["env"]);
        for (name, value) in env {
            line = line.arg(format!("{name}={value}"));
        }
        line.args(&["date", "+%s%3N"])
    };
    let line = now_ms();
    let said = line.run(Duration::from_secs(5))?;
    let wall_ms = i64::try_from(alluvium_stdx::SystemClock::new().wall_ms()).unwrap_or(0);
    let shown_ms = said.trim().parse::<i64>();
    let shown_ms =
        shown_ms.map_err(|_not_one| Error::Unreadable { line: line.to_string(), said })?;
    Ok(shown_ms - wall_ms)
}
