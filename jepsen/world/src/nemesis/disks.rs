//! `enospc` and `slowdisk`.

use std::time::Duration;

use alluvium_stdx::{Clock as _, SystemClock};

use super::{Done, Undo, Undone};
use crate::cgroup::Controller;
use crate::command::Line;
use crate::error::Error;
use crate::fault::Observation;
use crate::limits;
use crate::mode::Mode;
use crate::world::{NodeId, World};

/// Reads and writes in a second of a slow disk.
const SLOW_IOPS: u64 = 20;
/// Synced writes of the probe: at that speed they take half a second and more.
const PROBE_WRITES: u64 = 20;
const PROBE_SLOW: Duration = Duration::from_millis(600);

impl World {
    pub(super) fn install_on_disk(&mut self, mode: Mode) -> Result<Done, Error> {
        let is_leader = matches!(mode, Mode::EnospcWal | Mode::SlowdiskLeader);
        let node = self.target(mode, is_leader)?;
        match mode {
            Mode::EnospcWal | Mode::EnospcData => self.install_full_disk(node, is_leader),
            _ => self.install_slow_disk(node),
        }
    }

    fn install_full_disk(&mut self, node: NodeId, is_leader: bool) -> Result<Done, Error> {
        let said = self.node(node).disk.fill()?;
        let role = if is_leader { "leader" } else { "follower" };
        Ok(Done {
            nodes: vec![node],
            detail: format!(
                "the disk of {node}, a {role}, is full to the last block; the segments that its log has already \
                 take more, so the log meets it when it needs the next one"
            ),
            observation: Observation::of(
                !said.is_empty(),
                format!("one more block was answered with {said:?}"),
            ),
            undo: Undo::Space(node),
        })
    }

    pub(super) fn undo_space(&mut self, node: NodeId) -> Result<Undone, Error> {
        self.node(node).disk.unfill()?;
        if self.node_mut(node).is_running() || self.member_id(node).is_none() {
            return Ok(Undone::of(format!("{node} has space again, and had not ended")));
        }
        let started = self.start_or_say(&[node])?;
        Ok(Undone::of(format!("{node} has space again; it had ended; {started}")))
    }

    fn install_slow_disk(&mut self, node: NodeId) -> Result<Done, Error> {
        let before = self.probe_disk(node)?;
        let device = self.node(node).disk.device()?;
        self.throttle(node, &device, SLOW_IOPS)?;
        let after = self.probe_disk(node)?;
        Ok(Done {
            nodes: vec![node],
            detail: format!("the disk of {node} does {SLOW_IOPS} reads and writes in a second"),
            observation: Observation::of(
                after >= PROBE_SLOW && after > before * 2,
                format!("{PROBE_WRITES} synced writes took {after:.0?}, and {before:.0?} before"),
            ),
            undo: Undo::Throttle { node, device },
        })
    }

    /// Sets how many reads and writes in a second the node's disk does; zero is no limit.
    fn throttle(&self, node: NodeId, device: &str, iops: u64) -> Result<(), Error> {
        let node = self.node(node);
        let limit = format!("{device} {iops}");
        for file in ["blkio.throttle.write_iops_device", "blkio.throttle.read_iops_device"] {
            node.groups.set(Controller::Blkio, file, &limit)?;
        }
        Ok(())
    }

    /// Returns how long a few synced writes take for a process in the node's group.
    fn probe_disk(&self, node: NodeId) -> Result<Duration, Error> {
        let node = self.node(node);
        let clock = SystemClock::new();
        let door = node.groups.door(Controller::Blkio);
        let probe = node.disk.root().join("probe");
        Line::of(&["sh", "-c", "echo $$ > \"$1\" && exec dd if=/dev/zero of=\"$2\" bs=4096 count=\"$3\" oflag=dsync status=none", "sh"])
            .path(&door)
            .path(&probe)
            .arg(PROBE_WRITES.to_string())
            .run(limits::COMMAND)?;
        Ok(Duration::from_nanos(clock.monotonic_ns()))
    }

    pub(super) fn undo_throttle(&mut self, node: NodeId, device: &str) -> Result<Undone, Error> {
        // A power cut in between may have given the disk another device: the old one must not stay limited.
        self.throttle(node, device, 0)?;
        Ok(Undone::of(format!("the disk of {node} is as fast as it was")))
    }
}
