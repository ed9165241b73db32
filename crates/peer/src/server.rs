//! The peer port: bound first, so that its address is known, then served until it is told to stop.
//!
//! It must not start tasks: the transport starts one for each connection. Invariant: an address that other machines
//! can reach is served only with certificates.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use alluvium_listen::{Counted, Opening, Port, Terms};
use alluvium_proto::peer::v1::door_server::DoorServer;
use alluvium_proto::peer::v1::peer_server::PeerServer as Generated;
use alluvium_raft::RaftNode;
use futures::FutureExt;
use tonic::service::interceptor::InterceptedService;

use crate::door::Doorkeeper;
use crate::identity::{Gate, Identity};
use crate::security::Security;
use crate::service::Service;
use crate::{Error, Host, Peers, limits};

/// A bound peer port that does not answer yet.
#[derive(Debug)]
pub struct PeerServer {
    port: Port,
    security: Security,
}

impl PeerServer {
    /// Takes the port.
    ///
    /// # Errors
    /// [`Error::Exposed`] for an address beyond this machine without certificates, unless it is said to be insecure;
    /// [`Error::Bind`] when the port cannot be had.
    pub fn bind(listen: SocketAddr, security: Security, insecure: bool) -> Result<Self, Error> {
        if !listen.ip().is_loopback() && !security.is_mutual() && !insecure {
            return Err(Error::Exposed { address: listen });
        }
        let failed = |source| Error::Bind { address: listen, source };
        let terms = Terms {
            connections_max: limits::CONNECTIONS_MAX,
            // Peers call as soon as they are connected; bytes alone may be a handshake that leads nowhere.
            opening: Opening::Call,
            opening_max: limits::OPENING_MAX,
        };
        Ok(Self { port: Port::bind(listen, terms).map_err(failed)?, security })
    }

    /// Returns the address with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Answers peers until `shutdown` ends; then streams of entries end, and connections close.
    ///
    /// # Errors
    /// When the certificates cannot be used, or the transport fails.
    pub async fn run(
        self,
        own: Identity,
        node: RaftNode,
        host: Arc<dyn Host>,
        peers: Peers,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let shutdown = shutdown.boxed().shared();
        let is_certified = self.security.is_mutual();
        let door = DoorServer::new(Doorkeeper { own, is_certified, node: node.clone() });
        let service = Generated::new(Service::new(node, host, peers, shutdown.clone()))
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
        let service = InterceptedService::new(service, Gate::new(own, is_certified));
        let failed = |source| Error::Transport { source };
        let mut server = tonic::transport::Server::builder();
        if let Some(tls) = self.security.of_server() {
            server = server.tls_config(tls).map_err(failed)?;
        }
        let serving = server
            .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
            .initial_stream_window_size(limits::WINDOW_BYTES)
            .initial_connection_window_size(limits::WINDOW_BYTES)
            .http2_keepalive_interval(Some(limits::KEEPALIVE))
            .http2_keepalive_timeout(Some(limits::KEEPALIVE))
            .add_service(Counted::of(service))
            .add_service(Counted::of(door))
            .serve_with_incoming_shutdown(self.port, shutdown.clone());
        let grace = shutdown.then(|()| tokio::time::sleep(limits::SHUTDOWN_GRACE));
        tokio::select! {
            ended = serving => ended.map_err(failed),
            () = grace => Ok(()),
        }
    }
}
