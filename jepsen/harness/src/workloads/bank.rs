//! W4: accounts between which money moves by one command, computed from a read at an index and refused if the
//! dataset changed since.
//!
//! Balances are also read as of older indexes, where the total must be the same; those reads are a book of their
//! own, because they are not of the present. Must not make money.

use std::collections::BTreeMap;

use alluvium_checker::{Call, Reply};

use super::registers::last_change;
use super::{Rotation, book, ensure};
use crate::client::{Lake, Reading, Write};
use crate::limits::BOOK_OPERATIONS_MAX;
use crate::outcome::Fault;
use crate::recorder::{Ending, Told};
use crate::stage::{Client, harmless};
use crate::workloads::sets::signed;

pub(crate) const PREFIX: &str = "w4";
pub(crate) const TRAVEL: &str = "w4travel";
const COLUMNS: [&str; 2] = ["account", "balance"];
const ACCOUNTS: u64 = 6;
const EACH: i64 = 100;

#[derive(Debug, Default)]
pub(crate) struct Shared {
    rotation: Rotation,
}

/// What every bank begins with.
pub(crate) fn initial() -> BTreeMap<u64, i64> {
    (0..ACCOUNTS).map(|account| (account, EACH)).collect()
}

pub(crate) async fn step(client: &mut Client<'_>, shared: &Shared) {
    let (bank, is_ready) = shared.rotation.current(BOOK_OPERATIONS_MAX);
    let name = book(PREFIX, bank);
    if !is_ready {
        if open(client, &name).await.is_ok() {
            shared.rotation.ready(bank);
        }
        return;
    }
    let ending = match client.prng.below(8) {
        0..=3 => transfer(client, &name).await,
        4 => travel(client, bank, &name).await,
        _ => read(client, &name).await,
    };
    shared.rotation.count(bank, ending);
}

/// Gives the accounts their first balances, once: the dataset must not have changed since it was registered.
async fn open(client: &mut Client<'_>, name: &str) -> Result<(), Fault> {
    let lost = || Fault::unsent("no node answers");
    let first = ensure(client, name, &COLUMNS, &COLUMNS[..1]).await.ok_or_else(lost)?;
    let lake = client.lake();
    if last_change(&lake, name).await?.0 != first {
        return Ok(());
    }
    let write = Write { expected_index: Some(first), ..client.write(name) };
    let rows: Vec<Vec<i64>> =
        initial().into_iter().map(|(account, balance)| vec![signed(account), balance]).collect();
    lake.append(&write, (&COLUMNS, &rows), false).await?;
    Ok(())
}

async fn transfer(client: &mut Client<'_>, name: &str) -> Ending {
    let from = client.prng.below(ACCOUNTS);
    let to = (from + 1 + client.prng.below(ACCOUNTS - 1)) % ACCOUNTS;
    let amount = signed(1 + client.prng.below(20));
    let (lake, write) = (client.lake(), client.write(name));
    let tag = Some(write.tag.clone());
    let call = Call::Transfer { from, to, amount };
    client.call(name, call, tag, moved(&lake, write, (from, to, amount))).await.0
}

async fn moved(lake: &Lake, write: Write<'_>, (from, to, amount): (u64, u64, i64)) -> Told {
    let (changed_at, index) = last_change(lake, write.name).await?;
    let (balances, _) = balances(lake, write.name, Some(index)).await.map_err(harmless)?;
    let of = |account| balances.get(&account).copied().unwrap_or(0);
    if of(from) < amount {
        return Err(Fault::unsent("there is not enough, so nothing is proposed"));
    }
    let write = Write { expected_index: Some(changed_at), ..write };
    let rows = [vec![signed(from), of(from) - amount], vec![signed(to), of(to) + amount]];
    let index = lake.append(&write, (&COLUMNS, &rows), true).await?;
    Ok((Reply::Done, index))
}

async fn balances(
    lake: &Lake,
    name: &str,
    as_of: Option<u64>,
) -> Result<(BTreeMap<u64, i64>, u64), Fault> {
    let sql = format!("SELECT account, balance FROM \"{name}\"");
    let answer = lake.query(&sql, Reading { as_of, ..Reading::default() }).await?;
    let mut found = BTreeMap::new();
    for row in &answer.rows {
        let [Some(account), Some(balance)] = row.as_slice() else {
            return Err(Fault::wrong("an account without a balance"));
        };
        let account = u64::try_from(*account).unwrap_or(u64::MAX);
        if found.insert(account, *balance).is_some() {
            return Err(Fault::wrong(format!("account {account} has two balances")));
        }
    }
    Ok((found, answer.index))
}

/// Reads all balances of a book.
pub(crate) async fn read(client: &mut Client<'_>, book: &str) -> Ending {
    let lake = client.lake();
    let work = async {
        let (balances, index) = balances(&lake, book, None).await?;
        Ok((Reply::Balances { balances }, index))
    };
    client.call(book, Call::Balances, None, work).await.0
}

/// Reads all balances as they were.
async fn travel(client: &mut Client<'_>, bank: u64, name: &str) -> Ending {
    let lake = client.lake();
    let Ok((changed_at, _)) = last_change(&lake, name).await else { return Ending::Fail };
    let back = client.prng.below(200);
    // The dataset was registered before it was used, and its money came one entry later.
    let as_of = changed_at.saturating_sub(back);
    let work = async {
        let (balances, index) = balances(&lake, name, Some(as_of)).await?;
        if balances.is_empty() {
            return Err(Fault::unsent("it is from before the money came"));
        }
        Ok((Reply::Balances { balances }, index))
    };
    client.call(&book(TRAVEL, bank), Call::Balances, None, work).await.0
}
