//! Which fault when: drawn from a seed, and such that every selected one has its turn.
//!
//! It must not know whether a fault can be done. Invariant: the first round has every selected mode once, and a
//! round is never left out, however short the time is.

use std::time::Duration;

use alluvium_stdx::Prng;
use alluvium_world::{Family, Mode};

/// One fault: how long it stays, and how long it is quiet afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Act {
    pub(crate) mode: Mode,
    pub(crate) hold: Duration,
    pub(crate) gap: Duration,
}

/// The least that a fault stays, and that it is quiet.
const HOLD_MIN: Duration = Duration::from_millis(1_500);
const GAP_MIN: Duration = Duration::from_millis(800);
const GAP_MAX_MS: u64 = 3_000;

/// How long a fault of a family stays, at least and at most, in milliseconds.
const fn hold_ms(family: Family) -> (u64, u64) {
    match family {
        Family::Kill => (1_500, 4_000),
        Family::Powercut => (1_500, 3_000),
        Family::Pause => (2_000, 7_000),
        // Files are put now and then, and every mode of the store is to be met by some.
        Family::Partition | Family::Wire | Family::Objstore => (4_000, 9_000),
        Family::Membership | Family::Upgrade => (1_500, 2_000),
        Family::Bitflip | Family::FsyncFail => (2_000, 4_000),
        Family::FsyncLie
        | Family::Eio
        | Family::Strace
        | Family::Device
        | Family::Enospc
        | Family::Slowdisk
        | Family::Clock
        | Family::Resource => (3_000, 7_000),
    }
}

/// Draws acts for a time. It may take longer: the first round is always whole.
pub(crate) fn plan(modes: &[Mode], time: Duration, seed: u64) -> Vec<Act> {
    let mut prng = Prng::from_seed(seed ^ 0x6e65_6d65_7369_7301);
    let mut acts = Vec::new();
    if modes.is_empty() {
        return acts;
    }
    let mut total = Duration::ZERO;
    while total < time || acts.is_empty() {
        let round = round(modes, &mut prng);
        for act in squeeze(round, time) {
            let is_enough = total >= time && acts.len() >= modes.len();
            if !is_enough {
                total += act.hold + act.gap;
                acts.push(act);
            }
        }
    }
    acts
}

fn round(modes: &[Mode], prng: &mut Prng) -> Vec<Act> {
    let mut order = modes.to_vec();
    for last in (1..order.len()).rev() {
        let other = prng.below(last as u64 + 1);
        order.swap(last, usize::try_from(other).unwrap_or(last));
    }
    let draw = |mode: Mode| {
        let (low, high) = hold_ms(mode.family());
        let hold = Duration::from_millis(low + prng.below(high - low));
        let gap = GAP_MIN + Duration::from_millis(prng.below(GAP_MAX_MS));
        Act { mode, hold, gap }
    };
    order.into_iter().map(draw).collect()
}

/// Shortens a round that is longer than the whole time.
fn squeeze(mut round: Vec<Act>, time: Duration) -> Vec<Act> {
    let total: Duration = round.iter().map(|act| act.hold + act.gap).sum();
    if total > time {
        let share = time.as_secs_f64() / total.as_secs_f64().max(1.0);
        for act in &mut round {
            act.hold = act.hold.mul_f64(share).max(HOLD_MIN);
            act.gap = act.gap.mul_f64(share).max(GAP_MIN);
        }
    }
    round
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mode_has_its_turn_for_any_seed_and_any_time() {
        for seed in 0..200 {
            for seconds in [1, 20, 60, 600] {
                let acts = plan(Mode::ALL, Duration::from_secs(seconds), seed);
                let planned: BTreeSet<Mode> = acts.iter().map(|act| act.mode).collect();
                assert_eq!(planned.len(), Mode::ALL.len(), "seed {seed}, {seconds} s");
                assert!(acts.iter().all(|act| act.hold >= HOLD_MIN && act.gap >= GAP_MIN));
            }
        }
    }

    #[test]
    fn a_time_is_filled_and_a_seed_repeats_itself() {
        let modes = [Mode::KillLeader, Mode::PauseLeader];
        let time = Duration::from_secs(120);
        let acts = plan(&modes, time, 7);
        let total: Duration = acts.iter().map(|act| act.hold + act.gap).sum();
        assert!(time <= total && total < time + Duration::from_secs(12), "{total:?}");
        assert_eq!(acts, plan(&modes, time, 7));
        assert_ne!(acts, plan(&modes, time, 8));
        assert_eq!(plan(&[], time, 7), []);
    }
}
