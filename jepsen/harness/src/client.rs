//! Calls of the public API, each with a deadline, each tried once.
//!
//! It must not retry: an answer that is lost is what the histories are about. Invariant: a call returns within
//! its deadline and a grace, whatever the server or the network does.

use std::future::Future;
use std::time::Duration;

use alluvium_checker::NodeId;
use alluvium_proto::v1;
use alluvium_proto::v1::lake_client::LakeClient;
use anyhow::Context as _;
use futures::future::LocalBoxFuture;
use futures::{FutureExt as _, stream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::limits;
use crate::outcome::Fault;
use crate::rows::{Decoding, Row, encode};

/// A node as clients reach it.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) node: NodeId,
    pub(crate) url: String,
}

/// A connection to one node.
#[derive(Debug, Clone)]
pub(crate) struct Lake {
    node: NodeId,
    client: LakeClient<Channel>,
    deadline: Duration,
}

/// The rows of an answer, and the index that they were read at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) index: u64,
    pub(crate) rows: Vec<Row>,
}

/// Who writes what where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Write<'a> {
    /// The dataset.
    pub(crate) name: &'a str,
    /// Names this operation in the log.
    pub(crate) tag: String,
    pub(crate) session: Option<(u64, u64)>,
    pub(crate) expected_index: Option<u64>,
    /// Where the files of a dataset go that is registered; nothing for each member's own bucket.
    pub(crate) bucket: Option<&'static str>,
}

impl Write<'_> {
    fn caller(&self) -> Option<v1::Caller> {
        let session = self.session.map(|(id, sequence)| v1::Session { id, sequence });
        Some(v1::Caller { actor: self.tag.clone(), session, expected_index: self.expected_index })
    }
}

/// How to read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading {
    pub(crate) as_of: Option<u64>,
    pub(crate) at_least: Option<u64>,
    pub(crate) local: bool,
}

