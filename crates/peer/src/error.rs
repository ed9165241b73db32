//! What can go wrong in setting up the network between nodes. Failed calls are openraft's errors.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An error of the network between nodes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The port cannot be had.
    #[error("cannot listen on {address} for peers")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Other machines could reach the port, and nobody would be checked.
    #[error("{address} can be reached by other machines: peers need certificates there")]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// A certificate or key cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate or key cannot be written.
    #[error("cannot write {path}", path = .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate or key is not what it should be.
    #[error("{path} holds no usable certificate or key: {reason}", path = .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {reason}")]
    Issue {
        /// Why.
        reason: String,
    },
    /// No member let the node in: nobody answered, or nobody could.
    #[error("cannot join the cluster at {member}: {reason}")]
    Join {
        /// The member that was asked last.
        member: String,
        /// Why.
        reason: String,
    },
    /// No snapshot could be had from a node.
    #[error("no snapshot from node {node}: {reason}")]
    Snapshot {
        /// The node.
        node: u64,
        /// Why.
        reason: String,
    },
    /// The cluster does not want the node as it is.
    #[error("the cluster at {member} does not let this node in: {reason}")]
    NotLetIn {
        /// The member that refused.
        member: String,
        /// Why.
        reason: String,
    },
    /// The transport failed.
    #[error("the network between nodes failed")]
    Transport {
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Returns a text with the causes of an error behind it.
pub(crate) fn with_causes(mut text: String, error: &dyn std::error::Error) -> String {
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
