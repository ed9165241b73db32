//! `bitflip`: one bit of one file of a node that was stopped in good order, so that everything in it was durable.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::wal::{self, Kind};
use super::{Done, Undo, Undone, not_now};
use crate::error::Error;
use crate::fault::Observation;
use crate::limits;
use crate::mode::Mode;
use crate::node::ending;
use crate::world::{NodeId, World};

/// A bit of a file.
struct Bit {
    path: PathBuf,
    offset: u64,
    what: String,
}

impl World {
    pub(super) fn install_bitflip(&mut self, mode: Mode) -> Result<Done, Error> {
        let node = self.target(mode, false)?;
        // One damaged node among others that are gone may be more than a majority can bear.
        if !self.all_answer() {
            return Err(not_now(mode, "another node is down"));
        }
        // Is there something to damage? Before the node is stopped for nothing.
        self.aim(mode, node)?;
        self.stop(node)?;
        let bit = self.aim(mode, node)?;
        let mask = 1_u8 << self.prng.below(8);
        let (before, after) = flip(&bit, mask)?;
        // Written to the disk and read from it: a power cut must not heal it.
        self.node(node).disk.remount()?;
        let read = read_byte(&bit)?;
        self.node_mut(node).damaged.push(bit.path.clone());
        let reaction = self.start_damaged(node)?;
        let undo = match mode {
            Mode::BitflipDataFile => Undo::DataFile { node, path: bit.path.clone() },
            _ => Undo::Nothing,
        };
        Ok(Done {
            nodes: vec![node],
            detail: format!("{node}: {}, offset {}; then {reaction}", bit.what, bit.offset),
            observation: Observation::of(
                read == after && read != before,
                format!("the byte was {before:#04x}, and the disk has {read:#04x}"),
            ),
            undo,
        })
    }

    /// Starts a node whose disk is damaged. That it refuses is an answer.
    fn start_damaged(&mut self, node: NodeId) -> Result<String, Error> {
        match self.start(node) {
            Ok(()) => {
                let process = self.node_mut(node).process.as_mut();
                let ended = process.and_then(|process| process.wait(limits::LOOK * 50));
                Ok(match ended {
                    Some(status) => format!("it started and ended with {}", ending(status)),
                    None => "it started".to_owned(),
                })
            }
            Err(Error::DidNotStart { status, said, .. }) => {
                let line = said.lines().find(|line| line.starts_with("error"));
                Ok(format!("it refused to start ({status}): {}", line.unwrap_or(&said)))
            }
            Err(error) => Err(error),
        }
    }

    /// Finds the bit that a mode damages.
    fn aim(&mut self, mode: Mode, node: NodeId) -> Result<Bit, Error> {
        let dir = self.node(node).disk.node_dir();
        match mode {
            Mode::BitflipWalMid | Mode::BitflipWalTail | Mode::BitflipVote => {
                self.aim_at_log(mode, &dir.join("wal"))
            }
            Mode::BitflipSnapshot => self.aim_at_file(mode, &dir.join("snapshots"), "alvs"),
            Mode::BitflipSst => self.aim_at_file(mode, &dir.join("meta"), "sst"),
            _ => self.aim_at_file(mode, &dir.join("buckets"), "parquet"),
        }
    }

