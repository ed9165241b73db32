//! What can go wrong with a server itself. Errors of calls are in `failures`.

use std::net::SocketAddr;

/// A server that cannot listen or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is reachable from outside and nobody would be checked.
    #[error("{address} is reachable from other machines, and this server checks nobody")]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The committed descriptors cannot be read.
    #[error("the descriptors of the protocol are damaged")]
    Descriptors {
        /// Why.
        #[source]
        source: tonic_reflection::server::Error,
    },
    /// The transport failed.
    #[error("the server stopped")]
    Transport {
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

impl Error {
    /// Returns what the operator can do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Exposed { .. } => Some(
                "listen on 127.0.0.1 and tunnel, or say --insecure if everyone who can reach the \
                 address may read and delete everything",
            ),
            Self::Bind { .. } => Some("choose another port, or 0 for any"),
            Self::Descriptors { .. } | Self::Transport { .. } => None,
        }
    }
}
