//! A command whose outcome is not known, kept until the program asks again or gives it up.
//!
//! It must not be sent under another number. Invariant: while it lives, no later command pushes its answer out of what
//! the server remembers, and its session is not left.

use std::sync::Arc;
use std::time::Duration;

use alluvium_types::SessionRef;

use crate::answers::Answer;
use crate::client::Client;
use crate::command::Order;
use crate::error::Error;
use crate::session::Ticket;

/// A command whose outcome is not known. Dropping it gives it up: it may have taken effect, or may yet.
pub struct Pending {
    client: Client,
    order: Arc<Order>,
    ticket: Ticket,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SessionRef { id, sequence } = self.number();
        write!(f, "Pending {{ call: {}, number: {id}/{sequence} }}", self.call())
    }
}

impl Pending {
    pub(crate) fn new(client: Client, order: Arc<Order>, ticket: Ticket) -> Self {
        ticket.held_by_program(true);
        Self { client, order, ticket }
    }

    /// Returns the session and sequence under which it was sent.
    #[must_use]
    pub fn number(&self) -> SessionRef {
        self.ticket.number()
    }

    /// Returns the name of its call in the protocol.
    #[must_use]
    pub fn call(&self) -> &'static str {
        self.order.command.name()
    }

    /// Sends it again under its number until it is answered or `limit` (none: the client's) is over. It takes effect at
    /// most once, whatever became of earlier tries.
    ///
    /// # Errors
    /// [`Error::Ambiguous`], with the command to be resumed once more, or without when nobody can tell any more;
    /// [`Error::Refused`] when a server says that it never took effect and never will.
    pub async fn resume(self, limit: Option<Duration>) -> Result<Answer, Error> {
        let Self { client, order, ticket } = self;
        ticket.held_by_program(false);
        client.resume(order, ticket, limit).await
    }
}
