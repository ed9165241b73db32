//! Does the faults of a schedule, one after the other, and keeps the record of what was seen.
//!
//! It must not count what was not observed. Invariant: a fault is healed, and the cluster together again, before the
//! next one begins, so that never more is broken at once than one mode breaks.

use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr;
use std::time::Duration;

use alluvium_stdx::{Clock, SystemClock};
use alluvium_world::{Error, Family, Installed, Mode, World};
use serde::Serialize;

use crate::limits::{CONVERGE_LIMIT, NOT_NOW_TRIES, QUIET};
use crate::report::progress;
use crate::schedule::Act;
use crate::troupe::nanos;
use crate::verdict::{Finding, Findings};

/// One fault as it was.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Done {
    pub(crate) mode: String,
    pub(crate) nodes: Vec<u64>,
    pub(crate) begun_ns: u64,
    pub(crate) installed_ns: u64,
    pub(crate) healed_ns: u64,
    pub(crate) is_observed: bool,
    pub(crate) observation: String,
    pub(crate) detail: String,
}

impl Done {
    /// Makes one that was seen by these nodes, from the beginning of time.
    #[cfg(test)]
    pub(crate) fn of(mode: Mode, nodes: &[u64]) -> Self {
        Self {
            mode: mode.name().to_owned(),
            nodes: nodes.to_vec(),
            begun_ns: 0,
            installed_ns: 0,
            healed_ns: 1,
            is_observed: true,
            observation: String::new(),
            detail: String::new(),
        }
    }

    /// Says whether a node was among those that met it; without a list all did.
    pub(crate) fn met(&self, node: u64) -> bool {
        self.nodes.is_empty() || self.nodes.contains(&node)
    }
}

/// What became of the schedule.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    pub(crate) done: Vec<Done>,
    /// Modes that this machine or this world cannot do, and why.
    pub(crate) skipped: BTreeMap<Mode, String>,
    /// What was missing the last time that a mode could not be done.
    missing: BTreeMap<Mode, String>,
    pub(crate) findings: Findings,
    /// Nodes that were started again or replaced by the operator's procedure.
    pub(crate) mended: Vec<String>,
}

/// How a run of the schedule is bounded.
pub(crate) struct Bounds<'a> {
    pub(crate) clock: &'a SystemClock,
    /// After which no fault of a second round begins.
    pub(crate) end_ns: u64,
}

/// Does the acts.
pub(crate) fn perform(world: &mut World, acts: &[Act], bounds: &Bounds<'_>) -> Deeds {
    let mut deeds = Deeds::default();
    let mut waiting: VecDeque<(Act, u32)> = acts.iter().map(|act| (*act, 0)).collect();
    pause(QUIET);
    while let Some((act, tries)) = waiting.pop_front() {
        let is_due = deeds.is_observed(act.mode) || deeds.skipped.contains_key(&act.mode);
        if bounds.clock.monotonic_ns() >= bounds.end_ns && is_due {
            continue;
        }
        if deeds.skipped.contains_key(&act.mode) {
            continue;
        }
        match deeds.perform(world, act, bounds) {
            Next::Go => {}
            // What is missing now may be there later: a snapshot, a data file.
            Next::Later if tries < NOT_NOW_TRIES => waiting.push_back((act, tries + 1)),
            Next::Later => {
                let why = deeds.missing.remove(&act.mode);
                let why = why.unwrap_or_else(|| "it was never observed".to_owned());
                deeds.skipped.entry(act.mode).or_insert(why);
            }
            Next::Stop => break,
        }
    }
    deeds
}

enum Next {
    Go,
    Later,
    Stop,
}

impl Deeds {
    pub(crate) fn is_observed(&self, mode: Mode) -> bool {
        self.done.iter().any(|done| done.is_observed && done.mode == mode.name())
    }

    fn perform(&mut self, world: &mut World, act: Act, bounds: &Bounds<'_>) -> Next {
        let begun_ns = bounds.clock.monotonic_ns();
        let installed = match world.install(act.mode) {
            Ok(installed) => installed,
            Err(error @ (Error::NotNow { .. } | Error::NoLeader | Error::NoFile { .. })) => {
                self.missing.insert(act.mode, error.to_string());
                pause(act.gap);
                return Next::Later;
            }
            Err(error) if error.is_skip() => {
                self.skipped.insert(act.mode, error.to_string());
                return Next::Go;
            }
            Err(error) => {
                self.findings.push(fault_of(act.mode, "install", &error));
                return self.gather(world, act.mode);
            }
        };
        pause(act.hold);
        let is_seen = self.heal(world, &installed, begun_ns);
        let word = if is_seen { "observed" } else { "not observed" };
        progress(&format!("           {}: {} ({word})", act.mode, installed.detail));
        let next = self.gather(world, act.mode);
        pause(act.gap);
        match (next, is_seen) {
            (Next::Go, false) => Next::Later,
            (next, _) => next,
        }
    }