impl Lake {
    /// Prepares a connection; the first call makes it, and the first one after it broke makes another.
    pub(crate) fn new(address: &Address, deadline: Duration) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(address.url.clone()).context("the URL of a node")?;
        let channel = endpoint
            .connect_timeout(limits::CONNECT_TIMEOUT)
            .http2_keep_alive_interval(limits::KEEP_ALIVE)
            .keep_alive_timeout(limits::KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect_lazy();
        let client = LakeClient::new(channel).max_decoding_message_size(limits::ANSWER_BYTES_MAX);
        Ok(Self { node: address.node, client, deadline })
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The same connection, with another deadline.
    pub(crate) fn within(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    /// Bounds a call. It is boxed here, because the library's own futures are large.
    fn bounded<'a, T: 'a>(
        &self,
        call: impl Future<Output = Result<T, Fault>> + 'a,
    ) -> LocalBoxFuture<'a, Result<T, Fault>> {
        let limit = self.deadline + limits::GRACE;
        let bounded = async move {
            tokio::time::timeout(limit, call).await.map_err(|_elapsed| Fault::silence())?
        };
        bounded.boxed_local()
    }

    fn answer<'a, T: 'a>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>> + 'a,
    ) -> LocalBoxFuture<'a, Result<T, Fault>> {
        self.bounded(async move { Ok(call.await?.into_inner()) })
    }

    pub(crate) async fn open_session(&self, actor: &str) -> Result<u64, Fault> {
        let message = v1::OpenSessionRequest { actor: actor.to_owned(), ttl_ms: None };
        let mut client = self.client.clone();
        Ok(self.answer(client.open_session(self.request(message))).await?.session_id)
    }

    /// Registers a dataset of whole numbers. Its files are cut at `seal_rows` rows.
    pub(crate) async fn register(
        &self,
        write: &Write<'_>,
        (columns, keys): (&[&str], &[&str]),
        seal_rows: u64,
    ) -> Result<v1::RegisterResponse, Fault> {
        let options =
            v1::DatasetOptions { seal_rows: Some(seal_rows), ..v1::DatasetOptions::default() };
        let message = v1::RegisterRequest {
            caller: write.caller(),
            name: write.name.to_owned(),
            columns: columns.iter().map(|name| column(name)).collect(),
            key_columns: keys.iter().map(|name| (*name).to_owned()).collect(),
            bucket: write.bucket.map(str::to_owned),
            options: Some(options),
        };
        let mut client = self.client.clone();
        self.answer(client.register(self.request(message))).await
    }

    pub(crate) async fn describe(&self, name: &str) -> Result<v1::Dataset, Fault> {
        let message = v1::GetDatasetRequest { name: name.to_owned(), as_of: None };
        let mut client = self.client.clone();
        self.answer(client.get_dataset(self.request(message))).await
    }

    pub(crate) async fn drop_dataset(&self, write: &Write<'_>) -> Result<u64, Fault> {
        let message = v1::DatasetRequest { caller: write.caller(), name: write.name.to_owned() };
        let mut client = self.client.clone();
        Ok(self.answer(client.drop(self.request(message))).await?.index)
    }

    /// Adds rows, or replaces those with the same keys, and returns the index.
    pub(crate) async fn append(
        &self,
        write: &Write<'_>,
        (columns, rows): (&[&str], &[Vec<i64>]),
        upsert: bool,
    ) -> Result<u64, Fault> {
        use v1::append_request::Part;
        let (caller, name) = (write.caller(), write.name.to_owned());
        let target = Part::Target(v1::AppendTarget { caller, name, upsert });
        let parts = [target, Part::ArrowStream(encode(columns, rows)?)];
        let messages = parts.map(|part| v1::AppendRequest { part: Some(part) });
        let mut client = self.client.clone();
        Ok(self.answer(client.append(self.request(stream::iter(messages)))).await?.index)
    }

    /// Hides rows by key and returns the index.
    pub(crate) async fn tombstone(
        &self,
        write: &Write<'_>,
        (columns, keys): (&[&str], &[Vec<i64>]),
    ) -> Result<u64, Fault> {
        use v1::tombstone_request::Part;
        let (caller, name) = (write.caller(), write.name.to_owned());
        let target = v1::TombstoneTarget { caller, name, predicate: None, dry_run: false };
        let parts = [Part::Target(target), Part::ArrowStream(encode(columns, keys)?)];
        let messages = parts.map(|part| v1::TombstoneRequest { part: Some(part) });
        let mut client = self.client.clone();
        Ok(self.answer(client.tombstone(self.request(stream::iter(messages)))).await?.index)
    }

    pub(crate) async fn query(&self, sql: &str, reading: Reading) -> Result<Answer, Fault> {
        let message = v1::QueryRequest {
            sql: sql.to_owned(),
            as_of: reading.as_of,
            at_least: reading.at_least,
            local: reading.local,
            ..v1::QueryRequest::default()
        };
        let mut client = self.client.clone();
        let call = async move {
            let mut messages = client.query(self.request(message)).await?.into_inner();
            let (mut decoding, mut index) = (Decoding::default(), None);
            while let Some(message) = messages.message().await? {
                index = index.or(message.index);
                decoding.take(message.arrow_stream)?;
            }
            let index = index.ok_or_else(|| Fault::unusable("the answer names no index"))?;
            Ok(Answer { index, rows: decoding.finish()? })
        };
        self.bounded(call).await
    }

    pub(crate) async fn seal(&self, name: &str) -> Result<u64, Fault> {
        let mut client = self.client.clone();
        Ok(self.answer(client.seal(self.request(dataset(name)))).await?.index)
    }

    pub(crate) async fn compact(&self, name: &str) -> Result<u64, Fault> {
        let mut client = self.client.clone();
        Ok(self.answer(client.compact(self.request(dataset(name)))).await?.index)
    }

    pub(crate) async fn expire(&self, name: &str, floor: Option<u64>) -> Result<u64, Fault> {
        let (caller, name) = (None, name.to_owned());
        let mut client = self.client.clone();
        let message = v1::ExpireRequest { caller, name, floor };
        Ok(self.answer(client.expire(self.request(message))).await?.index)
    }

    /// Returns entries of the log from an index on.
    pub(crate) async fn log(&self, from: u64) -> Result<Vec<v1::LogRecord>, Fault> {
        let message = v1::LogRequest { from: Some(from), limit: limits::LOG_RECORDS };
        let mut client = self.client.clone();
        Ok(self.answer(client.log(self.request(message))).await?.records)
    }
}

fn dataset(name: &str) -> v1::DatasetRequest {
    v1::DatasetRequest { caller: None, name: name.to_owned() }
}

fn column(name: &str) -> v1::Column {
    let kind = v1::data_type::Kind::Scalar(v1::Scalar::Int64.into());
    let r#type = Some(Box::new(v1::DataType { kind: Some(kind) }));
    v1::Column { id: 0, name: name.to_owned(), r#type, nullable: false }
}
