//! W1: names that are registered, described and dropped.
//!
//! What is registered under a name is told by its key columns. A drop names the life that it means by the index
//! that registered it. Must not add rows: that index would not be the last change any more.

use alluvium_checker::{Call, Dataset, Reply};

use super::{Rotation, book};
use crate::client::{Lake, Reading, Write};
use crate::limits::{BOOK_OPERATIONS_MAX, SEAL_ROWS};
use crate::outcome::Fault;
use crate::recorder::{Ending, Told};
use crate::stage::{Client, done};

const PREFIX: &str = "w1";
const COLUMNS: [&str; 2] = ["key", "value"];

#[derive(Debug, Default)]
pub(crate) struct Shared {
    rotation: Rotation,
}

fn keys(spec: u64) -> &'static [&'static str] {
    match spec {
        1 => &[],
        2 => &["key"],
        _ => &["value"],
    }
}

pub(crate) async fn step(client: &mut Client<'_>, shared: &Shared) {
    let (number, _) = shared.rotation.current(BOOK_OPERATIONS_MAX);
    let name = book(PREFIX, number);
    let write = client.write(&name);
    let (lake, tag) = (client.lake(), write.tag.clone());
    let ending = match client.prng.below(8) {
        0..=2 => {
            let spec = 1 + client.prng.below(3);
            let call = Call::Register { name: name.clone(), spec };
            client.call(&name, call, Some(tag), register(&lake, &write, spec)).await.0
        }
        3..=5 => read(client, &name).await,
        _ => drop_known(client, &name).await,
    };
    shared.rotation.count(number, ending);
}

async fn register(lake: &Lake, write: &Write<'_>, spec: u64) -> Told {
    let made = lake.register(write, (&COLUMNS, keys(spec)), SEAL_ROWS).await?;
    let reply = match made.existing {
        // The same dataset is there already: as far as the model goes, it was refused.
        true => Reply::Refused,
        false => Reply::Registered { incarnation: made.incarnation },
    };
    Ok((reply, made.index))
}

/// Describes the dataset of a book.
pub(crate) async fn read(client: &mut Client<'_>, book: &str) -> Ending {
    describe(client, book).await.0
}

async fn describe(client: &mut Client<'_>, book: &str) -> (Ending, Told) {
    let (lake, name) = (client.lake(), book.to_owned());
    let call = Call::Describe { name: name.clone() };
    client.call(book, call, None, described(&lake, &name)).await
}

async fn described(lake: &Lake, name: &str) -> Told {
    let sql = format!(
        "SELECT incarnation, CASE key_columns WHEN '' THEN 1 WHEN 'key' THEN 2 WHEN 'value' THEN 3 \
         ELSE 0 END FROM system.datasets WHERE name = '{name}'"
    );
    let answer = lake.query(&sql, Reading::default()).await?;
    let numbers = |row: &Vec<Option<i64>>| {
        let number = |at: usize| row.get(at).copied().flatten();
        let incarnation = u64::try_from(number(0)?).ok()?;
        Some(Dataset { spec: u64::try_from(number(1)?).ok()?, incarnation })
    };
    let dataset = match answer.rows.as_slice() {
        [] => None,
        [row] => Some(numbers(row).ok_or_else(|| Fault::wrong("a description has no numbers"))?),
        _several => return Err(Fault::wrong(format!("{name} is there twice"))),
    };
    Ok((Reply::Described { dataset }, answer.index))
}

/// Looks, and drops what it saw.
async fn drop_known(client: &mut Client<'_>, book: &str) -> Ending {
    let (ending, told) = describe(client, book).await;
    let Ok((Reply::Described { dataset: Some(Dataset { incarnation, .. }) }, _)) = told else {
        return ending;
    };
    let write = Write { expected_index: Some(incarnation), ..client.write(book) };
    let lake = client.lake();
    let call = Call::Drop { name: book.to_owned(), incarnation };
    let work = async { done(lake.drop_dataset(&write).await) };
    client.call(book, call, Some(write.tag.clone()), work).await.0
}
