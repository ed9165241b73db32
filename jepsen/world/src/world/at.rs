//! Other programs at a node's place, and single faults without a mode: for attackers of the harness and for tests.

use std::path::PathBuf;
use std::time::Duration;

use super::{NodeId, World};
use crate::command::Line;
use crate::error::Error;
use crate::nemesis::every_file;
use crate::shim::{Dial, Trap};

impl World {
    /// Returns where the disk of a place is mounted.
    #[must_use]
    pub fn disk_dir(&self, node: NodeId) -> PathBuf {
        self.node(node).disk.root().to_owned()
    }

    /// Runs a program in a node's network namespace and with the faults of its environment (clock, syncs), and
    /// returns what it printed.
    ///
    /// # Errors
    /// [`Error::Command`] when it fails, [`Error::CommandTimeout`] when it does not end.
    pub fn run_at(&self, node: NodeId, words: &[&str], limit: Duration) -> Result<String, Error> {
        let namespace = self.wire.namespace(node.0);
        let mut line = Line::new("nsenter").arg(format!("--net={}", namespace.display()));
        line = line.args(&["--", "env"]);
        for (name, value) in self.shim_env(node) {
            line = line.arg(format!("{name}={value}"));
        }
        line.args(words).run(limit)
    }

    /// Lets the next sync at a node fail that is of a file with `part` in its path; later syncs of that file by the
    /// same process lie.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn fail_next_sync(&self, node: NodeId, part: &str) -> Result<(), Error> {
        self.node(node).page.arm(Trap::Syncs, 1, part)
    }

    /// Lets the next `count` syncs at a node lie that are of a file with `part` in its path: they write nothing.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn let_syncs_lie(&self, node: NodeId, count: u64, part: &str) -> Result<(), Error> {
        self.node(node).page.arm(Trap::Lies, count, part)
    }

    /// Lets the next `count` writes at a node fail with EIO that are to a file with `part` in its path.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn fail_writes(&self, node: NodeId, count: u64, part: &str) -> Result<(), Error> {
        self.node(node).page.arm(Trap::Writes, count, part)
    }

    /// Lets the next `count` reads at a node fail with EIO that are from a file with `part` in its path.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn fail_reads(&self, node: NodeId, count: u64, part: &str) -> Result<(), Error> {
        self.node(node).page.arm(Trap::Reads, count, part)
    }

    /// Lets the wall clock of a node be ahead by `ahead_ms` and run at `rate_ppm` millionths of the true speed; zero and
    /// a million give it the machine's clock back.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn set_clock(&self, node: NodeId, ahead_ms: i64, rate_ppm: i64) -> Result<(), Error> {
        match (ahead_ms, rate_ppm) {
            (0, 1_000_000) => self.node(node).page.straighten(Dial::Wall),
            _ => self.node(node).page.bend(Dial::Wall, ahead_ms, rate_ppm),
        }
    }

    /// Lets the monotonic clock of a node go on `ahead_ms` later and at `rate_ppm` millionths of the true speed.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn set_steady_clock(
        &self,
        node: NodeId,
        ahead_ms: u32,
        rate_ppm: i64,
    ) -> Result<(), Error> {
        self.node(node).page.bend(Dial::Steady, i64::from(ahead_ms), rate_ppm)
    }

    /// Moves the disk of a place whose node does not run into memory.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn move_disk_to_memory(&mut self, node: NodeId) -> Result<(), Error> {
        self.node_mut(node).disk.move_to_memory()
    }

    /// Lets a device that was moved to memory fail, and says what the system answers to a write.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn fail_device(&self, node: NodeId) -> Result<Option<String>, Error> {
        self.node(node).disk.end_memory(0)?;
        Ok(self.node(node).disk.probe_failing())
    }

    /// Gives a place a good device with what the failing one took.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn move_disk_back(&mut self, node: NodeId) -> Result<(), Error> {
        self.node_mut(node).disk.move_back()
    }

    /// Lets every read fail that the served disk of a place is asked for and that is of a file of its node.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn fail_disk_reads(&self, node: NodeId) -> Result<(), Error> {
        let disk = &self.node(node).disk;
        let places = disk.uncache(&every_file(disk.root())?)?;
        if let Some(served) = disk.served() {
            served.fail_reads(places);
        }
        Ok(())
    }

    /// Lets each write and flush of the served disk of a place wait.
    pub fn stall_disk(&self, node: NodeId, delay: Duration) {
        if let Some(served) = self.node(node).disk.served() {
            served.stall(delay);
        }
    }

    /// Ends what was done to reads, writes and flushes of the served disk of a place. Returns how many reads failed and
    /// how many calls waited their whole time since the world was built.
    pub fn calm_disk(&self, node: NodeId) -> (u64, u64) {
        let Some(served) = self.node(node).disk.served() else { return (0, 0) };
        served.calm();
        let counters = served.counters();
        (counters.failed_reads, counters.delayed)
    }
}
