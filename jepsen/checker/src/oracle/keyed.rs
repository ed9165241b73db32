//! Objects of the search, replayed in the order of the log.
//!
//! The engine is the black box's own, given an order without overlaps: it takes one step for each answered
//! operation, and tries ambiguous ones only where the replay is stuck. It must not place an ambiguous
//! operation below an index that was known before it began. Invariant: a read comes after the write of its
//! index.

use super::timeline::Timeline;
use crate::history::{History, LogIndex, Operation};
use crate::linear::{Budget, Entry, Found, Model, partition, search};
use crate::verdict::{Anomaly, Doubt, Evidence, Verdict};

/// Replays the operations of `model` in `history`.
pub fn keyed<M: Model>(model: &M, history: &History, budget: &Budget<'_>) -> Verdict {
    let timeline = Timeline::of(history);
    let subjects = partition(model, history);
    let judge = |(subject, operations): (&String, &Vec<&Operation>)| {
        let mut answered = answered(operations);
        answered.sort_by_key(|(index, operation)| (*index, operation.call.is_read()));
        let mut verdicts = vec![replay(model, subject, &answered, operations, (&timeline, budget))];
        let differing = different(subject, &answered);
        verdicts.extend(differing.map(|evidence| Verdict::Invalid(vec![evidence])));
        Verdict::merge(verdicts)
    };
    Verdict::merge(subjects.iter().map(judge))
}

fn answered<'a>(operations: &[&'a Operation]) -> Vec<(LogIndex, &'a Operation)> {
    operations.iter().filter_map(|operation| Some((operation.answer()?.1, *operation))).collect()
}

fn replay<M: Model>(
    model: &M,
    subject: &str,
    answered: &[(LogIndex, &Operation)],
    operations: &[&Operation],
    (timeline, budget): (&Timeline, &Budget<'_>),
) -> Verdict {
    let mut entries = Vec::with_capacity(operations.len());
    for (position, (_, operation)) in answered.iter().enumerate() {
        let time = position as u64;
        entries.push(Entry { start: time, end: Some(time), ..Entry::of(operation) });
    }
    for operation in operations.iter().filter(|operation| operation.is_ambiguous()) {
        let floor = LogIndex(timeline.floor(operation.id));
        let start = answered.partition_point(|(index, _)| *index <= floor) as u64;
        entries.push(Entry { start, ..Entry::of(operation) });
    }
    match search(model, entries, budget) {
        Found::Order => Verdict::Valid,
        Found::Spent { steps } => {
            Verdict::Unknown(Doubt::Budget { subject: subject.to_owned(), steps })
        }
        Found::Stuck { prefix, unplaced } => {
            let detail = "the answer is not that of the log up to its index";
            let evidence = Evidence::new(Anomaly::WrongAtIndex, subject, unplaced, detail);
            Verdict::Invalid(vec![Evidence { prefix, ..evidence }])
        }
    }
}

/// Two reads at one index see the same.
fn different(subject: &str, answered: &[(LogIndex, &Operation)]) -> Option<Evidence> {
    let pairs = answered.iter().zip(answered.iter().skip(1));
    let mut reads = pairs.filter(|((index, one), (next, other))| {
        index == next && one.call.is_read() && one.call == other.call
    });
    let ((index, one), (_, other)) = reads.find(|((_, one), (_, other))| {
        one.answer().map(|(reply, _)| reply) != other.answer().map(|(reply, _)| reply)
    })?;
    let detail = format!("two reads at index {} differ", index.0);
    Some(Evidence::new(Anomaly::DifferentAtIndex, subject, [one.id, other.id], detail))
}
