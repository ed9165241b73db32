//! What transactions wrote and read, one by one: who appended each value, and what each read saw.
//!
//! It must not compare transactions. Invariant: a value is appended to a list by one step of one transaction;
//! a history that breaks this cannot be traced, and is refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::call::{Call, Reply, Step};
use crate::history::{History, OpId, Operation};
use crate::verdict::{Anomaly, Doubt, Evidence};

/// The step that appended a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    pub(crate) operation: &'a Operation,
    /// How many values this transaction appended to the same list before.
    pub(crate) ordinal: usize,
    /// Whether it appended none after.
    pub(crate) is_final: bool,
}

/// One read of a list by a transaction that succeeded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListRead<'a> {
    pub(crate) reader: &'a Operation,
    pub(crate) key: u64,
    pub(crate) list: &'a [u64],
    /// How many values at the end are the reader's own.
    pub(crate) own: usize,
}

impl<'a> ListRead<'a> {
    /// Returns what the list was before the reader.
    pub(crate) fn before(&self) -> &'a [u64] {
        self.list.get(..self.list.len() - self.own).unwrap_or_default()
    }
}

/// All transactions.
#[derive(Debug, Default)]
pub(crate) struct Reads<'a> {
    pub(crate) writers: BTreeMap<(u64, u64), Writer<'a>>,
    pub(crate) all: Vec<ListRead<'a>>,
    internal: Vec<Evidence>,
}

impl<'a> Reads<'a> {
    pub(crate) fn of(history: &'a History) -> Result<Self, Doubt> {
        let mut reads = Self::default();
        let mut transactions = 0;
        for operation in history.operations() {
            if let Call::Transact { steps } = &operation.call {
                transactions += 1;
                reads.add_writes(operation, steps)?;
            }
        }
        if transactions == 0 {
            return Err(Doubt::Empty);
        }
        for operation in history.operations() {
            let answer = operation.answer().map(|(reply, _)| reply);
            if let (Call::Transact { steps }, Some(Reply::Transacted { lists })) =
                (&operation.call, answer)
            {
                reads.add_reads(operation, steps, lists);
            }
        }
        Ok(reads)
    }

    fn add_writes(&mut self, operation: &'a Operation, steps: &[Step]) -> Result<(), Doubt> {
        let mut last: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        for step in steps {
            let Step::Append { key, value } = step else { continue };
            let ordinal = last.get(key).map_or(0, |(_, ordinal)| ordinal + 1);
            let writer = Writer { operation, ordinal, is_final: false };
            if self.writers.insert((*key, *value), writer).is_some() {
                let subject = format!("value {value} of list {key}");
                return Err(Doubt::Untraceable { subject });
            }
            last.insert(*key, (*value, ordinal));
        }
        for (key, (value, _)) in last {
            let writer = self.writers.get_mut(&(key, value)).expect("it was inserted above");
            writer.is_final = true;
        }
        Ok(())
    }

    fn add_reads(&mut self, reader: &'a Operation, steps: &[Step], lists: &'a [Option<Vec<u64>>]) {
        let mut own: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut seen: BTreeMap<u64, &[u64]> = BTreeMap::new();
        for (step, list) in steps.iter().zip(lists) {
            match (step, list) {
                (Step::Append { key, value }, _) => own.entry(*key).or_default().push(*value),
                (Step::Read { key }, Some(list)) => {
                    let mine = own.get(key).map(Vec::as_slice).unwrap_or_default();
                    let Some(before) = list.strip_suffix(mine) else {
                        self.contradiction(reader.id, *key, "a read misses its own appends");
                        continue;
                    };
                    if steps.iter().any(|step| is_early(step, *key, before)) {
                        self.contradiction(
                            reader.id,
                            *key,
                            "a read shows its own appends in the wrong place",
                        );
                        continue;
                    }
                    if seen.insert(*key, before).is_some_and(|earlier| earlier != before) {
                        self.contradiction(reader.id, *key, "two reads of one list differ");
                        continue;
                    }
                    self.all.push(ListRead { reader, key: *key, list, own: mine.len() });
                }
                (Step::Read { .. }, None) => {}
            }
        }
    }

    fn contradiction(&mut self, reader: OpId, key: u64, detail: &str) {
        let subject = format!("list {key}");
        self.internal.push(Evidence::new(Anomaly::Internal, subject, [reader], detail));
    }

    /// Returns what is wrong with transactions on their own, and with single reads.
    pub(crate) fn evidence(&self) -> Vec<Evidence> {
        let mut found = self.internal.clone();
        found.extend(self.all.iter().filter_map(duplicate));
        found.extend(self.all.iter().filter_map(|read| self.intermediate(read)));
        found
    }

    /// G1b: the list ends in the middle of a transaction.
    fn intermediate(&self, read: &ListRead<'_>) -> Option<Evidence> {
        let last = read.before().last()?;
        let writer = self.writers.get(&(read.key, *last))?;
        let is_own = writer.operation.id == read.reader.id;
        let detail = format!("value {last} is not the last that its transaction appended");
        let operations = [writer.operation.id, read.reader.id];
        let subject = format!("list {}", read.key);
        (!writer.is_final && !is_own)
            .then(|| Evidence::new(Anomaly::IntermediateRead, subject, operations, detail))
    }
}

/// Whether `step` appends to the list what is there before the transaction.
fn is_early(step: &Step, key: u64, before: &[u64]) -> bool {
    match step {
        Step::Append { key: to, value } => *to == key && before.contains(value),
        Step::Read { .. } => false,
    }
}

fn duplicate(read: &ListRead<'_>) -> Option<Evidence> {
    let mut seen = BTreeSet::new();
    let twice = read.list.iter().find(|value| !seen.insert(**value))?;
    let subject = format!("list {}", read.key);
    let detail = format!("value {twice} is in the list twice");
    Some(Evidence::new(Anomaly::Duplicate, subject, [read.reader.id], detail))
}
