//! The order of the values of each list, as the longest read shows it.
//!
//! It must not order values that no read shows. Invariant: every read of a list with an order is a prefix of
//! that order; a list whose reads contradict each other has none.

use std::collections::{BTreeMap, BTreeSet};

use super::reads::{ListRead, Reads, Writer};
use crate::history::{OpId, Operation};
use crate::verdict::{Anomaly, Evidence};

/// One list.
#[derive(Debug)]
pub(super) struct List<'a> {
    pub(super) key: u64,
    /// The longest that was read.
    pub(super) longest: ListRead<'a>,
    pub(super) reads: Vec<ListRead<'a>>,
    /// Appended by transactions that took effect, and not in the longest read: they come after it.
    pub(super) unread: Vec<(u64, &'a Operation)>,
    /// Two reads, neither a prefix of the other.
    incompatible: Option<(ListRead<'a>, ListRead<'a>)>,
}

impl List<'_> {
    /// Returns whether its reads agree, so that dependencies follow from them.
    pub(super) fn has_order(&self) -> bool {
        self.incompatible.is_none()
    }

    fn subject(&self) -> String {
        format!("list {}", self.key)
    }
}

/// All lists that were read.
#[derive(Debug)]
pub(super) struct Lists<'a> {
    pub(super) all: Vec<List<'a>>,
    /// Transactions that took effect: they succeeded, or somebody saw their values.
    pub(super) committed: BTreeSet<OpId>,
}

impl<'a> Lists<'a> {
    pub(super) fn of(reads: &Reads<'a>) -> Self {
        let mut by_key: BTreeMap<u64, Vec<ListRead<'a>>> = BTreeMap::new();
        for read in &reads.all {
            by_key.entry(read.key).or_default().push(*read);
        }
        let all: Vec<List<'a>> =
            by_key.into_iter().filter_map(|(key, reads)| order(key, reads)).collect();
        let committed = committed(&all, reads);
        let mut lists = Self { all, committed };
        lists.add_unread(reads);
        lists
    }

    fn add_unread(&mut self, reads: &Reads<'a>) {
        for list in &mut self.all {
            let shown: BTreeSet<u64> = list.longest.list.iter().copied().collect();
            let appended = reads.writers.range((list.key, 0)..=(list.key, u64::MAX));
            for ((_, value), writer) in appended {
                if !shown.contains(value) && self.committed.contains(&writer.operation.id) {
                    list.unread.push((*value, writer.operation));
                }
            }
        }
    }

    /// Returns what is wrong with the values and orders of lists.
    pub(super) fn evidence(&self, reads: &Reads<'_>) -> Vec<Evidence> {
        let mut found = Vec::new();
        for list in &self.all {
            found.extend(list.incompatible.map(|(one, other)| incompatible(list, &one, &other)));
            found.extend(unexplained(list, reads));
            found.extend(dirty(list, reads));
            found.extend(disordered(list, reads));
            found.extend(lost(list));
        }
        found
    }
}

