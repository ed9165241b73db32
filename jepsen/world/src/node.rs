//! One node: its place in the network, its disk, its control groups, and the process that runs there.
//!
//! Must not signal a process whose end was seen, nor decide what a node should do. Invariant: a [`NodeProcess`] holds its
//! child until it was waited for, so its id belongs to it.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use alluvium_stdx::{Clock as _, SystemClock};
use serde_json::Value;

use crate::cgroup::Groups;
use crate::command::{end_of, sleep};
use crate::disk::Disk;
use crate::error::Error;
use crate::shim::Page;
use crate::world::NodeId;
use crate::{limits, sys};

/// Puts itself into the groups whose files come first, then becomes the program behind them.
const LAUNCH: &str = "for door in \"$1\" \"$2\" \"$3\"; do echo $$ > \"$door\" || exit 97; done; shift 3; exec \"$@\"";

/// Which of the two programs a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Current,
    Previous,
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct NodeProcess {
    child: Child,
    out: PathBuf,
    errors: PathBuf,
    ended: Option<ExitStatus>,
    pub(crate) is_paused: bool,
}

/// How a process is started.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// The file that names the network namespace.
    pub(crate) namespace: &'a Path,
    pub(crate) doors: &'a [PathBuf],
    /// The whole environment, but for `PATH`.
    pub(crate) env: &'a [(String, String)],
    pub(crate) words: &'a [String],
    /// Where what it prints goes, without the extension.
    pub(crate) log: &'a Path,
}

impl NodeProcess {
    pub(crate) fn start(launch: &Launch<'_>) -> Result<Self, Error> {
        let (out, errors) = (launch.log.with_extension("out"), launch.log.with_extension("log"));
        let make =
            |path: &Path| File::create(path).map_err(Error::io(format!("make {}", path.display())));
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", launch.namespace.display()));
        command.args(["--", "sh", "-c", LAUNCH, "sh"]).args(launch.doors).arg("env");
        command.args(launch.env.iter().map(|(name, value)| format!("{name}={value}")));
        command.args(launch.words);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let spawned =
            command.stdin(Stdio::null()).stdout(make(&out)?).stderr(make(&errors)?).spawn();
        let child = spawned.map_err(Error::io("start a node"))?;
        Ok(Self { child, out, errors, ended: None, is_paused: false })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns how it ended; nothing while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            // An error means that the child was waited for, which only happens here.
            self.ended = self.child.try_wait().unwrap_or(None);
        }
        self.ended
    }

    /// Sends a signal. Says whether the process was still there.
    pub(crate) fn signal(&mut self, number: libc::c_int) -> Result<bool, Error> {
        if self.ended().is_some() {
            return Ok(false);
        }
        sys::signal(self.pid(), number).map_err(Error::io(format!("signal {}", self.pid())))?;
        Ok(true)
    }

    /// Waits for its end. Says how it ended, or nothing when it did not in time.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let clock = SystemClock::new();
        while self.ended().is_none() && Duration::from_nanos(clock.monotonic_ns()) < limit {
            sleep(limits::LOOK);
        }
        self.ended
    }

    /// Returns what it said when it was ready: one line of JSON.
    pub(crate) fn announcement(&self) -> Option<Value> {
        let text = fs::read_to_string(&self.out).ok()?;
        let (line, _) = text.split_once('\n')?;
        serde_json::from_str(line).ok()
    }

    /// Returns the state letter of the kernel, `T` for one that was stopped.
    pub(crate) fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Returns the end of what it printed on standard error.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(&self.errors).unwrap_or_default();
        end_of(&String::from_utf8_lossy(&text))
    }
}

/// Says how a process ended, in words.
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// A place and what is there now.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) disk: Disk,
    pub(crate) groups: Groups,
    pub(crate) page: Page,
    /// Its id in the cluster; nothing while it is no member.
    pub(crate) member: Option<u64>,
    pub(crate) process: Option<NodeProcess>,
    pub(crate) starts: u32,
    pub(crate) version: Version,
    /// The files that a fault damaged and nobody repaired.
    pub(crate) damaged: Vec<PathBuf>,
}

impl Node {
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Whether it runs and is not stopped by SIGSTOP: whether it can answer.
    pub(crate) fn is_answering(&mut self) -> bool {
        self.is_running() && self.process.as_ref().is_some_and(|process| !process.is_paused)
    }

    pub(crate) fn running(&mut self, what: &'static str) -> Result<&mut NodeProcess, Error> {
        let node = self.id;
        let process = self.process.as_mut().filter(|process| process.ended.is_none());
        process.ok_or(Error::WrongState { node, state: "not running", what })
    }

    /// Ends its process by SIGKILL, however it is, and waits for it.
    pub(crate) fn kill(&mut self) -> Result<Option<ExitStatus>, Error> {
        let Some(process) = &mut self.process else { return Ok(None) };
        process.signal(libc::SIGKILL)?;
        let ended = process.wait(limits::COMMAND);
        ended.map(Some).ok_or_else(|| Error::TooLate {
            what: format!("the end of {} after SIGKILL", self.id),
            limit: limits::COMMAND,
            state: format!("its state is {:?}", process.state()),
        })
    }
}
