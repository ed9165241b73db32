//! Histories in the EDN of other checkers: Elle's list-append, Knossos' register, and Jepsen's own for the rest.
//!
//! It writes only. It must not drop an operation in silence: one that has no place in the format is an
//! error. Invariant: every invocation has its completion, with the same process and function.

use std::fmt;

use super::{Action, Event, History, Operation, Outcome};
use crate::call::{Call, Dataset, Reply, Step, Versioned};
use crate::error::Error;

impl History {
    /// Returns the history of list transactions for Elle.
    ///
    /// # Errors
    /// When an operation is not a transaction.
    pub fn elle_edn(&self) -> Result<String, Error> {
        let mut text = String::new();
        for (index, (event, operation)) in self.owned_events().enumerate() {
            let Call::Transact { steps } = &operation.call else {
                return Err(Error::Foreign { operation: operation.id.0, format: "Elle" });
            };
            let lists = lists_of(event);
            let value = Transaction { steps, lists };
            text.push_str(&line(index, event, "txn", &value));
        }
        Ok(text)
    }

    /// Returns the history of register `key` for Knossos, whose registers know values and no versions.
    ///
    /// # Errors
    /// When an operation is not one of a register.
    pub fn knossos_edn(&self, key: u64) -> Result<String, Error> {
        let mut text = String::new();
        let mut index = 0;
        for (event, operation) in self.owned_events() {
            if register_key(operation)? == key {
                let (function, value) = register_value(event, &operation.call);
                text.push_str(&line(index, event, function, &value));
                index += 1;
            }
        }
        Ok(text)
    }
}

impl History {
    /// Returns the history as the operations of Jepsen, for its own checkers of sets, banks and counters: what belongs to
    /// one of several subjects is a pair of it and the value, as in `jepsen.independent`; a row that is hidden is written
    /// as nil.
    #[must_use]
    pub fn jepsen_edn(&self) -> String {
        let events = self.owned_events().enumerate();
        let lines = events.map(|(index, (event, operation))| {
            let (function, value) = jepsen_value(event, &operation.call);
            line(index, event, function, &value)
        });
        lines.collect()
    }
}

/// Returns function and value; what is not known yet is nil.
fn jepsen_value(event: &Event, call: &Call) -> (&'static str, String) {
    let reply = reply_of(event);
    match call {
        Call::Register { name, spec } => {
            let incarnation = match reply {
                Some(Reply::Registered { incarnation }) => incarnation.to_string(),
                Some(_) | None => "nil".to_owned(),
            };
            ("register", format!("[{name:?} {{:spec {spec} :incarnation {incarnation}}}]"))
        }
        Call::Describe { name } => {
            let dataset = match reply {
                Some(Reply::Described { dataset: Some(Dataset { spec, incarnation }) }) => {
                    format!("{{:spec {spec} :incarnation {incarnation}}}")
                }
                Some(_) | None => "nil".to_owned(),
            };
            ("read", format!("[{name:?} {dataset}]"))
        }
        Call::Drop { name, incarnation } => ("drop", format!("[{name:?} {incarnation}]")),
        Call::Transact { steps } => {
            ("txn", Transaction { steps, lists: lists_of(event) }.to_string())
        }
        Call::Add { set, element } => ("add", format!("[{set} {element}]")),
        Call::Delete { set, element } => ("remove", format!("[{set} {element}]")),
        Call::Scan { set } => {
            let elements = match reply {
                Some(Reply::Elements { elements }) => Some(elements.as_slice()),
                Some(_) | None => None,
            };
            ("read", format!("[{set} {}]", vector(elements)))
        }
        Call::Transfer { from, to, amount } => {
            ("transfer", format!("{{:from {from} :to {to} :amount {amount}}}"))
        }
        Call::Balances => match reply {
            Some(Reply::Balances { balances }) => {
                let pairs =
                    balances.iter().map(|(account, balance)| format!("{account} {balance}"));
                ("read", format!("{{{}}}", pairs.collect::<Vec<_>>().join(" ")))
            }
            Some(_) | None => ("read", "nil".to_owned()),
        },
        Call::Write { key, .. } | Call::Read { key } | Call::Cas { key, .. } => {
            let (function, value) = register_value(event, call);
            (function, format!("[{key} {value}]"))
        }
        Call::Upsert { key, value } => ("write", format!("[{key} {value}]")),
        Call::Tombstone { key } => ("write", format!("[{key} nil]")),
        Call::Get { key } => {
            let value = match reply {
                Some(Reply::Row { value }) => *value,
                Some(_) | None => None,
            };
            ("read", format!("[{key} {}]", nil_or(value)))
        }
        Call::Increment { session, sequence } => ("add", format!("[{session} {sequence}]")),
        Call::Count => match reply {
            Some(Reply::Counted { count }) => ("read", count.to_string()),
            Some(_) | None => ("read", "nil".to_owned()),
        },
    }
}

