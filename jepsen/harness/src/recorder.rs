//! What clients did and saw, as it happens: the only writer of histories.
//!
//! A part of a workload that is judged on its own (a bank, a set, a few registers) is a book. It must not judge.
//! Invariant: within a book time does not go back, and a process id that had an ambiguous outcome is never given
//! out again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_checker::{
    Action, Call, Event, History, LogIndex, NodeId, Outcome, ProcessId, Reply, Step,
};
use alluvium_stdx::{Clock, SystemClock};
use serde::Serialize;

use crate::outcome::Fault;
use crate::workloads::Workload;

/// How a call ended, for counts and the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    Ok,
    Fail,
    Info,
}

/// One call, for counts, the timeline and the log's witness.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Trace {
    pub(crate) workload: Workload,
    pub(crate) book: String,
    #[serde(skip)]
    pub(crate) position: usize,
    pub(crate) process: u64,
    pub(crate) node: u64,
    pub(crate) begin_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) ending: Ending,
    /// Why it did not succeed.
    pub(crate) reason: Option<String>,
    /// What was said of it, for people.
    pub(crate) message: Option<String>,
    /// Whether it would change something.
    pub(crate) is_write: bool,
    /// The name of a write in the log, and where it is if it was acknowledged.
    pub(crate) tag: Option<String>,
    pub(crate) index: Option<u64>,
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Pending {
    workload: Workload,
    book: String,
    process: ProcessId,
    node: NodeId,
    begin_ns: u64,
    is_write: bool,
    tag: Option<String>,
}

/// What a call came to: the answer and its index.
pub(crate) type Told = Result<(Reply, u64), Fault>;

/// See the module. It lives on the thread of the clients.
#[derive(Debug)]
pub(crate) struct Recorder {
    clock: Arc<SystemClock>,
    books: RefCell<BTreeMap<String, Vec<Event>>>,
    traces: RefCell<Vec<Trace>>,
    processes: Cell<u64>,
    tags: Cell<u64>,
}

