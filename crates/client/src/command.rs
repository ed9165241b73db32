//! A command and how it is sent: the same messages each time, under the same number.
//!
//! It must not decide what a failure means. Invariant: a command that is sent again is equal to what was sent before.

use std::pin::Pin;
use std::task::{Context, Poll};

use alluvium_proto::v1;
use alluvium_proto::v1::append_request::Part as AppendPart;
use alluvium_proto::v1::tombstone_request::Part as TombstonePart;
use alluvium_types::{LogIndex, SessionRef};
use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::oneshot;

use crate::Error;
use crate::answers::Answer;
use crate::call::{Fault, Try};
use crate::limits::KEYS_PER_MESSAGE;
use crate::rows::{BoxError, Rows, encode};

/// The keys that a tombstone names.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Batches that have exactly the key columns, in key order.
    Batches(Vec<RecordBatch>),
    /// One text per key column and key, parsed by the columns' types.
    Texts(Vec<Vec<String>>),
    /// A predicate over the dataset's columns, resolved to keys by the server.
    Predicate(String),
}

/// A command with all that another try of it needs.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) actor: String,
    pub(crate) expected_index: Option<LogIndex>,
    pub(crate) command: Command,
}

#[derive(Debug)]
pub(crate) enum Command {
    Register(v1::RegisterRequest),
    Evolve(v1::EvolveRequest),
    Append { name: String, upsert: bool, rows: Rows },
    Tombstone { name: String, predicate: Option<String>, parts: Vec<TombstonePart> },
    Seal { name: String },
    Compact { name: String },
    Expire { name: String, floor: Option<LogIndex> },
    Drop { name: String },
}

impl Command {
    pub(crate) fn tombstone(name: String, keys: Keys) -> Result<Self, Error> {
        let (predicate, parts) = match keys {
            Keys::Predicate(predicate) => (Some(predicate), Vec::new()),
            Keys::Texts(keys) => (None, keys.chunks(KEYS_PER_MESSAGE).map(texts).collect()),
            Keys::Batches(batches) => {
                let mut parts = Vec::new();
                for batch in &batches {
                    parts.extend(encode(batch)?.into_iter().map(TombstonePart::ArrowStream));
                }
                (None, parts)
            }
        };
        Ok(Self::Tombstone { name, predicate, parts })
    }

    /// Returns the name of the call.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Register(_) => "Register",
            Self::Evolve(_) => "Evolve",
            Self::Append { .. } => "Append",
            Self::Tombstone { .. } => "Tombstone",
            Self::Seal { .. } => "Seal",
            Self::Compact { .. } => "Compact",
            Self::Expire { .. } => "Expire",
            Self::Drop { .. } => "Drop",
        }
    }

    /// Says whether the command has a number. A compaction chooses its inputs anew in each try, so that the server
    /// would refuse it under the first one's number; it changes no row, and may be done twice.
    pub(crate) fn is_numbered(&self) -> bool {
        !matches!(self, Self::Compact { .. })
    }

    /// Says whether a node that is well answers within moments.
    pub(crate) fn is_short(&self) -> bool {
        match self {
            Self::Register(_) | Self::Evolve(_) => true,
            Self::Append { rows, .. } => rows.is_short(),
            Self::Tombstone { predicate, .. } => predicate.is_none(),
            // These wait for files.
            Self::Seal { .. } | Self::Compact { .. } | Self::Expire { .. } | Self::Drop { .. } => {
                false
            }
        }
    }
}

fn texts(keys: &[Vec<String>]) -> TombstonePart {
    let keys = keys.iter().map(|values| v1::TextKey { values: values.clone() });
    TombstonePart::Texts(v1::TextKeys { keys: keys.collect() })
}

impl Order {
    fn caller(&self, number: Option<SessionRef>) -> v1::Caller {
        v1::Caller {
            actor: self.actor.clone(),
            session: number.map(|n| v1::Session { id: n.id.0, sequence: n.sequence.0 }),
            expected_index: self.expected_index.map(|index| index.0),
        }
    }

    /// Sends the command under its number and waits for the answer.
    pub(crate) async fn send(&self, to: Try, number: Option<SessionRef>) -> Result<Answer, Fault> {
        let caller = Some(self.caller(number));
        let mut lake = to.lake.clone();
        Ok(match &self.command {
            Command::Register(message) => {
                let message = v1::RegisterRequest { caller, ..message.clone() };
                to.answer(lake.register(to.request(message))).await?.into()
            }
            Command::Evolve(message) => {
                let message = v1::EvolveRequest { caller, ..message.clone() };
                to.answer(lake.evolve(to.request(message))).await?.into()
            }
            Command::Append { name, upsert, rows } => {
                let target = v1::AppendTarget { caller, name: name.clone(), upsert: *upsert };
                let (failed, failure) = oneshot::channel();
                append(to, target, rows.messages(failed), failure).await?.into()
            }
            Command::Tombstone { name, predicate, parts } => {
                let (name, predicate) = (name.clone(), predicate.clone());
                let target = v1::TombstoneTarget { caller, name, predicate, dry_run: false };
                tombstone(&to, target, parts.clone()).await?.into()
            }
            Command::Seal { name } => {
                to.answer(lake.seal(to.request(dataset(caller, name)))).await?.into()
            }
            Command::Compact { name } => {
                to.answer(lake.compact(to.request(dataset(caller, name)))).await?.into()
            }
            Command::Expire { name, floor } => {
                let floor = floor.map(|floor| floor.0);
                let message = v1::ExpireRequest { caller, name: name.clone(), floor };
                to.answer(lake.expire(to.request(message))).await?.into()
            }
            Command::Drop { name } => {
                to.answer(lake.drop(to.request(dataset(caller, name)))).await?.into()
            }
        })
    }
}

fn dataset(caller: Option<v1::Caller>, name: &str) -> v1::DatasetRequest {
    v1::DatasetRequest { caller, name: name.to_owned() }
}

/// Sends rows. Dropping the call cancels it, and a cancelled append leaves nothing visible.
pub(crate) fn append(
    to: Try,
    target: v1::AppendTarget,
    messages: BoxStream<'static, Bytes>,
    failure: oneshot::Receiver<BoxError>,
) -> BoxFuture<'static, Result<v1::WriteResponse, Fault>> {
    let parts =
        stream::iter([AppendPart::Target(target)]).chain(messages.map(AppendPart::ArrowStream));
    let requests = Requests(parts.map(|part| v1::AppendRequest { part: Some(part) }).boxed());
    async move {
        let mut lake = to.lake.clone();
        tokio::select! {
            answer = to.answer(lake.append(to.request(requests))) => answer,
            Ok(failure) = failure => Err(Fault::Rows(failure)),
        }
    }
    .boxed()
}

/// A stream with a name, because the compiler cannot prove of one without that a call with it may go to another thread.
struct Requests(BoxStream<'static, v1::AppendRequest>);

impl Stream for Requests {
    type Item = v1::AppendRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

/// Sends keys.
pub(crate) async fn tombstone(
    to: &Try,
    target: v1::TombstoneTarget,
    parts: Vec<TombstonePart>,
) -> Result<v1::WriteResponse, Fault> {
    let parts = std::iter::once(TombstonePart::Target(target)).chain(parts);
    let requests: Vec<_> = parts.map(|part| v1::TombstoneRequest { part: Some(part) }).collect();
    to.answer(to.lake.clone().tombstone(to.request(stream::iter(requests)))).await
}
