//! `fsync-fail`, `enospc` and `slowdisk`.

use std::time::Duration;

use alluvium_stdx::{Clock as _, SystemClock};

use super::{Done, Undo, Undone};
use crate::cgroup::Controller;
use crate::command::{Line, sleep};
use crate::error::Error;
use crate::fault::Observation;
use crate::limits;
use crate::mode::Mode;
use crate::node::ending;
use crate::shim;
use crate::world::{NodeId, World};

/// Reads and writes in a second of a slow disk.
const SLOW_IOPS: u64 = 20;
/// Synced writes of the probe: at that speed they take half a second and more.
const PROBE_WRITES: u64 = 20;
const PROBE_SLOW: Duration = Duration::from_millis(600);
/// The part of a path of the files whose sync fails.
const LOG_FILES: &str = "/wal/";

impl World {
    pub(super) fn install_on_disk(&mut self, mode: Mode) -> Result<Done, Error> {
        let is_leader =
            matches!(mode, Mode::FsyncFailLeader | Mode::EnospcWal | Mode::SlowdiskLeader);
        let node = self.target(mode, is_leader)?;
        match mode {
            Mode::FsyncFailLeader | Mode::FsyncFailFollower => self.install_failed_sync(node),
            Mode::EnospcWal | Mode::EnospcData => self.install_full_disk(node, is_leader),
            _ => self.install_slow_disk(node),
        }
    }

    fn install_failed_sync(&mut self, node: NodeId) -> Result<Done, Error> {
        let before = self.node(node).page.done()?;
        self.node(node).page.fail_syncs(1, LOG_FILES)?;
        let begun = self.now();
        while self.node(node).page.done()?.failed_syncs == before.failed_syncs
            && self.now().saturating_sub(begun) < limits::EFFECT
        {
            sleep(limits::LOOK);
        }
        let observation = self.observe_sync(node, &before)?;
        let failed_at = self.now();
        let mut reaction = String::new();
        if observation.is_observed() {
            let process = self.node_mut(node).process.as_mut();
            let ended = process.and_then(|process| process.wait(limits::ABORT)).map(ending);
            let took = self.now().saturating_sub(failed_at);
            reaction = format!("; the node ended by itself: {ended:?}, waited for {took:.1?}");
        }
        Ok(Done {
            nodes: vec![node],
            detail: format!(
                "the next sync of a file of the log of {node} fails with EIO, later ones of that file lie{reaction}"
            ),
            observation,
            undo: Undo::Sync { node, before },
        })
    }

    pub(super) fn observe_sync(
        &self,
        node: NodeId,
        before: &shim::Done,
    ) -> Result<Observation, Error> {
        let done = self.node(node).page.done()?;
        let failed = done.failed_syncs - before.failed_syncs;
        let lied = done.lied_syncs - before.lied_syncs;
        let seen = failed > 0;
        Ok(match seen {
            true => Observation::of(
                true,
                format!("{failed} sync failed, of {}; {lied} later ones lied", done.failed_path),
            ),
            false => Observation::of(false, format!("{node} has synced nothing of its log since")),
        })
    }

    /// Waits for the end that a failed sync must have, then cuts the power: what the kernel no longer calls dirty was
    /// never written, so a node that went on as if it were loses it here.
    pub(super) fn undo_sync(&mut self, node: NodeId, before: &shim::Done) -> Result<Undone, Error> {
        self.node(node).page.fail_syncs(0, LOG_FILES)?;
        if self.node(node).page.done()?.failed_syncs == before.failed_syncs {
            return Ok(Undone::of("no sync failed; none will"));
        }
        if self.member_id(node).is_none() {
            return Ok(Undone::of(format!("{node} was removed meanwhile")));
        }
        let process = self.node_mut(node).process.as_mut();
        let ended = process.and_then(|process| process.wait(limits::ABORT));
        let words = self.node(node).process.as_ref().map(|process| process.last_words());
        let words = words.unwrap_or_default();
        let line =
            words.lines().rev().find(|line| line.contains("ERROR") || line.contains("error"));
        let (detail, broken) = match ended {
            Some(status) => (
                format!(
                    "{node} ended by itself ({}): {}",
                    ending(status),
                    line.unwrap_or_default()
                ),
                Vec::new(),
            ),
            None => (
                format!("{node} was ended"),
                vec![format!("{node} went on for {:?} after a failed sync", limits::ABORT)],
            ),
        };
        self.power_cut(&[node])?;
        let started = self.start_or_say(&[node])?;
        Ok(Undone { detail: format!("{detail}; power cut, {started}"), broken })
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
