//! What one entry does: `apply(view, entry) -> { mutations, effects, response }`.
//!
//! It must not fail for anything that the entry says: a refused command is a response, so that
//! every replica takes the same branch. `Err` is a fault of this node. Invariant: a rejected
//! command changes nothing but the clock and its session.

mod append;
mod attest;
mod compact;
mod draft;
mod drop_dataset;
mod evolve;
mod expire;
mod register;
mod seal;
mod session;
mod stage;
mod swept;
mod tombstone;
mod upload;
mod upsert;

use alluvium_types::{
    Command, CommandKind, DatasetKey, Envelope, Error, LogIndex, Outcome, Rejection, Response,
    Tombstone, TombstoneSource, codec, limits,
};
use bytes::Bytes;

use crate::view::{Applied, View, ViewError};
use crate::{Key, Table, catalog};
use draft::{Draft, Stop};
use session::Admission;

/// Bytes of an encoded response: sessions remember a thousand of them.
const RESPONSE_BYTES_MAX: usize = 4 * 1024;
/// Characters of a reason in a response that is too large.
const REASON_CHARS_MAX: usize = 512;

/// A command entry of the log.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    /// Its index.
    pub index: LogIndex,
    /// Its command, and who asked.
    pub envelope: &'a Envelope,
    /// Its rows or keys.
    pub body: &'a Bytes,
    /// [`payload_hash`] of command and body.
    pub payload_hash: u128,
}

/// Returns the hash that tells a retry from the reuse of a sequence number.
#[must_use]
pub fn payload_hash(command: &Command, body: &[u8]) -> u128 {
    if let Command::Tombstone(Tombstone { dataset, predicate: Some(text), .. }) = command {
        return predicate_hash(*dataset, text);
    }
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    // A command that does not encode is larger than a header: it never becomes an entry.
    let encoded = codec::encode(command).unwrap_or_else(|_: Error| Vec::new());
    hasher.update(&(encoded.len() as u64).to_le_bytes());
    hasher.update(&encoded);
    hasher.update(body);
    hasher.digest128()
}

/// Hashes a predicate tombstone by what was asked for: a retry resolves the predicate again and finds other
/// keys, as its rows are hidden already, but it is the same command.
#[must_use]
pub fn predicate_hash(dataset: DatasetKey, predicate: &str) -> u128 {
    let (source, predicate) = (TombstoneSource::Inline, Some(predicate.to_owned()));
    let asked = Command::Tombstone(Tombstone { dataset, source, predicate });
    let encoded = codec::encode(&asked).unwrap_or_else(|_: Error| Vec::new());
    xxhash_rust::xxh3::xxh3_128(&encoded)
}

/// Applies an entry to the state that `view` shows.
///
/// # Errors
/// A fault of this node while reading its state; never anything that the entry says.
pub fn apply(view: &dyn View, entry: &EntryRef<'_>) -> Result<Applied, ViewError> {
    let clock_ms = catalog::clock(view)?;
    let now_ms = clock_ms.max(entry.envelope.proposed_at_ms);
    let mut draft = Draft::new(view, entry, now_ms);
    if now_ms > clock_ms {
        draft.put_small(Table::Clock, Key::empty(), &now_ms);
    }
    if let Err(rejection) = check_actor(entry.envelope) {
        return Ok(draft.finish(respond(entry, Outcome::Rejected(rejection))));
    }
    match session::admit(&draft, entry)? {
        Admission::Execute(record) => {
            let outcome = execute(&mut draft, entry)?;
            let response = respond(entry, outcome);
            if let Some(record) = record
                && !is_stale_predicate(entry, &response)
            {
                session::remember(&mut draft, entry, record, &response)?;
            }
            Ok(draft.finish(response))
        }
        Admission::Refuse(rejection) => {
            Ok(draft.finish(respond(entry, Outcome::Rejected(rejection))))
        }
        // Nothing at all changes: N retries leave the state of one try.
        Admission::Replay(response) => {
            Ok(Applied { mutations: Vec::new(), effects: Vec::new(), response })
        }
    }
}

fn check_actor(envelope: &Envelope) -> Result<(), Rejection> {
    let (length, limit) = (envelope.actor.len(), limits::ACTOR_BYTES_MAX);
    if length <= limit {
        return Ok(());
    }
    let error = Error::TooLarge { part: "actor", length: length as u64, limit: limit as u64 };
    Err(Rejection::illegal(envelope.command.kind(), &error))
}

