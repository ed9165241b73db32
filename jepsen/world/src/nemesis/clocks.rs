//! `clock`: wall clocks and monotonic clocks that jump, or run at another rate.
//!
//! Must not let monotonic time go back: no machine does. Invariant: a fault counts when the nodes themselves read the
//! wrong time, beside a probe that did.

use std::collections::BTreeMap;

use super::{Done, Undo, Undone, names};
use crate::command::sleep;
use crate::error::Error;
use crate::fault::Observation;
use crate::limits;
use crate::mode::Mode;
use crate::shim::{self, Dial, Reading};
use crate::world::{NodeId, World};

/// How far a wall clock jumps.
const JUMP_MS: i64 = 3_600_000;
/// How far a monotonic clock jumps: beyond every timeout of the cluster and of its clients.
const STEADY_JUMP_MS: i64 = 60_000;
/// How far the probe may be from what was set.
const PROBE_SLACK_MS: i64 = 2_000;
const TRUE_RATE_PPM: i64 = 1_000_000;
const FAST_PPM: i64 = TRUE_RATE_PPM * 3;
const SLOW_PPM: i64 = TRUE_RATE_PPM * 3 / 10;
/// What a process whose clock is fast, or slow, says of half a second, in milliseconds: more, or less.
const FAST_WHILE_MS: u64 = 1_000;
const SLOW_WHILE_MS: u64 = 400;

/// How a clock goes wrong.
#[derive(Debug, Clone, Copy)]
struct Wrong {
    dial: Dial,
    ahead_ms: i64,
    rate_ppm: i64,
}

const fn wrong(mode: Mode, is_forward: bool) -> Wrong {
    let (dial, ahead_ms, rate_ppm) = match (mode, is_forward) {
        (Mode::ClockJump, true) => (Dial::Wall, JUMP_MS, TRUE_RATE_PPM),
        (Mode::ClockJump, false) => (Dial::Wall, -JUMP_MS, TRUE_RATE_PPM),
        (Mode::ClockMonotonicJump, _) => (Dial::Steady, STEADY_JUMP_MS, TRUE_RATE_PPM),
        (Mode::ClockMonotonicRate, true) => (Dial::Steady, 0, FAST_PPM),
        (Mode::ClockMonotonicRate, false) => (Dial::Steady, 0, SLOW_PPM),
        (_, true) => (Dial::Wall, 0, FAST_PPM),
        (_, false) => (Dial::Wall, 0, SLOW_PPM),
    };
    Wrong { dial, ahead_ms, rate_ppm }
}

impl World {
    pub(super) fn install_on_clocks(&mut self, mode: Mode) -> Result<Done, Error> {
        let (leader, others) = self.cast(mode)?;
        // The leader stamps entries, so its clock is among them; one way or the other for each.
        let other = others.first().copied();
        let nodes: Vec<NodeId> = std::iter::once(leader).chain(other).collect();
        let (mut details, mut probes, mut seen) = (Vec::new(), Vec::new(), true);
        let is_first_forward = self.prng.one_in(2);
        let mut dial = Dial::Wall;
        for node in &nodes {
            // Clocks that go wrong together are apart from nobody: monotonic ones go apart from each other.
            let is_forward = match mode {
                Mode::ClockMonotonicRate => is_first_forward == (*node == leader),
                _ => self.prng.one_in(2),
            };
            let wrong = wrong(mode, is_forward);
            dial = wrong.dial;
            let before = self.node(*node).page.reading(dial)?;
            self.node(*node).page.bend(dial, wrong.ahead_ms, wrong.rate_ppm)?;
            let (is_off, probe) = match dial {
                Dial::Wall => self.probe_wall(*node, wrong)?,
                Dial::Steady => self.probe_steady(*node, wrong, before)?,
            };
            details.push(format!(
                "{node}: {dial} time {} ms ahead, {} ppm of true speed",
                wrong.ahead_ms, wrong.rate_ppm
            ));
            seen &= is_off;
            probes.push(probe);
        }
        // After the probes, so that what is counted from here on was read by the nodes themselves.
        let before = self.readings(&nodes, dial)?;
        Ok(Done {
            nodes: nodes.clone(),
            detail: details.join("; "),
            observation: Observation::of(seen, probes.join("; ")),
            undo: Undo::Clocks { nodes, dial, before },
        })
    }

