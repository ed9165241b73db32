//! W7 and W8: one dataset that is appended to, upserted and tombstoned, and asked as of indexes by many nodes.
//!
//! W7 asks the same aggregates again and again; W8 draws filters and groups. Both keep what they were told, and
//! `model` compares it with the rows that the log says there are. Must not expire what may be asked for.

use std::cell::{Cell, RefCell};

use serde::Serialize;

use super::{Workload, ensure};
use crate::client::{Answer, Reading};
use crate::outcome::Fault;
use crate::recorder::{Ending, Trace};
use crate::rows::Row;
use crate::stage::Client;
use crate::workloads::sets::signed;

pub(crate) const NAME: &str = "w7-table";
const COLUMNS: [&str; 3] = ["id", "part", "amount"];
const PARTS: u64 = 5;
/// Rows after which nothing is added: each question is answered anew from all of them.
const ROWS_MAX: u64 = 1_500;

/// A change of the dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// Rows with new ids.
    Append { rows: Vec<[i64; 3]> },
    /// Rows instead of those with the same ids.
    Upsert { rows: Vec<[i64; 3]> },
    /// No rows with these ids any more.
    Tombstone { ids: Vec<i64> },
}

/// A change by its name in the log.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Changed {
    pub(crate) tag: String,
    pub(crate) change: Change,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// Count, sum, lowest and highest of all rows.
    Totals,
    /// The rows with an amount in a range.
    Range { low: i64, high: i64 },
    /// Count and sum by part, of rows with an id of at least.
    Groups { from: i64 },
    /// Count and highest id of one part without some amounts.
    Part { part: i64, other: i64 },
}

impl Question {
    fn sql(&self) -> String {
        let table = format!("\"{NAME}\"");
        match self {
            Self::Totals => {
                format!("SELECT count(*), sum(amount), min(amount), max(amount) FROM {table}")
            }
            Self::Range { low, high } => format!(
                "SELECT id, part, amount FROM {table} WHERE amount BETWEEN {low} AND {high} ORDER BY id"
            ),
            Self::Groups { from } => format!(
                "SELECT part, count(*), sum(amount) FROM {table} WHERE id >= {from} GROUP BY part \
                 ORDER BY part"
            ),
            Self::Part { part, other } => format!(
                "SELECT count(*), max(id) FROM {table} WHERE part = {part} AND amount % 7 <> {other}"
            ),
        }
    }
}

/// A question and what was answered.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Asked {
    pub(crate) workload: Workload,
    pub(crate) node: u64,
    pub(crate) begin_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) question: Question,
    pub(crate) index: u64,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    is_ready: Cell<bool>,
    /// The first index at which the dataset is there.
    first: Cell<u64>,
    ids: Cell<u64>,
    pub(crate) changes: RefCell<Vec<Changed>>,
    pub(crate) asked: RefCell<Vec<Asked>>,
    /// Indexes that were answered, to ask for again.
    indexes: RefCell<Vec<u64>>,
}

pub(crate) async fn step(client: &mut Client<'_>, shared: &Shared) {
    if !shared.is_ready.get() {
        if let Some(first) = ensure(client, NAME, &COLUMNS, &COLUMNS[..1]).await {
            shared.first.set(first);
            shared.is_ready.set(true);
        }
        return;
    }
    let ending = match client.prng.below(5) {
        0..=1 => change(client, shared).await,
        2 => ask(client, shared, false).await,
        _ => ask(client, shared, true).await,
    };
    if ending != Ending::Ok || client.prng.one_in(8) {
        client.move_on();
    }
}

