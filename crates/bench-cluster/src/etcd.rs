//! A cluster of etcd on loopback.
//!
//! It must not be tuned: fsync stays on and the timers are those of Alluvium. Invariant: no process of it is left when
//! the cluster is dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tonic::transport::Channel;

use crate::closed_loop::Work;
use crate::connect::{connect, connect_lazily, connections, until};
use crate::daemon::Daemon;
use crate::etcd_api::{self, PutRequest, RangeRequest, StatusResponse};
use crate::limits;

/// Bytes that a database may have: above everything that is measured.
const QUOTA_BYTES: u64 = 8 << 30;
/// Bytes of the largest request: the 64 KiB values are far below it.
const REQUEST_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug)]
struct Node {
    name: String,
    url: String,
    peer: String,
    directory: PathBuf,
    daemon: Option<Daemon>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    /// Starts a cluster in an empty directory and waits for its leader.
    pub(crate) async fn start(directory: &Path) -> Result<Self> {
        let ports = free_ports(2 * limits::NODES)?;
        let node = |at: usize| Node {
            name: format!("n{at}"),
            url: format!("http://127.0.0.1:{}", ports[2 * at]),
            peer: format!("http://127.0.0.1:{}", ports[2 * at + 1]),
            directory: directory.join(format!("etcd-{at}")),
            daemon: None,
        };
        let mut cluster = Self { nodes: (0..limits::NODES).map(node).collect() };
        for at in 0..limits::NODES {
            cluster.start_node(at)?;
        }
        cluster.leader().await?;
        Ok(cluster)
    }

    fn start_node(&mut self, at: usize) -> Result<()> {
        let members: Vec<String> =
            self.nodes.iter().map(|node| format!("{}={}", node.name, node.peer)).collect();
        let node = &mut self.nodes[at];
        let mut command = Command::new("etcd");
        command.args(["--name", &node.name, "--data-dir"]).arg(&node.directory);
        command.args(["--listen-client-urls", &node.url, "--advertise-client-urls", &node.url]);
        command.args(["--listen-peer-urls", &node.peer]);
        command.args(["--initial-advertise-peer-urls", &node.peer]);
        command.args(["--initial-cluster", &members.join(","), "--initial-cluster-state", "new"]);
        command.args(["--heartbeat-interval", &limits::HEARTBEAT_ETCD_MS.to_string()]);
        command.args(["--election-timeout", &limits::ELECTION_MS.to_string()]);
        command.args(["--quota-backend-bytes", &QUOTA_BYTES.to_string()]);
        command.args(["--max-request-bytes", &REQUEST_BYTES_MAX.to_string()]);
        command.args(["--logger", "zap", "--log-level", "warn"]);
        node.daemon = Some(Daemon::start(command, &node.directory)?);
        Ok(())
    }

    async fn status(url: &str) -> Result<StatusResponse> {
        etcd_api::status(connect(url).await?).await
    }

    /// Waits until all running nodes follow one running leader, and returns its position.
    pub(crate) async fn leader(&mut self) -> Result<usize> {
        for node in &mut self.nodes {
            node.daemon.as_mut().map_or(Ok(()), Daemon::check)?;
        }
        let nodes = &self.nodes;
        until("etcd elects a leader", || async move {
            let (mut told, mut found) = (Vec::new(), None);
            for (at, node) in nodes.iter().enumerate() {
                if node.daemon.is_none() {
                    continue;
                }
                let Ok(status) = Self::status(&node.url).await else { return Ok(None) };
                let own = status.header.unwrap_or_default().member_id;
                if own == status.leader {
                    found = Some(at);
                }
                told.push(status.leader);
            }
            let is_one = told.iter().all(|leader| Some(leader) == told.first());
            Ok(found.filter(|_| is_one))
        })
        .await
    }

    pub(crate) fn url(&self, at: usize) -> &str {
        &self.nodes[at].url
    }

    pub(crate) fn kill(&mut self, at: usize) -> Result<()> {
        self.nodes[at].daemon.take().context("the node runs")?.kill()
    }

    /// Starts a killed node again and waits until it has what the leader has.
    pub(crate) async fn restart(&mut self, at: usize) -> Result<()> {
        self.start_node(at)?;
        let leader = self.leader().await?;
        let (leader, node) = (self.url(leader), self.url(at));
        until("a killed node of etcd catches up", || async move {
            let (Ok(ahead), Ok(behind)) = (Self::status(leader).await, Self::status(node).await)
            else {
                return Ok(None);
            };
            Ok((ahead.raft_index <= behind.raft_index + 8).then_some(()))
        })
        .await
    }

    /// Returns clients that each put values under keys of their own.
    pub(crate) async fn puts(
        &self,
        at: usize,
        clients: usize,
        values: &[Bytes],
    ) -> Result<Vec<Work>> {
        let channels = connections(self.url(at), clients).await?;
        let put = |client: usize| put(channels[client % channels.len()].clone(), client, values);
        Ok((0..clients).map(put).collect())
    }

    /// Returns a client whose connection is made anew when it broke.
    pub(crate) fn prober(&self, at: usize, client: usize, values: &[Bytes]) -> Result<Work> {
        Ok(put(connect_lazily(self.url(at))?, client, values))
    }

    /// Returns clients that each read one key.
    pub(crate) async fn reads(
        &self,
        at: usize,
        clients: usize,
        serializable: bool,
    ) -> Result<Vec<Work>> {
        let channels = connections(self.url(at), clients).await?;
        let work = |client: usize| read(channels[client % channels.len()].clone(), serializable);
        Ok((0..clients).map(work).collect())
    }
}

fn put(channel: Channel, client: usize, values: &[Bytes]) -> Work {
    let (mut number, values) = (0_usize, values.to_vec());
    Box::new(move || {
        number += 1;
        let (key, value) = (key(client, number), values[number % values.len()].clone());
        let channel = channel.clone();
        Box::pin(async move { etcd_api::put(channel, PutRequest { key, value }).await.map(drop) })
    })
}

fn read(channel: Channel, serializable: bool) -> Work {
    Box::new(move || {
        let (channel, request) = (channel.clone(), RangeRequest { key: key(0, 1), serializable });
        Box::pin(async move {
            let answer = etcd_api::range(channel, request).await?;
            anyhow::ensure!(answer.kvs.len() == 1, "etcd does not have the key");
            Ok(())
        })
    })
}

fn key(client: usize, number: usize) -> Bytes {
    Bytes::from(format!("{client:04}-{number:010}"))
}

/// Returns ports that nobody listened at a moment ago: etcd wants to know them beforehand.
#[expect(clippy::disallowed_methods, reason = "only to be told a free port; nothing is served")]
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<std::net::TcpListener> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<_>>()
        .context("find free ports")?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    ports.collect()
}