fn order(key: u64, reads: Vec<ListRead<'_>>) -> Option<List<'_>> {
    let longest = *reads.iter().max_by_key(|read| read.list.len())?;
    let other = reads.iter().find(|read| !longest.list.starts_with(read.list)).copied();
    let incompatible = other.map(|other| (longest, other));
    Some(List { key, longest, reads, unread: Vec::new(), incompatible })
}

fn committed(lists: &[List<'_>], reads: &Reads<'_>) -> BTreeSet<OpId> {
    let writers = reads.writers.values().map(|writer| writer.operation);
    let readers = reads.all.iter().map(|read| read.reader);
    let succeeded = writers.chain(readers).filter(|operation| operation.answer().is_some());
    let mut found: BTreeSet<OpId> = succeeded.map(|operation| operation.id).collect();
    for list in lists {
        let seen = list.longest.list.iter().filter_map(|v| reads.writers.get(&(list.key, *v)));
        let seen = seen.filter(|writer| writer.operation.is_ambiguous());
        found.extend(seen.map(|writer| writer.operation.id));
    }
    found
}

fn incompatible(list: &List<'_>, one: &ListRead<'_>, other: &ListRead<'_>) -> Evidence {
    let same = one.list.iter().zip(other.list).take_while(|(a, b)| a == b).count();
    let detail = format!("two reads agree on {same} values and differ in the next");
    let operations = [one.reader.id, other.reader.id];
    Evidence::new(Anomaly::IncompatibleOrder, list.subject(), operations, detail)
}

/// Values that nobody appended, or that a failed transaction did (G1a). Reads that are prefixes of the longest
/// have no others.
fn unexplained(list: &List<'_>, reads: &Reads<'_>) -> Vec<Evidence> {
    let mut found = Vec::new();
    let strange = list.reads.iter().filter(|read| !list.longest.list.starts_with(read.list));
    for read in std::iter::once(&list.longest).chain(strange) {
        for value in read.list {
            found.extend(match reads.writers.get(&(list.key, *value)) {
                None => {
                    let detail = format!("value {value} was never appended");
                    Some(Evidence::new(Anomaly::Phantom, list.subject(), [read.reader.id], detail))
                }
                Some(writer) if writer.operation.is_failed() => {
                    let detail = format!("value {value} is of a transaction that failed");
                    let operations = [writer.operation.id, read.reader.id];
                    Some(Evidence::new(Anomaly::AbortedRead, list.subject(), operations, detail))
                }
                Some(_) => None,
            });
        }
    }
    found
}

/// A value of a failed transaction with one of a committed transaction on top.
fn dirty(list: &List<'_>, reads: &Reads<'_>) -> Option<Evidence> {
    let writers: Vec<&Writer<'_>> = writers(list, reads).collect();
    let failed = writers.iter().position(|writer| writer.operation.is_failed())?;
    let later = writers.get(failed..)?.iter().find(|writer| !writer.operation.is_failed())?;
    let operations = [writers.get(failed)?.operation.id, later.operation.id];
    let detail = "a committed append stands on one that failed";
    Some(Evidence::new(Anomaly::DirtyUpdate, list.subject(), operations, detail))
}

/// The appends of one transaction to the list are in the order of its steps, and none is left out.
fn disordered(list: &List<'_>, reads: &Reads<'_>) -> Option<Evidence> {
    let mut expected: BTreeMap<OpId, usize> = BTreeMap::new();
    let wrong = writers(list, reads).find(|writer| {
        let next = expected.entry(writer.operation.id).or_default();
        let is_wrong = writer.ordinal != *next;
        *next += 1;
        is_wrong
    })?;
    let operations = [wrong.operation.id, list.longest.reader.id];
    let detail = "the appends of one transaction are not in the order of its steps";
    Some(Evidence::new(Anomaly::Internal, list.subject(), operations, detail))
}

fn writers<'l, 'a>(
    list: &'l List<'a>,
    reads: &'l Reads<'a>,
) -> impl Iterator<Item = &'l Writer<'a>> {
    list.longest.list.iter().filter_map(|value| reads.writers.get(&(list.key, *value)))
}

/// Acknowledged appends that no read shows, though one began after the acknowledgement.
fn lost(list: &List<'_>) -> Vec<Evidence> {
    let last = list.reads.iter().max_by_key(|read| read.reader.invoked_ns);
    let Some(last) = last.filter(|_| list.has_order()) else { return Vec::new() };
    let missing = list.unread.iter().filter(|(_, writer)| writer.precedes(last.reader));
    let describe = |(value, writer): &(u64, &Operation)| {
        let detail = format!("value {value} was acknowledged before a read, and no read shows it");
        let operations = [writer.id, last.reader.id];
        Evidence::new(Anomaly::Lost, list.subject(), operations, detail)
    };
    missing.map(describe).collect()
}
