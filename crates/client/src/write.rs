//! Writes: each under a number of the session, or said to have none.
//!
//! It must not send a command under a second number once it may have taken effect. Invariant: every outcome is an
//! answer, a definite refusal, or told as unknown.

use std::sync::Arc;
use std::time::Duration;

use alluvium_proto::v1;
use alluvium_types::{DatasetOptions, LogIndex, Schema, SchemaChange, SessionId};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::answers::{Answer, Compacted, Registered, Sealed, Written};
use crate::call::{Call, Ended, Fault};
use crate::client::Client;
use crate::command::{self, Command, Keys, Order};
use crate::error::Error;
use crate::nodes::Prefers;
use crate::options::WriteOptions;
use crate::pending::Pending;
use crate::retry::Repeat;
use crate::rows::{BatchStream, Rows, encoded};
use crate::session::Ticket;
use crate::verdict::Effect;

/// How a dataset is registered beside its name and columns.
#[derive(Debug, Clone, Default)]
pub struct RegisterOptions {
    /// The bucket of its files; none for the node's own directory.
    pub bucket: Option<String>,
    /// How its files are written and cut; none for the standard.
    pub options: Option<DatasetOptions>,
}

impl Client {
    /// Names a dataset. The same name, schema and options again is the same dataset.
    ///
    /// # Errors
    /// Refused as `CONFLICT` when the name has another schema; see [`Error`].
    pub async fn register(
        &self,
        name: &str,
        schema: &Schema,
        kept: RegisterOptions,
        options: WriteOptions,
    ) -> Result<Registered, Error> {
        let message = v1::RegisterRequest {
            caller: None,
            name: name.to_owned(),
            columns: schema.fields.iter().map(alluvium_messages::field_to).collect(),
            key_columns: schema.key_columns.clone(),
            bucket: kept.bucket,
            options: kept.options.as_ref().map(alluvium_messages::options_to),
        };
        let answer = self.write(Command::Register(message), options).await?;
        let Answer::Registered(registered) = answer else { unreachable!("register: {answer:?}") };
        Ok(registered)
    }

    /// Changes a dataset's columns: all steps or none.
    ///
    /// # Errors
    /// Refused when a step names no column, or would lose values; see [`Error`].
    pub async fn evolve(
        &self,
        name: &str,
        changes: &[SchemaChange],
        options: WriteOptions,
    ) -> Result<Written, Error> {
        let changes = changes.iter().map(alluvium_messages::change_to).collect();
        let message = v1::EvolveRequest { caller: None, name: name.to_owned(), changes };
        self.written(Command::Evolve(message), options).await
    }

    /// Adds rows as one visible unit. They are on a quorum of disks when this returns.
    ///
    /// # Errors
    /// Refused when the rows do not fit the dataset; [`Error::Rows`] when their source fails; see [`Error`].
    pub async fn append(
        &self,
        name: &str,
        rows: Rows,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        let name = name.to_owned();
        self.written(Command::Append { name, upsert: false, rows }, options).await
    }

    /// Adds rows to a keyed dataset and hides older rows with the same keys, at the same index.
    ///
    /// # Errors
    /// As [`Client::append`]; refused when the dataset has no key, or a key occurs twice in the rows.
    pub async fn upsert(
        &self,
        name: &str,
        rows: Rows,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        let name = name.to_owned();
        self.written(Command::Append { name, upsert: true, rows }, options).await
    }

    /// Appends rows that cannot be had a second time, such as those of a pipe: they are sent once, without a number.
    ///
    /// # Errors
    /// As [`Client::append`], and [`Error::Ambiguous`] without a pending command whenever the answer is lost.
    pub async fn append_once(
        &self,
        name: &str,
        batches: BatchStream,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        self.send_once(name, false, batches, options).await
    }

    /// Upserts rows that cannot be had a second time: they are sent once, without a number.
    ///
    /// # Errors
    /// As [`Client::append_once`] and [`Client::upsert`].
    pub async fn upsert_once(
        &self,
        name: &str,
        batches: BatchStream,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        self.send_once(name, true, batches, options).await
    }

