//! The judges on small histories: what is right, what is wrong, and what only one of two opinions sees.

use std::sync::Arc;

use alluvium_checker::{Call, NodeId, ProcessId, Step, Versioned};

use super::*;
use crate::outcome::Fault;
use crate::recorder::{Recorder, Told};
use crate::verdict::{Conclusion, Weight};
use crate::witness::Witness;

/// A recorder with one process that is never in doubt.
struct Script {
    recorder: Recorder,
    process: ProcessId,
    clock: Arc<SystemClock>,
}

impl Script {
    fn new() -> Self {
        let clock = Arc::new(SystemClock::new());
        let recorder = Recorder::new(Arc::clone(&clock));
        let process = recorder.process();
        Self { recorder, process, clock }
    }

    fn call(&self, book: &str, call: &Call, told: &Told) {
        let tag = (!call.is_read()).then(|| self.recorder.tag(Workload::W3));
        let who = (self.process, NodeId(1));
        let pending = self.recorder.invoke((Workload::W3, book), who, call, tag);
        self.recorder.complete(pending, told);
    }

    fn record(&self) -> Record {
        let books = self.recorder.books("").into_iter();
        Record {
            histories: books
                .map(|book| {
                    let history = self.recorder.history(&book);
                    (book, history)
                })
                .collect(),
            traces: self.recorder.traces(),
            changes: Vec::new(),
            asked: Vec::new(),
            accepted: Vec::new(),
            refused: 0,
            witness: None,
            unresolved: 0,
        }
    }

    fn found(&self) -> Vec<(Weight, String)> {
        let findings = judge(&self.record(), &self.clock);
        findings.into_iter().map(|finding| (finding.weight, finding.source)).collect()
    }
}

fn add(element: u64) -> Call {
    Call::Add { set: 1, element }
}

fn elements(elements: &[u64], index: u64) -> Told {
    Ok((Reply::Elements { elements: elements.to_vec() }, index))
}

const SCAN: Call = Call::Scan { set: 1 };

#[test]
fn a_right_history_has_no_finding() {
    let script = Script::new();
    script.call("w3-0001", &add(1), &Ok((Reply::Done, 3)));
    script.call("w3-0001", &SCAN, &elements(&[1], 4));
    assert_eq!(script.found(), []);
}

#[test]
fn a_lost_element_is_found_by_both_opinions_when_the_scan_that_misses_it_is_over() {
    let script = Script::new();
    script.call("w3-0001", &add(1), &Ok((Reply::Done, 3)));
    script.call("w3-0001", &SCAN, &elements(&[], 4));
    let record = script.record();
    let findings = judge(&record, &script.clock);
    assert_eq!(Conclusion::of(&findings), Conclusion::Invalid);
    let scan_end_ns = record.traces[1].end_ns;
    assert!(findings.iter().any(|one| one.at_ns == Some(scan_end_ns)), "{findings:?}");
}

#[test]
fn an_answer_at_an_old_index_is_an_anomaly_although_it_is_right_there() {
    let script = Script::new();
    script.call("w3-0001", &add(1), &Ok((Reply::Done, 7)));
    script.call("w3-0001", &SCAN, &elements(&[], 4));
    script.call("w3-0001", &SCAN, &elements(&[1], 8));
    let found = script.found();
    assert!(found.contains(&(Weight::Anomaly, "sets".to_owned())), "{found:?}");
    assert!(found.contains(&(Weight::Anomaly, "index order".to_owned())), "{found:?}");
}

#[test]
fn opinions_that_differ_are_a_doubt() {
    // A read whose value is that of the write before, and whose index is below it: only the log objects. The
    // write and the read overlap nothing, so that the order of indexes objects too, of another kind.
    let script = Script::new();
    let written = Ok((Reply::Written { version: 5 }, 5));
    script.call("w5-0001", &Call::Write { key: 1, value: 1 }, &written);
    let current = Some(Versioned { value: 1, version: 5 });
    script.call("w5-0001", &Call::Read { key: 1 }, &Ok((Reply::Value { current }, 4)));
    let found = script.found();
    assert!(found.contains(&(Weight::Doubt, "checkers disagree".to_owned())), "{found:?}");
}

#[test]
fn a_set_that_nobody_scanned_at_the_end_is_a_doubt_and_an_empty_book_is_none() {
    let script = Script::new();
    script.call("w3-0001", &SCAN, &elements(&[], 2));
    script.call("w3-0001", &add(1), &Ok((Reply::Done, 3)));
    assert_eq!(script.found(), [(Weight::Doubt, "sets".to_owned())]);
    let silent = Script::new();
    silent.call("w3-0001", &SCAN, &Err(Fault::silence()));
    assert_eq!(silent.found(), []);
}

#[test]
fn impossible_and_torn_answers_are_anomalies() {
    let script = Script::new();
    script.call("w3-0001", &SCAN, &Err(Fault::wrong("two rows of one key")));
    script.call("w3-0001", &SCAN, &Err(Fault::torn(5, 4)));
    let expected = ["answers", "torn-description"];
    assert_eq!(script.found(), expected.map(|source| (Weight::Anomaly, source.to_owned())));
}

#[test]
fn a_write_that_the_log_has_elsewhere_is_an_anomaly() {
    let script = Script::new();
    script.call("w3-0001", &add(1), &Ok((Reply::Done, 3)));
    script.call("w3-0001", &SCAN, &elements(&[1], 4));
    let tag = script.recorder.traces()[0].tag.clone().expect("a write has a name");
    let witness = Witness::of(&["", "", &tag, "", "", &tag]);
    let record = Record { witness: Some(witness), ..script.record() };
    let findings = judge(&record, &script.clock);
    assert_eq!(findings.iter().map(|one| one.source.as_str()).collect::<Vec<_>>(), ["log"]);
}

#[test]
fn what_was_appended_blindly_has_no_order_where_nobody_read_the_log() {
    let script = Script::new();
    let read = |values: &[u64], index| {
        let call = Call::Transact { steps: vec![Step::Read { key: 0 }] };
        let reply = Reply::Transacted { lists: vec![Some(values.to_vec())] };
        script.call("w2blind-0001", &call, &Ok((reply, index)));
    };
    for value in [1, 2] {
        let call = Call::Transact { steps: vec![Step::Append { key: 0, value }] };
        let reply = Reply::Transacted { lists: vec![None] };
        script.call("w2blind-0001", &call, &Ok((reply, value + 2)));
    }
    read(&[1, 2], 5);
    read(&[2, 1], 6);
    assert_eq!(script.found(), [(Weight::Doubt, "append".to_owned())], "no log");
    let witness = Witness::of(&["", "", "", "", "", ""]);
    let record = Record { witness: Some(witness), ..script.record() };
    let found = judge(&record, &script.clock).into_iter();
    let anomalies = found.filter(|one| one.weight == Weight::Anomaly && one.source == "append");
    assert!(anomalies.count() > 0, "with the whole log it is judged");
}
