//! What a caller asks for besides the text, and the way to give up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;

use alluvium_types::LogIndex;

/// The terms of one query.
#[derive(Debug, Clone)]
pub struct QueryRequest {
    /// The applied index to read at.
    pub at: LogIndex,
    /// How long it may take; the engine's default when absent.
    pub timeout: Option<Duration>,
    /// How much memory it may use; never more than the engine's limit.
    pub memory_bytes: Option<usize>,
    /// How many rows are wanted; the stream ends after them and says so in its statistics.
    pub row_limit: Option<u64>,
    /// The way to give up.
    pub cancel: CancelToken,
}

impl QueryRequest {
    /// Returns a request at `at` with the engine's own limits.
    #[must_use]
    pub fn at(at: LogIndex) -> Self {
        let cancel = CancelToken::default();
        Self { at, timeout: None, memory_bytes: None, row_limit: None, cancel }
    }
}

/// Cancels a query. Clones share one state; once cancelled it stays so.
#[derive(Debug, Clone)]
pub struct CancelToken {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for CancelToken {
    fn default() -> Self {
        Self { sender: Arc::new(watch::Sender::new(false)) }
    }
}

impl CancelToken {
    /// Cancels every query that carries a clone of this token.
    pub fn cancel(&self) {
        self.sender.send_replace(true);
    }

    /// Says whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.sender.borrow()
    }

    /// Returns a future that is ready once it is cancelled.
    pub(crate) fn cancelled(&self) -> Cancelled {
        let mut receiver = self.sender.subscribe();
        let sender = Arc::clone(&self.sender);
        Cancelled(Box::pin(async move {
            // The sender lives in this future, so the channel cannot close before it changes.
            let seen = receiver.wait_for(|cancelled| *cancelled).await.is_ok();
            drop(sender);
            assert!(seen, "a cancel channel closed while its sender was held");
        }))
    }
}

/// Ready once a token is cancelled.
pub(crate) struct Cancelled(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}
