//! The port: bound first, so that its address is known, then served until it is told to stop.
//!
//! It must not start tasks: the transport starts one for each connection. Invariant: an address that other
//! machines can reach is served only when the operator said that nobody is checked.

use std::future::Future;
use std::net::SocketAddr;

use alluvium_engine::Node;
use alluvium_listen::{Counted, Opening, Port, Terms};
use alluvium_proto::v1::lake_server::LakeServer;
use futures::FutureExt;
use tonic::service::Routes;
use tonic_health::server::health_reporter;

use crate::limits::{
    CONNECTIONS_MAX, KEEPALIVE, OPENING_BYTES, OPENING_MAX, REQUEST_BYTES_MAX, SHUTDOWN_GRACE,
    STREAMS_PER_CONNECTION_MAX,
};
use crate::service::Service;
use crate::transport::Checked;
use crate::{Error, health};

/// How a node is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeOptions {
    /// The address; port 0 takes any.
    pub listen: SocketAddr,
    /// Serve an address that other machines can reach, although nobody is checked.
    pub insecure: bool,
}

/// A bound port that does not answer yet.
#[derive(Debug)]
pub struct Server {
    port: Port,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// [`Error::Exposed`] for an address beyond this machine, unless it is said to be insecure;
    /// [`Error::Bind`] when the port cannot be had.
    pub fn bind(options: ServeOptions) -> Result<Self, Error> {
        let address = options.listen;
        if !address.ip().is_loopback() && !options.insecure {
            return Err(Error::Exposed { address });
        }
        let failed = |source| Error::Bind { address, source };
        let terms = Terms {
            connections_max: CONNECTIONS_MAX,
            opening: Opening::Bytes(OPENING_BYTES),
            opening_max: OPENING_MAX,
        };
        Ok(Self { port: Port::bind(address, terms).map_err(failed)? })
    }

    /// Returns the address with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Answers calls until `shutdown` ends; then lets open calls end within a grace period.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn run(
        self,
        node: Node,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let shutdown = shutdown.boxed().shared();
        let (health, health_service) = health_reporter();
        health.set_serving::<LakeServer<Service>>().await;
        let http = health::routes(node.clone());
        let lake = LakeServer::new(Service::new(node)).max_decoding_message_size(REQUEST_BYTES_MAX);
        let stopping = shutdown.clone().then(move |()| async move {
            health.set_not_serving::<LakeServer<Service>>().await;
        });
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(alluvium_proto::DESCRIPTORS)
            .build_v1()
            .map_err(|source| Error::Descriptors { source })?;
        let routes = Routes::new(Counted::of(Checked::of(lake)));
        let routes = routes.add_service(Counted::of(health_service));
        let routes = routes.add_service(Counted::of(reflection)).into_axum_router().merge(http);
        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .accept_http1(true)
            .add_routes(Routes::from(routes))
            .serve_with_incoming_shutdown(self.port, stopping);
        let grace = shutdown.then(|()| tokio::time::sleep(SHUTDOWN_GRACE));
        tokio::select! {
            ended = serving => ended.map_err(|source| Error::Transport { source }),
            () = grace => {
                tracing::warn!("open calls did not end in time and were cut off");
                Ok(())
            }
        }
    }
}
