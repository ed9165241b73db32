//! Where a command works: a node in this process, or a server.
//!
//! It must not answer differently in the two: both give the protocol's messages. Invariant: a node that was
//! opened is shut down, so that its next start replays nothing.

use std::path::Path;
use std::time::Duration;

use alluvium_engine::{Caller, Config, Node, RegisterOptions, SqlOptions, TombstoneKeys};
use alluvium_ingest::Reader;
use alluvium_proto::v1;
use alluvium_server::convert::{caller_to, change_to, field_to, options_from};
use alluvium_server::replies;
use alluvium_types::{LogIndex, Schema, SchemaChange, SessionId};

use crate::client::{Client, Rows, read_failure};
use crate::config::{Place, Settings};
use crate::failure::Failure;
use crate::output::Answer;
use crate::terminal::Loading;

/// Where a command works.
pub(crate) enum Backend {
    Embedded(Node),
    Remote(Client),
}

/// Whether a command may make a data directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

/// Returns the configuration of a node in `directory`.
pub(crate) fn node_config(directory: &Path, settings: &Settings) -> Result<Config, Failure> {
    let mut config = Config::single(directory);
    config.query_memory_bytes = settings.query_memory.unwrap_or(config.query_memory_bytes);
    config.statement_timeout = settings.statement_timeout.unwrap_or(config.statement_timeout);
    for (name, url) in &settings.buckets {
        // A variable that is not UTF-8 is none of these.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let store = alluvium_engine::open_s3(url, variables);
        let store = store.map_err(|error| Failure::usage(error.to_string()))?;
        config.shared_buckets.insert(name.clone(), store);
    }
    Ok(config)
}

/// Opens the node in `directory`. Nothing was asked of it yet, so a failure leaves no doubt.
pub(crate) async fn open_node(directory: &Path, settings: &Settings) -> Result<Node, Failure> {
    Node::open(node_config(directory, settings)?).await.map_err(unread)
}

fn refuse_missing(directory: &Path) -> Result<(), Failure> {
    if directory.is_dir() {
        return Ok(());
    }
    let message = format!("there is no data directory {}", directory.display());
    Err(Failure::usage(message)
        .with_hint("`alluvium serve` and `alluvium dataset register` make one"))
}

/// Verifies a directory without opening it, so that nothing in it changes. Returns what an opening would mend, too.
pub(crate) async fn verify_directory(
    directory: &Path,
    settings: &Settings,
) -> Result<(v1::VerifyResponse, Vec<String>), Failure> {
    refuse_missing(directory)?;
    let report = alluvium_engine::verify_directory(&node_config(directory, settings)?).await;
    let mut report = report.map_err(unread)?;
    let notices = std::mem::take(&mut report.notices);
    Ok((replies::verified(report), notices))
}

/// The failure of a node that was asked to change nothing.
fn unread(error: alluvium_engine::Error) -> Failure {
    Failure::from(error).of_read()
}

