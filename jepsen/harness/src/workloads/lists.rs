//! W2: appends to lists. Some are transactions that read lists and append to several, refused if the dataset
//! changed since the read; others append blindly.
//!
//! A scan of blindly appended rows tells no order, so that a read of them is completed after the run: the log
//! says in which order they came. Must not append a value twice.

use std::cell::Cell;
use std::collections::BTreeMap;

use alluvium_checker::{Action, Call, Event, Outcome, Reply, Step};

use super::registers::last_change;
use super::{Rotation, book, ensure};
use crate::client::{Lake, Reading, Write};
use crate::limits::BOOK_OPERATIONS_MAX;
use crate::outcome::Fault;
use crate::recorder::{Ending, Recorder, Told};
use crate::stage::{Client, harmless};
use crate::workloads::sets::signed;

pub(crate) const TRANSACTIONS: &str = "w2";
pub(crate) const BLIND: &str = "w2blind";
const PLACED: [&str; 3] = ["list", "place", "value"];
const LOOSE: [&str; 2] = ["list", "value"];
const LISTS: u64 = 3;

#[derive(Debug, Default)]
pub(crate) struct Shared {
    transactions: Rotation,
    blind: Rotation,
    values: Cell<u64>,
}

impl Shared {
    fn value(&self) -> u64 {
        self.values.set(self.values.get() + 1);
        self.values.get()
    }
}

pub(crate) async fn step(client: &mut Client<'_>, shared: &Shared) {
    let (rotation, prefix, columns, keys): (_, _, &[&str], &[&str]) = match client.prng.one_in(2) {
        true => (&shared.transactions, TRANSACTIONS, &PLACED, &PLACED[..2]),
        false => (&shared.blind, BLIND, &LOOSE, &[]),
    };
    let (part, is_ready) = rotation.current(BOOK_OPERATIONS_MAX);
    let name = book(prefix, part);
    if !is_ready {
        if ensure(client, &name, columns, keys).await.is_some() {
            rotation.ready(part);
        }
        return;
    }
    let steps = steps(client, shared, prefix == TRANSACTIONS);
    rotation.count(part, transact(client, &name, steps).await);
}

/// Draws a transaction: reads only, appends only, or, where reads are of one index with the appends, both.
fn steps(client: &mut Client<'_>, shared: &Shared, may_mix: bool) -> Vec<Step> {
    let prng = &mut client.prng;
    let kind = prng.below(if may_mix { 3 } else { 2 });
    let (reads, appends) = match kind {
        0 => (1 + prng.below(LISTS), 0),
        1 => (0, 1 + prng.below(2)),
        _ => (1 + prng.below(2), 1 + prng.below(2)),
    };
    let first = prng.below(LISTS);
    let list = |offset: u64| (first + offset) % LISTS;
    let mut steps: Vec<Step> = (0..reads).map(|at| Step::Read { key: list(at) }).collect();
    steps.extend((0..appends).map(|at| Step::Append { key: list(at), value: shared.value() }));
    steps
}

/// Reads every list of a book.
pub(crate) async fn read(client: &mut Client<'_>, book: &str) -> Ending {
    let steps = (0..LISTS).map(|key| Step::Read { key }).collect();
    transact(client, book, steps).await
}

async fn transact(client: &mut Client<'_>, name: &str, steps: Vec<Step>) -> Ending {
    let (lake, write) = (client.lake(), client.write(name));
    let is_read = steps.iter().all(|step| matches!(step, Step::Read { .. }));
    let tag = (!is_read).then(|| write.tag.clone());
    let call = Call::Transact { steps: steps.clone() };
    match name.starts_with(BLIND) {
        true => client.call(name, call, tag, blindly(&lake, write, &steps)).await.0,
        false => client.call(name, call, tag, atomically(&lake, write, &steps)).await.0,
    }
}

/// Lists as they are read: by place, or in no order.
type Lists = BTreeMap<u64, Vec<u64>>;

fn answers(steps: &[Step], lists: &Lists) -> Vec<Option<Vec<u64>>> {
    let answer = |step: &Step| match step {
        Step::Read { key } => Some(lists.get(key).cloned().unwrap_or_default()),
        Step::Append { .. } => None,
    };
    steps.iter().map(answer).collect()
}

