//! W3: elements that are added once and deleted at most once, in a keyed dataset whose files are cut, rewritten and
//! expired meanwhile.
//!
//! An element is half of the time upserted, which must be the same as an append. Must not add an element twice.

use std::cell::RefCell;
use std::collections::BTreeMap;

use alluvium_checker::{Call, Reply};

use super::{Rotation, book, ensure, number};
use crate::client::Reading;
use crate::limits::SET_ELEMENTS_MAX;
use crate::outcome::Fault;
use crate::recorder::Ending;
use crate::stage::{Client, done, pick};

pub(crate) const PREFIX: &str = "w3";
const COLUMNS: [&str; 2] = ["element", "payload"];

#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) rotation: Rotation,
    /// For each set, elements that may be there and that nobody deletes yet.
    candidates: RefCell<BTreeMap<u64, Vec<u64>>>,
    next: RefCell<u64>,
}

pub(crate) async fn step(client: &mut Client<'_>, shared: &Shared) {
    // Three operations for an element: it is added, seen, and perhaps deleted.
    let (set, is_ready) = shared.rotation.current(SET_ELEMENTS_MAX * 2);
    let name = book(PREFIX, set);
    if !is_ready {
        if ensure(client, &name, &COLUMNS, &COLUMNS[..1]).await.is_some() {
            shared.rotation.ready(set);
        }
        return;
    }
    let ending = match client.prng.below(10) {
        0..=4 => add(client, shared, set, &name).await,
        5..=6 => delete(client, shared, set, &name).await,
        7 => {
            let any = shared.rotation.some(client).unwrap_or(set);
            scan(client, &book(PREFIX, any)).await
        }
        _ => scan(client, &name).await,
    };
    shared.rotation.count(set, ending);
}

async fn add(client: &mut Client<'_>, shared: &Shared, set: u64, name: &str) -> Ending {
    let element = {
        let mut next = shared.next.borrow_mut();
        *next += 1;
        *next
    };
    let (lake, write, upsert) = (client.lake(), client.write(name), client.prng.one_in(2));
    let row = vec![signed(element), signed(element * 7)];
    let call = Call::Add { set, element };
    let rows = [row];
    let work = async { done(lake.append(&write, (&COLUMNS, &rows), upsert).await) };
    let (ending, _) = client.call(name, call, Some(write.tag.clone()), work).await;
    if ending != Ending::Fail {
        shared.candidates.borrow_mut().entry(set).or_default().push(element);
    }
    ending
}

async fn delete(client: &mut Client<'_>, shared: &Shared, set: u64, name: &str) -> Ending {
    let element = {
        let mut candidates = shared.candidates.borrow_mut();
        let candidates = candidates.entry(set).or_default();
        match candidates.len() {
            0 => None,
            length => Some(candidates.swap_remove(pick(&mut client.prng, length))),
        }
    };
    let Some(element) = element else { return scan(client, name).await };
    let (lake, write) = (client.lake(), client.write(name));
    let keys = [vec![signed(element)]];
    let call = Call::Delete { set, element };
    let work = async { done(lake.tombstone(&write, (&COLUMNS[..1], &keys)).await) };
    client.call(name, call, Some(write.tag.clone()), work).await.0
}

/// Scans the set of a book.
pub(crate) async fn scan(client: &mut Client<'_>, book: &str) -> Ending {
    let (lake, set) = (client.lake(), number(book));
    let sql = format!("SELECT element, payload FROM \"{book}\"");
    let work = async {
        let answer = lake.query(&sql, Reading::default()).await?;
        let elements = answer.rows.iter().map(|row| element(row)).collect::<Option<Vec<u64>>>();
        let elements = elements.ok_or_else(|| Fault::wrong("a row is not one that was added"))?;
        Ok((Reply::Elements { elements }, answer.index))
    };
    client.call(book, Call::Scan { set }, None, work).await.0
}

fn element(row: &[Option<i64>]) -> Option<u64> {
    let [Some(element), Some(payload)] = row else { return None };
    (*payload == element.wrapping_mul(7)).then(|| u64::try_from(*element).ok())?
}

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
