//! What can be wrong with a history itself. None of these says anything about the system under test.

use std::io;

use crate::history::ProcessId;

/// Why a history cannot be checked, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A process called before its last call was answered.
    #[error("event {event}: process {process} has a call outstanding")]
    Outstanding {
        /// The position of the event.
        event: usize,
        /// Who called.
        process: ProcessId,
    },
    /// An answer came for a process that waits for none.
    #[error("event {event}: process {process} waits for no answer")]
    Unasked {
        /// The position of the event.
        event: usize,
        /// Whose answer.
        process: ProcessId,
    },
    /// A process called after an ambiguous outcome. Its last call may still take effect, so what it
    /// does next is not sequential: a new process has to go on.
    #[error("event {event}: process {process} ended with an ambiguous outcome")]
    Reused {
        /// The position of the event.
        event: usize,
        /// Who called.
        process: ProcessId,
    },
    /// Time went back.
    #[error("event {event}: at {time_ns} ns, after an event at {previous_ns} ns")]
    TimeWentBack {
        /// The position of the event.
        event: usize,
        /// Its time.
        time_ns: u64,
        /// The time of the event before.
        previous_ns: u64,
    },
    /// The answer is not one to this call.
    #[error("event {event}: the answer of process {process} is not one to its call")]
    ForeignReply {
        /// The position of the event.
        event: usize,
        /// Whose answer.
        process: ProcessId,
    },
    /// Reading or writing failed.
    #[error("read or write line {line} of a history")]
    Io {
        /// The line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is not an event, or has fields that this version does not know.
    #[error("line {line} of a history")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The first line does not say that this is a history.
    #[error("not a history: there is no header")]
    NoHeader,
    /// Another version wrote it.
    #[error("a history of version {found}, this program reads version {expected}")]
    Version {
        /// What the header says.
        found: u32,
        /// What this program reads.
        expected: u32,
    },
    /// An operation has no place in this EDN format.
    #[error("operation {operation} is not one of the {format} format")]
    Foreign {
        /// The operation.
        operation: usize,
        /// The format.
        format: &'static str,
    },
}
