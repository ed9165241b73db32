//! `clock`: wall clocks that jump, or run at another rate. Monotonic time is left alone.

use std::collections::BTreeMap;

use super::{Done, Undo, Undone, names};
use crate::error::Error;
use crate::fault::Observation;
use crate::mode::Mode;
use crate::shim;
use crate::world::{NodeId, World};

/// How far a clock jumps.
const JUMP_MS: i64 = 3_600_000;
/// How far the probe may be from what was set.
const PROBE_SLACK_MS: i64 = 2_000;
const TRUE_RATE_PPM: i64 = 1_000_000;

impl World {
    pub(super) fn install_on_clocks(&mut self, mode: Mode) -> Result<Done, Error> {
        let (leader, others) = self.cast(mode)?;
        // The leader stamps entries, so its clock is among them; one way or the other for each.
        let other = others.first().copied();
        let nodes: Vec<NodeId> = std::iter::once(leader).chain(other).collect();
        let (mut details, mut probes, mut seen) = (Vec::new(), Vec::new(), true);
        for node in &nodes {
            let is_forward = self.prng.one_in(2);
            let (ahead_ms, rate_ppm) = match (mode, is_forward) {
                (Mode::ClockJump, true) => (JUMP_MS, TRUE_RATE_PPM),
                (Mode::ClockJump, false) => (-JUMP_MS, TRUE_RATE_PPM),
                (_, true) => (0, TRUE_RATE_PPM * 3),
                (_, false) => (0, TRUE_RATE_PPM * 3 / 10),
            };
            self.node(*node).page.bend_clock(ahead_ms, rate_ppm)?;
            details.push(format!("{node}: {ahead_ms} ms ahead, {rate_ppm} ppm of true speed"));
            let (is_off, probe) = self.probe(*node, ahead_ms, rate_ppm)?;
            seen &= is_off;
            probes.push(probe);
        }
        // After the probes, so that what is counted from here on was read by the nodes themselves.
        let before = self.shown_clocks(&nodes)?;
        Ok(Done {
            nodes: nodes.clone(),
            detail: details.join("; "),
            observation: Observation::of(seen, probes.join("; ")),
            undo: Undo::Clocks { nodes, before },
        })
    }

    /// Reads the clock as a process in the node's environment does.
    fn probe(&self, node: NodeId, ahead_ms: i64, rate_ppm: i64) -> Result<(bool, String), Error> {
        let env = self.shim_env(node);
        let first_ms = shim::probe_clock(&env)?;
        if rate_ppm == TRUE_RATE_PPM {
            let seen = (first_ms - ahead_ms).abs() < PROBE_SLACK_MS;
            return Ok((seen, format!("a clock at {node} is {first_ms} ms ahead")));
        }
        crate::command::sleep(std::time::Duration::from_millis(500));
        let second_ms = shim::probe_clock(&env)?;
        let seen = (second_ms - first_ms).signum() == (rate_ppm - TRUE_RATE_PPM).signum();
        let found = format!("a clock at {node} was {first_ms} ms ahead, then {second_ms} ms");
        Ok((seen, found))
    }

    fn shown_clocks(&self, nodes: &[NodeId]) -> Result<BTreeMap<NodeId, u64>, Error> {
        let shown = |node: &NodeId| Ok((*node, self.node(*node).page.done()?.shown_clocks));
        nodes.iter().map(shown).collect()
    }

    pub(super) fn observe_clocks(
        &self,
        nodes: &[NodeId],
        before: &BTreeMap<NodeId, u64>,
    ) -> Result<Observation, Error> {
        let now = self.shown_clocks(nodes)?;
        let since =
            |node: &NodeId| now[node].saturating_sub(before.get(node).copied().unwrap_or(0));
        let seen = nodes.iter().all(|node| since(node) > 0);
        let counts = nodes.iter().map(|node| format!("{node} {} times", since(node)));
        let counts = counts.collect::<Vec<_>>().join(", ");
        Ok(Observation::of(seen, format!("the wrong time was read at {counts}")))
    }

    pub(super) fn undo_clocks(&mut self, nodes: &[NodeId]) -> Result<Undone, Error> {
        for node in nodes {
            self.node(*node).page.straighten_clock()?;
        }
        Ok(Undone::of(format!("the clocks of {} show the machine's time", names(nodes))))
    }
}
