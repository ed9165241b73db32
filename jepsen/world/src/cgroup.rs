//! Control groups: how much processor, memory and disk a node gets.
//!
//! Version 1, one group for each node and controller. Must not touch a group that is not named after the outer process
//! of a world. Invariant: a group is removed by the world that made it, else by the outer process, else by the next.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::sleep;
use crate::error::Error;

const ROOT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "alluvium-world-";

/// What a group limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Cpu,
    Memory,
    Blkio,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Blkio];

    const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Blkio => "blkio",
        }
    }

    fn path(self, group: &str) -> PathBuf {
        Path::new(ROOT).join(self.name()).join(group)
    }
}

/// Returns what the names of groups of an outer process begin with.
pub(crate) fn prefix(outer: u32) -> String {
    format!("{PREFIX}{outer}")
}

/// Says what is missing on this machine.
pub(crate) fn check_machine() -> Result<(), Error> {
    let has = |controller: &Controller| controller.path("").join("cgroup.procs").exists();
    match Controller::ALL.iter().find(|controller| !has(controller)) {
        None => Ok(()),
        Some(controller) => Err(Error::Unavailable {
            reason: format!("no control groups (version 1) of {} in {ROOT}", controller.name()),
        }),
    }
}

/// Removes the empty groups whose owner `is_gone`. One that has processes stays: it is in use after all.
pub(crate) fn sweep(is_gone: impl Fn(u32) -> bool) {
    for controller in Controller::ALL {
        let Ok(groups) = fs::read_dir(controller.path("")) else { continue };
        for group in groups.flatten() {
            let name = group.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            if owner.and_then(|owner| owner.parse().ok()).is_some_and(&is_gone) {
                // The kernel refuses when it is in use.
                drop(fs::remove_dir(group.path()));
            }
        }
    }
}

/// The groups of one node.
#[derive(Debug)]
pub(crate) struct Groups {
    name: String,
}

impl Groups {
    pub(crate) fn make(name: String) -> Result<Self, Error> {
        let groups = Self { name };
        for controller in Controller::ALL {
            let path = controller.path(&groups.name);
            fs::create_dir(&path).map_err(Error::io(format!("make {}", path.display())))?;
        }
        Ok(groups)
    }

    /// Returns the files that a process writes its id to in order to be limited.
    pub(crate) fn doors(&self) -> Vec<PathBuf> {
        Controller::ALL.iter().map(|one| one.path(&self.name).join("cgroup.procs")).collect()
    }

    /// Returns the one of a controller.
    pub(crate) fn door(&self, controller: Controller) -> PathBuf {
        controller.path(&self.name).join("cgroup.procs")
    }

    pub(crate) fn set(&self, controller: Controller, file: &str, value: &str) -> Result<(), Error> {
        let path = controller.path(&self.name).join(file);
        #[expect(clippy::disallowed_methods, reason = "a file of the kernel, not of a disk")]
        fs::write(&path, value).map_err(Error::io(format!("write {value:?} to {}", path.display())))
    }

    pub(crate) fn get(&self, controller: Controller, file: &str) -> Result<String, Error> {
        let path = controller.path(&self.name).join(file);
        fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))
    }

    /// Returns the number after `key` in a file, or the whole file as a number when there is no key.
    pub(crate) fn number(
        &self,
        controller: Controller,
        file: &str,
        key: &str,
    ) -> Result<u64, Error> {
        let text = self.get(controller, file)?;
        let found = match key {
            "" => text.trim().parse().ok(),
            key => text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok()),
        };
        let path = controller.path(&self.name).join(file);
        found.ok_or_else(|| Error::ForeignFile { path, what: format!("no number for {key:?}") })
    }

    /// Removes the groups. Their processes must have ended.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        for controller in Controller::ALL {
            let path = controller.path(&self.name);
            // A process that was just waited for may be counted for another moment.
            for tries_left in (0..50).rev() {
                match fs::remove_dir(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => break,
                    Err(error) if tries_left == 0 => {
                        return Err(Error::io(format!("remove {}", path.display()))(error));
                    }
                    Err(_) => sleep(Duration::from_millis(20)),
                    Ok(()) => break,
                }
            }
        }
        Ok(())
    }
}