impl Backend {
    pub(crate) async fn open(settings: &Settings, missing: Missing) -> Result<Self, Failure> {
        match &settings.place {
            Place::Directory(directory) => {
                if missing == Missing::Refuse {
                    refuse_missing(directory)?;
                }
                Ok(Self::Embedded(open_node(directory, settings).await?))
            }
            Place::Server(url) => Ok(Self::Remote(Client::new(url, settings.statement_timeout)?)),
            Place::Unknown => {
                Err(Failure::usage("where? neither a directory nor a server was named")
                    .with_hint("say --data-dir DIR or --connect URL, or set ALLUVIUM_CONNECT"))
            }
        }
    }

    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self {
            Self::Embedded(node) => node.shutdown().await.map_err(unread),
            Self::Remote(_) => Ok(()),
        }
    }

    pub(crate) async fn open_session(
        &self,
        actor: &str,
        ttl: Duration,
    ) -> Result<SessionId, Failure> {
        match self {
            Self::Embedded(node) => Ok(node.open_session(actor, Some(ttl)).await?),
            Self::Remote(client) => {
                let ttl_ms = Some(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
                let message = v1::OpenSessionRequest { actor: actor.to_owned(), ttl_ms };
                let mut lake = client.lake();
                let call = lake.open_session(client.request(message));
                Ok(SessionId(client.answer(call).await?.session_id))
            }
        }
    }

    pub(crate) async fn register(
        &self,
        caller: &Caller,
        name: &str,
        schema: &Schema,
        bucket: &str,
    ) -> Result<v1::RegisterResponse, Failure> {
        match self {
            Self::Embedded(node) => {
                let options = RegisterOptions {
                    key_columns: schema.key_columns.clone(),
                    bucket: bucket.to_owned(),
                    options: options_from(None)?,
                };
                let arrow = alluvium_rows::to_arrow(schema);
                let answer = node.register(caller, name, arrow, options).await?;
                Ok(replies::registered(&answer))
            }
            Self::Remote(client) => {
                let message = v1::RegisterRequest {
                    caller: Some(caller_to(caller)),
                    name: name.to_owned(),
                    columns: schema.fields.iter().map(field_to).collect(),
                    key_columns: schema.key_columns.clone(),
                    bucket: Some(bucket.to_owned()),
                    options: None,
                };
                Ok(client.answer(client.lake().register(client.request(message))).await?)
            }
        }
    }

    pub(crate) async fn evolve(
        &self,
        caller: &Caller,
        name: &str,
        changes: Vec<SchemaChange>,
    ) -> Result<v1::WriteResponse, Failure> {
        match self {
            Self::Embedded(node) => {
                Ok(replies::written(&node.evolve(caller, name, changes).await?))
            }
            Self::Remote(client) => {
                let message = v1::EvolveRequest {
                    caller: Some(caller_to(caller)),
                    name: name.to_owned(),
                    changes: changes.iter().map(change_to).collect(),
                };
                Ok(client.answer(client.lake().evolve(client.request(message))).await?)
            }
        }
    }

    pub(crate) async fn drop_dataset(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<v1::WriteResponse, Failure> {
        match self {
            Self::Embedded(node) => Ok(replies::written(&node.drop_dataset(caller, name).await?)),
            Self::Remote(client) => {
                let request = client.request(dataset_request(caller, name));
                Ok(client.answer(client.lake().drop(request)).await?)
            }
        }
    }

    pub(crate) async fn datasets(&self, as_of: Option<u64>) -> Result<Vec<v1::Dataset>, Failure> {
        match self {
            Self::Embedded(node) => {
                let (_, datasets) = node.datasets(as_of.map(LogIndex)).await.map_err(unread)?;
                Ok(datasets.iter().map(replies::dataset).collect::<Result<_, _>>()?)
            }
            Self::Remote(client) => {
                let request = client.request(v1::ListDatasetsRequest { as_of });
                let answer = client
                    .answer(client.lake().list_datasets(request))
                    .await
                    .map_err(read_failure)?;
                Ok(answer.datasets)
            }
        }
    }

    pub(crate) async fn dataset(
        &self,
        name: &str,
        as_of: Option<u64>,
    ) -> Result<v1::Dataset, Failure> {
        match self {
            Self::Embedded(node) => {
                let dataset = node.dataset(name, as_of.map(LogIndex)).await.map_err(unread)?;
                Ok(replies::dataset(&dataset)?)
            }
            Self::Remote(client) => {
                let message = v1::GetDatasetRequest { name: name.to_owned(), as_of };
                let mut lake = client.lake();
                let call = lake.get_dataset(client.request(message));
                client.answer(call).await.map_err(read_failure)
            }
        }
    }

    pub(crate) async fn load(
        &self,
        caller: &Caller,
        name: &str,
        upsert: bool,
        (reader, loading): (Reader, Loading),
    ) -> Result<v1::WriteResponse, Failure> {
        match self {
            Self::Embedded(node) => {
                let mut appender = node.appender(caller.clone(), name, upsert);
                let mut reader = reader;
                let mut rows = 0;
                while let Some(batch) = reader.next().transpose()? {
                    rows += batch.num_rows() as u64;
                    loading.advance(reader.progress(), rows);
                    appender.push(batch).await?;
                }
                Ok(replies::written(&appender.finish().await?))
            }
            Self::Remote(client) => {
                client.load(caller, name, upsert, Rows { reader, loading }).await
            }
        }
    }

    pub(crate) async fn tombstone(
        &self,
        caller: &Caller,
        name: &str,
        keys: TombstoneKeys,
    ) -> Result<v1::WriteResponse, Failure> {
        match self {
            Self::Embedded(node) => {
                Ok(replies::written(&node.tombstone(caller, name, keys).await?))
            }
            Self::Remote(client) => client.tombstone(caller, name, keys).await,
        }
    }

    /// Counts the rows that a tombstone by a predicate would hide.
    pub(crate) async fn preview(&self, name: &str, predicate: &str) -> Result<u64, Failure> {
        match self {
            Self::Embedded(node) => Ok(node.preview_tombstone(name, predicate).await?.count),
            Self::Remote(client) => Ok(client.preview(name, predicate).await?.count),
        }
    }

    pub(crate) async fn seal(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<v1::SealResponse, Failure> {
        match self {
            Self::Embedded(node) => Ok(replies::sealed(&node.seal(caller, name).await?)),
            Self::Remote(client) => {
                let request = client.request(dataset_request(caller, name));
                Ok(client.answer(client.lake().seal(request)).await?)
            }
        }
    }

    pub(crate) async fn compact(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<v1::CompactResponse, Failure> {
        match self {
            Self::Embedded(node) => Ok(replies::compacted(&node.compact(caller, name).await?)),
            Self::Remote(client) => {
                let request = client.request(dataset_request(caller, name));
                Ok(client.answer(client.lake().compact(request)).await?)
            }
        }
    }

    pub(crate) async fn expire(
        &self,
        caller: &Caller,
        name: &str,
        floor: Option<u64>,
    ) -> Result<v1::WriteResponse, Failure> {
        match self {
            Self::Embedded(node) => {
                let written = node.expire(caller, name, floor.map(LogIndex)).await?;
                Ok(replies::written(&written))
            }
            Self::Remote(client) => {
                let caller = Some(caller_to(caller));
                let message = v1::ExpireRequest { caller, name: name.to_owned(), floor };
                Ok(client.answer(client.lake().expire(client.request(message))).await?)
            }
        }
    }

    pub(crate) async fn sql(&self, text: &str, as_of: Option<u64>) -> Result<Answer, Failure> {
        match self {
            Self::Embedded(node) => {
                let options = SqlOptions { as_of: as_of.map(LogIndex), ..SqlOptions::default() };
                let stream = node.sql(text, options).await;
                Ok(Answer::of_engine(stream.map_err(unread)?))
            }
            Self::Remote(client) => client.sql(text, as_of).await,
        }
    }

    pub(crate) async fn log(
        &self,
        from: Option<u64>,
        limit: u32,
    ) -> Result<Vec<v1::LogRecord>, Failure> {
        match self {
            Self::Embedded(node) => {
                let limit = usize::try_from(limit).expect("32 bits fit");
                let records = node.log(from.map(LogIndex), limit).await.map_err(unread)?;
                Ok(records.into_iter().map(replies::log_record).collect())
            }
            Self::Remote(client) => {
                let request = client.request(v1::LogRequest { from, limit });
                let answer =
                    client.answer(client.lake().log(request)).await.map_err(read_failure)?;
                Ok(answer.records)
            }
        }
    }

    pub(crate) async fn status(&self) -> Result<v1::StatusResponse, Failure> {
        match self {
            Self::Embedded(node) => Ok(replies::status(node.status().await.map_err(unread)?)),
            Self::Remote(client) => {
                let request = client.request(v1::StatusRequest {});
                client.answer(client.lake().status(request)).await.map_err(read_failure)
            }
        }
    }

    pub(crate) async fn members(&self) -> Result<Vec<v1::Member>, Failure> {
        match self {
            Self::Embedded(node) => Ok(replies::members(&node.members())),
            Self::Remote(client) => {
                let request = client.request(v1::ListMembersRequest {});
                let answer = client.answer(client.lake().list_members(request)).await;
                Ok(answer.map_err(read_failure)?.members)
            }
        }
    }

    /// Changes the members of a cluster, through a server: a node in this process would have no peers.
    pub(crate) async fn change_members(
        &self,
        change: v1::change_members_request::Change,
    ) -> Result<v1::ChangeMembersResponse, Failure> {
        match self {
            Self::Embedded(_) => {
                Err(Failure::usage("the members of a cluster are changed through a server")
                    .with_hint("say --connect URL"))
            }
            Self::Remote(client) => {
                let request = v1::ChangeMembersRequest { change: Some(change) };
                let mut lake = client.lake();
                let call = lake.change_members(client.request(request));
                Ok(client.answer(call).await?)
            }
        }
    }

    /// Has the server that is called take the state of another one.
    pub(crate) async fn reinstall(&self) -> Result<(), Failure> {
        match self {
            Self::Embedded(_) => Err(Failure::usage("a node is reinstalled while it serves")
                .with_hint("say --connect URL")),
            Self::Remote(client) => {
                let request = client.request(v1::ReinstallRequest {});
                client.answer(client.lake().reinstall(request)).await?;
                Ok(())
            }
        }
    }

    pub(crate) async fn verify(&self) -> Result<v1::VerifyResponse, Failure> {
        match self {
            Self::Embedded(node) => Ok(replies::verified(node.verify().await.map_err(unread)?)),
            Self::Remote(client) => {
                let request = client.request(v1::VerifyRequest {});
                client.answer(client.lake().verify(request)).await.map_err(read_failure)
            }
        }
    }
}

fn dataset_request(caller: &Caller, name: &str) -> v1::DatasetRequest {
    v1::DatasetRequest { caller: Some(caller_to(caller)), name: name.to_owned() }
}
