//! Into namespaces of its own, before anything else.
//!
//! The program starts itself again as the first process of a new network, mount and process namespace, and waits
//! outside for its end. When either of the two ends, whatever ends it, the kernel ends every process inside, and with
//! them go the mounts, loop devices and networks. Must not touch what is outside but the control groups, which are
//! named after the outer process and removed by it.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cgroup;
use crate::command::{Line, find};
use crate::error::Error;
use crate::limits;

/// The variable that tells the inner program the id of the outer one.
pub(crate) const MARK: &str = "ALLUVIUM_WORLD_OUTER";

/// The programs that a world needs, and the package of Debian that has each: the one list of them.
pub const PROGRAMS: [(&str, &str); 16] = [
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "util-linux"),
    ("umount", "util-linux"),
    ("fallocate", "util-linux"),
    ("sh", "dash"),
    ("dd", "coreutils"),
    ("timeout", "coreutils"),
    ("env", "coreutils"),
    ("date", "coreutils"),
    ("ip", "iproute2"),
    ("cp", "coreutils"),
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("cc", "gcc"),
];

/// The devices that a world needs.
const DEVICES: [&str; 2] = ["/dev/net/tun", "/dev/loop-control"];

/// The proof that this process is in namespaces of its own.
#[derive(Debug)]
pub struct Inside {
    outer: u32,
    worlds: AtomicU32,
}

impl Inside {
    /// Returns a prefix for names outside of the namespaces that no other world has.
    pub(crate) fn unique_name(&self) -> String {
        let world = self.worlds.fetch_add(1, Ordering::Relaxed);
        format!("{}-{world}", cgroup::prefix(self.outer))
    }
}

/// Puts this program into namespaces of its own. To be called first in `main`, while there is one thread: the program
/// is started again inside, and this call returns there alone; outside it ends with the exit code of the inner one.
///
/// # Errors
/// [`Error::Unavailable`] when a privilege or a program is missing: the caller says SKIPPED with the reason.
pub fn enter() -> Result<Inside, Error> {
    // Only the inner program is the first process of its namespace; a variable alone proves nothing.
    let outer = std::env::var(MARK).ok().and_then(|outer| outer.parse::<u32>().ok());
    if let (Some(outer), 1) = (outer, std::process::id()) {
        return Ok(Inside { outer, worlds: AtomicU32::new(0) });
    }
    check_machine()?;
    let outer = std::process::id();
    cgroup::sweep(|owner| {
        owner == outer || fs::exists(format!("/proc/{owner}")).is_ok_and(|is| !is)
    });
    let program = std::env::current_exe().map_err(Error::io("find this program"))?;
    // Dies with this process, and everything inside dies with it.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork"])
        .args(["--kill-child=KILL", "--mount-proc", "--propagation", "private", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(MARK, outer.to_string())
        .status()
        .map_err(Error::io("start this program inside"))?;
    cgroup::sweep(|owner| owner == outer);
    std::process::exit(status.code().unwrap_or(1))
}

fn check_machine() -> Result<(), Error> {
    let unavailable = |reason: String| Err(Error::Unavailable { reason });
    let missing = |program: &str| find(program).is_none();
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| missing(program)).collect();
    if !missing.is_empty() {
        let programs = missing.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", ");
        let packages = missing.iter().map(|(_, package)| *package).collect::<Vec<_>>().join(" ");
        return unavailable(format!("no {programs}: apt-get install {packages}"));
    }
    let status = fs::read_to_string("/proc/self/status").map_err(Error::io("read who I am"))?;
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    if user.and_then(|ids| ids.split_whitespace().nth(1)) != Some("0") {
        return unavailable("it needs root".to_owned());
    }
    if let Some(device) = DEVICES.iter().find(|device| !fs::exists(device).unwrap_or(false)) {
        return unavailable(format!("there is no {device}"));
    }
    cgroup::check_machine()?;
    let trial = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"];
    match Line::of(&trial).run(limits::COMMAND) {
        Ok(_) => Ok(()),
        Err(error) => unavailable(format!("no new namespaces: {error}")),
    }
}
