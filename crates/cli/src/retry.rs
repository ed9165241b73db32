//! Trying a numbered command again until it is answered.
//!
//! It must not retry without a session: a lost reply may have been a success. Invariant: every try carries
//! the same session and sequence, and the doubt that one try leaves stays until another one succeeds.

use std::future::Future;
use std::time::Duration;

use crate::failure::Failure;
use crate::terminal::note;

/// How often and how slowly a command is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    tries_max: u32,
    /// The wait after the first try; each later one is twice as long.
    first_wait: Duration,
}

impl Patience {
    /// Waits long enough for a restart or an election: about six seconds in all.
    pub(crate) const STANDARD: Self = Self { tries_max: 6, first_wait: Duration::from_millis(200) };
}

/// Runs `attempt` until it succeeds, or fails in a way that another try cannot change.
///
/// `can_repeat` is false when the rows are gone after one try, as those of a pipe are.
pub(crate) async fn until_answered<T, F>(
    patience: Patience,
    can_repeat: bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut wait = patience.first_wait;
    let mut in_doubt = false;
    for tried in 1..=patience.tries_max {
        let answer = attempt().await.map_err(|failure| {
            // An earlier try may have happened, whatever became of this one.
            in_doubt |= failure.ambiguous;
            Failure { ambiguous: in_doubt, ..failure }
        });
        match answer {
            Err(failure) if failure.retryable && can_repeat && tried < patience.tries_max => {
                note(&format!("{}; trying again in {} ms", failure.message, wait.as_millis()));
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            Err(failure) if failure.retryable && !can_repeat => {
                return Err(failure.with_hint(
                    "standard input cannot be read a second time: look whether the rows are there, \
                     then send them again from a file",
                ));
            }
            other => return other,
        }
    }
    unreachable!("the last try returns")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use alluvium_types::ErrorKind;

    use super::*;

    async fn run(kind: ErrorKind, failures: u32, can_repeat: bool) -> (Result<u32, Failure>, u32) {
        let tries = Cell::new(0);
        let patience = Patience { tries_max: 6, first_wait: Duration::ZERO };
        let result = until_answered(patience, can_repeat, || {
            tries.set(tries.get() + 1);
            let tried = tries.get();
            async move {
                match tried <= failures {
                    true => Err(Failure::of_kind(kind, "no leader".to_owned(), None)),
                    false => Ok(tried),
                }
            }
        });
        let result = result.await;
        (result, tries.get())
    }

    #[tokio::test]
    async fn a_try_that_reached_nobody_does_not_settle_an_earlier_one() {
        let lost = || Failure::of_kind(ErrorKind::Unavailable, "cut off".to_owned(), None);
        for (first, expected) in [(lost(), true), (lost().of_read(), false)] {
            let first = Cell::new(Some(first));
            let result: Result<(), Failure> =
                until_answered(Patience { tries_max: 3, first_wait: Duration::ZERO }, true, || {
                    let failure = first.take().unwrap_or_else(|| lost().of_read());
                    async move { Err(failure) }
                })
                .await;
            assert_eq!(result.expect_err("nobody answered").ambiguous, expected);
        }
    }

    #[tokio::test]
    async fn what_may_have_happened_is_tried_again_and_said_when_given_up() {
        assert_eq!(run(ErrorKind::Unavailable, 2, true).await, (Ok(3), 3));
        let (result, tries) = run(ErrorKind::Unavailable, 99, true).await;
        assert_eq!((result.expect_err("given up").ambiguous, tries), (true, 6));
        let (result, tries) = run(ErrorKind::InvalidArgument, 99, true).await;
        assert_eq!((result.expect_err("refused").ambiguous, tries), (false, 1));
        let (result, tries) = run(ErrorKind::Unavailable, 99, false).await;
        let failure = result.expect_err("a pipe");
        assert!(failure.ambiguous && tries == 1);
        assert!(failure.hint.expect("a hint").contains("standard input"));
    }
}