fn line(index: usize, event: &Event, function: &str, value: &dyn fmt::Display) -> String {
    let kind = kind(&event.action);
    let Event { process, time_ns, .. } = event;
    format!(
        "{{:index {index} :type :{kind} :process {process} :time {time_ns} :f :{function} :value {value}}}\n"
    )
}

/// A refused call is a failed one there: it changed nothing, and says nothing else.
fn kind(action: &Action) -> &'static str {
    match action {
        Action::Invoke { .. } => "invoke",
        Action::Complete { outcome } => match outcome {
            Outcome::Ok { reply: Reply::Refused, .. } | Outcome::Fail => "fail",
            Outcome::Ok { .. } => "ok",
            Outcome::Info => "info",
        },
    }
}

fn reply_of(event: &Event) -> Option<&Reply> {
    match &event.action {
        Action::Complete { outcome: Outcome::Ok { reply, .. } } => Some(reply),
        Action::Complete { outcome: Outcome::Fail | Outcome::Info } | Action::Invoke { .. } => None,
    }
}

fn lists_of(event: &Event) -> Option<&[Option<Vec<u64>>]> {
    match reply_of(event) {
        Some(Reply::Transacted { lists }) => Some(lists),
        Some(_) | None => None,
    }
}

/// A transaction as Elle writes it: what is not known is nil.
struct Transaction<'a> {
    steps: &'a [Step],
    lists: Option<&'a [Option<Vec<u64>>]>,
}

impl fmt::Display for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list_at = |at: usize| self.lists.and_then(|lists| lists.get(at)?.as_deref());
        let parts = self.steps.iter().enumerate().map(|(at, step)| match step {
            Step::Append { key, value } => format!("[:append {key} {value}]"),
            Step::Read { key } => format!("[:r {key} {}]", vector(list_at(at))),
        });
        write!(f, "[{}]", parts.collect::<Vec<_>>().join(" "))
    }
}

fn vector(list: Option<&[u64]>) -> String {
    let Some(list) = list else { return "nil".to_owned() };
    let parts: Vec<String> = list.iter().map(u64::to_string).collect();
    format!("[{}]", parts.join(" "))
}

fn register_key(operation: &Operation) -> Result<u64, Error> {
    match &operation.call {
        Call::Write { key, .. } | Call::Read { key } | Call::Cas { key, .. } => Ok(*key),
        Call::Register { .. }
        | Call::Describe { .. }
        | Call::Drop { .. }
        | Call::Transact { .. }
        | Call::Add { .. }
        | Call::Delete { .. }
        | Call::Scan { .. }
        | Call::Transfer { .. }
        | Call::Balances
        | Call::Upsert { .. }
        | Call::Tombstone { .. }
        | Call::Get { .. }
        | Call::Increment { .. }
        | Call::Count => Err(Error::Foreign { operation: operation.id.0, format: "Knossos" }),
    }
}

fn register_value(event: &Event, call: &Call) -> (&'static str, String) {
    if let Call::Write { value, .. } = call {
        return ("write", value.to_string());
    }
    if let Call::Cas { old, new, .. } = call {
        return ("cas", format!("[{} {new}]", nil_or(*old)));
    }
    let value = match reply_of(event) {
        Some(Reply::Value { current: Some(Versioned { value, .. }) }) => Some(*value),
        Some(_) | None => None,
    };
    ("read", nil_or(value))
}

fn nil_or(value: Option<i64>) -> String {
    value.map_or_else(|| "nil".to_owned(), |value| value.to_string())
}
