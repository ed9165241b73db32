//! Proposing: what is checked, stamped and encoded before a command enters the log.

use alluvium_raft::Leadership;
use alluvium_state_machine::catalog;
use alluvium_state_machine::record::{DatasetRecord, ResultRecord, SessionRecord};
use alluvium_state_machine::{Key, Table, ViewError, record_at};
use alluvium_types::{
    Command, DatasetKey, DatasetName, Drop, Entry, Envelope, Evolve, Expire, LogIndex, OpenSession,
    Outcome, Register, Rejection, Response, Schema, SchemaChange, SessionId, SessionRef, limits,
};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use std::time::Duration;

use crate::appender::Appender;
use crate::node::Node;
use crate::{Caller, Error, RegisterOptions, Registered, Written};

/// A live dataset as a proposer sees it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) record: DatasetRecord,
    pub(crate) schema: Schema,
}

impl Node {
    /// Opens a session, whose numbered commands take effect exactly once however often they are retried.
    ///
    /// # Errors
    /// When consensus cannot take the command.
    pub async fn open_session(
        &self,
        actor: &str,
        ttl: Option<Duration>,
    ) -> Result<SessionId, Error> {
        let ttl_ms = ttl.map_or(limits::SESSION_TTL_MS_DEFAULT, |ttl| {
            u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
        });
        let command = Command::OpenSession(OpenSession { ttl_ms });
        let response = self.propose(&Caller::named(actor), command, &[]).await?;
        let Outcome::SessionOpened { session } = response.outcome else {
            unreachable!("open_session answered {:?}", response.outcome)
        };
        Ok(session)
    }

    /// Registers a dataset; the same name, schema and options again is the same dataset.
    ///
    /// # Errors
    /// An illegal name or schema; `SchemaConflict` when the name has another schema.
    pub async fn register(
        &self,
        caller: &Caller,
        name: &str,
        schema: SchemaRef,
        options: RegisterOptions,
    ) -> Result<Registered, Error> {
        let name: DatasetName = name.parse()?;
        refuse_nullable_keys(&schema, &options.key_columns)?;
        let schema = alluvium_rows::from_arrow(&schema, &options.key_columns)?;
        self.bucket(&options.bucket)?;
        let RegisterOptions { bucket, options, .. } = options;
        let command = Command::Register(Register { name, schema, bucket, options });
        let response = self.propose(caller, command, &[]).await?;
        let index = response.index;
        let Outcome::Registered { dataset, schema_version, existing } = response.outcome else {
            unreachable!("register answered {:?}", response.outcome)
        };
        Ok(Registered { dataset, schema_version, existing, index })
    }

    /// Changes a dataset's columns: all steps or none.
    ///
    /// # Errors
    /// When a step names no column, or would lose values.
    pub async fn evolve(
        &self,
        caller: &Caller,
        name: &str,
        changes: Vec<SchemaChange>,
    ) -> Result<Written, Error> {
        let dataset = self.target(name).await?.record.dataset;
        let count = changes.len() as u64;
        let command = Command::Evolve(Evolve { dataset, changes });
        let index = self.propose(caller, command, &[]).await?.index;
        Ok(Written { index, count })
    }

    /// Appends rows as one visible unit. They are fsynced on a quorum when this returns.
    ///
    /// # Errors
    /// When the rows do not fit the dataset; nothing is then appended.
    pub async fn append(
        &self,
        caller: &Caller,
        name: &str,
        batches: Vec<RecordBatch>,
    ) -> Result<Written, Error> {
        self.write_rows(caller, name, batches, false).await
    }

    /// Appends rows to a keyed dataset and hides older rows with the same keys, at the same index.
    ///
    /// # Errors
    /// As append; and when the dataset has no key, or a key occurs twice in the rows.
    pub async fn upsert(
        &self,
        caller: &Caller,
        name: &str,
        batches: Vec<RecordBatch>,
    ) -> Result<Written, Error> {
        self.write_rows(caller, name, batches, true).await
    }

    async fn write_rows(
        &self,
        caller: &Caller,
        name: &str,
        batches: Vec<RecordBatch>,
        upsert: bool,
    ) -> Result<Written, Error> {
        let mut appender = self.appender(caller.clone(), name, upsert);
        for batch in batches {
            appender.push(batch).await?;
        }
        appender.finish().await
    }

    /// Returns an appender: batches pushed into it become visible together when it is finished.
    #[must_use]
    pub fn appender(&self, caller: Caller, name: &str, upsert: bool) -> Appender {
        Appender::new(self.clone(), caller, name.to_owned(), upsert)
    }

