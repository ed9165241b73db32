//! W5: registers that are written, read and swapped by version; and rows that are upserted, hidden and read.
//!
//! A register is a dataset with one row: the version of its value is the index of the dataset's last change, which
//! a swap expects. Rows share one dataset. Must not write a value twice.

use std::cell::Cell;

use alluvium_checker::{Call, Reply, Versioned};

use super::{Rotation, book, ensure, number};
use crate::client::{Lake, Reading, Write};
use crate::limits::BOOK_OPERATIONS_MAX;
use crate::outcome::Fault;
use crate::recorder::{Ending, Told};
use crate::stage::{Client, done, harmless};
use crate::workloads::sets::signed;

pub(crate) const REGISTERS: &str = "w5";
pub(crate) const ROWS: &str = "w5rows";
const COLUMNS: [&str; 2] = ["key", "value"];
const ROWS_MAX: u64 = 6;

#[derive(Debug, Default)]
pub(crate) struct Shared {
    registers: Rotation,
    rows: Rotation,
    values: Cell<i64>,
}

impl Shared {
    fn value(&self) -> i64 {
        self.values.set(self.values.get() + 1);
        self.values.get()
    }
}

pub(crate) async fn step(client: &mut Client<'_>, shared: &Shared) {
    let (rotation, prefix) = match client.prng.one_in(2) {
        true => (&shared.registers, REGISTERS),
        false => (&shared.rows, ROWS),
    };
    let (part, is_ready) = rotation.current(BOOK_OPERATIONS_MAX);
    let name = book(prefix, part);
    if !is_ready {
        if ensure(client, &name, &COLUMNS, &COLUMNS[..1]).await.is_some() {
            rotation.ready(part);
        }
        return;
    }
    let ending = match prefix == REGISTERS {
        true => register(client, shared, part, &name).await,
        false => row(client, shared, &name).await,
    };
    rotation.count(part, ending);
}

async fn register(client: &mut Client<'_>, shared: &Shared, key: u64, name: &str) -> Ending {
    match client.prng.below(4) {
        0 => {
            let value = shared.value();
            let (lake, write) = (client.lake(), client.write(name));
            let work = put(&lake, &write, value);
            let call = Call::Write { key, value };
            client.call(name, call, Some(write.tag.clone()), work).await.0
        }
        1 => swap(client, shared, key, name).await,
        _ => read(client, name).await.0,
    }
}

async fn put(lake: &Lake, write: &Write<'_>, value: i64) -> Told {
    let version = lake.append(write, (&COLUMNS, &[vec![0, value]]), true).await?;
    Ok((Reply::Written { version }, version))
}

/// Reads, and replaces what it saw.
async fn swap(client: &mut Client<'_>, shared: &Shared, key: u64, name: &str) -> Ending {
    let (ending, told) = read(client, name).await;
    let Ok((Reply::Value { current: Some(Versioned { value, version }) }, _)) = told else {
        return ending;
    };
    let new = shared.value();
    let write = Write { expected_index: Some(version), ..client.write(name) };
    let lake = client.lake();
    let call = Call::Cas { key, version, old: Some(value), new };
    client.call(name, call, Some(write.tag.clone()), put(&lake, &write, new)).await.0
}

async fn read(client: &mut Client<'_>, name: &str) -> (Ending, Told) {
    let lake = client.lake();
    let call = Call::Read { key: number(name) };
    client.call(name, call, None, versioned(&lake, name)).await
}

/// What is in a register: where it changed last, and what it was then.
async fn versioned(lake: &Lake, name: &str) -> Told {
    let (changed_at, index) = last_change(lake, name).await?;
    let sql = format!("SELECT value FROM \"{name}\"");
    let reading = Reading { as_of: Some(index), ..Reading::default() };
    let answer = lake.query(&sql, reading).await?;
    let current = match answer.rows.as_slice() {
        [] => None,
        [row] => match row.as_slice() {
            [Some(value)] => Some(Versioned { value: *value, version: changed_at }),
            _other => return Err(Fault::wrong("a register without a value")),
        },
        _several => return Err(Fault::wrong("a register has two values")),
    };
    Ok((Reply::Value { current }, index))
}

/// Returns where a dataset changed last, and the index at which that was so.
pub(crate) async fn last_change(lake: &Lake, name: &str) -> Result<(u64, u64), Fault> {
    let dataset = lake.describe(name).await.map_err(harmless)?;
    if dataset.changed_at > dataset.index {
        return Err(Fault::torn(dataset.changed_at, dataset.index));
    }
    Ok((dataset.changed_at, dataset.index))
}

async fn row(client: &mut Client<'_>, shared: &Shared, name: &str) -> Ending {
    let key = client.prng.below(ROWS_MAX);
    let (lake, write) = (client.lake(), client.write(name));
    let tag = Some(write.tag.clone());
    match client.prng.below(6) {
        0..=1 => {
            let value = shared.value();
            let rows = [vec![signed(key), value]];
            let work = async { done(lake.append(&write, (&COLUMNS, &rows), true).await) };
            client.call(name, Call::Upsert { key, value }, tag, work).await.0
        }
        2 => {
            let keys = [vec![signed(key)]];
            let work = async { done(lake.tombstone(&write, (&COLUMNS[..1], &keys)).await) };
            client.call(name, Call::Tombstone { key }, tag, work).await.0
        }
        _ => get(client, key, name).await,
    }
}

async fn get(client: &mut Client<'_>, key: u64, name: &str) -> Ending {
    let lake = client.lake();
    let sql = format!("SELECT value FROM \"{name}\" WHERE key = {key}");
    let work = async {
        let answer = lake.query(&sql, Reading::default()).await?;
        let value = match answer.rows.as_slice() {
            [] => None,
            [row] => row.first().copied().flatten(),
            _several => return Err(Fault::wrong("a key has two rows")),
        };
        Ok((Reply::Row { value }, answer.index))
    };
    client.call(name, Call::Get { key }, None, work).await.0
}

/// Reads everything of a book.
pub(crate) async fn read_all(client: &mut Client<'_>, book: &str) -> Ending {
    if !book.starts_with(ROWS) {
        return read(client, book).await.0;
    }
    let mut worst = Ending::Ok;
    for key in 0..ROWS_MAX {
        worst = worst.max(get(client, key, book).await);
    }
    worst
}
