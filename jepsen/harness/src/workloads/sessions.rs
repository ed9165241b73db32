//! W6: a counter of rows. Each command of a session adds one, and is sent one to three times to different nodes;
//! now and then a number is sent again with another row, which must be refused.
//!
//! An increment's answer is the counter at its index: that is read after the run, so that no acknowledgement is
//! lost to a read that failed. Must not send a number anew after it was given up.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use alluvium_checker::{Action, Call, Event, Outcome, Reply};
use futures::{StreamExt as _, stream};

use super::{Rotation, book, ensure};
use crate::client::{Reading, Write};
use crate::limits::{BOOK_OPERATIONS_MAX, PATIENT_DEADLINE};
use crate::recorder::{Ending, Recorder, Trace};
use crate::stage::Client;
use crate::workloads::sets::signed;

pub(crate) const PREFIX: &str = "w6";
const COLUMNS: [&str; 2] = ["session", "sequence"];
/// Counters that one statement asks for, and statements under way at once.
const COUNTS_AT_ONCE: usize = 24;
const READS_AT_ONCE: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Shared {
    rotation: Rotation,
    /// Sessions with the last number that was used.
    sessions: RefCell<BTreeMap<u64, u64>>,
    /// How many misuses of a number were refused, and which were not.
    pub(crate) refused: Cell<u64>,
    pub(crate) accepted: RefCell<Vec<Misuse>>,
}

/// A number that was taken a second time for another row.
#[derive(Debug, Clone)]
pub(crate) struct Misuse {
    pub(crate) session: u64,
    pub(crate) sequence: u64,
    pub(crate) node: u64,
    pub(crate) at_ns: u64,
    pub(crate) index: u64,
}

pub(crate) async fn step(client: &mut Client<'_>, shared: &Shared) {
    let (part, is_ready) = shared.rotation.current(BOOK_OPERATIONS_MAX);
    let name = book(PREFIX, part);
    if !is_ready {
        if ensure(client, &name, &COLUMNS, &[]).await.is_some() {
            shared.rotation.ready(part);
        }
        return;
    }
    let ending = match client.prng.below(4) {
        0 => count(client, &name).await,
        _ => increment(client, shared, &name).await,
    };
    shared.rotation.count(part, ending);
}

/// Takes a session out of those that are idle, or opens one.
async fn session(client: &mut Client<'_>, shared: &Shared) -> Option<(u64, u64)> {
    let idle = shared.sessions.borrow_mut().pop_first();
    if idle.is_some() && !client.prng.one_in(20) {
        return idle;
    }
    let opened = client.lake().open_session("jepsen").await;
    if opened.is_err() {
        client.move_on();
    }
    opened.ok().map(|session| (session, 0))
}

async fn increment(client: &mut Client<'_>, shared: &Shared, name: &str) -> Ending {
    let Some((session, last)) = session(client, shared).await else { return Ending::Fail };
    let sequence = last + 1;
    let tries = 1 + client.prng.below(3);
    let (mut best, mut is_acked) = (Ending::Info, false);
    for _ in 0..tries {
        let write = Write { session: Some((session, sequence)), ..client.write(name) };
        let ending = send(client, &write, (session, sequence)).await;
        is_acked |= ending == Ending::Ok;
        best = best.min(ending);
        client.move_on();
    }
    if is_acked {
        if client.prng.one_in(4) {
            misuse(client, shared, name, (session, sequence)).await;
        }
        // A session with a number in doubt is not used any more.
        shared.sessions.borrow_mut().insert(session, sequence);
    }
    best
}

async fn send(
    client: &mut Client<'_>,
    write: &Write<'_>,
    (session, sequence): (u64, u64),
) -> Ending {
    let lake = client.lake();
    let rows = [vec![signed(session), signed(sequence)]];
    let call = Call::Increment { session, sequence };
    let name = write.name;
    let work = async {
        let index = lake.append(write, (&COLUMNS, &rows), false).await?;
        // Completed after the run: see `complete`.
        Ok((Reply::Incremented { count: 0 }, index))
    };
    client.call(name, call, Some(write.tag.clone()), work).await.0
}

