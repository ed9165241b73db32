//! Histories: what each client called, when, and what it was told.
//!
//! A history is a list of events, and pairs of them are operations. It must not judge answers. Invariant:
//! a [`History`] that exists is well formed: a process has one call outstanding, does nothing after
//! an ambiguous outcome, time does not go back, and each answer is of the kind that its call has.

mod edn;
mod jsonl;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::call::{Call, Reply};
use crate::error::Error;

/// A client's thread of control: calls one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessId(pub u64);

/// The node that a client talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogIndex(pub u64);

/// The position of an operation in its history, in order of invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpId(pub usize);

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a client learned about its call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// It took effect, or was refused by the state, at that index: the index of its entry, or the
    /// index that a read was served at.
    Ok {
        /// The answer.
        reply: Reply,
        /// Where in the log.
        index: LogIndex,
    },
    /// It definitely did not take effect, and never will.
    Fail,
    /// Nobody knows: it took effect, or will, or never.
    Info,
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Monotonic nanoseconds, the same clock for all clients.
    pub time_ns: u64,
    /// Who.
    pub process: ProcessId,
    /// What happened.
    pub action: Action,
}

/// A call, or its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Recorded before the call is sent.
    Invoke {
        /// To which node.
        node: NodeId,
        /// What.
        call: Call,
    },
    /// Recorded after the answer came, or was given up.
    Complete {
        /// What the client learned.
        outcome: Outcome,
    },
}

/// A call and its outcome. One that was never answered is ambiguous.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its position.
    pub id: OpId,
    /// Who called.
    pub process: ProcessId,
    /// Which node.
    pub node: NodeId,
    /// What.
    pub call: Call,
    /// When it was called.
    pub invoked_ns: u64,
    /// When the client stopped waiting; nothing if it still waited at the end.
    pub completed_ns: Option<u64>,
    /// What the client learned.
    pub outcome: Outcome,
}

impl Operation {
    /// Returns the answer and its index, if there was one.
    #[must_use]
    pub fn answer(&self) -> Option<(&Reply, LogIndex)> {
        match &self.outcome {
            Outcome::Ok { reply, index } => Some((reply, *index)),
            Outcome::Fail | Outcome::Info => None,
        }
    }

    /// Returns the time after which it cannot take effect any more; nothing for an ambiguous one.
    #[must_use]
    pub fn settled_ns(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Ok { .. } | Outcome::Fail => self.completed_ns,
            Outcome::Info => None,
        }
    }

    /// Returns whether it was over before `later` was called.
    #[must_use]
    pub fn precedes(&self, later: &Self) -> bool {
        self.settled_ns().is_some_and(|end| end < later.invoked_ns)
    }

    /// Returns whether it may take effect at any time, or never.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.outcome, Outcome::Info)
    }

    /// Returns whether it definitely had no effect.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Fail)
    }
}

/// A well-formed history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    events: Vec<Event>,
    operations: Vec<Operation>,
    /// For each event, its operation.
    owners: Vec<OpId>,
}

impl History {
    /// Pairs calls and answers.
    ///
    /// # Errors
    /// When the events are not those of sequential processes; see the variants of [`Error`].
    pub fn new(events: Vec<Event>) -> Result<Self, Error> {
        let mut pairing = Pairing::default();
        for (position, event) in events.iter().enumerate() {
            pairing.take(position, event)?;
        }
        let Pairing { operations, owners, .. } = pairing;
        assert!(owners.len() == events.len(), "each event belongs to one operation");
        Ok(Self { events, operations, owners })
    }

    /// Returns what happened, in order of time.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Returns the operations, in order of invocation.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Returns each event with its operation.
    pub(crate) fn owned_events(&self) -> impl Iterator<Item = (&Event, &Operation)> {
        let operations = self.owners.iter().map(|owner| &self.operations[owner.0]);
        self.events.iter().zip(operations)
    }
}

/// Where a process stands.
#[derive(Debug, Clone, Copy)]
enum Standing {
    Idle,
    Waiting(OpId),
    Ended,
}

#[derive(Debug, Default)]
struct Pairing {
    operations: Vec<Operation>,
    owners: Vec<OpId>,
    processes: BTreeMap<ProcessId, Standing>,
    last_ns: u64,
}

impl Pairing {
    fn take(&mut self, position: usize, event: &Event) -> Result<(), Error> {
        if event.time_ns < self.last_ns {
            let (time_ns, previous_ns) = (event.time_ns, self.last_ns);
            return Err(Error::TimeWentBack { event: position, time_ns, previous_ns });
        }
        self.last_ns = event.time_ns;
        let standing = self.processes.get(&event.process).copied().unwrap_or(Standing::Idle);
        match &event.action {
            Action::Invoke { node, call } => self.invoke(position, event, (*node, call), standing),
            Action::Complete { outcome } => self.complete(position, event, outcome, standing),
        }
    }

    fn invoke(
        &mut self,
        position: usize,
        event: &Event,
        (node, call): (NodeId, &Call),
        standing: Standing,
    ) -> Result<(), Error> {
        let process = event.process;
        match standing {
            Standing::Waiting(_) => Err(Error::Outstanding { event: position, process }),
            Standing::Ended => Err(Error::Reused { event: position, process }),
            Standing::Idle => {
                let id = OpId(self.operations.len());
                self.operations.push(Operation {
                    id,
                    process,
                    node,
                    call: call.clone(),
                    invoked_ns: event.time_ns,
                    completed_ns: None,
                    outcome: Outcome::Info,
                });
                self.owners.push(id);
                self.processes.insert(process, Standing::Waiting(id));
                Ok(())
            }
        }
    }

    fn complete(
        &mut self,
        position: usize,
        event: &Event,
        outcome: &Outcome,
        standing: Standing,
    ) -> Result<(), Error> {
        let process = event.process;
        let Standing::Waiting(id) = standing else {
            return Err(Error::Unasked { event: position, process });
        };
        let operation = &mut self.operations[id.0];
        let next = match outcome {
            Outcome::Ok { reply, .. } if !operation.call.accepts(reply) => {
                return Err(Error::ForeignReply { event: position, process });
            }
            Outcome::Ok { .. } | Outcome::Fail => Standing::Idle,
            Outcome::Info => Standing::Ended,
        };
        operation.completed_ns = Some(event.time_ns);
        operation.outcome = outcome.clone();
        self.owners.push(id);
        self.processes.insert(process, next);
        Ok(())
    }
}
