//! The steering of the shim: reads, writes and syncs that fail, syncs that lie, and clocks of the node's own.
//!
//! Must not be trusted to have done what it was told: the page counts what was really done. Invariant: the offsets are
//! those of `struct page` in `shim/page.h`.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_stdx::Clock as _;

use crate::command::Line;
use crate::error::Error;
use crate::{limits, sys};

const SOURCES: [(&str, &str); 3] = [
    ("page.h", include_str!("shim/page.h")),
    ("files.c", include_str!("shim/files.c")),
    ("clocks.c", include_str!("shim/clocks.c")),
];
const PAGE_BYTES: u64 = 4096;

const WALL: u64 = 0;
const STEADY: u64 = 80;
const TRAPS: u64 = 160;

/// Within a clock of the page.
const WHICH: u64 = 0;
const SHOWN: u64 = 8;
const COURSES: [u64; 2] = [16, 40];
const LAST_REAL: u64 = 64;
const LAST_SHOWN: u64 = 72;

/// Within a trap of the page.
const LEFT: u64 = 0;
const CAUGHT: u64 = 8;
const SKIP: u64 = 16;
const FILTER: u64 = 24;
const FILTER_BYTES: usize = 64;
const PATH: u64 = 88;
const PATH_BYTES: usize = 512;
const TRAP_BYTES: u64 = 600;

const TRUE_RATE_PPM: i64 = 1_000_000;

/// Compiles the shim, and returns where it is.
pub(crate) fn compile(scratch: &Path) -> Result<PathBuf, Error> {
    let library = scratch.join("shim.so");
    for (name, text) in SOURCES {
        let source = scratch.join(name);
        #[expect(clippy::disallowed_methods, reason = "nobody needs it after a power cut")]
        fs::write(&source, text).map_err(Error::io(format!("write {}", source.display())))?;
    }
    let line = Line::of(&["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]);
    let mut line = line.path(&library);
    for (name, _) in SOURCES.iter().filter(|(name, _)| name.ends_with(".c")) {
        line = line.path(&scratch.join(name));
    }
    line.arg("-ldl").run(limits::COMMAND * 3)?;
    Ok(library)
}

/// Which calls of a node are caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trap {
    /// Syncs fail, once; later ones of the same file lie.
    Syncs,
    /// Writes fail.
    Writes,
    /// Reads fail.
    Reads,
    /// Syncs lie.
    Lies,
}

impl Trap {
    const fn at(self) -> u64 {
        let place = match self {
            Self::Syncs => 0,
            Self::Writes => 1,
            Self::Reads => 2,
            Self::Lies => 3,
        };
        TRAPS + place * TRAP_BYTES
    }

    /// Says what became of a call that was caught.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Syncs => "sync failed",
            Self::Writes => "write failed",
            Self::Reads => "read failed",
            Self::Lies => "sync lied",
        }
    }
}

/// What a trap caught so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caught {
    pub(crate) times: u64,
    /// The file of the last one.
    pub(crate) path: String,
}

/// The clocks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dial {
    /// Wall time.
    Wall,
    /// Monotonic time.
    Steady,
}

impl Dial {
    const fn at(self) -> u64 {
        match self {
            Self::Wall => WALL,
            Self::Steady => STEADY,
        }
    }
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wall => "wall",
            Self::Steady => "monotonic",
        })
    }
}

/// What was read from a clock that is not the machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// How often.
    pub(crate) times: u64,
    /// How far the last reading was ahead of the machine's clock.
    pub(crate) ahead_ms: i64,
}

/// A time that is shown from a true time on, and its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Course {
    real_ns: i64,
    shown_ns: i64,
    rate_ppm: i64,
}

impl Course {
    const TRUE: Self = Self { real_ns: 0, shown_ns: 0, rate_ppm: TRUE_RATE_PPM };

    /// Returns what is shown at a true time, as `shim/clocks.c` does.
    fn bent(self, real_ns: i64) -> i64 {
        let since = i128::from(real_ns - self.real_ns) * i128::from(self.rate_ppm);
        self.shown_ns + i64::try_from(since / i128::from(TRUE_RATE_PPM)).unwrap_or(0)
    }

    /// Returns the course that goes on from here, further ahead and at another rate.
    fn then(self, real_ns: i64, ahead_ms: i64, rate_ppm: i64) -> Self {
        Self { real_ns, shown_ns: self.bent(real_ns) + ahead_ms * 1_000_000, rate_ppm }
    }
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