/// Sends another row under a number that was acknowledged: it must not be told that this was done.
async fn misuse(
    client: &mut Client<'_>,
    shared: &Shared,
    name: &str,
    (session, sequence): (u64, u64),
) {
    let (lake, recorder) = (client.lake(), &client.stage.recorder);
    let write = Write { session: Some((session, sequence)), ..client.write(name) };
    let begin_ns = recorder.now_ns();
    let rows = [vec![signed(session), -signed(sequence)]];
    let told = lake.append(&write, (&COLUMNS, &rows), false).await;
    let (node, end_ns) = (lake.node().0, recorder.now_ns());
    let ending = if told.is_ok() { Ending::Ok } else { Ending::Fail };
    let reason = told.as_ref().err().map(|fault| fault.reason.clone());
    let (workload, book) = (client.workload, "w6misuse".to_owned());
    recorder.note(Trace {
        workload,
        book,
        position: 0,
        process: 0,
        node,
        begin_ns,
        end_ns,
        ending,
        reason,
        message: told.as_ref().err().map(|fault| fault.message.clone()),
        is_write: false,
        tag: None,
        index: None,
    });
    match told {
        Ok(index) => {
            let misuse = Misuse { session, sequence, node, at_ns: end_ns, index };
            shared.accepted.borrow_mut().push(misuse);
        }
        Err(fault) if !fault.is_ambiguous() => shared.refused.set(shared.refused.get() + 1),
        Err(_nobody_knows) => {}
    }
}

/// Reads the counter of a book.
pub(crate) async fn count(client: &mut Client<'_>, book: &str) -> Ending {
    let lake = client.lake();
    let sql = sql(book);
    let work = async {
        let answer = lake.query(&sql, Reading::default()).await?;
        let count = answer.rows.first().and_then(|row| row.first().copied().flatten());
        let count = count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
        Ok((Reply::Counted { count }, answer.index))
    };
    client.call(book, Call::Count, None, work).await.0
}

fn sql(book: &str) -> String {
    format!("SELECT count(*) FROM \"{book}\"")
}

/// Completes the answers of increments: what the counter was at their index. Returns how many cannot be read; the
/// histories say nothing then.
pub(crate) async fn complete(client: &Client<'_>, recorder: &Recorder) -> usize {
    let mut counts: BTreeMap<(String, u64), Option<u64>> = BTreeMap::new();
    recorder.amend(|book, event| {
        if let Some((_, index)) = incremented(event) {
            counts.insert((book.to_owned(), *index), None);
        }
    });
    let missing: Vec<(String, u64)> = counts.keys().cloned().collect();
    let read = |(book, indexes)| async move { read_counts(client, book, indexes).await };
    let mut answers = stream::iter(parts(&missing)).map(read).buffer_unordered(READS_AT_ONCE);
    while let Some(part) = answers.next().await {
        for (key, count) in part {
            counts.insert(key, Some(count));
        }
    }
    drop(answers);
    recorder.amend(|book, event| {
        let Some((count, index)) = incremented(event) else { return };
        if let Some(Some(read)) = counts.get(&(book.to_owned(), *index)) {
            *count = *read;
        }
    });
    counts.values().filter(|count| count.is_none()).count()
}

/// Indexes of one book, as many as one statement asks for.
fn parts(missing: &[(String, u64)]) -> Vec<(&str, Vec<u64>)> {
    let of_one_book = missing.chunk_by(|(one, _), (other, _)| one == other);
    let books = of_one_book.map(|part| (part[0].0.as_str(), part));
    let statements = books.flat_map(|(book, part)| {
        part.chunks(COUNTS_AT_ONCE).map(move |some| {
            let indexes = some.iter().map(|(_, index)| *index).collect();
            (book, indexes)
        })
    });
    statements.collect()
}

/// Reads the counter of a book at several indexes, through the first node that can.
async fn read_counts(
    client: &Client<'_>,
    book: &str,
    indexes: Vec<u64>,
) -> Vec<((String, u64), u64)> {
    let one = |index: &u64| format!("SELECT {index}, count(*) FROM \"{book}\" AS OF {index}");
    let sql = indexes.iter().map(one).collect::<Vec<_>>().join(" UNION ALL ");
    let pair = |row: &Vec<Option<i64>>| {
        let [Some(index), Some(count)] = row.as_slice() else { return None };
        let key = (book.to_owned(), u64::try_from(*index).ok()?);
        Some((key, u64::try_from(*count).ok()?))
    };
    for lake in client.lakes() {
        let answer = lake.within(PATIENT_DEADLINE).query(&sql, Reading::default()).await;
        if let Ok(answer) = answer {
            return answer.rows.iter().filter_map(pair).collect();
        }
    }
    Vec::new()
}

fn incremented(event: &mut Event) -> Option<(&mut u64, &mut u64)> {
    match &mut event.action {
        Action::Complete {
            outcome: Outcome::Ok { reply: Reply::Incremented { count }, index },
        } => Some((count, &mut index.0)),
        Action::Complete { .. } | Action::Invoke { .. } => None,
    }
}