async fn change(client: &mut Client<'_>, shared: &Shared) -> Ending {
    let last = shared.ids.get();
    let draw = client.prng.below(6);
    let (lake, write) = (client.lake(), client.write(NAME));
    let mut row = |id: u64| {
        let part = signed(client.prng.below(PARTS));
        [signed(id), part, signed(client.prng.below(2_000)) - 1_000]
    };
    let change = match draw {
        0..=2 if last < ROWS_MAX => {
            shared.ids.set(last + 3);
            Change::Append { rows: (last + 1..=last + 3).map(&mut row).collect() }
        }
        5 => Change::Tombstone { ids: vec![signed(1 + client.prng.below(last.max(1)))] },
        _ => {
            let id = 1 + client.prng.below(last.max(1));
            let mut row = |id: u64| {
                let part = signed(client.prng.below(PARTS));
                [signed(id), part, signed(client.prng.below(2_000)) - 1_000]
            };
            Change::Upsert { rows: vec![row(id)] }
        }
    };
    shared.changes.borrow_mut().push(Changed { tag: write.tag.clone(), change: change.clone() });
    let begin_ns = client.stage.recorder.now_ns();
    let told = match &change {
        Change::Append { rows } => lake.append(&write, (&COLUMNS, &lists(rows)), false).await,
        Change::Upsert { rows } => lake.append(&write, (&COLUMNS, &lists(rows)), true).await,
        Change::Tombstone { ids } => {
            let keys: Vec<Vec<i64>> = ids.iter().map(|id| vec![*id]).collect();
            lake.tombstone(&write, (&COLUMNS[..1], &keys)).await
        }
    };
    note(client, begin_ns, (&told, true), Some(write.tag))
}

fn lists(rows: &[[i64; 3]]) -> Vec<Vec<i64>> {
    rows.iter().map(|row| row.to_vec()).collect()
}

/// Asks one question, of the past or of now.
pub(crate) async fn ask(client: &mut Client<'_>, shared: &Shared, is_past: bool) -> Ending {
    if !shared.is_ready.get() {
        return Ending::Ok;
    }
    let question = match client.workload == Workload::W8 {
        true => draw(client, shared),
        false => Question::Totals,
    };
    let as_of = is_past.then(|| {
        let indexes = shared.indexes.borrow();
        let recent = indexes.get(indexes.len().saturating_sub(40)..).unwrap_or_default();
        client.prng.pick(recent).copied()
    });
    let reading = Reading { as_of: as_of.flatten(), ..Reading::default() };
    let (lake, begin_ns) = (client.lake(), client.stage.recorder.now_ns());
    let told = lake.query(&question.sql(), reading).await;
    let index = told.as_ref().map(|answer| answer.index).map_err(Fault::clone);
    if let Ok(Answer { index, rows }) = told {
        let (workload, node) = (client.workload, lake.node().0);
        let end_ns = client.stage.recorder.now_ns();
        if reading.as_of.is_none() {
            shared.indexes.borrow_mut().push(index);
        }
        let asked = Asked { workload, node, begin_ns, end_ns, question, index, rows };
        shared.asked.borrow_mut().push(asked);
    }
    note(client, begin_ns, (&index, false), None)
}

fn draw(client: &mut Client<'_>, shared: &Shared) -> Question {
    let prng = &mut client.prng;
    match prng.below(3) {
        0 => {
            let low = signed(prng.below(2_000)) - 1_000;
            Question::Range { low, high: low + signed(prng.below(300)) }
        }
        1 => Question::Groups { from: signed(prng.below(shared.ids.get().max(1))) },
        _ => Question::Part { part: signed(prng.below(PARTS)), other: signed(prng.below(7)) },
    }
}

fn note(
    client: &mut Client<'_>,
    begin_ns: u64,
    (told, is_write): (&Result<u64, Fault>, bool),
    tag: Option<String>,
) -> Ending {
    let recorder = &client.stage.recorder;
    let ending = match told {
        Ok(_) => Ending::Ok,
        Err(fault) if is_write && fault.is_ambiguous() => Ending::Info,
        Err(_no_effect) => Ending::Fail,
    };
    recorder.note(Trace {
        workload: client.workload,
        book: NAME.to_owned(),
        position: 0,
        process: 0,
        node: client.lake().node().0,
        begin_ns,
        end_ns: recorder.now_ns(),
        ending,
        reason: told.as_ref().err().map(|fault| fault.reason.clone()),
        message: told.as_ref().err().map(|fault| fault.message.clone()),
        is_write,
        tag,
        index: told.as_ref().ok().copied(),
    });
    ending
}