    /// Hides the rows that have one of the keys and are there now.
    ///
    /// # Errors
    /// Refused when the dataset has no key, or a key is of another type; see [`Error`].
    pub async fn tombstone(
        &self,
        name: &str,
        keys: Keys,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        self.written(Command::tombstone(name.to_owned(), keys)?, options).await
    }

    /// Cuts unsealed rows into data files and waits for them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn seal(&self, name: &str, options: WriteOptions) -> Result<Sealed, Error> {
        let answer = self.write(Command::Seal { name: name.to_owned() }, options).await?;
        let Answer::Sealed(sealed) = answer else { unreachable!("seal: {answer:?}") };
        Ok(sealed)
    }

    /// Rewrites data files without their hidden rows and waits for them. It changes no visible row, so it has no
    /// number: a retry does what is left to do, and reports that.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn compact(&self, name: &str, options: WriteOptions) -> Result<Compacted, Error> {
        let answer = self.write(Command::Compact { name: name.to_owned() }, options).await?;
        let Answer::Compacted(compacted) = answer else { unreachable!("compact: {answer:?}") };
        Ok(compacted)
    }

    /// Moves the retention floor (none: to now) and waits until the files below it are deleted.
    ///
    /// # Errors
    /// Refused when the floor would move back, or beyond what is applied; see [`Error`].
    pub async fn expire(
        &self,
        name: &str,
        floor: Option<LogIndex>,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        self.written(Command::Expire { name: name.to_owned(), floor }, options).await
    }

    /// Ends a dataset.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn drop_dataset(&self, name: &str, options: WriteOptions) -> Result<Written, Error> {
        self.written(Command::Drop { name: name.to_owned() }, options).await
    }

    async fn written(&self, command: Command, options: WriteOptions) -> Result<Written, Error> {
        let answer = self.write(command, options).await?;
        let Answer::Written(written) = answer else { unreachable!("a write: {answer:?}") };
        Ok(written)
    }

    /// Makes a write. Boxed, because every future of a program that writes would carry it otherwise.
    fn write(
        &self,
        command: Command,
        options: WriteOptions,
    ) -> BoxFuture<'_, Result<Answer, Error>> {
        let actor = self.shared().options.actor.clone();
        let order = Arc::new(Order { actor, expected_index: options.expected_index, command });
        let end = self.shared().end(options.limit);
        match order.command.is_numbered() {
            true => self.numbered(order, end).boxed(),
            false => self.repeatable(order, end).boxed(),
        }
    }

    async fn numbered(&self, order: Arc<Order>, end: Instant) -> Result<Answer, Error> {
        let ticket = self.ticket(end).await?;
        match self.under(&order, &ticket, (end, false)).await {
            // Never sent before, so that it is no second execution: the session was over when it came.
            Err(ended) if ended.verdict.effect == Effect::SessionOver && !ended.in_doubt => {
                ticket.session_is_over();
                drop(ticket);
                let ticket = self.ticket(end).await?;
                let answered = self.under(&order, &ticket, (end, false)).await;
                self.conclude(order, ticket, answered)
            }
            answered => self.conclude(order, ticket, answered),
        }
    }

    /// Tries a command under a number until it is answered or given up.
    async fn under(
        &self,
        order: &Arc<Order>,
        ticket: &Ticket,
        (end, in_doubt): (Instant, bool),
    ) -> Result<Answer, Ended> {
        let number = Some(ticket.number());
        let call = Call { in_doubt, ..self.call_of(order, end) };
        self.shared().run(&call, |to| async move { order.send(to, number).await }).await
    }

    pub(crate) async fn resume(
        &self,
        order: Arc<Order>,
        ticket: Ticket,
        limit: Option<Duration>,
    ) -> Result<Answer, Error> {
        let end = self.shared().end(limit);
        let answered = self.under(&order, &ticket, (end, true)).boxed().await;
        self.conclude(order, ticket, answered)
    }

    /// Settles the number, or leaves it to the program.
    fn conclude(
        &self,
        order: Arc<Order>,
        ticket: Ticket,
        answered: Result<Answer, Ended>,
    ) -> Result<Answer, Error> {
        let ended = match answered {
            Ok(answer) => {
                self.shared().saw(answer.index().0);
                return Ok(answer);
            }
            Err(ended) => ended,
        };
        let is_over = ended.verdict.effect == Effect::SessionOver;
        if is_over {
            ticket.session_is_over();
        }
        if !ended.in_doubt {
            return Err(ended.into_definite());
        }
        let number = Some(ticket.number());
        let pending = (!is_over).then(|| Box::new(Pending::new(self.clone(), order, ticket)));
        let Ended { failure, tries, .. } = ended;
        Err(Error::Ambiguous { number, failure: Box::new(failure), tries, pending })
    }

    /// Makes a write that does the same when it is done twice.
    async fn repeatable(&self, order: Arc<Order>, end: Instant) -> Result<Answer, Error> {
        let call = self.call_of(&order, end);
        let order = &order;
        let answered =
            self.shared().run(&call, |to| async move { order.send(to, None).await }).await;
        self.conclude_unnumbered(answered)
    }

    fn conclude_unnumbered(&self, answered: Result<Answer, Ended>) -> Result<Answer, Error> {
        match answered {
            Ok(answer) => {
                self.shared().saw(answer.index().0);
                Ok(answer)
            }
            Err(ended) if ended.in_doubt => {
                let Ended { failure, tries, .. } = ended;
                let failure = Box::new(failure);
                Err(Error::Ambiguous { number: None, failure, tries, pending: None })
            }
            Err(ended) => Err(ended.into_definite()),
        }
    }

    async fn send_once(
        &self,
        name: &str,
        upsert: bool,
        batches: BatchStream,
        options: WriteOptions,
    ) -> Result<Written, Error> {
        let caller = v1::Caller {
            actor: self.shared().options.actor.clone(),
            session: None,
            expected_index: options.expected_index.map(|index| index.0),
        };
        let target = v1::AppendTarget { caller: Some(caller), name: name.to_owned(), upsert };
        let call = Call {
            name: "Append",
            prefers: Prefers::Leader,
            repeat: Repeat::Impossible,
            end: self.shared().end(options.limit),
            try_limit: None,
            in_doubt: false,
        };
        let (failed, failure) = oneshot::channel();
        let once = std::sync::Mutex::new(Some((target, encoded(batches, failed), failure)));
        let once = &once;
        let answered = self.shared().run(&call, |to| async move {
            let taken = once.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            let (target, messages, failure) =
                taken.ok_or(Fault::Answer("rows that are gone were asked for again"))?;
            command::append(to, target, messages, failure).await
        });
        let answered = answered.boxed().await.map(Answer::from);
        let answer = self.conclude_unnumbered(answered)?;
        let Answer::Written(written) = answer else { unreachable!("append: {answer:?}") };
        Ok(written)
    }

    fn call_of(&self, order: &Order, end: Instant) -> Call {
        let try_limit = self.shared().options.try_limit;
        Call {
            name: order.command.name(),
            prefers: Prefers::Leader,
            repeat: Repeat::Safe,
            end,
            try_limit: order.command.is_short().then_some(try_limit),
            in_doubt: false,
        }
    }

    async fn ticket(&self, end: Instant) -> Result<Ticket, Error> {
        self.shared().sessions.ticket(end, || self.open_session(end)).await
    }

    /// Opens a session. An answer that is lost leaves one behind that nobody uses; it ends by itself.
    async fn open_session(&self, end: Instant) -> Result<SessionId, Error> {
        let options = &self.shared().options;
        let ttl_ms =
            options.session_ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let message = v1::OpenSessionRequest { actor: options.actor.clone(), ttl_ms };
        let call = Call {
            name: "OpenSession",
            prefers: Prefers::Leader,
            repeat: Repeat::Safe,
            end,
            try_limit: Some(options.try_limit),
            in_doubt: false,
        };
        let message = &message;
        let answered = self.shared().run(&call, |to| async move {
            let mut lake = to.lake.clone();
            to.answer(lake.open_session(to.request(message.clone()))).await
        });
        // The command that needs it was not sent, whatever became of the session.
        let answer = answered.await.map_err(Ended::into_definite)?;
        Ok(SessionId(self.shared().saw(answer.session_id).0))
    }
}