async fn atomically(lake: &Lake, write: Write<'_>, steps: &[Step]) -> Told {
    let (changed_at, index) = last_change(lake, write.name).await?;
    let lists = placed(lake, write.name, index).await.map_err(harmless)?;
    let mut ends: BTreeMap<u64, usize> =
        lists.iter().map(|(list, values)| (*list, values.len())).collect();
    let mut rows = Vec::new();
    for step in steps {
        let Step::Append { key, value } = step else { continue };
        let end = ends.entry(*key).or_insert(0);
        rows.push(vec![signed(*key), signed(*end as u64), signed(*value)]);
        *end += 1;
    }
    let lists = answers(steps, &lists);
    if rows.is_empty() {
        return Ok((Reply::Transacted { lists }, index));
    }
    let write = Write { expected_index: Some(changed_at), ..write };
    let index = lake.append(&write, (&PLACED, &rows), false).await?;
    Ok((Reply::Transacted { lists }, index))
}

async fn placed(lake: &Lake, name: &str, index: u64) -> Result<Lists, Fault> {
    let sql = format!("SELECT list, place, value FROM \"{name}\" ORDER BY list, place");
    let answer = lake.query(&sql, Reading { as_of: Some(index), ..Reading::default() }).await?;
    let mut lists = Lists::new();
    for row in &answer.rows {
        let [Some(list), Some(place), Some(value)] = row.as_slice() else {
            return Err(Fault::wrong("a row of a list has no value"));
        };
        let values = lists.entry(unsigned(*list)).or_default();
        if unsigned(*place) != values.len() as u64 {
            let why = format!("list {list} has place {place} behind {} values", values.len());
            return Err(Fault::wrong(why));
        }
        values.push(unsigned(*value));
    }
    Ok(lists)
}

async fn blindly(lake: &Lake, write: Write<'_>, steps: &[Step]) -> Told {
    let mut rows = Vec::new();
    for step in steps {
        if let Step::Append { key, value } = step {
            rows.push(vec![signed(*key), signed(*value)]);
        }
    }
    if !rows.is_empty() {
        let index = lake.append(&write, (&LOOSE, &rows), false).await?;
        return Ok((Reply::Transacted { lists: answers(steps, &Lists::new()) }, index));
    }
    let sql = format!("SELECT list, value FROM \"{}\"", write.name);
    let answer = lake.query(&sql, Reading::default()).await?;
    let mut lists = Lists::new();
    for row in &answer.rows {
        let [Some(list), Some(value)] = row.as_slice() else {
            return Err(Fault::wrong("a row of a list has no value"));
        };
        lists.entry(unsigned(*list)).or_default().push(unsigned(*value));
    }
    Ok((Reply::Transacted { lists: answers(steps, &lists) }, answer.index))
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Puts the values of blind reads into the order of the log. `places` has the index of each tag there.
pub(crate) fn put_in_order(recorder: &Recorder, places: &BTreeMap<String, Vec<u64>>) {
    let mut order: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
    for trace in recorder.traces() {
        let place = trace.tag.as_ref().and_then(|tag| places.get(tag)?.first().copied());
        let (Some(place), true) = (place, trace.book.starts_with(BLIND)) else { continue };
        for (at, value) in recorder.appended(&trace).into_iter().enumerate() {
            order.insert(value, (place, at));
        }
    }
    recorder.amend(|book, event| {
        if book.starts_with(BLIND) {
            sort(event, &order);
        }
    });
}

/// What the log does not know comes last, by number: nobody appended it, or the log lost it.
fn sort(event: &mut Event, order: &BTreeMap<u64, (u64, usize)>) {
    let Action::Complete { outcome: Outcome::Ok { reply: Reply::Transacted { lists }, .. } } =
        &mut event.action
    else {
        return;
    };
    for list in lists.iter_mut().flatten() {
        list.sort_by_key(|value| (order.get(value).copied().unwrap_or((u64::MAX, 0)), *value));
    }
}
