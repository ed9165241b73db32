//! The rules of one session: who gets which number, when to wait, when to begin another session.
//!
//! It must not wait or call: it says what is to be done. Invariant: every number that is handed out and not settled lies
//! within the last `SESSION_WINDOW` ones, so that a server still remembers its answer; and a session is left only when
//! no number of it is unsettled.

use std::collections::BTreeMap;

use alluvium_types::limits::SESSION_WINDOW;
use alluvium_types::{Sequence, SessionId};

/// The session of a client and its unsettled numbers.
#[derive(Debug, Default)]
pub(crate) struct Book {
    session: Option<SessionId>,
    /// A server said that the session is not open any more.
    is_over: bool,
    /// The last number that was handed out.
    last: u64,
    unsettled: BTreeMap<u64, Hold>,
}

/// Who has a number that is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// A call that is under way.
    Call,
    /// The program, as a pending command.
    Program,
}

/// What a call that needs a number does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has this number.
    Go(SessionId, Sequence),
    /// It opens a session first.
    Open,
    /// It waits until a number is settled.
    Wait,
    /// It fails: the session is over, and the program holds commands of it whose outcome it has not asked for.
    Over { session: SessionId, pending: usize },
    /// It fails: the window is full behind a command that the program holds.
    Full { session: SessionId, oldest: Sequence },
}

impl Book {
    /// Hands out the next number, or says what must come first.
    pub(crate) fn step(&mut self) -> Step {
        let Some(session) = self.session else { return Step::Open };
        if self.is_over {
            return self.after_the_end(session);
        }
        let next = self.last + 1;
        if let Some((&oldest, hold)) = self.unsettled.first_key_value()
            && next - oldest >= SESSION_WINDOW
        {
            return match hold {
                Hold::Call => Step::Wait,
                Hold::Program => Step::Full { session, oldest: Sequence(oldest) },
            };
        }
        self.last = next;
        self.unsettled.insert(next, Hold::Call);
        self.check();
        Step::Go(session, Sequence(next))
    }

    fn after_the_end(&self, session: SessionId) -> Step {
        let pending = self.unsettled.values().filter(|hold| **hold == Hold::Program).count();
        match (self.unsettled.len(), pending) {
            (0, _) => Step::Open,
            (_, 0) => Step::Wait,
            (_, pending) => Step::Over { session, pending },
        }
    }

    /// Says whether the next call must open a session first.
    pub(crate) fn needs_session(&self) -> bool {
        self.session.is_none() || (self.is_over && self.unsettled.is_empty())
    }

    /// Returns the session that is open, as far as is known.
    pub(crate) fn session(&self) -> Option<SessionId> {
        self.session.filter(|_| !self.is_over)
    }

    /// A session was opened.
    pub(crate) fn opened(&mut self, session: SessionId) {
        assert!(
            self.unsettled.is_empty(),
            "a session was left with {:?} unsettled",
            self.unsettled
        );
        assert!(self.session != Some(session), "session {session} was opened twice");
        *self = Self { session: Some(session), ..Self::default() };
    }

    /// A server said that a session is not open.
    pub(crate) fn over(&mut self, session: SessionId) {
        // The news of an earlier one is old.
        self.is_over |= self.session == Some(session);
    }

    /// The outcome of a number is known, or nobody will ask for it.
    pub(crate) fn settle(&mut self, session: SessionId, sequence: Sequence) {
        if self.session == Some(session) {
            self.unsettled.remove(&sequence.0);
        }
    }

    /// A call gave up a number and the program holds it now; or the other way round, when it resumes.
    pub(crate) fn hold(&mut self, session: SessionId, sequence: Sequence, by_program: bool) {
        let hold = if by_program { Hold::Program } else { Hold::Call };
        if self.session == Some(session) {
            let held = self.unsettled.insert(sequence.0, hold);
            assert!(held.is_some(), "sequence {sequence} was settled before");
        }
    }

    fn check(&self) {
        let oldest = self.unsettled.first_key_value().map_or(self.last, |(&oldest, _)| oldest);
        assert!(self.last - oldest < SESSION_WINDOW, "number {oldest} may be forgotten");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: SessionId = SessionId(9);
    const SECOND: SessionId = SessionId(20);

    fn book() -> Book {
        let mut book = Book::default();
        assert_eq!(book.step(), Step::Open);
        book.opened(FIRST);
        book
    }

    fn go(book: &mut Book, sequence: u64) {
        assert_eq!(book.step(), Step::Go(FIRST, Sequence(sequence)));
    }

    #[test]
    fn numbers_are_handed_out_in_order_whatever_is_settled() {
        let mut book = book();
        go(&mut book, 1);
        go(&mut book, 2);
        book.settle(FIRST, Sequence(1));
        book.settle(FIRST, Sequence(2));
        go(&mut book, 3);
    }

    #[test]
    fn no_number_is_handed_out_that_would_push_an_unsettled_one_out_of_the_window() {
        let mut book = book();
        for sequence in 1..=SESSION_WINDOW {
            go(&mut book, sequence);
        }
        assert_eq!(book.step(), Step::Wait);
        for sequence in 2..=SESSION_WINDOW {
            book.settle(FIRST, Sequence(sequence));
        }
        assert_eq!(book.step(), Step::Wait, "the oldest counts, not how many there are");
        book.hold(FIRST, Sequence(1), true);
        assert_eq!(book.step(), Step::Full { session: FIRST, oldest: Sequence(1) });
        book.hold(FIRST, Sequence(1), false);
        assert_eq!(book.step(), Step::Wait);
        book.settle(FIRST, Sequence(1));
        go(&mut book, SESSION_WINDOW + 1);
    }

    #[test]
    fn a_session_that_is_over_is_left_only_when_nothing_of_it_is_unsettled() {
        let mut book = book();
        go(&mut book, 1);
        go(&mut book, 2);
        book.over(FIRST);
        assert_eq!(book.step(), Step::Wait, "two calls are under way");
        book.hold(FIRST, Sequence(1), true);
        assert_eq!(book.step(), Step::Over { session: FIRST, pending: 1 });
        book.settle(FIRST, Sequence(1));
        assert_eq!(book.step(), Step::Wait);
        book.settle(FIRST, Sequence(2));
        assert_eq!(book.step(), Step::Open);
        book.opened(SECOND);
        assert_eq!(book.step(), Step::Go(SECOND, Sequence(1)));
    }

    #[test]
    fn old_news_of_an_earlier_session_changes_nothing() {
        let mut book = book();
        book.over(FIRST);
        book.opened(SECOND);
        book.over(FIRST);
        assert_eq!(book.step(), Step::Go(SECOND, Sequence(1)));
        book.settle(FIRST, Sequence(1));
        book.hold(FIRST, Sequence(1), true);
        assert_eq!(book.unsettled.get(&1), Some(&Hold::Call));
    }
}
