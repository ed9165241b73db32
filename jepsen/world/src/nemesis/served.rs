//! `device` on disks that are served: power that goes between two writes, reads that fail, and calls that wait.
//!
//! Nothing of the node or of its kernel knows of it: ext4, its journal and the loop device meet a disk that has a cache, a
//! sector that cannot be read, a call that takes long. Must not count a disk that nobody used. Invariant: what is in
//! place is calmed before anything waits for the disk.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bitflip::every_file;
use super::{Done, Tally, Undo, Undone, names, not_now};
use crate::command::sleep;
use crate::disk::Disk;
use crate::error::Error;
use crate::fault::Observation;
use crate::limits;
use crate::mode::Mode;
use crate::served::{Loss, Served};
use crate::world::{NodeId, World};

/// The power goes when 512 bytes or up to so many powers of two more wait for a flush; what is not reached in a while is
/// lowered so far.
const DOUBLINGS: u64 = 10;
const LOWER: usize = 8;
const WHILE: Duration = Duration::from_millis(500);
/// How much later a write or a flush of a disk that stalls is done.
const STALL: Duration = Duration::from_secs(2);

impl World {
    pub(super) fn install_on_served(&mut self, mode: Mode) -> Result<Done, Error> {
        if let Some(reason) = &self.unserved {
            return Err(Error::NotOffered { mode, reason: reason.clone() });
        }
        let done = self.install_served(mode);
        if done.is_err() {
            // Nobody undoes what was not installed: a power that still goes would be a fault that nobody knows of.
            self.node_ids().into_iter().for_each(|node| self.served(node).calm());
        }
        done
    }

    fn install_served(&mut self, mode: Mode) -> Result<Done, Error> {
        if mode == Mode::DeviceTornPowercutAll {
            let mut nodes = self.node_ids();
            super::shuffle(&mut self.prng, &mut nodes);
            return self.install_torn_power_cut(mode, nodes);
        }
        let (leader, others) = self.cast(mode)?;
        let everyone: Vec<NodeId> = std::iter::once(leader).chain(others).collect();
        let node = self.prng.pick(&everyone).copied().ok_or(Error::NoLeader)?;
        match mode {
            Mode::DeviceReadError => self.install_unreadable_files(node),
            Mode::DeviceStall => self.install_stall(node),
            _ => self.install_torn_power_cut(mode, vec![node]),
        }
    }

    /// Lets the power of one disk go when enough of it is not flushed, and with it that of the others.
    fn install_torn_power_cut(&mut self, mode: Mode, nodes: Vec<NodeId>) -> Result<Done, Error> {
        let first = *nodes.first().ok_or_else(|| not_now(mode, "there is no member"))?;
        let bytes = 512 << self.prng.below(DOUBLINGS);
        // A node syncs soon what it writes; but the kernel may write it sooner, and then it is what a cut tears.
        let is_early = self.prng.one_in(2);
        let (reached, early) = self.wait_for_cut(&nodes, bytes, is_early)?;
        let losses = self.tear_power(&nodes)?;
        let said: Vec<String> =
            nodes.iter().zip(&losses).map(|(node, loss)| tell(*node, loss)).collect();
        let has_lost = losses.iter().any(|loss| loss.lost > 0);
        Ok(Done {
            detail: format!(
                "the power of {} went when {reached} bytes of the disk of {first} were not flushed; before, the \
                 kernel was let write files early {early} times; SIGKILL, new mount",
                names(&nodes)
            ),
            observation: Observation::of(has_lost, said.join("; ")),
            undo: Undo::Start(nodes.clone()),
            nodes,
        })
    }