impl Recorder {
    pub(crate) fn new(clock: Arc<SystemClock>) -> Self {
        Self {
            clock,
            books: RefCell::default(),
            traces: RefCell::default(),
            processes: Cell::new(0),
            tags: Cell::new(0),
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.monotonic_ns()
    }

    /// Returns a process id that nobody had.
    pub(crate) fn process(&self) -> ProcessId {
        self.processes.set(self.processes.get() + 1);
        ProcessId(self.processes.get())
    }

    /// Returns a name for a write that no other one has.
    pub(crate) fn tag(&self, workload: Workload) -> String {
        self.tags.set(self.tags.get() + 1);
        format!("{}:{}", workload.name(), self.tags.get())
    }

    /// Records that a call is about to be sent.
    pub(crate) fn invoke(
        &self,
        (workload, book): (Workload, &str),
        (process, node): (ProcessId, NodeId),
        call: &Call,
        tag: Option<String>,
    ) -> Pending {
        let begin_ns = self.now_ns();
        let action = Action::Invoke { node, call: call.clone() };
        let mut books = self.books.borrow_mut();
        let events = books.entry(book.to_owned()).or_default();
        events.push(Event { time_ns: begin_ns, process, action });
        let (book, is_write) = (book.to_owned(), !call.is_read());
        Pending { workload, book, process, node, begin_ns, is_write, tag }
    }

    /// Records how a call ended, and returns that.
    pub(crate) fn complete(&self, pending: Pending, told: &Told) -> Ending {
        let end_ns = self.now_ns();
        let (ending, outcome) = match told {
            Ok((reply, index)) => {
                (Ending::Ok, Outcome::Ok { reply: reply.clone(), index: LogIndex(*index) })
            }
            // A read has no effect, so that its failure leaves no doubt.
            Err(fault) if pending.is_write && fault.is_ambiguous() => (Ending::Info, Outcome::Info),
            Err(_no_effect) => (Ending::Fail, Outcome::Fail),
        };
        let reason = told.as_ref().err().map(|fault| fault.reason.clone());
        let message = told.as_ref().err().map(|fault| fault.message.clone());
        let index = told.as_ref().ok().map(|(_, index)| *index);
        let mut books = self.books.borrow_mut();
        let events = books.entry(pending.book.clone()).or_default();
        let position = events.len();
        let (process, action) = (pending.process, Action::Complete { outcome });
        events.push(Event { time_ns: end_ns, process, action });
        drop(books);
        let Pending { workload, book, node, begin_ns, is_write, tag, .. } = pending;
        let (process, node) = (process.0, node.0);
        self.traces.borrow_mut().push(Trace {
            workload,
            book,
            position,
            process,
            node,
            begin_ns,
            end_ns,
            ending,
            reason,
            message,
            is_write,
            tag,
            index,
        });
        ending
    }

    /// Records a call that belongs to no book: maintenance, and queries that are compared with a model.
    pub(crate) fn note(&self, trace: Trace) {
        self.traces.borrow_mut().push(trace);
    }

    /// Changes the answers that were to be completed later.
    pub(crate) fn amend(&self, mut change: impl FnMut(&str, &mut Event)) {
        for (book, events) in self.books.borrow_mut().iter_mut() {
            events.iter_mut().for_each(|event| change(book, event));
        }
    }

    /// Returns the books whose names begin so, in order.
    pub(crate) fn books(&self, prefix: &str) -> Vec<String> {
        let books = self.books.borrow();
        books.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// Returns the history of one book.
    ///
    /// # Errors
    /// When it is not well formed: a fault of the harness.
    pub(crate) fn history(&self, book: &str) -> Result<History, alluvium_checker::Error> {
        History::new(self.books.borrow().get(book).cloned().unwrap_or_default())
    }

    /// Returns the values that a call of a list book appends.
    pub(crate) fn appended(&self, trace: &Trace) -> Vec<u64> {
        let books = self.books.borrow();
        let events = books.get(&trace.book).map(Vec::as_slice).unwrap_or_default();
        let process = ProcessId(trace.process);
        let before = events.get(..trace.position).unwrap_or_default();
        let call = before.iter().rev().find(|event| event.process == process);
        let Some(Action::Invoke { call: Call::Transact { steps }, .. }) =
            call.map(|event| &event.action)
        else {
            return Vec::new();
        };
        let value = |step: &Step| match step {
            Step::Append { value, .. } => Some(*value),
            Step::Read { .. } => None,
        };
        steps.iter().filter_map(value).collect()
    }

    pub(crate) fn traces(&self) -> Vec<Trace> {
        self.traces.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(recorder: &Recorder, process: ProcessId, call: &Call, told: &Told) -> Ending {
        let pending = recorder.invoke((Workload::W5, "w5-1"), (process, NodeId(1)), call, None);
        recorder.complete(pending, told)
    }

    #[test]
    fn what_is_recorded_is_a_well_formed_history_and_doubt_is_kept_for_writes_alone() {
        let recorder = Recorder::new(Arc::new(SystemClock::new()));
        let process = recorder.process();
        let read = Call::Read { key: 1 };
        let write = Call::Write { key: 1, value: 1 };
        let silent = || Err(Fault::silence());
        assert_eq!(call(&recorder, process, &read, &silent()), Ending::Fail);
        assert_eq!(
            call(&recorder, process, &write, &Ok((Reply::Written { version: 4 }, 4))),
            Ending::Ok
        );
        assert_eq!(call(&recorder, process, &write, &silent()), Ending::Info);
        assert_ne!(recorder.process(), process);
        let history = recorder.history("w5-1").expect("well formed");
        assert_eq!(history.operations().len(), 3);
        assert_eq!(recorder.traces()[1].index, Some(4));
        // The process ended with its doubt: using it again is refused.
        call(&recorder, process, &read, &silent());
        assert!(matches!(
            recorder.history("w5-1"),
            Err(alluvium_checker::Error::Reused { process: ended, .. }) if ended == process
        ));
    }
}
