//! Accepting connections, as many as there are places.
//!
//! It must not start tasks. Invariant: a failure to accept is waited out, never repeated at once.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use alluvium_stdx::allowance::open_files_max;
use futures::{Stream, StreamExt as _};
use tokio::net::TcpSocket;
use tokio::time::Sleep;
use tonic::transport::server::TcpIncoming;

use crate::connection::Connection;
use crate::guests::Guests;

/// Between two tries to accept, when there were no descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Connections that wait to be accepted: a burst of them is not refused.
const BACKLOG: u32 = 1_024;
/// Of the process's file descriptors, the part that one port may take: the log, the metadata and data files need the rest.
const DESCRIPTORS_SHARE: u64 = 4;

/// What a connection must have said to be taken for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// So many bytes: those that begin the protocol.
    Bytes(usize),
    /// A call.
    Call,
}

/// On which terms a port takes connections.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Connections at one time; fewer where the process may open few files.
    pub connections_max: usize,
    /// What opens a connection.
    pub opening: Opening,
    /// Until then.
    pub opening_max: Duration,
}

/// A bound port, and the connections that come in on it.
#[derive(Debug)]
pub struct Port {
    incoming: TcpIncoming,
    address: SocketAddr,
    terms: Terms,
    guests: Arc<Guests>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Port {
    /// Takes a port; 0 takes any.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn bind(address: SocketAddr, terms: Terms) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A server that starts again finds its port in use by connections that have ended.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let incoming = TcpIncoming::from(socket.listen(BACKLOG)?).with_nodelay(Some(true));
        let address = incoming.local_addr()?;
        let guests = Guests::new(places(terms.connections_max, open_files_max()?));
        Ok(Self { incoming, address, terms, guests, pause: None })
    }

    /// Returns the address with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn places(wanted: usize, descriptors: u64) -> usize {
    let share = usize::try_from(descriptors / DESCRIPTORS_SHARE).unwrap_or(usize::MAX);
    wanted.min(share).max(1)
}

impl Stream for Port {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = self.pause.as_mut() {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.incoming.poll_next_unpin(cx)) {
                Some(Ok(stream)) => {
                    // Nobody can be sent away: it is closed at once, which says more than silence.
                    let Some((guest, sent_away)) = self.guests.admit() else { continue };
                    let connection = Connection::new(stream, self.terms, guest, sent_away);
                    return Poll::Ready(Some(Ok(connection)));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    self.guests.make_room();
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_AGAIN)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_may_open_few_files_has_fewer_places() {
        assert_eq!(places(4_096, 1_048_576), 4_096);
        assert_eq!(places(4_096, 1_024), 256);
        assert_eq!(places(4_096, 3), 1);
    }
}
