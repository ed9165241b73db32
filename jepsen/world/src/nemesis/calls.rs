//! `fsync-fail`, `fsync-lie` and `eio`: calls on files of one node that fail or lie.
//!
//! Must not judge what clients are told. Invariant: a node that must end by itself is waited for as long as its promise
//! lasts, and what it did instead is told as broken.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::{Done, Undo, Undone, not_now, wal};
use crate::command::sleep;
use crate::error::Error;
use crate::fault::Observation;
use crate::limits;
use crate::mode::Mode;
use crate::node::ending;
use crate::shim::Trap;
use crate::world::{NodeId, World};

/// Parts of the paths of a node's files.
const LOG: &str = "/wal/";
pub(super) const SEGMENTS: &str = "/wal/segment-";
const DATA: &str = "/buckets/";
const META: &str = "/meta/";
/// More calls than a fault lasts for.
const ALL_CALLS: u64 = 1 << 40;
/// A few calls, as of a disk that comes back.
const SOME_WRITES: u64 = 3;
const SOME_READS: u64 = 12;
/// Up to how many reads of the log a start may do before the first one that fails.
const READS_BEFORE: u64 = 5;

/// What a node may do once a call was caught, and what the harness does then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum After {
    /// It must end by itself, and soon; whether it was late is known when it was waited for. Then its power is cut: what
    /// the kernel no longer calls dirty was never written, so a node that went on as if it were loses it here.
    MustEnd {
        /// What is broken already.
        late: Option<String>,
    },
    /// It may end, or go on and try again. Its power is cut all the same.
    IsCut,
    /// It must go on.
    MustGoOn,
    /// It may end.
    MayEnd,
    /// Its power is cut and its log lacks what was never written: it may refuse to start for that.
    Lied,
    /// It was stopped, and was to refuse its start; what it did instead.
    Refused(Vec<String>),
}

pub(super) const MUST_END: After = After::MustEnd { late: None };

/// Which calls a mode catches, and what is to come of it.
struct Plan {
    is_leader: bool,
    trap: Trap,
    count: u64,
    part: &'static str,
    after: After,
}

fn plan(mode: Mode) -> Plan {
    let (is_leader, trap, count, part, after) = match mode {
        Mode::FsyncFailLeader => (true, Trap::Syncs, 1, LOG, MUST_END),
        Mode::FsyncFailData => (false, Trap::Syncs, 1, DATA, After::IsCut),
        Mode::FsyncLieLeader => (true, Trap::Lies, ALL_CALLS, SEGMENTS, After::Lied),
        Mode::FsyncLieFollower => (false, Trap::Lies, ALL_CALLS, SEGMENTS, After::Lied),
        Mode::EioWriteLog => (true, Trap::Writes, 1, SEGMENTS, MUST_END),
        Mode::EioWriteData => (true, Trap::Writes, SOME_WRITES, DATA, After::MustGoOn),
        Mode::EioReadData => (false, Trap::Reads, SOME_READS, DATA, After::MustGoOn),
        Mode::EioWriteMeta => (false, Trap::Writes, 1, META, After::MayEnd),
        _ => (false, Trap::Syncs, 1, LOG, MUST_END),
    };
    Plan { is_leader, trap, count, part, after }
}

fn late(node: NodeId) -> String {
    format!("{node} went on for {:?} after a call had failed", limits::ABORT)
}

impl World {
    pub(super) fn install_on_calls(&mut self, mode: Mode) -> Result<Done, Error> {
        if mode == Mode::EioReadLog {
            return self.install_unreadable_log(mode);
        }
        let Plan { is_leader, trap, count, part, after } = plan(mode);
        let node = self.target(mode, is_leader)?;
        let before = self.node(node).page.caught(trap)?.times;
        self.node(node).page.arm(trap, count, part)?;
        let begun = self.now();
        while self.node(node).page.caught(trap)?.times == before
            && self.now().saturating_sub(begun) < limits::EFFECT
        {
            sleep(limits::LOOK);
        }
        let observation = self.observe_calls(node, trap, before)?;
        let (reaction, after) = self.react(node, observation.is_observed(), after);
        let role = if is_leader { "the leader" } else { "a follower" };
        let count = if count == ALL_CALLS { "each".to_owned() } else { count.to_string() };
        Ok(Done {
            nodes: vec![node],
            detail: format!(
                "{node}, {role}: on files with {part} in their path, {count}: {}{reaction}",
                trap.word()
            ),
            observation,
            undo: Undo::Calls { node, trap, before, after },
        })
    }