    /// Lets the trap catch the next `count` calls on files with `filter` in their path.
    pub(crate) fn arm(&self, trap: Trap, count: u64, filter: &str) -> Result<(), Error> {
        self.arm_after(0, trap, count, filter)
    }

    /// Does the same, and lets `skip` such calls pass first.
    pub(crate) fn arm_after(
        &self,
        skip: u64,
        trap: Trap,
        count: u64,
        filter: &str,
    ) -> Result<(), Error> {
        let mut bytes = [0; FILTER_BYTES];
        assert!(filter.len() < FILTER_BYTES, "the filter ends with a zero");
        bytes[..filter.len()].copy_from_slice(filter.as_bytes());
        self.put(trap.at() + LEFT, &0_u64.to_ne_bytes())?;
        self.put(trap.at() + FILTER, &bytes)?;
        self.put(trap.at() + SKIP, &skip.to_ne_bytes())?;
        self.put(trap.at() + LEFT, &count.to_ne_bytes())
    }

    /// Lets the trap catch nothing more.
    pub(crate) fn disarm(&self, trap: Trap) -> Result<(), Error> {
        self.put(trap.at() + LEFT, &0_u64.to_ne_bytes())
    }

    pub(crate) fn caught(&self, trap: Trap) -> Result<Caught, Error> {
        let mut path = [0; PATH_BYTES];
        let read = self.file.read_exact_at(&mut path, trap.at() + PATH);
        read.map_err(Error::io(format!("read {}", self.path.display())))?;
        let end = path.iter().position(|byte| *byte == 0).unwrap_or(0);
        Ok(Caught {
            times: self.number(trap.at() + CAUGHT)?,
            path: String::from_utf8_lossy(&path[..end]).into_owned(),
        })
    }

    /// Shows a time that is ahead by `ahead_ms` now, and then runs at `rate_ppm` millionths of the true speed. Wall time
    /// is ahead of the machine's, monotonic time of what it was: it only ever goes on.
    pub(crate) fn bend(&self, dial: Dial, ahead_ms: i64, rate_ppm: i64) -> Result<(), Error> {
        let which = self.number(dial.at() + WHICH)?;
        let (now_ns, course) = match dial {
            Dial::Wall => {
                let wall_ms = alluvium_stdx::SystemClock::new().wall_ms();
                (i64::try_from(wall_ms).unwrap_or(0) * 1_000_000, Course::TRUE)
            }
            Dial::Steady => {
                let now_ns = sys::monotonic_ns().map_err(Error::io("read the clock"))?;
                (now_ns, self.course(dial, which)?)
            }
        };
        let next = course.then(now_ns, ahead_ms, rate_ppm);
        // The course in use is not the one that is written: a reader sees one or the other.
        let free = which % 2;
        let at = COURSES[usize::try_from(free).unwrap_or(0)];
        let numbers = [next.real_ns, next.shown_ns, next.rate_ppm].map(i64::to_ne_bytes);
        self.put(dial.at() + at, numbers.as_flattened())?;
        self.put(dial.at() + WHICH, &(free + 1).to_ne_bytes())
    }

    fn course(&self, dial: Dial, which: u64) -> Result<Course, Error> {
        let Some(at) = which.checked_sub(1).and_then(|one| usize::try_from(one).ok()) else {
            return Ok(Course::TRUE);
        };
        let at = dial.at() + COURSES[at % 2];
        let number = |place: u64| self.number(at + place * 8).map(u64::cast_signed);
        Ok(Course { real_ns: number(0)?, shown_ns: number(1)?, rate_ppm: number(2)? })
    }

    /// Shows the machine's wall time again; monotonic time runs at the true speed again, from where it is.
    pub(crate) fn straighten(&self, dial: Dial) -> Result<(), Error> {
        match dial {
            Dial::Wall => self.put(dial.at() + WHICH, &0_u64.to_ne_bytes()),
            Dial::Steady => self.bend(dial, 0, TRUE_RATE_PPM),
        }
    }

