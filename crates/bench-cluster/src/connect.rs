//! Connections to nodes, the same for every contender.

use std::future::Future;

use anyhow::{Context as _, Result};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::limits;

/// Connects to a node.
pub(crate) async fn connect(url: &str) -> Result<Channel> {
    let channel = endpoint(url)?.connect().await;
    channel.with_context(|| format!("connect to {url}"))
}

/// Prepares a connection that is made by its first call, and made again after it broke.
pub(crate) fn connect_lazily(url: &str) -> Result<Channel> {
    Ok(endpoint(url)?.connect_lazy())
}

fn endpoint(url: &str) -> Result<Endpoint> {
    let endpoint = Endpoint::from_shared(url.to_owned()).context("the URL of a node")?;
    Ok(endpoint.tcp_nodelay(true).connect_timeout(limits::CALL_MAX))
}

/// Makes the connections of a number of clients; client `n` uses the one at `n` modulo their count.
pub(crate) async fn connections(url: &str, clients: usize) -> Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for _ in 0..clients.clamp(1, limits::CONNECTIONS_MAX) {
        channels.push(connect(url).await?);
    }
    Ok(channels)
}

/// Asks until there is an answer, a failure that is final, or too much time has passed.
pub(crate) async fn until<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let end = Instant::now() + limits::READY_MAX;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        anyhow::ensure!(Instant::now() < end, "{what}: not within {:?}", limits::READY_MAX);
        tokio::time::sleep(limits::LOOK).await;
    }
}