/// Runs the command on a draft of its own, which is thrown away if it is rejected.
/// Says whether a predicate was resolved before the dataset last changed: nobody was answered yet, because the
/// proposer resolves it anew under the same number.
fn is_stale_predicate(entry: &EntryRef<'_>, response: &Response) -> bool {
    let is_predicate =
        matches!(&entry.envelope.command, Command::Tombstone(Tombstone { predicate: Some(_), .. }));
    let is_refused =
        matches!(&response.outcome, Outcome::Rejected(Rejection::ExpectedIndex { .. }));
    is_predicate && is_refused
}

fn execute(draft: &mut Draft<'_>, entry: &EntryRef<'_>) -> Result<Outcome, ViewError> {
    let mut attempt = draft.attempt();
    let outcome = match check_expected(&attempt, entry).and_then(|()| dispatch(&mut attempt, entry))
    {
        Ok(outcome) => outcome,
        Err(Stop::Rejected(rejection)) => return Ok(Outcome::Rejected(*rejection)),
        Err(Stop::Fault(fault)) => return Err(fault),
    };
    let done = attempt.into_done();
    draft.absorb(done);
    Ok(outcome)
}

fn dispatch(draft: &mut Draft<'_>, entry: &EntryRef<'_>) -> Result<Outcome, Stop> {
    match &entry.envelope.command {
        Command::OpenSession(command) => session::open(draft, command),
        Command::Register(command) => register::apply(draft, command),
        Command::Evolve(command) => evolve::apply(draft, command),
        Command::Stage(command) => stage::apply(draft, command, entry),
        Command::Append(command) => append::apply(draft, command, entry.body),
        Command::Upsert(command) => upsert::apply(draft, command, entry.body),
        Command::Tombstone(command) => tombstone::apply(draft, command, entry.body),
        Command::Seal(command) => seal::apply(draft, command),
        Command::Compact(command) => compact::apply(draft, command),
        Command::Attest(command) => attest::apply(draft, command),
        Command::Expire(command) => expire::apply(draft, command),
        Command::Swept(command) => swept::apply(draft, command),
        Command::Drop(command) => drop_dataset::apply(draft, command),
        // Digests are noted and compared where they are known: when the entry is committed to the store.
        Command::Checkpoint(_) => Ok(Outcome::Checked),
    }
}

/// Compares `expected_index` with the last change that users can see. Seals, compactions,
/// attestations and sweeps do not count: they change where rows are, not which there are.
fn check_expected(draft: &Draft<'_>, entry: &EntryRef<'_>) -> Result<(), Stop> {
    let Some(expected) = entry.envelope.expected_index else { return Ok(()) };
    let actual = match &entry.envelope.command {
        Command::OpenSession(_) | Command::Checkpoint(_) => return Ok(()),
        Command::Register(command) => {
            match catalog::find(draft.view(), &command.name, LogIndex::MAX)? {
                Some(record) => catalog::counters(draft.view(), record.dataset)?.changed_at,
                None => LogIndex(0),
            }
        }
        Command::Evolve(_)
        | Command::Stage(_)
        | Command::Append(_)
        | Command::Upsert(_)
        | Command::Tombstone(_)
        | Command::Seal(_)
        | Command::Compact(_)
        | Command::Attest(_)
        | Command::Expire(_)
        | Command::Swept(_)
        | Command::Drop(_) => {
            let key = entry.envelope.command.dataset().expect("these name a dataset");
            draft.live_dataset(key)?;
            catalog::counters(draft.view(), key)?.changed_at
        }
    };
    match actual == expected {
        true => Ok(()),
        false => Err(Rejection::ExpectedIndex { expected, actual }.into()),
    }
}

/// Makes the response, and keeps it small: a rejection can quote types of any size.
fn respond(entry: &EntryRef<'_>, outcome: Outcome) -> Response {
    let response = Response { index: entry.index, outcome };
    let small = codec::encode(&response).is_ok_and(|bytes| bytes.len() <= RESPONSE_BYTES_MAX);
    match (small, &response.outcome) {
        (false, Outcome::Rejected(rejection)) => {
            let reason = rejection.to_string().chars().take(REASON_CHARS_MAX).collect();
            let command: CommandKind = entry.envelope.command.kind();
            let outcome = Outcome::Rejected(Rejection::Illegal { command, reason });
            Response { index: entry.index, outcome }
        }
        (true | false, _) => response,
    }
}

#[cfg(test)]
mod tests;