    /// Waits for the end that a call that was caught must have, and says what came of it.
    pub(super) fn react(&mut self, node: NodeId, is_caught: bool, after: After) -> (String, After) {
        match after {
            After::MustEnd { .. } if is_caught => {
                let failed_at = self.now();
                let process = self.node_mut(node).process.as_mut();
                let ended = process.and_then(|process| process.wait(limits::ABORT)).map(ending);
                let took = self.now().saturating_sub(failed_at);
                let late = ended.is_none().then(|| late(node));
                let said = format!("; the node ended by itself: {ended:?}, waited for {took:.1?}");
                (said, After::MustEnd { late })
            }
            other => (String::new(), other),
        }
    }

    pub(super) fn observe_calls(
        &self,
        node: NodeId,
        trap: Trap,
        before: u64,
    ) -> Result<Observation, Error> {
        let caught = self.node(node).page.caught(trap)?;
        let times = caught.times.saturating_sub(before);
        let mut what = format!("{times} times at {node}: {}", trap.word());
        if times > 0 {
            what = format!("{what}, the last of {}", caught.path);
        }
        if trap == Trap::Syncs {
            let lies = self.node(node).page.caught(Trap::Lies)?.times;
            what = format!("{what}; {lies} lies so far");
        }
        Ok(Observation::of(times > 0, what))
    }

    /// Stops a follower and lets it start while reads of its log fail.
    fn install_unreadable_log(&mut self, mode: Mode) -> Result<Done, Error> {
        let node = self.target(mode, false)?;
        if !self.all_answer() {
            return Err(not_now(mode, "another node is down"));
        }
        self.stop(node)?;
        let (kept, before) = (self.segments(node)?, self.node(node).page.caught(Trap::Reads)?);
        let skip = self.prng.below(READS_BEFORE);
        let count = if self.prng.one_in(2) { 1 } else { ALL_CALLS };
        self.node(node).page.arm_after(skip, Trap::Reads, count, SEGMENTS)?;
        let started = self.start(node);
        let observation = self.observe_calls(node, Trap::Reads, before.times)?;
        let (reaction, broken) = match started {
            Err(Error::DidNotStart { status, said, .. }) => {
                let line = said.lines().find(|line| line.starts_with("error")).unwrap_or(&said);
                let now = self.segments(node)?;
                let keeps = |(path, before): (&PathBuf, &Vec<u8>)| {
                    now.get(path).is_some_and(|now| wal::keeps(before, now))
                };
                let is_kept = kept.iter().all(keeps);
                let changed = format!("{node} cut the log that it could not read: {line}");
                (format!("it refused to start ({status}): {line}"), (!is_kept).then_some(changed))
            }
            Ok(()) => {
                let broke = format!("{node} started although it could not read its log");
                let is_caught = observation.is_observed();
                ("it started".to_owned(), is_caught.then_some(broke))
            }
            Err(error) => return Err(error),
        };
        let after = After::Refused(broken.into_iter().collect());
        Ok(Done {
            nodes: vec![node],
            detail: format!(
                "{node} starts, and reads of its log fail after {skip}, {}: {reaction}",
                if count == 1 { "one" } else { "each" }
            ),
            observation,
            undo: Undo::Calls { node, trap: Trap::Reads, before: before.times, after },
        })
    }

