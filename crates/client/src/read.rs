//! Reads: queries, the catalog, the log, how nodes are doing. And the membership, which is no entry of a session.
//!
//! It must not tell a failed read as ambiguous: it changed nothing. Invariant: an answer is whole or an error.

use std::time::Duration;

use alluvium_proto::v1;
use alluvium_types::LogIndex;
use futures::FutureExt;
use futures::future::join_all;
use tokio::time::Instant;

use crate::answer::{Collected, Rowset, ask};
use crate::answers::Written;
use crate::call::{Call, Ended, Fault, Try};
use crate::client::Client;
use crate::command;
use crate::error::Error;
use crate::nodes::Prefers;
use crate::options::{Level, QueryOptions};
use crate::retry::Repeat;

/// A change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// Adds a node that listens; without an id it gets the next free one. The address is that of its peer port.
    AddLearner {
        /// Its id.
        node: Option<u64>,
        /// Its peer address, `HOST:PORT`.
        address: String,
    },
    /// Gives learners that have caught up a vote.
    Promote(Vec<u64>),
    /// Removes nodes, dead or alive.
    Remove(Vec<u64>),
    /// Hands the leadership to a voter.
    TransferLeader(u64),
}

impl Client {
    /// Runs one SQL statement at one index and streams its answer. It is asked again, of other nodes too, until the
    /// index and the columns are there; a failure after that is an item of the stream.
    ///
    /// # Errors
    /// What is wrong with the statement, as refused; unavailable when no node answers in time.
    pub async fn query(&self, sql: &str, options: QueryOptions) -> Result<Rowset, Error> {
        let (call, message) = self.question(sql, options);
        let message = &message;
        let asked = self.shared().run(&call, |to| ask(to, message.clone())).boxed().await;
        let head = asked.map_err(read_failure)?;
        self.shared().saw(head.index);
        Ok(head.into_rowset())
    }