    /// Ends a dataset: its rows, files and history are deleted. The name can be used anew.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn drop_dataset(&self, caller: &Caller, name: &str) -> Result<Written, Error> {
        let is_drop = |outcome: &Outcome| matches!(outcome, Outcome::Dropped);
        if let Some(first) = self.first_answer(caller, is_drop).await? {
            return Ok(Written { index: first.index, count: 1 });
        }
        let dataset = self.target(name).await?.record.dataset;
        let index = self.propose(caller, Command::Drop(Drop { dataset }), &[]).await?.index;
        self.jobs().wake();
        // Its keys and history leave the metadata too; nobody can read them any more.
        let pruned = self.prune(&Caller::named(caller.actor.clone()), dataset, index).await;
        pruned.map_err(Error::after_an_entry)?;
        Ok(Written { index, count: 1 })
    }

    /// Moves the retention floor to `floor` (or to now) and waits until files below it are deleted.
    ///
    /// # Errors
    /// When the floor would move back, or beyond what is applied.
    pub async fn expire(
        &self,
        caller: &Caller,
        name: &str,
        floor: Option<LogIndex>,
    ) -> Result<Written, Error> {
        let dataset = self.target(name).await?.record.dataset;
        let is_expire = |outcome: &Outcome| matches!(outcome, Outcome::Expired { .. });
        let first = self.first_answer(caller, is_expire).await?;
        let floor = match (floor, first.map(|first| first.outcome)) {
            (Some(floor), _) => floor,
            // Where the first try began to prune, this one goes on.
            (None, Some(Outcome::Expired { floor, .. })) => floor,
            (None, _) => self.applied(),
        };
        let written = self.prune(caller, dataset, floor).await?;
        self.wait_swept(dataset).await.map_err(Error::after_an_entry)?;
        Ok(written)
    }

    /// Moves a dataset's floor and prunes what is below it, entry by entry.
    async fn prune(
        &self,
        caller: &Caller,
        dataset: DatasetKey,
        floor: LogIndex,
    ) -> Result<Written, Error> {
        let mut caller = caller.clone();
        let (mut pruned, mut is_first) = (0_u64, true);
        loop {
            let command = Command::Expire(Expire { dataset, floor });
            let response = self.propose(&caller, command, &[]).await;
            // The floor has moved with the first entry.
            let response = match is_first {
                true => response?,
                false => response.map_err(Error::after_an_entry)?,
            };
            is_first = false;
            let Outcome::Expired { versions_pruned, more, .. } = response.outcome else {
                unreachable!("expire answered {:?}", response.outcome)
            };
            pruned += versions_pruned;
            // The condition and the session's number held for the first entry.
            caller.session = None;
            caller.expected_index = None;
            if !more {
                return Ok(Written { index: response.index, count: pruned });
            }
        }
    }

    /// Returns what a session's number was answered with before, if it was: for calls that read the state to
    /// make their command, and would make another one now.
    ///
    /// A first answer of a rejection is an error again; one to another kind of call is a conflict.
    pub(crate) async fn first_answer(
        &self,
        caller: &Caller,
        is_this_kind: impl Fn(&Outcome) -> bool,
    ) -> Result<Option<Response>, Error> {
        let Some(first) = self.recorded(caller).await? else { return Ok(None) };
        let response = first.response;
        if let Outcome::Rejected(rejection) = response.outcome {
            return Err(Error::Rejected(rejection));
        }
        match is_this_kind(&response.outcome) {
            true => Ok(Some(response)),
            false => Err(sequence_conflict(caller)),
        }
    }

    /// Returns what is remembered of a session's number at a linearizable index.
    pub(crate) async fn recorded(&self, caller: &Caller) -> Result<Option<ResultRecord>, Error> {
        match caller.session {
            Some(_) => self.linearizable().await?,
            None => return Ok(None),
        };
        self.recorded_here(caller)
    }

    /// Returns what is remembered of a session's number in what is applied here: after a linearizable index was asked for.
    pub(crate) fn recorded_here(&self, caller: &Caller) -> Result<Option<ResultRecord>, Error> {
        let Some((session, sequence)) = caller.session else { return Ok(None) };
        let (table, key) = (Table::Session, Key::session(session));
        let known: Option<SessionRecord> = record_at(self.view(), table, &key, LogIndex::MAX)?;
        // No number above the highest was ever answered.
        if known.is_none_or(|known| known.sequence_max < sequence) {
            return Ok(None);
        }
        let key = Key::session_result(session, sequence);
        Ok(record_at(self.view(), Table::SessionResult, &key, LogIndex::MAX)?)
    }

    /// Proposes a command and turns a rejection into an error.
    pub(crate) async fn propose(
        &self,
        caller: &Caller,
        command: Command,
        body: &[u8],
    ) -> Result<Response, Error> {
        let entry = self.entry_of(caller, command, body)?;
        let _room = self.reserve(entry.as_bytes().len()).await;
        accepted(self.commit(entry).await?)
    }

    /// As [`Node::propose`], of a command that was made from what was read here under a leadership; nothing when that is
    /// over: nothing was proposed then.
    pub(crate) async fn propose_under(
        &self,
        leadership: Leadership,
        caller: &Caller,
        command: Command,
        body: &[u8],
    ) -> Result<Option<Response>, Error> {
        let entry = self.entry_of(caller, command, body)?;
        let _room = self.reserve(entry.as_bytes().len()).await;
        self.commit_under(leadership, entry).await?.map(accepted).transpose()
    }

    /// Proposes what only a leader decides; nothing when this node does not lead any more. It is never sent to another
    /// one: whoever leads now decides for itself.
    pub(crate) async fn propose_leading(
        &self,
        caller: &Caller,
        command: Command,
    ) -> Result<Option<Response>, Error> {
        let entry = self.entry_of(caller, command, &[])?;
        let _room = self.reserve(entry.as_bytes().len()).await;
        if self.cluster().is_none() {
            return accepted(self.raft().propose(entry).await?).map(Some);
        }
        let proposed = self.at_leader(|leader| {
            let (entry, raft) = (entry.clone(), self.raft().clone());
            async move {
                match leader {
                    None => raft.propose(entry).await.map(Some),
                    Some(_other) => Ok(None),
                }
            }
        });
        proposed.await?.map(accepted).transpose()
    }

    fn entry_of(&self, caller: &Caller, command: Command, body: &[u8]) -> Result<Entry, Error> {
        self.check_writable(command.kind())?;
        let envelope = Envelope {
            session: caller.session.map(|(id, sequence)| SessionRef { id, sequence }),
            actor: caller.actor.clone(),
            proposed_at_ms: self.clock().wall_ms(),
            expected_index: caller.expected_index,
            command,
        };
        let entry = Entry::command(&envelope, body)?;
        let (value, limit) = (entry.as_bytes().len() as u64, self.entry_bytes_max());
        match value > limit {
            // A log whose segments hold no entry of that length would stop on it.
            true => {
                Err(Error::TooLarge { what: "one entry of a log of small segments", value, limit })
            }
            false => Ok(entry),
        }
    }

    /// Finds a live dataset and its current schema at a linearizable index.
    pub(crate) async fn target(&self, name: &str) -> Result<Target, Error> {
        let newest = self.linearizable().await?;
        self.target_at(name, None, newest)
    }

    /// Finds a dataset as it was at an index, if that is readable still, else as it is at `newest`, a linearizable index.
    pub(crate) fn target_at(
        &self,
        name: &str,
        at: Option<LogIndex>,
        newest: LogIndex,
    ) -> Result<Target, Error> {
        let name: DatasetName = name.parse()?;
        let view = self.view();
        let at = match at {
            Some(at) if self.is_readable_at(&name, at)? => at,
            Some(_) | None => newest,
        };
        let Some(record) = catalog::find(view, &name, at)? else {
            return Err(self.not_found(name.as_str(), at)?);
        };
        let schema = catalog::schema(view, record.dataset, record.schema_version, at)?;
        Ok(Target { record, schema })
    }

    fn is_readable_at(&self, name: &DatasetName, at: LogIndex) -> Result<bool, Error> {
        match catalog::find(self.view(), name, at) {
            Ok(Some(record)) => Ok(record.floor <= at),
            Ok(None) | Err(ViewError::BelowFloor { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the error for a name that no dataset has, with a name that is like it.
    pub(crate) fn not_found(&self, name: &str, at: LogIndex) -> Result<Error, Error> {
        let folded = name.to_lowercase();
        let similar = catalog::list(self.view(), at)?
            .into_iter()
            .map(|record| record.name.as_str().to_owned())
            .find(|other| other.to_lowercase() == folded);
        Ok(Error::DatasetNotFound { name: name.to_owned(), similar })
    }
}

fn accepted(response: Response) -> Result<Response, Error> {
    if let Outcome::Rejected(rejection) = response.outcome {
        return Err(Error::Rejected(rejection));
    }
    Ok(response)
}

/// Makes the error for a session's number that another command has used.
pub(crate) fn sequence_conflict(caller: &Caller) -> Error {
    let (session, sequence) = caller.session.expect("a result was remembered for it");
    Error::Rejected(Rejection::SequenceConflict { session, sequence })
}

/// Whoever says that a key may be NULL expects rows without one to be kept, and these could not be.
fn refuse_nullable_keys(schema: &SchemaRef, key_columns: &[String]) -> Result<(), Error> {
    let is_key = |name: &String| key_columns.contains(name);
    match schema.fields().iter().find(|field| field.is_nullable() && is_key(field.name())) {
        Some(field) => {
            let name = field.name().clone();
            Err(Error::Invalid(alluvium_types::Error::KeyNullable { name }))
        }
        None => Ok(()),
    }
}

/// An empty body, for commands that carry neither rows nor keys.
pub(crate) const NO_BODY: Bytes = Bytes::new();
