//! The session of a client, opened by its first numbered command, and the numbers that are out.
//!
//! It must not renew a session on its own account: `book` says when. Invariant: a number is settled exactly once, when
//! its [`Ticket`] is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_types::{SessionId, SessionRef};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::book::{Book, Step};

/// The session of a client.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    // Held for one step of the book, never while a call is made.
    book: Mutex<Book>,
    /// Told when a number is settled.
    settled: Notify,
    /// Held while a session is opened, so that one is.
    opening: tokio::sync::Mutex<()>,
}

/// A number for one command. Dropping it settles the number: nobody will ask for its outcome any more.
#[derive(Debug)]
pub(crate) struct Ticket {
    sessions: Arc<Sessions>,
    number: SessionRef,
}

impl Ticket {
    pub(crate) fn number(&self) -> SessionRef {
        self.number
    }

    /// A server said that the session is not open.
    pub(crate) fn session_is_over(&self) {
        self.sessions.lock().over(self.number.id);
        self.sessions.settled.notify_waiters();
    }

    /// The program holds the command from now on, or a call does.
    pub(crate) fn held_by_program(&self, is_held: bool) {
        self.sessions.lock().hold(self.number.id, self.number.sequence, is_held);
        // Who waits for a call to settle it must hear that no call has it any more.
        self.sessions.settled.notify_waiters();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.sessions.lock().settle(self.number.id, self.number.sequence);
        self.sessions.settled.notify_waiters();
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the session that is open, as far as is known.
    pub(crate) fn current(&self) -> Option<SessionId> {
        self.lock().session()
    }

    /// Returns a number, after opening a session where that is needed. Nothing was sent when this fails.
    pub(crate) async fn ticket<F>(
        self: &Arc<Self>,
        end: Instant,
        open: impl Fn() -> F,
    ) -> Result<Ticket, Error>
    where
        F: Future<Output = Result<SessionId, Error>>,
    {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            let step = self.lock().step();
            match step {
                Step::Go(id, sequence) => {
                    let number = SessionRef { id, sequence };
                    return Ok(Ticket { sessions: Arc::clone(self), number });
                }
                Step::Open => self.open(end, &open).await?,
                Step::Wait => {
                    timeout_at(end, settled).await.map_err(|_elapsed| Error::NoNumber)?;
                }
                Step::Over { session, pending } => {
                    return Err(Error::SessionOver { session, pending });
                }
                Step::Full { session, oldest } => {
                    return Err(Error::WindowFull { session, oldest });
                }
            }
        }
    }

    async fn open<F>(&self, end: Instant, open: &impl Fn() -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<SessionId, Error>>,
    {
        let _opening =
            timeout_at(end, self.opening.lock()).await.map_err(|_elapsed| Error::NoNumber)?;
        if self.lock().needs_session() {
            let session = open().await?;
            tracing::debug!(%session, "a session was opened");
            self.lock().opened(session);
        }
        Ok(())
    }
}
