//! What becomes of a request to the store, by plan and chance.
//!
//! Performs no I/O and reads no clock. Must not count what was only decided: whoever does it says so. Invariant: without
//! a plan every request is served.

use std::time::Duration;

use alluvium_stdx::Prng;

/// The statuses of a store that has trouble of its own: an error, no capacity, too many requests.
const STATUSES: [u16; 3] = [500, 503, 429];

/// What the store does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Plan {
    /// Nothing.
    #[default]
    None,
    /// So many of a thousand requests are answered with an error and not done.
    Errors { permille: u64 },
    /// So many of a thousand puts are done and never answered.
    Lost { permille: u64 },
    /// Every request is done later, by a time up to this.
    Slow { most_ms: u64 },
    /// No request is done, and no connection taken.
    Away(Absence),
}

/// How nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// Connections are ended at once.
    HangsUp,
    /// They are taken, and nothing comes.
    Silent,
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    Serve,
    /// It is done after a time.
    ServeAfter(Duration),
    /// It is done, and then the connection is cut.
    ServeAndCut,
    /// It is done, and then nothing comes.
    ServeAndHold,
    /// It is not done, and this status is the answer.
    Refuse(u16),
    /// It is not done, and the connection is cut.
    Cut,
    /// It is not done, and nothing comes.
    Hold,
}

/// How many requests met what. Each is counted when it was done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Met {
    /// Requests that came.
    pub(crate) requests: u64,
    /// Those that were answered with an error by plan.
    pub(crate) refused: u64,
    /// Puts that took effect and were not answered.
    pub(crate) lost: u64,
    /// Requests that were served later.
    pub(crate) delayed: u64,
    /// Requests that were neither done nor answered, and connections that were not taken.
    pub(crate) unanswered: u64,
}

impl Met {
    /// Returns what was met since `before`.
    pub(crate) const fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            refused: self.refused - before.refused,
            lost: self.lost - before.lost,
            delayed: self.delayed - before.delayed,
            unanswered: self.unanswered - before.unanswered,
        }
    }
}

/// The plan, and the chance that it is done by.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) plan: Plan,
    pub(super) met: Met,
    prng: Prng,
}

impl Trouble {
    pub(super) fn new(seed: u64) -> Self {
        Self { plan: Plan::None, met: Met::default(), prng: Prng::from_seed(seed) }
    }

    /// Decides about a request; `is_put` says whether it puts an object.
    pub(super) fn decide(&mut self, is_put: bool) -> Treatment {
        self.met.requests += 1;
        let mut hits = |permille: u64| self.prng.below(1_000) < permille;
        match self.plan {
            Plan::Errors { permille } if hits(permille) => {
                Treatment::Refuse(self.prng.pick(&STATUSES).copied().unwrap_or(STATUSES[0]))
            }
            Plan::Lost { permille } if is_put && hits(permille) => match self.prng.one_in(2) {
                true => Treatment::ServeAndCut,
                false => Treatment::ServeAndHold,
            },
            Plan::Slow { most_ms } => {
                let later = most_ms / 4 + self.prng.below(most_ms.max(1));
                Treatment::ServeAfter(Duration::from_millis(later.min(most_ms)))
            }
            Plan::Away(Absence::HangsUp) => Treatment::Cut,
            Plan::Away(Absence::Silent) => Treatment::Hold,
            Plan::None | Plan::Errors { .. } | Plan::Lost { .. } => Treatment::Serve,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn decided(plan: Plan, is_put: bool) -> Vec<Treatment> {
        let mut trouble = Trouble { plan, ..Trouble::new(7) };
        let decided: Vec<Treatment> = (0..2_000).map(|_| trouble.decide(is_put)).collect();
        assert_eq!(trouble.met, Met { requests: 2_000, ..Met::default() });
        decided
    }

    #[test]
    fn without_a_plan_every_request_is_served() {
        assert!(decided(Plan::None, true).iter().all(|one| *one == Treatment::Serve));
    }

    #[test]
    fn a_share_of_requests_is_refused_with_each_of_the_statuses() {
        let decided = decided(Plan::Errors { permille: 300 }, false);
        let refused: Vec<u16> = decided
            .iter()
            .filter_map(
                |one| if let Treatment::Refuse(status) = one { Some(*status) } else { None },
            )
            .collect();
        assert!((450..750).contains(&refused.len()), "{}", refused.len());
        let statuses: BTreeSet<u16> = refused.into_iter().collect();
        assert_eq!(statuses, BTreeSet::from(STATUSES));
    }

    #[test]
    fn answers_are_lost_of_puts_alone() {
        let plan = Plan::Lost { permille: 500 };
        assert!(decided(plan, false).iter().all(|one| *one == Treatment::Serve));
        let of_puts = decided(plan, true);
        for wanted in [Treatment::Serve, Treatment::ServeAndCut, Treatment::ServeAndHold] {
            assert!(of_puts.iter().filter(|one| **one == wanted).count() > 300, "{wanted:?}");
        }
    }

    #[test]
    fn a_slow_store_serves_everything_in_its_time_and_an_absent_one_nothing() {
        for treatment in decided(Plan::Slow { most_ms: 800 }, false) {
            let Treatment::ServeAfter(later) = treatment else { panic!("{treatment:?}") };
            assert!((200..=800).contains(&later.as_millis()), "{later:?}");
        }
        let away = |absence| decided(Plan::Away(absence), true);
        assert!(away(Absence::HangsUp).iter().all(|one| *one == Treatment::Cut));
        assert!(away(Absence::Silent).iter().all(|one| *one == Treatment::Hold));
    }
}