    fn aim_at_log(&mut self, mode: Mode, dir: &Path) -> Result<Bit, Error> {
        let mut segments = files(dir, "wal")?;
        let is_segment = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-"))
        };
        segments.retain(is_segment);
        segments.sort_unstable();
        let newest = segments.pop().ok_or_else(|| not_now(mode, "the log has no segment"))?;
        let bytes = fs::read(&newest).map_err(Error::io(format!("read {}", newest.display())))?;
        let mut records = wal::records(&bytes);
        let wanted = if mode == Mode::BitflipVote { Kind::Vote } else { Kind::Entry };
        records.retain(|record| record.kind == wanted && record.payload_len > 0);
        let chosen = match mode {
            Mode::BitflipWalMid => records.get(records.len() / 2),
            _ => records.last(),
        };
        let chosen =
            chosen.ok_or_else(|| not_now(mode, "the newest segment has no such record"))?;
        let within = u64::try_from(chosen.payload_len).unwrap_or(1);
        let payload = u64::try_from(chosen.payload).unwrap_or(0);
        Ok(Bit {
            offset: payload + self.prng.below(within),
            what: format!(
                "payload of the {:?} with index {} of {} in {}",
                chosen.kind,
                chosen.index,
                records.len(),
                newest.display()
            ),
            path: newest,
        })
    }

    fn aim_at_file(&mut self, mode: Mode, dir: &Path, extension: &str) -> Result<Bit, Error> {
        let mut found = files(dir, extension).unwrap_or_default();
        found.sort_unstable();
        // The newest snapshot is the one that is used; of other files, one by chance.
        let path = match mode {
            Mode::BitflipSnapshot => found.last(),
            _ => self.prng.pick(&found),
        };
        let path = path.cloned().ok_or_else(|| not_now(mode, "there is no such file yet"))?;
        let metadata = fs::metadata(&path);
        let length = metadata.map_err(Error::io(format!("look at {}", path.display())))?.len();
        let offset = self.prng.below(length.max(1));
        Ok(Bit { what: format!("{} of {length} bytes", path.display()), path, offset })
    }

    /// Data files never change, so any intact copy is the right one: it is taken from a peer, as the runbook says.
    pub(super) fn undo_data_file(&mut self, node: NodeId, path: &Path) -> Result<Undone, Error> {
        let known = &mut self.node_mut(node).damaged;
        let Some(at) = known.iter().position(|one| one == path) else {
            return Ok(Undone::of("the node was replaced meanwhile"));
        };
        let damaged = known.swap_remove(at);
        let root = self.node(node).disk.root().to_owned();
        let name = damaged.strip_prefix(&root).unwrap_or(&damaged).to_owned();
        let others = self.node_ids().into_iter().filter(|other| *other != node);
        let copies = others.map(|other| self.node(other).disk.root().join(&name));
        let copy = copies.into_iter().find(|copy| copy.exists());
        if self.node_mut(node).is_running() {
            self.stop(node)?;
        }
        let what = match copy {
            // A compaction replaced it everywhere.
            None if !damaged.exists() => "the file is gone everywhere".to_owned(),
            None => {
                self.replace(node, "no peer has the file whole".to_owned())?;
                return Ok(Undone::of(format!("{node} was replaced: no peer has the file")));
            }
            Some(copy) => {
                let bytes =
                    fs::read(&copy).map_err(Error::io(format!("read {}", copy.display())))?;
                let written = alluvium_stdx::durable::write(&damaged, &bytes);
                written.map_err(Error::io(format!("write {}", damaged.display())))?;
                format!("the file was copied from {}", copy.display())
            }
        };
        self.start(node)?;
        Ok(Undone::of(what))
    }
}

fn flip(bit: &Bit, mask: u8) -> Result<(u8, u8), Error> {
    let before = read_byte(bit)?;
    let failed = || Error::io(format!("damage {}", bit.path.display()));
    let file = OpenOptions::new().write(true).open(&bit.path).map_err(failed())?;
    let after = before ^ mask;
    file.write_all_at(&[after], bit.offset).map_err(failed())?;
    file.sync_all().map_err(failed())?;
    Ok((before, after))
}

fn read_byte(bit: &Bit) -> Result<u8, Error> {
    let failed = || Error::io(format!("read {}", bit.path.display()));
    let file = OpenOptions::new().read(true).open(&bit.path).map_err(failed())?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit.offset).map_err(failed())?;
    Ok(byte[0])
}

/// Returns the files below a directory with this extension.
fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, Error> {
    let mut found = every_file(dir)?;
    found.retain(|path| path.extension().is_some_and(|own| own == extension));
    Ok(found)
}

/// Returns the files below a directory.
pub(crate) fn every_file(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).map_err(Error::io(format!("list {}", dir.display())))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    Ok(found)
}