    /// Returns the segments of the log of a node that does not run.
    fn segments(&self, node: NodeId) -> Result<BTreeMap<PathBuf, Vec<u8>>, Error> {
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).map_err(Error::io(format!("read {}", path.display())))?;
            Ok((path, bytes))
        };
        self.segment_paths(node)?.into_iter().map(read).collect()
    }

    /// Returns the names of a node's segments, in order.
    pub(super) fn segment_paths(&self, node: NodeId) -> Result<Vec<PathBuf>, Error> {
        let dir = self.node(node).disk.node_dir().join("wal");
        let entries = fs::read_dir(&dir).map_err(Error::io(format!("list {}", dir.display())))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.to_string_lossy().contains(SEGMENTS));
        paths.sort_unstable();
        Ok(paths)
    }

    pub(super) fn undo_calls(
        &mut self,
        node: NodeId,
        trap: Trap,
        before: u64,
        after: After,
    ) -> Result<Undone, Error> {
        // A lie must last until the power is gone: the next honest sync would write everything.
        if after != After::Lied {
            self.node(node).page.disarm(trap)?;
        }
        let caught = self.node(node).page.caught(trap)?.times > before;
        let undone = self.settle(node, caught, after);
        self.node(node).page.disarm(trap)?;
        undone
    }

    /// Brings a node back after calls were caught, and tells what it did against its promise.
    pub(super) fn settle(
        &mut self,
        node: NodeId,
        is_caught: bool,
        after: After,
    ) -> Result<Undone, Error> {
        if self.member_id(node).is_none() {
            return Ok(Undone::of(format!("{node} was removed meanwhile")));
        }
        if !is_caught && self.node_mut(node).is_running() {
            return Ok(Undone::of("no call was caught; none will be"));
        }
        match after {
            After::MustEnd { late } => self.settle_end(node, late),
            After::IsCut => {
                let detail = self.say_end(node);
                self.power_cut(&[node])?;
                let started = self.start_or_say(&[node])?;
                Ok(Undone::of(format!("{detail}; power cut, {started}")))
            }
            After::MustGoOn | After::MayEnd => {
                let is_running = self.node_mut(node).is_running();
                let detail = self.say_end(node);
                let broken = (!is_running && after == After::MustGoOn).then(|| detail.clone());
                let started = match is_running {
                    true => String::new(),
                    false => format!("; {}", self.start_or_say(&[node])?),
                };
                Ok(Undone {
                    detail: format!("{detail}{started}"),
                    broken: broken.into_iter().collect(),
                })
            }
            After::Lied => self.settle_lie(node),
            After::Refused(broken) => {
                let started = match self.node_mut(node).is_running() {
                    true => "it runs".to_owned(),
                    false => self.start_or_say(&[node])?,
                };
                Ok(Undone { detail: format!("its log can be read again; {started}"), broken })
            }
        }
    }

    fn settle_end(&mut self, node: NodeId, late: Option<String>) -> Result<Undone, Error> {
        let process = self.node_mut(node).process.as_mut();
        let has_ended = process.is_some_and(|process| process.wait(limits::ABORT).is_some());
        let detail = self.say_end(node);
        let broken = late.or_else(|| (!has_ended).then(|| self::late(node)));
        self.power_cut(&[node])?;
        let started = self.start_or_say(&[node])?;
        Ok(Undone {
            detail: format!("{detail}; power cut, {started}"),
            broken: broken.into_iter().collect(),
        })
    }

    /// Cuts the power of a node whose disk lied: it lacks what it promised, and must not act as if it did not.
    fn settle_lie(&mut self, node: NodeId) -> Result<Undone, Error> {
        self.power_cut(&[node])?;
        self.node(node).page.disarm(Trap::Lies)?;
        let segments = self.segment_paths(node)?;
        self.node_mut(node).damaged.extend(segments.iter().cloned());
        let started = self.start_or_say(&[node])?;
        if self.node_mut(node).is_running() {
            self.node_mut(node).damaged.retain(|path| !segments.contains(path));
        }
        Ok(Undone::of(format!("power cut; {started}")))
    }

    /// Says whether a node ended, how, and the last error that it wrote down.
    pub(super) fn say_end(&mut self, node: NodeId) -> String {
        let process = self.node_mut(node).process.as_mut();
        let Some(status) = process.and_then(|process| process.ended()) else {
            return format!("{node} goes on");
        };
        let words = self.node(node).process.as_ref().map(|process| process.last_words());
        let words = words.unwrap_or_default();
        let is_error = |line: &&str| line.contains("ERROR") || line.contains("error");
        let line = words.lines().rev().find(is_error).unwrap_or_default();
        format!("{node} ended by itself ({}): {line}", ending(status))
    }
}
