//! Whether and when a call is tried again: decided here, done in `call`.
//!
//! It must not wait or draw: time left and chance are given. Invariant: what may have taken effect is repeated only
//! when a repetition takes effect once.

use std::time::Duration;

use crate::limits::{FIRST_WAIT, TRIES_MAX, WAIT_MAX};
use crate::verdict::{Again, Effect, Verdict};

/// Where a call stands after a failed try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// Tries that were made.
    pub(crate) tries: u32,
    /// Whether there is a node that this call has not asked.
    pub(crate) has_untried: bool,
    /// Until the end of the call.
    pub(crate) left: Duration,
    /// What another try would be.
    pub(crate) repeat: Repeat,
}

/// What another try of a call would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Harmless: a read, a numbered command, or one that does the same when it is done twice.
    Safe,
    /// Another command, unless the try before left nothing.
    Doubles,
    /// Impossible: its rows are gone.
    Impossible,
}

/// What to do after a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Stop,
    Again {
        /// Wait for this long before.
        wait: Duration,
    },
}

/// Decides what to do after a failed try. `chance` is any number; it spreads clients that failed together.
pub(crate) fn next(
    verdict: Verdict,
    retry_after: Option<Duration>,
    standing: Standing,
    chance: u64,
) -> Next {
    let may_repeat = match standing.repeat {
        Repeat::Safe => true,
        Repeat::Doubles => verdict.effect == Effect::None,
        Repeat::Impossible => false,
    };
    let is_worth = match verdict.again {
        Again::No => false,
        Again::OtherNode => standing.has_untried,
        Again::Later => true,
    };
    if !may_repeat || !is_worth || standing.tries >= TRIES_MAX {
        return Next::Stop;
    }
    let wait = match retry_after {
        // Another node may answer at once.
        None if standing.has_untried => Duration::ZERO,
        None => spread(back_off(standing.tries), chance),
        Some(least) => least + spread(back_off(standing.tries), chance),
    };
    match wait < standing.left {
        true => Next::Again { wait },
        false => Next::Stop,
    }
}

/// Returns the wait after so many tries, before it is spread.
fn back_off(tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(1 << doublings).min(WAIT_MAX)
}

/// Returns between half of a wait and the whole of it.
fn spread(wait: Duration, chance: u64) -> Duration {
    let half = wait / 2;
    let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
    half + Duration::from_nanos(chance.checked_rem(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Duration = Duration::from_secs(10);

    fn after(effect: Effect, again: Again, repeat: Repeat, has_untried: bool) -> Next {
        let standing = Standing { tries: 1, has_untried, left: LEFT, repeat };
        next(Verdict { effect, again }, None, standing, 7)
    }

    fn goes_on(next: Next) -> bool {
        matches!(next, Next::Again { .. })
    }

    #[test]
    fn what_may_have_happened_is_repeated_only_when_it_then_happens_once() {
        for (repeat, effect, expected) in [
            (Repeat::Safe, Effect::Unknown, true),
            (Repeat::Safe, Effect::None, true),
            (Repeat::Doubles, Effect::None, true),
            (Repeat::Doubles, Effect::Unknown, false),
            (Repeat::Doubles, Effect::Settled, false),
            (Repeat::Doubles, Effect::SessionOver, false),
            (Repeat::Impossible, Effect::None, false),
            (Repeat::Impossible, Effect::Unknown, false),
        ] {
            let found = after(effect, Again::Later, repeat, true);
            assert_eq!(goes_on(found), expected, "{repeat:?} {effect:?}");
        }
    }

    #[test]
    fn a_refusal_is_not_repeated_and_damage_asks_each_node_once() {
        assert_eq!(after(Effect::None, Again::No, Repeat::Safe, true), Next::Stop);
        assert_eq!(after(Effect::Unknown, Again::OtherNode, Repeat::Safe, false), Next::Stop);
        assert!(goes_on(after(Effect::Unknown, Again::OtherNode, Repeat::Safe, true)));
    }

    #[test]
    fn another_node_is_asked_at_once_and_the_same_ones_after_a_wait() {
        let again = |has_untried| after(Effect::Unknown, Again::Later, Repeat::Safe, has_untried);
        assert_eq!(again(true), Next::Again { wait: Duration::ZERO });
        let Next::Again { wait } = again(false) else { panic!("it goes on") };
        assert!((FIRST_WAIT / 2..=FIRST_WAIT).contains(&wait), "{wait:?}");
    }

    #[test]
    fn what_the_server_asks_for_is_waited_at_least_and_never_beyond_the_end() {
        let verdict = Verdict { effect: Effect::Unknown, again: Again::Later };
        let asked = Duration::from_millis(250);
        let mut standing =
            Standing { tries: 3, has_untried: true, left: LEFT, repeat: Repeat::Safe };
        let Next::Again { wait } = next(verdict, Some(asked), standing, 3) else {
            panic!("it goes on")
        };
        assert!(asked <= wait && wait <= asked + FIRST_WAIT * 4, "{wait:?}");
        standing.left = asked;
        assert_eq!(next(verdict, Some(asked), standing, 3), Next::Stop);
    }

    #[test]
    fn waits_grow_to_a_limit_and_differ_by_chance() {
        assert_eq!((back_off(1), back_off(2)), (FIRST_WAIT, FIRST_WAIT * 2));
        assert_eq!((back_off(40), back_off(u32::MAX)), (WAIT_MAX, WAIT_MAX));
        assert_ne!(spread(WAIT_MAX, 1), spread(WAIT_MAX, 500_000_000));
        assert_eq!(spread(Duration::ZERO, 9), Duration::ZERO);
    }
}
