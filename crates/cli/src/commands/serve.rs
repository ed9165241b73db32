//! `alluvium serve`: a node behind one port, until it is told to stop.

use std::io::{self, Write};

use alluvium_engine::Node;
use alluvium_server::{ServeOptions, Server, failures};
use alluvium_types::ErrorKind;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::cluster::peer_config;
use crate::args::Serve;
use crate::backend::node_config;
use crate::config::Settings;
use crate::failure::Failure;

pub(super) async fn run(arguments: &Serve, settings: &Settings) -> Result<(), Failure> {
    let listen = settings.listen(arguments.listen.as_deref())?;
    let directory = settings.data_dir.as_deref().ok_or_else(|| {
        Failure::usage("a server needs a directory").with_hint("say --data-dir DIR")
    })?;
    // Signals are caught before the node opens: one that comes while it starts must not be lost.
    let (mut interrupt, mut terminate) =
        (caught(SignalKind::interrupt())?, caught(SignalKind::terminate())?);
    // The port is taken before the directory: a taken port is the cheaper failure.
    let server = Server::bind(ServeOptions { listen, insecure: arguments.insecure })?;
    let mut config = node_config(directory, settings);
    config.peer = peer_config(&arguments.peer)?;
    config.node_id = arguments.peer.node_id;
    let node = Node::open(config).await.map_err(|error| Failure::from(error).of_read())?;
    let address = server.address();
    announce(&address.to_string(), &node)?;
    tracing::info!(%address, directory = %directory.display(), "serving");
    let watched = node.clone();
    let (ended, mut end) = oneshot::channel();
    let shutdown = async move {
        tokio::select! {
            _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "shutting down"),
            _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "shutting down"),
            // It acknowledges nothing any more: the process ends, and its next start recovers.
            fault = watched.stopped() => {
                let failure = stopped_by_itself(fault);
                tracing::error!("{}", failure.message);
                // The receiver lives until the node is closed.
                drop(ended.send(failure));
            }
        }
    };
    let served = server.run(node.clone(), shutdown).await;
    let closed = node.shutdown().await;
    served?;
    // A node that stopped by itself is closed without an error, and is a failure all the same.
    if let Ok(failure) = end.try_recv() {
        return Err(failure);
    }
    closed?;
    tracing::info!("stopped");
    Ok(())
}

fn stopped_by_itself(fault: Option<alluvium_engine::Error>) -> Failure {
    let kind = fault.as_ref().map_or(ErrorKind::Unavailable, alluvium_engine::Error::kind);
    let mut message = "the node stopped by itself".to_owned();
    if let Some(fault) = &fault {
        message.push_str(": ");
        message.push_str(&failures::chain(fault));
    }
    Failure::of_kind(kind, message, None)
        .of_read()
        .with_hint("start it again: it recovers from its directory")
}

fn caught(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::io("catch signals", &error))
}

/// Prints where the server is, for the one who started it: port 0 becomes a real one.
fn announce(address: &str, node: &Node) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut line = json!({
        "listening": format!("http://{address}"),
        "pid": std::process::id(),
        "node_id": node.node_id(),
    });
    if let Some(peer) = node.peer_address() {
        line["peer"] = json!(peer);
    }
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| Failure::io("print", &error))
}