    /// Runs one SQL statement and keeps its whole answer. It is asked again when an answer is cut off.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn query_all(&self, sql: &str, options: QueryOptions) -> Result<Collected, Error> {
        let (call, message) = self.question(sql, options);
        let message = &message;
        let collected = self
            .shared()
            .run(&call, |to| async move { ask(to, message.clone()).await?.collect().await });
        let collected = collected.boxed().await.map_err(read_failure)?;
        self.shared().saw(collected.index.0);
        Ok(collected)
    }

    fn question(&self, sql: &str, options: QueryOptions) -> (Call, v1::QueryRequest) {
        let QueryOptions { level, as_of, limit, memory_bytes, row_limit } = options;
        let seen = self.seen();
        let (at_least, local) = match level {
            Level::Linearizable | Level::Stale(_) => (None, false),
            Level::Seen => (Some(seen), true),
            Level::AtLeast(index) => (Some(index), true),
            Level::Local => (None, true),
        };
        let max_stale_ms = match level {
            Level::Stale(limit) => Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            Level::Linearizable | Level::Seen | Level::AtLeast(_) | Level::Local => None,
        };
        // A node that is behind waits for the index instead of refusing it.
        let at_least = at_least.map(|index| index.max(as_of.unwrap_or(index)));
        let message = v1::QueryRequest {
            sql: sql.to_owned(),
            as_of: as_of.map(|index| index.0),
            at_least: at_least.map(|index| index.0).filter(|index| *index > 0),
            local,
            max_stale_ms,
            memory_bytes,
            row_limit,
        };
        let call =
            Call { try_limit: Some(self.shared().options.try_limit), ..self.read("Query", limit) };
        (call, message)
    }

    /// Counts the visible rows that a tombstone by this predicate would hide. Nothing is written.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn preview_tombstone(
        &self,
        name: &str,
        predicate: &str,
        limit: Option<Duration>,
    ) -> Result<Written, Error> {
        let target = v1::TombstoneTarget {
            caller: None,
            name: name.to_owned(),
            predicate: Some(predicate.to_owned()),
            dry_run: true,
        };
        let (target, call) = (&target, self.read("Tombstone", limit));
        let counted = self.shared().run(&call, |to| async move {
            command::tombstone(&to, target.clone(), Vec::new()).await
        });
        let counted = Written::from(counted.boxed().await.map_err(read_failure)?);
        self.shared().saw(counted.index.0);
        Ok(counted)
    }

    /// Lists the live datasets, by name, at the newest index or at `as_of`. Each names the index it was read at.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn datasets(&self, as_of: Option<LogIndex>) -> Result<Vec<v1::Dataset>, Error> {
        let as_of = as_of.map(|index| index.0);
        let answer = self.short("ListDatasets", move |to| async move {
            let request = to.request(v1::ListDatasetsRequest { as_of });
            to.answer(to.lake.clone().list_datasets(request)).await
        });
        let listed = answer.await?;
        self.shared().saw(listed.index);
        Ok(listed.datasets)
    }

    /// Describes one dataset, at the newest index or at `as_of`.
    ///
    /// # Errors
    /// Refused as `NOT_FOUND` when it does not exist there; as [`Client::query`].
    pub async fn dataset(&self, name: &str, as_of: Option<LogIndex>) -> Result<v1::Dataset, Error> {
        let message =
            v1::GetDatasetRequest { name: name.to_owned(), as_of: as_of.map(|index| index.0) };
        let message = &message;
        let answer = self.short("GetDataset", |to| async move {
            to.answer(to.lake.clone().get_dataset(to.request(message.clone()))).await
        });
        let dataset = answer.await?;
        self.shared().saw(dataset.index);
        Ok(dataset)
    }

    /// Shows at most `limit` decoded entries of the log (at most 10,000), from an index, or the last ones. They are
    /// those of the node that happens to answer.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn log(
        &self,
        from: Option<LogIndex>,
        limit: u32,
    ) -> Result<Vec<v1::LogRecord>, Error> {
        let from = from.map(|index| index.0);
        let answer = self.short("Log", move |to| async move {
            to.answer(to.lake.clone().log(to.request(v1::LogRequest { from, limit }))).await
        });
        let shown = answer.await?;
        self.shared().saw(shown.index);
        Ok(shown.records)
    }

    /// Says how a node is doing: the first that answers.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn status(&self) -> Result<v1::StatusResponse, Error> {
        self.short("Status", status_of).await
    }

    /// Says how each node that the client knows is doing, by URL. Each is asked once, all at the same time.
    pub async fn statuses(&self) -> Vec<(String, Result<v1::StatusResponse, Error>)> {
        let ask = |url: String| async move {
            let at = self.shared().nodes.find(&url).expect("a node that is known stays known");
            let call = Call {
                prefers: Prefers::Only(at),
                repeat: Repeat::Impossible,
                ..self.short_call("Status")
            };
            let status = self.shared().run(&call, status_of).boxed().await.map_err(read_failure);
            (url, status)
        };
        join_all(self.shared().nodes.all(false).into_iter().map(|chosen| ask(chosen.url))).await
    }

    /// Recomputes the digest of a node and reads every data file and log entry of it. The node is one of those that the
    /// client was given, by its URL, or any.
    ///
    /// # Errors
    /// [`Error::Endpoint`] for a URL that the client does not know; as [`Client::query`].
    pub async fn verify(
        &self,
        url: Option<&str>,
        limit: Option<Duration>,
    ) -> Result<v1::VerifyResponse, Error> {
        let unknown = |url: &str| Error::Endpoint { url: url.to_owned() };
        let at =
            url.map(|url| self.shared().nodes.find(url).ok_or_else(|| unknown(url))).transpose()?;
        let prefers = at.map_or(Prefers::Any, Prefers::Only);
        let call = Call { prefers, ..self.read("Verify", limit) };
        let report = self.shared().run(&call, |to| async move {
            to.answer(to.lake.clone().verify(to.request(v1::VerifyRequest {}))).await
        });
        let report = report.boxed().await.map_err(read_failure)?;
        self.shared().saw(report.index);
        Ok(report)
    }

    /// Lists the members of the cluster.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn members(&self) -> Result<Vec<v1::Member>, Error> {
        let answer = self.short("ListMembers", |to| async move {
            to.answer(to.lake.clone().list_members(to.request(v1::ListMembersRequest {}))).await
        });
        let listed = answer.await?;
        self.shared().saw(listed.index);
        Ok(listed.members)
    }

    /// Changes who belongs to the cluster, who votes, or who leads. It has no number: it is tried again only when
    /// nothing can have come of it.
    ///
    /// # Errors
    /// Refused when the change is not possible; [`Error::Ambiguous`] without a pending command when its answer is lost:
    /// list the members, then decide.
    pub async fn change_members(
        &self,
        change: MemberChange,
        limit: Option<Duration>,
    ) -> Result<v1::ChangeMembersResponse, Error> {
        let message = v1::ChangeMembersRequest { change: Some(change_to(change)) };
        let message = &message;
        let read = self.read("ChangeMembers", limit);
        let call = Call { prefers: Prefers::Leader, repeat: Repeat::Doubles, ..read };
        let changed = self.shared().run(&call, |to| async move {
            to.answer(to.lake.clone().change_members(to.request(message.clone()))).await
        });
        changed.boxed().await.map_err(|ended| match ended.in_doubt {
            true => Error::Ambiguous {
                number: None,
                failure: Box::new(ended.failure),
                tries: ended.tries,
                pending: None,
            },
            false => ended.into_definite(),
        })
    }

    async fn short<T, F>(&self, name: &'static str, attempt: impl Fn(Try) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let call = self.short_call(name);
        Box::pin(self.shared().run(&call, attempt)).await.map_err(read_failure)
    }

    fn short_call(&self, name: &'static str) -> Call {
        Call { try_limit: Some(self.shared().options.try_limit), ..self.read(name, None) }
    }

    fn read(&self, name: &'static str, limit: Option<Duration>) -> Call {
        let end: Instant = self.shared().end(limit);
        let (prefers, repeat) = (Prefers::Any, Repeat::Safe);
        Call { name, prefers, repeat, end, try_limit: None, in_doubt: false }
    }
}

async fn status_of(to: Try) -> Result<v1::StatusResponse, Fault> {
    to.answer(to.lake.clone().status(to.request(v1::StatusRequest {}))).await
}

/// Makes the error of a call that changes nothing.
fn read_failure(ended: Ended) -> Error {
    ended.into_definite()
}

fn change_to(change: MemberChange) -> v1::change_members_request::Change {
    use v1::change_members_request::Change;
    match change {
        MemberChange::AddLearner { node, address } => {
            Change::AddLearner(v1::NewMember { node, address })
        }
        MemberChange::Promote(nodes) => Change::Promote(v1::MemberIds { nodes }),
        MemberChange::Remove(nodes) => Change::Remove(v1::MemberIds { nodes }),
        MemberChange::TransferLeader(to) => Change::TransferLeader(to),
    }
}