    pub(crate) fn reading(&self, dial: Dial) -> Result<Reading, Error> {
        let number = |place: u64| self.number(dial.at() + place);
        let ahead = number(LAST_SHOWN)?.cast_signed() - number(LAST_REAL)?.cast_signed();
        Ok(Reading { times: number(SHOWN)?, ahead_ms: ahead / 1_000_000 })
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

/// Returns how long a process with this environment thinks that a while of half a second took, in milliseconds.
pub(crate) fn probe_while(env: &[(String, String)]) -> Result<u64, Error> {
    let mut line = Line::of(&["env"]);
    for (name, value) in env {
        line = line.arg(format!("{name}={value}"));
    }
    // It is `dd` that reads the clock; who sleeps must not have it.
    let script = "env -u LD_PRELOAD sleep 0.5 | LC_ALL=C dd of=/dev/null 2>&1";
    let line = line.args(&["sh", "-c", script]);
    let said = line.run(Duration::from_secs(5))?;
    took_ms(&said).ok_or_else(|| Error::Unreadable { line: line.to_string(), said })
}

/// Reads the time that `dd` says, as in `0 bytes copied, 1.50123 s, 0.0 kB/s`.
fn took_ms(said: &str) -> Option<u64> {
    let (before, _) = said.split_once(" s,")?;
    let (_, seconds) = before.rsplit_once(' ')?;
    let seconds = seconds.parse::<f64>().ok()?;
    u64::try_from(Duration::try_from_secs_f64(seconds).ok()?.as_millis()).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> (tempfile::TempDir, Page) {
        let dir = tempfile::tempdir().expect("a directory");
        let page = Page::make(dir.path().join("page")).expect("a page");
        (dir, page)
    }

    #[test]
    fn a_trap_has_a_place_and_a_filter_of_its_own() {
        let (_dir, page) = page();
        page.arm(Trap::Writes, 3, "/wal/").expect("armed");
        page.arm(Trap::Reads, 1, "/buckets/").expect("armed");
        let left = |trap: Trap| page.number(trap.at() + LEFT).expect("a number");
        let traps = [Trap::Syncs, Trap::Writes, Trap::Reads, Trap::Lies];
        assert_eq!(traps.map(left), [0, 3, 1, 0]);
        page.disarm(Trap::Writes).expect("disarmed");
        assert_eq!(traps.map(left), [0, 0, 1, 0]);
        page.put(Trap::Reads.at() + CAUGHT, &1_u64.to_ne_bytes()).expect("written");
        page.put(Trap::Reads.at() + PATH, b"/n/buckets/a\0").expect("written");
        let caught = Caught { times: 1, path: "/n/buckets/a".to_owned() };
        assert_eq!(page.caught(Trap::Reads).expect("read"), caught);
        assert!(Trap::Lies.at() + TRAP_BYTES <= PAGE_BYTES, "a page holds all traps");
    }

    #[test]
    fn what_dd_says_of_its_time_is_read() {
        let said = "0+0 records in\n0+0 records out\n0 bytes copied, 1.50123 s, 0.0 kB/s\n";
        assert_eq!(took_ms(said), Some(1_501));
        assert_eq!(took_ms("dd: no such thing"), None);
    }

    #[test]
    fn a_monotonic_course_goes_on_from_where_the_last_one_was() {
        let fast = Course::TRUE.then(1_000, 0, 3 * TRUE_RATE_PPM);
        assert_eq!((fast.bent(1_000), fast.bent(1_500)), (1_000, 2_500));
        let jumped = fast.then(2_000, 60_000, TRUE_RATE_PPM / 2);
        assert_eq!(jumped.bent(2_000), 4_000 + 60_000_000_000);
        let healed = jumped.then(4_000, 0, TRUE_RATE_PPM);
        assert_eq!(healed.bent(4_000), 5_000 + 60_000_000_000);
        assert_eq!(healed.bent(4_010), healed.bent(4_000) + 10);
    }

    #[test]
    fn a_clock_is_given_the_course_that_is_not_in_use() {
        let (_dir, page) = page();
        let which = || page.number(STEADY + WHICH).expect("a number");
        let mut shown_ns = 0;
        for expected in [1, 2, 1, 2] {
            page.bend(Dial::Steady, 60_000, 2 * TRUE_RATE_PPM).expect("bent");
            assert_eq!(which(), expected);
            let course = page.course(Dial::Steady, expected).expect("a course");
            assert!(course.shown_ns >= shown_ns + 60_000_000_000, "it never goes back");
            shown_ns = course.shown_ns;
        }
        assert_eq!(page.number(WALL + WHICH).expect("a number"), 0);
        page.bend(Dial::Wall, -5, TRUE_RATE_PPM).expect("bent");
        page.straighten(Dial::Wall).expect("straight");
        assert_eq!(page.number(WALL + WHICH).expect("a number"), 0);
    }
}
