//! How long a background writer insists: a bounded number of tries, with growing, jittered pauses.
//!
//! Must not: retry what is decided (conflict, corruption, full disk, a failed sync) or be used on a path that
//! a client waits for. Time is tokio's, so a paused runtime makes it virtual. Invariant: attempts are bounded.

use std::time::Duration;

use alluvium_stdx::Prng;

use crate::error::{Error, Result};
use crate::limits::RETRY_ATTEMPTS_MAX;

/// How often and how soon to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts_max: u32,
    first_pause: Duration,
    pause_max: Duration,
}

impl RetryPolicy {
    /// The policy of seals, compactions and sweeps: about ten seconds in all.
    pub const BACKGROUND: Self = Self {
        attempts_max: RETRY_ATTEMPTS_MAX,
        first_pause: Duration::from_millis(50),
        pause_max: Duration::from_secs(5),
    };

    /// Returns a policy.
    ///
    /// # Panics
    /// When `attempts_max` is zero or over `RETRY_ATTEMPTS_MAX`.
    #[must_use]
    pub const fn new(attempts_max: u32, first_pause: Duration, pause_max: Duration) -> Self {
        assert!(0 < attempts_max, "an operation is tried at least once");
        assert!(attempts_max <= RETRY_ATTEMPTS_MAX, "more tries than the limit");
        Self { attempts_max, first_pause, pause_max }
    }

    /// Calls `operation` until it succeeds, fails for good, or its tries are used up.
    ///
    /// `operation` must be safe to repeat after a lost reply.
    ///
    /// # Errors
    /// Its own error when that is final; `Exhausted` around the last transient one.
    pub async fn run<T>(
        &self,
        prng: &mut Prng,
        mut operation: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match operation().await {
                Err(error) if error.is_transient() => error,
                decided => return decided,
            };
            if self.attempts_max <= attempts {
                return Err(Error::Exhausted { attempts, last: Box::new(error) });
            }
            tokio::time::sleep(self.pause(attempts, prng)).await;
        }
    }

    /// Returns a pause between half and all of the doubled step, so that writers do not march in step.
    fn pause(&self, attempts: u32, prng: &mut Prng) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << (attempts - 1).min(16));
        let half = doubled.min(self.pause_max) / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(prng.below(nanos.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Operation;

    fn transient() -> Error {
        let source = object_store::Error::Generic { store: "test", source: "503".into() };
        let (bucket, key) = ("b".to_owned(), "k".to_owned());
        Error::Store { bucket, key, operation: Operation::Put, source }
    }

    fn paused() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().expect("runtime")
    }

    fn tries_until(succeeds_at: u32, error: fn() -> Error) -> (Result<u32>, u32) {
        let policy = RetryPolicy::new(4, Duration::from_micros(10), Duration::from_micros(40));
        let mut calls = 0;
        let outcome = paused().block_on(policy.run(&mut Prng::from_seed(1), async || {
            calls += 1;
            if calls == succeeds_at { Ok(calls) } else { Err(error()) }
        }));
        (outcome, calls)
    }

    #[test]
    fn a_transient_failure_is_tried_again_until_it_succeeds() {
        let (outcome, calls) = tries_until(3, transient);
        assert_eq!((outcome.expect("third try"), calls), (3, 3));
    }

    #[test]
    fn tries_are_bounded_and_the_last_error_is_kept() {
        let (outcome, calls) = tries_until(9, transient);
        assert_eq!(calls, 4);
        let error = outcome.expect_err("never succeeds");
        assert!(matches!(error, Error::Exhausted { attempts: 4, .. }), "{error:?}");
    }

    #[test]
    fn a_conflict_is_final_at_once() {
        let conflict = || Error::Conflict { bucket: "b".into(), key: "k".into() };
        let (outcome, calls) = tries_until(9, conflict);
        assert_eq!(calls, 1);
        assert!(matches!(outcome, Err(Error::Conflict { .. })));
    }

    #[test]
    fn pauses_grow_and_stay_below_their_bound() {
        let policy = RetryPolicy::BACKGROUND;
        let mut prng = Prng::from_seed(2);
        for attempts in 1..40 {
            let pause = policy.pause(attempts, &mut prng);
            assert!(pause <= policy.pause_max, "{pause:?} after {attempts}");
            assert!(policy.first_pause / 2 <= pause, "{pause:?} after {attempts}");
        }
    }
}
