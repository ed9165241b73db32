//! W2 in the order of the log: a read shows exactly the acknowledged appends up to its index, and ambiguous ones
//! where one index explains all reads.
//!
//! It must not order two ambiguous transactions: only reads of the same list do. Invariant: an ambiguous
//! transaction that was seen has an index in `(low, high]`, in all its lists.

use std::collections::BTreeMap;

use super::timeline::Timeline;
use crate::append::reads::{ListRead, Reads};
use crate::history::{History, OpId};
use crate::verdict::{Anomaly, Doubt, Evidence, Verdict};

/// Replays the transactions of `history`.
#[must_use]
pub fn lists(history: &History) -> Verdict {
    let reads = match Reads::of(history) {
        Ok(reads) => reads,
        Err(doubt) => return Verdict::Unknown(doubt),
    };
    let mut evidence = reads.evidence();
    let mut replay = Replay::of(&reads, &Timeline::of(history));
    let mut longest: BTreeMap<u64, ListRead<'_>> = BTreeMap::new();
    for read in &reads.all {
        evidence.extend(replay.judge(read, &reads));
        let best = longest.entry(read.key).or_insert(*read);
        if best.list.len() < read.list.len() {
            *best = *read;
        }
    }
    let fits = |read: &&ListRead<'_>| longest[&read.key].list.starts_with(read.list);
    evidence.extend(reads.all.iter().find(|read| !fits(read)).map(|read| {
        let operations = [longest[&read.key].reader.id, read.reader.id];
        let detail = "two reads show values in different orders";
        Evidence::new(Anomaly::IncompatibleOrder, subject(read.key), operations, detail)
    }));
    evidence.extend(replay.misplaced());
    if evidence.is_empty() && reads.all.is_empty() {
        return Verdict::Unknown(Doubt::NothingObserved);
    }
    Verdict::of(evidence)
}

fn subject(key: u64) -> String {
    format!("list {key}")
}

/// Where an ambiguous transaction may be.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    low: u64,
    high: u64,
    is_seen: bool,
}

#[derive(Debug)]
struct Replay {
    /// For each list the acknowledged appends: index and value, in order.
    acked: BTreeMap<u64, Vec<(u64, u64)>>,
    /// For each list the ambiguous transactions that append to it.
    ambiguous: BTreeMap<u64, Vec<OpId>>,
    bounds: BTreeMap<OpId, Bounds>,
}

impl Replay {
    fn of(reads: &Reads<'_>, timeline: &Timeline) -> Self {
        let mut acked: BTreeMap<u64, Vec<(u64, usize, u64)>> = BTreeMap::new();
        let mut ambiguous: BTreeMap<u64, Vec<OpId>> = BTreeMap::new();
        let mut bounds = BTreeMap::new();
        for ((key, value), writer) in &reads.writers {
            let id = writer.operation.id;
            if let Some((_, index)) = writer.operation.answer() {
                acked.entry(*key).or_default().push((index.0, writer.ordinal, *value));
            } else if writer.operation.is_ambiguous() {
                ambiguous.entry(*key).or_default().push(id);
                let low = timeline.floor(id);
                bounds.insert(id, Bounds { low, high: u64::MAX, is_seen: false });
            }
        }
        let sort = |(key, mut appends): (u64, Vec<(u64, usize, u64)>)| {
            appends.sort_unstable();
            (key, appends.into_iter().map(|(index, _, value)| (index, value)).collect())
        };
        Self { acked: acked.into_iter().map(sort).collect(), ambiguous, bounds }
    }

    fn judge(&mut self, read: &ListRead<'_>, reads: &Reads<'_>) -> Option<Evidence> {
        let (_, index) = read.reader.answer()?;
        // A transaction that writes has the index for itself: it read what was below.
        let limit = index.0.saturating_sub(u64::from(!read.reader.call.is_read()));
        let wrong = |detail: String| {
            let operations = [read.reader.id];
            Some(Evidence::new(Anomaly::WrongAtIndex, subject(read.key), operations, detail))
        };
        let mut acked = self.acked.get(&read.key).map_or(&[][..], Vec::as_slice).iter().peekable();
        let mut low = 0;
        let mut seen: Vec<OpId> = Vec::new();
        let mut after_low: Vec<OpId> = Vec::new();
        for value in read.before() {
            let expected = acked.next_if(|(index, next)| next == value && *index <= limit);
            if let Some((index, _)) = expected {
                for id in after_low.drain(..) {
                    self.bounds.entry(id).and_modify(|b| b.high = b.high.min(index - 1));
                }
                low = *index;
                continue;
            }
            let writer = reads.writers.get(&(read.key, *value)).map(|writer| writer.operation);
            let Some(id) = writer.filter(|w| w.is_ambiguous()).map(|w| w.id) else {
                return wrong(format!("value {value} is not the next one at index {limit}"));
            };
            self.bounds.entry(id).and_modify(|bounds| {
                bounds.low = bounds.low.max(low);
                bounds.high = bounds.high.min(limit);
                bounds.is_seen = true;
            });
            seen.push(id);
            after_low.push(id);
        }
        let missing = acked.next().filter(|(index, _)| *index <= limit).copied();
        self.miss(read.key, &seen, limit);
        let (index, value) = missing?;
        wrong(format!("value {value} of index {index} is missing at index {limit}"))
    }

    /// What a read does not show is above its index.
    fn miss(&mut self, key: u64, seen: &[OpId], limit: u64) {
        for id in self.ambiguous.get(&key).into_iter().flatten() {
            if !seen.contains(id) {
                self.bounds.entry(*id).and_modify(|bounds| bounds.low = bounds.low.max(limit));
            }
        }
    }

    /// Ambiguous transactions that were seen, and that no index explains.
    fn misplaced(&self) -> Vec<Evidence> {
        let wrong = self.bounds.iter().filter(|(_, b)| b.is_seen && b.high <= b.low);
        let describe = |(id, bounds): (&OpId, &Bounds)| {
            let detail =
                format!("it took effect above index {} and up to {}", bounds.low, bounds.high);
            Evidence::new(Anomaly::WrongAtIndex, "transactions", [*id], detail)
        };
        wrong.map(describe).collect()
    }
}
