//! What clients ask for and what they are told: the functions of every workload, with typed arguments.
//!
//! It must not know how an answer is checked. Invariant: [`Call::accepts`] is the only table of which
//! reply belongs to which call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A function and its arguments. The workloads are those of the jepsen harness, W1 to W6.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// W1: register a dataset, if there is none of that name.
    Register {
        /// The dataset.
        name: String,
        /// Stands for its schema and options.
        spec: u64,
    },
    /// W1: what is registered under a name.
    Describe {
        /// The dataset.
        name: String,
    },
    /// W1: drop a dataset, if it is still the one that the client means.
    Drop {
        /// The dataset.
        name: String,
        /// The life of the name that is to end.
        incarnation: u64,
    },
    /// W2: append to lists and read lists, as one.
    Transact {
        /// In the order in which they take effect.
        steps: Vec<Step>,
    },
    /// W3: add an element. Each one is added once.
    Add {
        /// The set.
        set: u64,
        /// The element.
        element: u64,
    },
    /// W3: delete an element. Each one is deleted at most once.
    Delete {
        /// The set.
        set: u64,
        /// The element.
        element: u64,
    },
    /// W3: all elements of a set.
    Scan {
        /// The set.
        set: u64,
    },
    /// W4: move money, if there is enough.
    Transfer {
        /// The account that pays.
        from: u64,
        /// The account that is paid.
        to: u64,
        /// How much.
        amount: i64,
    },
    /// W4: all accounts at one index.
    Balances,
    /// W5: replace the value of a register.
    Write {
        /// The register.
        key: u64,
        /// A value that no other operation writes.
        value: i64,
    },
    /// W5: the value of a register.
    Read {
        /// The register.
        key: u64,
    },
    /// W5: replace the value of a register, if its version is still the one that the client read.
    Cas {
        /// The register.
        key: u64,
        /// The version that the client read; 0 where it found nothing.
        version: u64,
        /// The value that it read with that version: for checkers that know no versions.
        old: Option<i64>,
        /// A value that no other operation writes.
        new: i64,
    },
    /// Keyed rows: insert or replace a row.
    Upsert {
        /// The row.
        key: u64,
        /// Its content.
        value: i64,
    },
    /// Keyed rows: hide a row.
    Tombstone {
        /// The row.
        key: u64,
    },
    /// Keyed rows: one row.
    Get {
        /// The row.
        key: u64,
    },
    /// W6: add one, once for each (session, sequence), however often it is sent.
    Increment {
        /// The client's session.
        session: u64,
        /// The number of the command in its session.
        sequence: u64,
    },
    /// W6: the counter.
    Count,
}

/// One part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Append a value to a list.
    Append {
        /// The list.
        key: u64,
        /// A value that no other step appends to this list.
        value: u64,
    },
    /// Read a list.
    Read {
        /// The list.
        key: u64,
    },
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// It is done, and there is nothing to say about it.
    Done,
    /// The state did not allow it; nothing changed.
    Refused,
    /// The dataset is registered.
    Registered {
        /// Names this life of the name; later lives have higher numbers.
        incarnation: u64,
    },
    /// What is registered under the name.
    Described {
        /// Nothing, if the name is free.
        dataset: Option<Dataset>,
    },
    /// One answer for each step.
    Transacted {
        /// The list that a read saw; nothing for an append.
        lists: Vec<Option<Vec<u64>>>,
    },
    /// The elements of a set.
    Elements {
        /// In any order.
        elements: Vec<u64>,
    },
    /// The balance of each account.
    Balances {
        /// By account.
        balances: BTreeMap<u64, i64>,
    },
    /// The register has a new value.
    Written {
        /// The version of that value; later versions of a register have higher numbers.
        version: u64,
    },
    /// What is in the register.
    Value {
        /// Nothing, if it was never written.
        current: Option<Versioned>,
    },
    /// What is in the row.
    Row {
        /// Nothing, if there is no such row.
        value: Option<i64>,
    },
    /// The counter after an increment, as it was when the increment took effect.
    Incremented {
        /// The counter.
        count: u64,
    },
    /// The counter.
    Counted {
        /// The counter.
        count: u64,
    },
}

/// A dataset, as described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// What it was registered with.
    pub spec: u64,
    /// Which life of the name this is.
    pub incarnation: u64,
}

/// The content of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versioned {
    /// The value.
    pub value: i64,
    /// Its version, above 0.
    pub version: u64,
}

impl Call {
    /// Returns whether `reply` is of the kind that answers this call.
    #[must_use]
    pub fn accepts(&self, reply: &Reply) -> bool {
        match self {
            Self::Register { .. } => matches!(reply, Reply::Registered { .. } | Reply::Refused),
            Self::Describe { .. } => matches!(reply, Reply::Described { .. }),
            Self::Drop { .. } | Self::Transfer { .. } => {
                matches!(reply, Reply::Done | Reply::Refused)
            }
            Self::Transact { steps } => {
                matches!(reply, Reply::Transacted { lists } if answers(steps, lists))
            }
            Self::Add { .. }
            | Self::Delete { .. }
            | Self::Upsert { .. }
            | Self::Tombstone { .. } => matches!(reply, Reply::Done),
            Self::Scan { .. } => matches!(reply, Reply::Elements { .. }),
            Self::Balances => matches!(reply, Reply::Balances { .. }),
            Self::Write { .. } => matches!(reply, Reply::Written { .. }),
            Self::Read { .. } => matches!(reply, Reply::Value { .. }),
            Self::Cas { .. } => matches!(reply, Reply::Written { .. } | Reply::Refused),
            Self::Get { .. } => matches!(reply, Reply::Row { .. }),
            Self::Increment { .. } => matches!(reply, Reply::Incremented { .. }),
            Self::Count => matches!(reply, Reply::Counted { .. }),
        }
    }

    /// Returns whether it changes nothing, whatever the answer: it has no entry in the log.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            Self::Describe { .. }
            | Self::Scan { .. }
            | Self::Balances
            | Self::Read { .. }
            | Self::Get { .. }
            | Self::Count => true,
            Self::Transact { steps } => steps.iter().all(|step| matches!(step, Step::Read { .. })),
            Self::Register { .. }
            | Self::Drop { .. }
            | Self::Add { .. }
            | Self::Delete { .. }
            | Self::Transfer { .. }
            | Self::Write { .. }
            | Self::Cas { .. }
            | Self::Upsert { .. }
            | Self::Tombstone { .. }
            | Self::Increment { .. } => false,
        }
    }
}

/// Whether there is a list for each read, and nothing for each append.
fn answers(steps: &[Step], lists: &[Option<Vec<u64>>]) -> bool {
    let fits = |(step, list): (&Step, &Option<Vec<u64>>)| {
        matches!(step, Step::Read { .. }) == list.is_some()
    };
    steps.len() == lists.len() && steps.iter().zip(lists).all(fits)
}
