//! The commands of sessions, each with all its sends.
//!
//! It must not judge. Invariant: a command that failed in every send never took effect.

use std::collections::BTreeMap;

use crate::call::{Call, Reply};
use crate::history::{History, LogIndex, OpId};

/// An answer to one send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) id: OpId,
    pub(crate) count: u64,
    pub(crate) index: LogIndex,
}

/// One command of a session.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// The first send that did not definitely fail, or the first of all.
    pub(crate) sent_ns: u64,
    /// The first acknowledgement.
    pub(crate) acked_ns: Option<u64>,
    pub(crate) answers: Vec<Answer>,
    /// Whether any send may have taken effect.
    pub(crate) is_possible: bool,
    /// The send that `sent_ns` is of.
    pub(crate) first: OpId,
}

/// All commands, by session and sequence.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    pub(crate) all: BTreeMap<(u64, u64), Command>,
}

impl Commands {
    pub(crate) fn of(history: &History) -> Self {
        let mut commands = Self::default();
        for operation in history.operations() {
            let Call::Increment { session, sequence } = &operation.call else { continue };
            let command = commands.all.entry((*session, *sequence)).or_insert(Command {
                sent_ns: operation.invoked_ns,
                acked_ns: None,
                answers: Vec::new(),
                is_possible: false,
                first: operation.id,
            });
            if operation.is_failed() {
                continue;
            }
            if !command.is_possible {
                (command.sent_ns, command.first) = (operation.invoked_ns, operation.id);
                command.is_possible = true;
            }
            if let Some((Reply::Incremented { count }, index)) = operation.answer() {
                command.answers.push(Answer { id: operation.id, count: *count, index });
                let earliest = command.acked_ns.into_iter().chain(operation.settled_ns()).min();
                command.acked_ns = earliest;
            }
        }
        commands
    }

    /// Returns the commands that may have taken effect.
    pub(crate) fn possible(&self) -> impl Iterator<Item = &Command> {
        self.all.values().filter(|command| command.is_possible)
    }
}