    /// Reads the wall clock as a process in the node's environment does.
    fn probe_wall(&self, node: NodeId, wrong: Wrong) -> Result<(bool, String), Error> {
        let env = self.shim_env(node);
        let Wrong { ahead_ms, rate_ppm, .. } = wrong;
        let first_ms = shim::probe_clock(&env)?;
        if rate_ppm == TRUE_RATE_PPM {
            let seen = (first_ms - ahead_ms).abs() < PROBE_SLACK_MS;
            return Ok((seen, format!("a clock at {node} is {first_ms} ms ahead")));
        }
        sleep(std::time::Duration::from_millis(500));
        let second_ms = shim::probe_clock(&env)?;
        let seen = (second_ms - first_ms).signum() == (rate_ppm - TRUE_RATE_PPM).signum();
        let found = format!("a clock at {node} was {first_ms} ms ahead, then {second_ms} ms");
        Ok((seen, found))
    }

    /// Waits until the node has read a time that jumped, or lets a process in its environment measure a while.
    fn probe_steady(
        &self,
        node: NodeId,
        wrong: Wrong,
        before: Reading,
    ) -> Result<(bool, String), Error> {
        if wrong.rate_ppm != TRUE_RATE_PPM {
            let said_ms = shim::probe_while(&self.shim_env(node))?;
            let seen = match wrong.rate_ppm > TRUE_RATE_PPM {
                true => said_ms >= FAST_WHILE_MS,
                false => said_ms <= SLOW_WHILE_MS,
            };
            return Ok((seen, format!("half a second at {node} took {said_ms} ms")));
        }
        let begun = self.now();
        loop {
            let reading = self.node(node).page.reading(Dial::Steady)?;
            let jumped_ms = reading.ahead_ms - before.ahead_ms;
            let seen =
                reading.times > before.times && (jumped_ms - wrong.ahead_ms).abs() < PROBE_SLACK_MS;
            if seen || self.now().saturating_sub(begun) > limits::EFFECT {
                return Ok((seen, format!("{node} read a time that is {jumped_ms} ms later")));
            }
            sleep(limits::LOOK);
        }
    }

    fn readings(&self, nodes: &[NodeId], dial: Dial) -> Result<BTreeMap<NodeId, Reading>, Error> {
        let reading = |node: &NodeId| Ok((*node, self.node(*node).page.reading(dial)?));
        nodes.iter().map(reading).collect()
    }

    pub(super) fn observe_clocks(
        &self,
        nodes: &[NodeId],
        dial: Dial,
        before: &BTreeMap<NodeId, Reading>,
    ) -> Result<Observation, Error> {
        let now = self.readings(nodes, dial)?;
        let since = |node: &NodeId| {
            let before = before.get(node).map_or(0, |reading| reading.times);
            now[node].times.saturating_sub(before)
        };
        let seen = nodes.iter().all(|node| since(node) > 0);
        let counts = nodes.iter().map(|node| {
            format!("{node} {} times, last {} ms ahead", since(node), now[node].ahead_ms)
        });
        let counts = counts.collect::<Vec<_>>().join(", ");
        Ok(Observation::of(seen, format!("the wrong {dial} time was read at {counts}")))
    }

    pub(super) fn undo_clocks(&mut self, nodes: &[NodeId], dial: Dial) -> Result<Undone, Error> {
        for node in nodes {
            self.node(*node).page.straighten(dial)?;
        }
        let names = names(nodes);
        Ok(Undone::of(match dial {
            Dial::Wall => format!("the clocks of {names} show the machine's time"),
            Dial::Steady => format!("the monotonic clocks of {names} run at the true speed"),
        }))
    }
}
