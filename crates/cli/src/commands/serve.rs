//! `alluvium serve`: a node behind one port, until it is told to stop.

use std::io::{self, Write};
use std::time::Duration;

use alluvium_engine::{Config, Node, Reinstall};
use alluvium_server::{ServeOptions, Server, failures};
use alluvium_types::ErrorKind;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::cluster::peer_config;
use crate::args::{self, Serve};
use crate::backend::node_config;
use crate::config::{Settings, parse_bytes, parse_duration};
use crate::failure::Failure;

pub(super) async fn run(arguments: &Serve, settings: &Settings) -> Result<(), Failure> {
    let mut listen = settings.listen(arguments.listen.as_deref())?;
    let directory = settings.data_dir.as_deref().ok_or_else(|| {
        Failure::usage("a server needs a directory").with_hint("say --data-dir DIR")
    })?;
    let mut config = node_config(directory, settings)?;
    config.peer = peer_config(&arguments.peer)?;
    config.node_id = arguments.peer.node_id;
    size_log(&mut config, &arguments.log)?;
    config.compare_every = parse_duration(&arguments.compare_every)?;
    config.reinstall = match arguments.reinstall {
        args::Reinstall::Automatic => Reinstall::Automatic,
        args::Reinstall::ByHand => Reinstall::ByHand,
    };
    // Connections are files too; what an administrator allows is enough for all of them.
    alluvium_stdx::allowance::raise_open_files()
        .map_err(|error| Failure::io("raise the limit of open files", &error))?;
    // Signals are caught before the node opens: one that comes while it starts must not be lost.
    let mut signals = Signals {
        interrupt: caught(SignalKind::interrupt())?,
        terminate: caught(SignalKind::terminate())?,
    };
    let mut is_first = true;
    loop {
        // The port is taken before the directory: a taken port is the cheaper failure.
        let server = Server::bind(ServeOptions { listen, insecure: arguments.insecure })?;
        listen = server.address();
        let node = Node::open(config.clone());
        let node = node.await.map_err(|error| Failure::from(error).of_read())?;
        if is_first {
            announce(&listen.to_string(), &node)?;
            is_first = false;
        }
        tracing::info!(address = %listen, directory = %directory.display(), "serving");
        match serve(server, node, signals).await? {
            Some(again) => signals = again,
            None => break,
        }
        tracing::warn!("the node is opened anew");
    }
    tracing::info!("stopped");
    Ok(())
}

/// How long calls may go on, and how long closing may take, when the node has failed.
const FAULT_GRACE: Duration = Duration::from_millis(500);

/// Sets the sizes that were asked for.
pub(super) fn size_log(config: &mut Config, asked: &args::LogSize) -> Result<(), Failure> {
    if let Some(size) = &asked.log_bytes {
        config.log_bytes_max = parse_bytes(size)? as u64;
    }
    if let Some(size) = &asked.segment_bytes {
        config.segment_bytes = parse_bytes(size)? as u64;
    }
    Ok(())
}

/// What tells the server to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// Serves until a signal or a fault; returns the signals when the node asks to be opened anew.
async fn serve(server: Server, node: Node, signals: Signals) -> Result<Option<Signals>, Failure> {
    let watched = node.clone();
    let (ended, mut end) = oneshot::channel();
    let shutdown = async move {
        let mut signals = signals;
        let fault = tokio::select! {
            _ = signals.interrupt.recv() => {
                tracing::info!(signal = "SIGINT", "shutting down");
                None
            }
            _ = signals.terminate.recv() => {
                tracing::info!(signal = "SIGTERM", "shutting down");
                None
            }
            fault = watched.stopped() => Some(fault),
        };
        if let Some(fault) = fault {
            // The receiver lives until the node is closed.
            drop(ended.send((fault, signals)));
        }
    };
    let faulted = node.clone();
    let fault = async move {
        match faulted.stopped().await {
            Some(alluvium_engine::Error::Reopen) | None => std::future::pending().await,
            // It decides nothing any more: whoever still waits for it is better told so by the end of the process.
            Some(_fault) => tokio::time::sleep(FAULT_GRACE).await,
        }
    };
    let served = tokio::select! {
        served = server.run(node.clone(), shutdown) => served,
        () = fault => Ok(()),
    };
    let closing = node.shutdown();
    match end.try_recv() {
        Ok((Some(alluvium_engine::Error::Reopen), signals)) => {
            let closed = closing.await;
            served?;
            closed?;
            Ok(Some(signals))
        }
        // It acknowledges nothing any more: the process ends, and its next start recovers. A node that stopped by
        // itself is closed without an error, and is a failure all the same.
        Ok((fault, _)) => {
            // The log has everything that was acknowledged, however the rest is left.
            if tokio::time::timeout(FAULT_GRACE, closing).await.is_err() {
                tracing::info!("the node is not closed in time");
            }
            served?;
            let failure = stopped_by_itself(fault);
            tracing::error!("{}", failure.message);
            Err(failure)
        }
        Err(_signal) => {
            let closed = closing.await;
            served?;
            closed?;
            Ok(None)
        }
    }
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
