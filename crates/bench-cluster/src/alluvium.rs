//! A cluster of Alluvium on loopback: real processes of the released program, called through its public API.
//!
//! It must not be tuned: the nodes run as `alluvium dev` starts them. Invariant: no process of it is left when the
//! cluster is dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use alluvium_proto::v1;
use alluvium_proto::v1::lake_client::LakeClient;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream;
use serde_json::Value;
use tonic::transport::Channel;

use crate::closed_loop::Work;
use crate::connect::{connect, connect_lazily, connections, until};
use crate::daemon::Daemon;
use crate::limits;

pub(crate) const ACTOR: &str = "bench";

#[derive(Debug)]
struct Node {
    directory: PathBuf,
    url: String,
    peer: String,
    id: u64,
    daemon: Option<Daemon>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cluster {
    binary: PathBuf,
    directory: PathBuf,
    /// Words for every node beside those that it needs.
    options: Vec<String>,
    nodes: Vec<Node>,
}

/// How a query chooses its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Linearizable,
    Stale(u64),
    Local,
}

impl Cluster {
    /// Starts a cluster in an empty directory and waits until every node votes.
    pub(crate) async fn start(binary: &Path, directory: &Path, options: &[&str]) -> Result<Self> {
        let mut cluster = Self {
            binary: binary.to_path_buf(),
            directory: directory.to_path_buf(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            nodes: Vec::new(),
        };
        for _ in 0..limits::NODES {
            cluster.add().await?;
        }
        cluster.voting(limits::NODES).await?;
        Ok(cluster)
    }

    /// Starts one more node, which joins the others.
    pub(crate) async fn add(&mut self) -> Result<usize> {
        let at = self.nodes.len();
        let directory = self.directory.join(format!("node-{at}"));
        let any = "127.0.0.1:0".to_owned();
        let (url, peer) = (format!("http://{any}"), any);
        self.nodes.push(Node { directory, url, peer, id: 0, daemon: None });
        self.start_node(at).await?;
        Ok(at)
    }

    /// Starts the node at a position, at its addresses of before, and waits until it serves.
    async fn start_node(&mut self, at: usize) -> Result<()> {
        let members: Vec<String> = self.nodes[..at].iter().map(|node| node.peer.clone()).collect();
        let node = &mut self.nodes[at];
        let mut command = Command::new(&self.binary);
        command.arg("serve").arg("--data-dir").arg(&node.directory);
        let listen = node.url.strip_prefix("http://").unwrap_or(&node.url);
        command.args(["--listen", listen, "--peer", &node.peer, "--actor", ACTOR]);
        command.args(&self.options);
        for member in members {
            command.args(["--join", &member]);
        }
        let mut daemon = Daemon::start(command, &node.directory)?;
        let line = loop {
            match daemon.first_line()? {
                Some(line) => break line,
                None => tokio::time::sleep(limits::LOOK).await,
            }
        };
        let said: Value = serde_json::from_str(&line).with_context(|| format!("read `{line}`"))?;
        let text = |key: &str| said[key].as_str().map(str::to_owned).context("an address");
        (node.url, node.peer) = (text("listening")?, text("peer")?);
        node.id = said["node_id"].as_u64().context("a node says who it is")?;
        node.daemon = Some(daemon);
        Ok(())
    }

    pub(crate) async fn lake(&self, at: usize) -> Result<LakeClient<Channel>> {
        Ok(LakeClient::new(connect(&self.nodes[at].url).await?))
    }

    pub(crate) async fn status(&self, at: usize) -> Result<v1::StatusResponse> {
        let answer = self.lake(at).await?.status(v1::StatusRequest {}).await;
        Ok(answer.context("ask a node how it is")?.into_inner())
    }

    /// Waits until as many nodes vote.
    async fn voting(&self, count: usize) -> Result<()> {
        until("every node votes", || async move {
            let Ok(mut lake) = self.lake(0).await else { return Ok(None) };
            let Ok(answer) = lake.list_members(v1::ListMembersRequest {}).await else {
                return Ok(None);
            };
            let members = answer.into_inner().members;
            let voters = members.iter().filter(|member| member.votes).count();
            Ok((voters >= count).then_some(()))
        })
        .await
    }

    /// Waits until all running nodes follow one running leader, and returns its position.
    pub(crate) async fn leader(&mut self) -> Result<usize> {
        for node in &mut self.nodes {
            node.daemon.as_mut().map_or(Ok(()), Daemon::check)?;
        }
        let cluster = &*self;
        until("a leader", || async move {
            let mut told = Vec::new();
            for (at, node) in cluster.nodes.iter().enumerate() {
                if node.daemon.is_some() {
                    let Ok(status) = cluster.status(at).await else { return Ok(None) };
                    told.push(status.leader);
                }
            }
            let first = told.first().copied().flatten();
            let is_one = told.iter().all(|leader| *leader == first);
            let is_it = |node: &Node| Some(node.id) == first && node.daemon.is_some();
            Ok(cluster.nodes.iter().position(is_it).filter(|_| is_one))
        })
        .await
    }

    pub(crate) fn url(&self, at: usize) -> &str {
        &self.nodes[at].url
    }

    pub(crate) fn node_directory(&self, at: usize) -> &Path {
        &self.nodes[at].directory
    }

    /// Returns what a node said to standard error.
    pub(crate) fn errors(&self, at: usize) -> String {
        self.nodes[at].daemon.as_ref().map(Daemon::errors).unwrap_or_default()
    }

    pub(crate) fn kill(&mut self, at: usize) -> Result<()> {
        self.nodes[at].daemon.take().context("the node runs")?.kill()
    }

    /// Starts a killed node again and waits until it has what the leader has.
    pub(crate) async fn restart(&mut self, at: usize) -> Result<()> {
        self.start_node(at).await?;
        let leader = self.leader().await?;
        self.catch_up(leader, at).await
    }

    /// Waits until a node has applied what the leader has committed now, and has every file.
    pub(crate) async fn catch_up(&self, leader: usize, at: usize) -> Result<()> {
        let committed = self.status(leader).await?.committed;
        until("a node catches up", || async move {
            let Ok(status) = self.status(at).await else { return Ok(None) };
            let is_there = committed <= status.applied && status.files_missing == 0;
            Ok(is_there.then_some(()))
        })
        .await
    }

    /// Registers a dataset without a key.
    pub(crate) async fn register(&self, name: &str, columns: &[(&str, v1::Scalar)]) -> Result<()> {
        let column = |(name, scalar): &(&str, v1::Scalar)| {
            let kind = v1::data_type::Kind::Scalar((*scalar).into());
            let r#type = Some(Box::new(v1::DataType { kind: Some(kind) }));
            v1::Column { id: 0, name: (*name).to_owned(), r#type, nullable: false }
        };
        let message = v1::RegisterRequest {
            caller: Some(caller(None)),
            name: name.to_owned(),
            columns: columns.iter().map(column).collect(),
            ..v1::RegisterRequest::default()
        };
        let answer = self.lake(0).await?.register(message).await;
        answer.context("register a dataset").map(drop)
    }

    /// Returns clients that each append; if they are numbered, under a session of their own.
    pub(crate) async fn appends(
        &self,
        at: usize,
        clients: usize,
        (appends, is_numbered): (&[Append], bool),
    ) -> Result<Vec<Work>> {
        let channels = connections(self.url(at), clients).await?;
        let mut works = Vec::new();
        for client in 0..clients {
            let mut lake = LakeClient::new(channels[client % channels.len()].clone());
            let session = match is_numbered {
                true => Some(open_session(&mut lake).await?),
                false => None,
            };
            works.push(append(lake, session, appends));
        }
        Ok(works)
    }

    /// Returns clients that each open sessions.
    pub(crate) async fn sessions(&self, at: usize, clients: usize) -> Result<Vec<Work>> {
        let channels = connections(self.url(at), clients).await?;
        let work = |client: usize| {
            let lake = LakeClient::new(channels[client % channels.len()].clone());
            Box::new(move || -> BoxFuture<'static, Result<()>> {
                let mut lake = lake.clone();
                Box::pin(async move { open_session(&mut lake).await.map(drop) })
            }) as Work
        };
        Ok((0..clients).map(work).collect())
    }

    /// Returns a client without a session, whose connection is made anew when it broke.
    pub(crate) fn prober(&self, at: usize, appends: &[Append]) -> Result<Work> {
        Ok(append(LakeClient::new(connect_lazily(self.url(at))?), None, appends))
    }

    /// Returns clients that each ask a question.
    pub(crate) async fn queries(
        &self,
        at: usize,
        clients: usize,
        (sql, level): (&'static str, Level),
    ) -> Result<Vec<Work>> {
        let channels = connections(self.url(at), clients).await?;
        let work = |client: usize| {
            ask(LakeClient::new(channels[client % channels.len()].clone()), sql, level)
        };
        Ok((0..clients).map(work).collect())
    }
}

async fn open_session(lake: &mut LakeClient<Channel>) -> Result<u64> {
    let message = v1::OpenSessionRequest { actor: ACTOR.to_owned(), ttl_ms: None };
    let answer = lake.open_session(message).await.context("open a session")?;
    Ok(answer.into_inner().session_id)
}

fn ask(lake: LakeClient<Channel>, sql: &'static str, level: Level) -> Work {
    Box::new(move || {
        let (mut lake, message) = (lake.clone(), question(sql, level));
        Box::pin(async move {
            let mut answer = lake.query(message).await?.into_inner();
            while answer.message().await?.is_some() {}
            Ok(())
        })
    })
}

fn question(sql: &str, level: Level) -> v1::QueryRequest {
    v1::QueryRequest {
        sql: sql.to_owned(),
        local: level == Level::Local,
        max_stale_ms: match level {
            Level::Stale(millis) => Some(millis),
            Level::Linearizable | Level::Local => None,
        },
        ..v1::QueryRequest::default()
    }
}

/// The rows of one append.
#[derive(Debug, Clone)]
pub(crate) struct Append {
    pub(crate) name: &'static str,
    pub(crate) streams: Vec<Bytes>,
}

fn append(lake: LakeClient<Channel>, session: Option<u64>, appends: &[Append]) -> Work {
    use v1::append_request::Part;
    let (mut sequence, appends) = (0_u64, appends.to_vec());
    let mut turn = 0_usize;
    Box::new(move || {
        (sequence, turn) = (sequence + 1, (turn + 1) % appends.len());
        let Append { name, streams } = appends[turn].clone();
        let caller = Some(caller(session.map(|id| v1::Session { id, sequence })));
        let target = v1::AppendTarget { caller, name: name.to_owned(), upsert: false };
        let mut parts = vec![Part::Target(target)];
        parts.extend(streams.into_iter().map(Part::ArrowStream));
        let messages = parts.into_iter().map(|part| v1::AppendRequest { part: Some(part) });
        let mut lake = lake.clone();
        Box::pin(async move { Ok(lake.append(stream::iter(messages)).await.map(drop)?) })
    })
}

fn caller(session: Option<v1::Session>) -> v1::Caller {
    v1::Caller { actor: ACTOR.to_owned(), session, expected_index: None }
}
