//! `device`: a block device that fails below the file system of one node.
//!
//! Nothing pretends here: the kernel meets an error of the device, tells it to one sync as EIO or ENOSPC, marks the pages
//! clean, and gives the journal up. The loop device adds a lie: of a write of which a part found room it says that it was
//! whole, so that the node may lack what it was told to have, and may refuse for it. Must not be healed in place: what the kernel believes of such a disk is of no more use. Invariant: the
//! node comes back on what the device took, and on nothing else.

use super::bitflip::every_file;
use super::{Done, Undo, Undone, not_now};
use crate::command::sleep;
use crate::error::Error;
use crate::fault::Observation;
use crate::limits;
use crate::mode::Mode;
use crate::node::ending;
use crate::world::{NodeId, World};

/// Up to how much a device takes before it fails.
const MORE_BYTES_MAX: u64 = 2 << 20;

impl World {
    pub(super) fn install_failing_device(&mut self, mode: Mode) -> Result<Done, Error> {
        let node = self.target(mode, false)?;
        if !self.all_answer() {
            return Err(not_now(mode, "another node is down"));
        }
        self.stop(node)?;
        self.node_mut(node).disk.move_to_memory()?;
        self.start(node)?;
        let more = self.prng.below(MORE_BYTES_MAX);
        self.node(node).disk.end_memory(more)?;
        let failed_at = self.now();
        // The node is given the first writes that fail, if it comes to write within the time.
        while self.node_mut(node).is_running()
            && self.now().saturating_sub(failed_at) < limits::EFFECT
        {
            sleep(limits::LOOK);
        }
        let probe = self.node(node).disk.probe_failing();
        let process = self.node_mut(node).process.as_mut();
        let ended = process.and_then(|process| process.ended()).map(ending);
        let took = self.now().saturating_sub(failed_at);
        let said = probe.clone().unwrap_or_else(|| "success".to_owned());
        Ok(Done {
            nodes: vec![node],
            detail: format!(
                "the device of {node} takes {more} bytes that are new to it, and then fails; \
                 the node ended by itself: {ended:?}, waited for {took:.1?}"
            ),
            observation: Observation::of(
                probe.is_some(),
                format!("a synced write to the disk of {node} was answered with {said:?}"),
            ),
            undo: Undo::Device(node),
        })
    }

    /// Ends the node and gives it a good device with what the failing one took.
    pub(super) fn undo_device(&mut self, node: NodeId) -> Result<Undone, Error> {
        let detail = self.say_end(node);
        self.node_mut(node).kill()?;
        self.node_mut(node).disk.move_back()?;
        if self.member_id(node).is_none() {
            return Ok(Undone::of(format!("{node} was removed meanwhile")));
        }
        let files = every_file(&self.node(node).disk.node_dir())?;
        self.node_mut(node).damaged.extend(files);
        let started = self.start_or_say(&[node])?;
        Ok(Undone::of(format!("{detail}; what the device took is on another one; {started}")))
    }
}
