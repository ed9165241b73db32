//! W3 in the order of the log: an element is in the scans between its add and its delete, and in no other.
//!
//! It must not look at times, but for the index that an ambiguous operation is above. Invariant: an
//! operation has an index in `(low, high]`; of an acknowledged one that is a single index.

use std::collections::BTreeMap;

use super::timeline::Timeline;
use crate::history::{History, LogIndex, Operation};
use crate::sets::{Members, Scan};
use crate::verdict::{Anomaly, Doubt, Evidence, Verdict};

/// Replays the sets of `history`.
#[must_use]
pub fn sets(history: &History) -> Verdict {
    let timeline = Timeline::of(history);
    Verdict::merge(crate::sets::sets(history).into_values().map(|members| match members {
        Err(doubt) => Verdict::Unknown(doubt),
        Ok(members) if members.scans.is_empty() => Verdict::Unknown(Doubt::NothingObserved),
        Ok(members) => judge(&members, &timeline),
    }))
}

/// Where an operation may be.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    low: u64,
    high: u64,
    is_acked: bool,
}

impl Bounds {
    fn of(operation: &Operation, timeline: &Timeline) -> Self {
        match operation.answer() {
            Some((_, LogIndex(index))) => {
                Self { low: index.saturating_sub(1), high: index, is_acked: true }
            }
            None => Self { low: timeline.floor(operation.id), high: u64::MAX, is_acked: false },
        }
    }

    /// Whether there is an index for it above `low` and up to `high`.
    fn meets(self, low: u64, high: u64) -> bool {
        self.low.max(low) < self.high.min(high)
    }
}

/// Which scans, in the order of the log, show an element.
#[derive(Debug, Clone, Copy)]
struct Shown {
    first: usize,
    last: usize,
    scans: usize,
}

fn judge(members: &Members<'_>, timeline: &Timeline) -> Verdict {
    let index = |scan: &Scan<'_>| scan.operation.answer().map_or(0, |(_, index)| index.0);
    let mut all: Vec<(u64, &Scan<'_>)> =
        members.scans.iter().map(|scan| (index(scan), scan)).collect();
    all.sort_by_key(|(index, scan)| (*index, scan.operation.id));
    let mut evidence: Vec<Evidence> = members.duplicates().collect();
    evidence.extend(different(members, &all));
    all.dedup_by_key(|(index, _)| *index);
    let shown = shown(&all);
    for element in shown.keys().filter(|element| !members.elements.contains_key(element)) {
        evidence.push(wrong(members, *element, &[]));
    }
    let indexes: Vec<u64> = all.iter().map(|(index, _)| *index).collect();
    for (element, known) in &members.elements {
        let shown = shown.get(element).copied();
        let bounds = |operation| Bounds::of(operation, timeline);
        let (add, delete) = (known.possible_add(), known.possible_delete());
        if !fits(&indexes, shown, add.map(bounds), delete.map(bounds)) {
            let operations: Vec<&Operation> = known.add.into_iter().chain(known.delete).collect();
            evidence.push(wrong(members, *element, &operations));
        }
    }
    Verdict::of(evidence)
}

fn wrong(members: &Members<'_>, element: u64, operations: &[&Operation]) -> Evidence {
    let operations: Vec<_> = operations.iter().map(|operation| operation.id).collect();
    let detail = format!("no index of add and delete explains which scans show element {element}");
    Evidence::new(Anomaly::WrongAtIndex, members.subject(), operations, detail)
}

/// Two scans at one index see the same.
fn different(members: &Members<'_>, all: &[(u64, &Scan<'_>)]) -> Option<Evidence> {
    let mut pairs = all.iter().zip(all.iter().skip(1));
    let ((index, one), (_, other)) = pairs.find(|((index, one), (next, other))| {
        index == next && one.elements() != other.elements()
    })?;
    let detail = format!("two scans at index {index} differ");
    let operations = [one.operation.id, other.operation.id];
    Some(Evidence::new(Anomaly::DifferentAtIndex, members.subject(), operations, detail))
}

fn shown(all: &[(u64, &Scan<'_>)]) -> BTreeMap<u64, Shown> {
    let mut shown: BTreeMap<u64, Shown> = BTreeMap::new();
    for (position, (_, scan)) in all.iter().enumerate() {
        for element in scan.elements() {
            let start = Shown { first: position, last: position, scans: 0 };
            let known = shown.entry(*element).or_insert(start);
            known.last = position;
            known.scans += 1;
        }
    }
    shown
}

/// Whether some indexes of add and delete explain which scans show the element.
fn fits(
    indexes: &[u64],
    shown: Option<Shown>,
    add: Option<Bounds>,
    delete: Option<Bounds>,
) -> bool {
    let Some(shown) = shown else { return fits_unseen(indexes, add, delete) };
    let Some(add) = add else { return false };
    let is_whole = shown.scans == shown.last - shown.first + 1;
    let before = shown.first.checked_sub(1).map_or(0, |position| indexes[position]);
    let (first, last) = (indexes[shown.first], indexes[shown.last]);
    if !is_whole || !add.meets(before, first) {
        return false;
    }
    if let Some(after) = indexes.get(shown.last + 1) {
        return delete.is_some_and(|delete| delete.meets(last, *after));
    }
    // Nobody missed it since: an acknowledged delete is above the last scan, or was below the add.
    delete.is_none_or(|delete| {
        let was_early = delete.high < add.high.min(first);
        !delete.is_acked || delete.high > last || was_early
    })
}

/// What no scan shows was deleted before the first scan that is not below its add.
fn fits_unseen(indexes: &[u64], add: Option<Bounds>, delete: Option<Bounds>) -> bool {
    let Some(add) = add.filter(|add| add.is_acked) else { return true };
    let first = indexes.partition_point(|index| *index < add.high);
    let Some(scan) = indexes.get(first) else { return true };
    delete.is_some_and(|delete| delete.meets(add.high, *scan))
}
