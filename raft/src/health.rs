//! The first fault of the node, kept for everyone who asks why it stopped.
//!
//! openraft carries errors as text; the typed one stays here. It must not decide what a fault is. Invariant: the
//! first fault wins, since later ones follow from it.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::Fault;

/// A shared place for the first fault.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    first: watch::Sender<Option<Arc<Fault>>>,
}

impl Health {
    /// Returns a place without a fault.
    pub(crate) fn new() -> Self {
        Self { first: watch::Sender::new(None) }
    }

    /// Returns the first fault, if there was one.
    pub(crate) fn fault(&self) -> Option<Arc<Fault>> {
        self.first.borrow().clone()
    }

    /// Waits for the first fault.
    pub(crate) async fn failed(&self) -> Arc<Fault> {
        let mut first = self.first.subscribe();
        let seen = first.wait_for(Option::is_some).await.expect("self holds the sender");
        seen.clone().expect("waited for it")
    }

    /// Remembers a fault, unless it follows from an earlier one, and returns the first.
    pub(crate) fn record(&self, fault: Fault) -> Arc<Fault> {
        let fault = Arc::new(fault);
        let is_first = self.first.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| Arc::clone(&fault));
            is_first
        });
        if is_first {
            tracing::error!(error = %chain(fault.as_ref()), "the raft node stops on a fault");
        }
        self.fault().expect("recorded above, or before")
    }

    /// Remembers a fault and returns what openraft must be told.
    pub(crate) fn fail(&self, fault: Fault) -> io::Error {
        let first = self.record(fault);
        io::Error::other(chain(first.as_ref()))
    }
}

/// Returns an error's text with those of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
