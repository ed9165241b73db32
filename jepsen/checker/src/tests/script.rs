//! Histories by hand: one line for each operation.

use std::ops::{Range, RangeFrom};

use crate::{Action, Call, Event, History, LogIndex, NodeId, OpId, Outcome, ProcessId, Reply};

/// One operation: who, from when, until when, what, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    process: u64,
    start: u64,
    end: Option<u64>,
    call: Call,
    outcome: Outcome,
}

/// An operation that was answered.
pub(crate) fn ok(process: u64, time: Range<u64>, call: Call, reply: Reply, index: u64) -> Line {
    let outcome = Outcome::Ok { reply, index: LogIndex(index) };
    Line { process, start: time.start, end: Some(time.end), call, outcome }
}

/// An operation that definitely did not take effect.
pub(crate) fn fail(process: u64, time: Range<u64>, call: Call) -> Line {
    Line { process, start: time.start, end: Some(time.end), call, outcome: Outcome::Fail }
}

/// An operation that was never answered.
pub(crate) fn info(process: u64, time: RangeFrom<u64>, call: Call) -> Line {
    Line { process, start: time.start, end: None, call, outcome: Outcome::Info }
}

/// The history of `lines`.
pub(crate) fn history(lines: impl IntoIterator<Item = Line>) -> History {
    let mut events = Vec::new();
    for line in lines {
        let process = ProcessId(line.process);
        let action = Action::Invoke { node: NodeId(1), call: line.call };
        events.push(Event { time_ns: line.start, process, action });
        if let Some(time_ns) = line.end {
            let action = Action::Complete { outcome: line.outcome };
            events.push(Event { time_ns, process, action });
        }
    }
    events.sort_by_key(|event| event.time_ns);
    History::new(events).expect("a history by hand is well formed")
}

/// `history` with another outcome of one operation.
pub(crate) fn with_outcome(history: &History, id: OpId, outcome: &Outcome) -> History {
    let change = |(event, owner): (&Event, &crate::Operation)| {
        let mut event = event.clone();
        if owner.id == id
            && let Action::Complete { outcome: old } = &mut event.action
        {
            *old = outcome.clone();
        }
        event
    };
    let events = history.owned_events().map(change).collect();
    History::new(events).expect("the calls are the same")
}

/// `history` with another reply of an answered operation.
pub(crate) fn with_reply(history: &History, id: OpId, reply: Reply) -> History {
    let (_, index) = history.operations()[id.0].answer().expect("it was answered");
    with_outcome(history, id, &Outcome::Ok { reply, index })
}