    /// Heals a fault and returns whether its effect was seen.
    fn heal(&mut self, world: &mut World, installed: &Installed, begun_ns: u64) -> bool {
        let before = world.observe(installed).ok();
        let healed = world.heal(installed);
        let now_ns = healed.as_ref().map_or(installed.installed_ns, |healed| healed.healed_ns);
        let last = healed.as_ref().ok().map(|healed| healed.observation.clone());
        let seen = [last, before, Some(installed.observation.clone())];
        let words = seen.iter().flatten().find(|one| one.is_observed());
        let is_observed = words.is_some();
        let words = words.unwrap_or(&installed.observation);
        self.done.push(Done {
            mode: installed.mode.name().to_owned(),
            nodes: installed.nodes.iter().map(|node| u64::from(node.0)).collect(),
            begun_ns: begun_ns.max(installed.begun_ns),
            installed_ns: installed.installed_ns,
            healed_ns: now_ns,
            is_observed,
            observation: words.to_string(),
            detail: installed.detail.clone(),
        });
        if let Ok(healed) = &healed {
            let name = installed.mode.name();
            let broken = healed.broken.iter();
            let found = broken.map(|what| Finding::anomaly(name, what.clone(), Some(now_ns)));
            self.findings.extend(found);
        }
        if let Err(error) = healed {
            // A node that names its damage refuses to start: the operator's procedure replaces it.
            let may_refuse = matches!(
                installed.mode.family(),
                Family::Bitflip | Family::FsyncFail | Family::FsyncLie
            );
            match may_refuse && matches!(error, Error::DidNotStart { .. }) {
                true => self.mended.push(format!("{}: {error}", installed.mode)),
                false => self.findings.push(fault_of(installed.mode, "heal", &error)),
            }
        }
        is_observed
    }

    /// Whether a fault that this node met may end it now: damage is met when it is read, perhaps under a later fault.
    fn was_harmed(&self, node: u64) -> bool {
        let is_fatal = |done: &Done| Mode::from_str(&done.mode).is_ok_and(|m| may_end(m.family()));
        self.done.iter().any(|done| is_fatal(done) && done.met(node))
    }

    /// Waits until the cluster is together again.
    fn gather(&mut self, world: &mut World, mode: Mode) -> Next {
        match world.converge(CONVERGE_LIMIT) {
            Ok(convergence) => {
                for node in &convergence.restarted {
                    self.mended.push(format!("{mode}: {node} was started"));
                    if !self.was_harmed(u64::from(node.0)) {
                        let detail = format!("{mode}: {node} ended by itself");
                        self.findings.push(Finding::anomaly("crashes", detail, None));
                    }
                }
                let unexplained = convergence.replaced.iter().filter(|one| !one.explained);
                self.findings.extend(unexplained.map(|one| {
                    let detail = format!("{mode}: {} does not start: {}", one.node, one.because);
                    Finding::anomaly("availability", detail, None)
                }));
                self.mended.extend(convergence.replaced.iter().map(|one| {
                    format!("{mode}: {} was replaced because {}", one.node, one.because)
                }));
                Next::Go
            }
            Err(error) => {
                self.findings.push(fault_of(mode, "converge", &error));
                Next::Stop
            }
        }
    }
}

fn fault_of(mode: Mode, phase: &str, error: &Error) -> Finding {
    of_world(&format!("{mode}: {phase}"), error)
}

/// Whether a node that ends by itself does what is promised: a failed sync or found damage ends it, and so does a
/// machine without memory.
fn may_end(family: Family) -> bool {
    match family {
        Family::FsyncFail
        | Family::FsyncLie
        | Family::Bitflip
        | Family::Enospc
        | Family::Resource => true,
        Family::Kill
        | Family::Pause
        | Family::Partition
        | Family::Wire
        | Family::Powercut
        | Family::Eio
        | Family::Strace
        | Family::Device
        | Family::Slowdisk
        | Family::Clock
        | Family::Membership
        | Family::Upgrade
        | Family::Objstore => false,
    }
}

/// A node that does not start, or a cluster that does not come together, is the product's fault; the rest is ours.
pub(crate) fn of_world(phase: &str, error: &Error) -> Finding {
    let detail = format!("{phase}: {}", chain(error));
    match matches!(error, Error::DidNotStart { .. } | Error::TooLate { .. }) {
        true => Finding::anomaly("availability", detail, None),
        false => Finding::doubt("world", detail),
    }
}

/// A message with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[expect(clippy::disallowed_methods, reason = "the thread of the world has nothing else to do")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Adds a time to now.
pub(crate) fn after(clock: &SystemClock, time: Duration) -> u64 {
    clock.monotonic_ns().saturating_add(nanos(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_met_a_fault_may_end_by_itself() {
        let mut deeds = Deeds::default();
        deeds.done.push(Done::of(Mode::PauseLeader, &[1]));
        assert!(!deeds.was_harmed(1), "a pause ends nobody");
        deeds.done.push(Done::of(Mode::BitflipSst, &[2]));
        assert_eq!([1, 2, 3].map(|node| deeds.was_harmed(node)), [false, true, false]);
        deeds.done.push(Done::of(Mode::BitflipSst, &[]));
        assert!(deeds.was_harmed(3));
    }
}
