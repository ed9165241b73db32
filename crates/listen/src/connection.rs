//! One connection: closed when it says nothing useful in time, or when its place is taken.
//!
//! It must not know what its bytes mean, but for how many the other side says before anything useful. Invariant: it holds
//! its place until it is dropped.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tonic::Extensions;
use tonic::transport::server::Connected;

use crate::guests::{Guest, SentAway};
use crate::port::{Opening, Terms};

/// An accepted connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    guest: Arc<Guest>,
    sent_away: SentAway,
    opening: Option<Unopened>,
    is_over: bool,
}

/// A connection that is not open yet.
#[derive(Debug)]
struct Unopened {
    by: Opening,
    read: usize,
    deadline: Pin<Box<Sleep>>,
}

/// What calls are told of their connection.
#[derive(Debug, Clone)]
pub struct Origin {
    remote: Option<SocketAddr>,
    guest: Arc<Guest>,
}

impl Origin {
    pub(crate) fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }
}

/// Returns where a call comes from.
#[must_use]
pub fn remote_address(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<Origin>().and_then(|origin| origin.remote)
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, terms: Terms, guest: Guest, sent_away: SentAway) -> Self {
        let deadline = Box::pin(tokio::time::sleep(terms.opening_max));
        let opening = Some(Unopened { by: terms.opening, read: 0, deadline });
        Self { stream, guest: Arc::new(guest), sent_away, opening, is_over: false }
    }

    /// Fails once the connection is to be closed. Both directions ask: whichever waits is woken.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let closed = |why| Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        if self.is_over || self.sent_away.poll_unpin(cx).is_ready() {
            self.is_over = true;
            return closed("its place was needed");
        }
        let Some(unopened) = self.opening.as_mut() else { return Ok(()) };
        if self.guest.is_open() {
            self.opening = None;
        } else if unopened.deadline.as_mut().poll(cx).is_ready() {
            self.is_over = true;
            return closed("nothing useful was said in time");
        }
        Ok(())
    }

    fn has_read(&mut self, bytes: usize) {
        let Some(unopened) = self.opening.as_mut() else { return };
        unopened.read = unopened.read.saturating_add(bytes);
        match unopened.by {
            Opening::Bytes(enough) if enough <= unopened.read => self.guest.open(),
            Opening::Bytes(_) | Opening::Call => {}
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        Origin { remote: self.stream.peer_addr().ok(), guest: Arc::clone(&self.guest) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.has_read(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
