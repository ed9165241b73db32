//! A client of a cluster: the nodes it knows, its session, and the highest index it has seen.
//!
//! It must not hold work of its own: everything runs within the calls of the program. Invariant: the index that it has
//! seen never falls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use alluvium_stdx::Prng;
use alluvium_types::{LogIndex, SessionId};

use crate::call::Shared;
use crate::error::Error;
use crate::nodes::Nodes;
use crate::options::Options;
use crate::session::Sessions;

/// A client of a cluster. Clones share its connections, its session and the index that it has seen.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// Prepares a client of the nodes at these URLs (`http://HOST:PORT`, their client ports), some or all of a cluster.
    /// Nothing is sent before the first call. It must be called within a tokio runtime, which drives the connections.
    ///
    /// # Errors
    /// [`Error::Endpoint`], [`Error::NoEndpoint`] or [`Error::TooManyEndpoints`] for URLs that cannot be used.
    pub fn connect<U: Into<String>>(
        endpoints: impl IntoIterator<Item = U>,
        options: Options,
    ) -> Result<Self, Error> {
        let nodes = Nodes::new(endpoints.into_iter().map(Into::into).collect())?;
        let prng = options.seed.map_or_else(Prng::from_machine, Prng::from_seed);
        let shared = Shared {
            nodes,
            sessions: Arc::new(Sessions::default()),
            options,
            seen: AtomicU64::new(0),
            prng: Mutex::new(prng),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns the highest index of any answer so far; zero before the first. Given to another client as
    /// [`crate::Level::AtLeast`], that one sees what this one has seen.
    #[must_use]
    pub fn seen(&self) -> LogIndex {
        LogIndex(self.shared.seen.load(Ordering::Relaxed))
    }

    /// Takes over an index that another client has seen.
    pub fn observe(&self, index: LogIndex) {
        self.shared.saw(index.0);
    }

    /// Returns the session, if one is open as far as is known.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.shared.sessions.current()
    }

    /// Returns the URLs of the nodes that the client knows: those that it was given, then those that were hinted.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.shared.nodes.all(false).into_iter().map(|chosen| chosen.url).collect()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}