    /// Waits until so much of the first disk is not flushed that its power goes. Returns how much was asked for at last,
    /// and how often the kernel was let write a file of any of them.
    fn wait_for_cut(
        &self,
        nodes: &[NodeId],
        bytes: usize,
        is_early: bool,
    ) -> Result<(usize, u64), Error> {
        let (mut bytes, begun, mut since) = (bytes, self.now(), self.now());
        let mut early = 0;
        let Some(first) = nodes.first().map(|first| self.served(*first)) else { return Ok((0, 0)) };
        first.cut_at(bytes);
        while !first.is_off() && self.now().saturating_sub(begun) < limits::EFFECT {
            for node in nodes.iter().filter(|_| is_early) {
                match living_files(&self.node(*node).disk.node_dir()) {
                    Ok(files) => early += Disk::write_back(&files),
                    // The power may go meanwhile.
                    Err(_) if first.is_off() => {}
                    Err(error) => return Err(error),
                }
            }
            if self.now().saturating_sub(since) > WHILE && bytes > 1 {
                (bytes, since) = ((bytes / LOWER).max(1), self.now());
                first.cut_at(bytes);
            }
            sleep(Duration::from_millis(1));
        }
        Ok((bytes, early))
    }

    fn install_unreadable_files(&mut self, node: NodeId) -> Result<Done, Error> {
        let before = self.served(node).counters();
        let begun = self.now();
        let mut files = 0;
        loop {
            // What is new meanwhile fails as well, and nothing is read from memory.
            let disk = &self.node(node).disk;
            let paths = living_files(&disk.node_dir())?;
            files = files.max(paths.len());
            let places = disk.uncache(&paths)?;
            self.served(node).fail_reads(places);
            let is_met = self.served(node).counters().failed_reads > before.failed_reads;
            if is_met || self.now().saturating_sub(begun) > limits::EFFECT {
                break;
            }
            sleep(limits::LOOK);
        }
        Ok(Done {
            nodes: vec![node],
            detail: format!("the disk of {node} cannot read what {files} files of it have"),
            observation: self.observe_served(Mode::DeviceReadError, node, before),
            undo: Undo::Served { node, before },
        })
    }

    fn install_stall(&mut self, node: NodeId) -> Result<Done, Error> {
        let before = self.served(node).counters();
        self.served(node).stall(STALL);
        let begun = self.now();
        while self.served(node).counters().delayed == before.delayed
            && self.now().saturating_sub(begun) < limits::EFFECT
        {
            sleep(limits::LOOK);
        }
        Ok(Done {
            nodes: vec![node],
            detail: format!("each write and each flush of the disk of {node} waits for {STALL:?}"),
            observation: self.observe_served(Mode::DeviceStall, node, before),
            undo: Undo::Served { node, before },
        })
    }

    pub(super) fn observe_served(&self, mode: Mode, node: NodeId, before: Tally) -> Observation {
        let now = self.served(node).counters();
        let failed = now.failed_reads.saturating_sub(before.failed_reads);
        let delayed = now.delayed.saturating_sub(before.delayed);
        match mode {
            Mode::DeviceStall => {
                let what = format!("{delayed} writes and flushes of {node} took {STALL:?} longer");
                Observation::of(delayed > 0, what)
            }
            _ => {
                Observation::of(failed > 0, format!("{failed} reads of the disk of {node} failed"))
            }
        }
    }

    /// Lets the disk be as it was. A node that only had to wait must still run.
    pub(super) fn undo_served(&mut self, mode: Mode, node: NodeId) -> Result<Undone, Error> {
        self.served(node).calm();
        if self.member_id(node).is_none() {
            return Ok(Undone::of(format!("{node} was removed meanwhile")));
        }
        let detail = self.say_end(node);
        if self.node_mut(node).is_running() {
            return Ok(Undone::of(format!("the disk is as it was; {detail}")));
        }
        let broken = (mode == Mode::DeviceStall).then(|| detail.clone());
        let started = self.start_or_say(&[node])?;
        Ok(Undone {
            detail: format!("the disk is as it was; {detail}; {started}"),
            broken: broken.into_iter().collect(),
        })
    }

    fn served(&self, node: NodeId) -> &Served {
        let served = self.node(node).disk.served();
        served.expect("without served disks no such mode is installed")
    }
}

/// Returns the files of a node that runs: what it removes meanwhile has none.
fn living_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    match every_file(dir) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

fn tell(node: NodeId, loss: &Loss) -> String {
    let Loss { writes, sectors, lost, torn, sector_bytes } = loss;
    format!(
        "{node} had {writes} writes of {sectors} sectors of {sector_bytes} bytes that were not flushed: \
         {lost} were lost, {torn} writes were torn"
    )
}
