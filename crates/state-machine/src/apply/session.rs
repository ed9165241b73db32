//! Sessions: a retry returns the first result, whoever leads and whatever was restored.
//!
//! Time here is log time, so that every replica closes the same sessions at the same entry.
//! Invariant: a session's results are those of the last `SESSION_WINDOW` numbers up to its highest.

use alluvium_types::{
    LogIndex, OpenSession, Outcome, Rejection, Response, Sequence, SessionId, SessionRef, limits,
};

use crate::record::{ResultRecord, SessionRecord};
use crate::view::{ScanRange, ViewError};
use crate::{Key, Table, catalog};

use super::EntryRef;
use super::draft::{Draft, Stop};

/// What becomes of a command, by its session.
pub(super) enum Admission {
    /// It runs; its result is remembered in the session, if it has one.
    Execute(Option<SessionRecord>),
    /// It ran before: this was its answer.
    Replay(Response),
    /// It cannot be told whether it ran.
    Refuse(Rejection),
}

pub(super) fn admit(draft: &Draft<'_>, entry: &EntryRef<'_>) -> Result<Admission, ViewError> {
    let Some(SessionRef { id, sequence }) = entry.envelope.session else {
        return Ok(Admission::Execute(None));
    };
    let record: Option<SessionRecord> = draft.record(Table::Session, &Key::session(id))?;
    let Some(record) = record.filter(|record| record.is_open(draft.now_ms)) else {
        return Ok(Admission::Refuse(Rejection::SessionExpired { session: id }));
    };
    let window = limits::SESSION_WINDOW;
    if sequence.0.saturating_add(window) <= record.sequence_max.0 {
        let rejection = Rejection::SequenceTooOld { session: id, sequence, window };
        return Ok(Admission::Refuse(rejection));
    }
    // No number above the highest was ever answered.
    if record.sequence_max < sequence {
        return Ok(Admission::Execute(Some(record)));
    }
    let result = Key::session_result(id, sequence);
    Ok(match draft.record::<ResultRecord>(Table::SessionResult, &result)? {
        Some(first) if first.payload_hash == entry.payload_hash || is_lax() => {
            Admission::Replay(first.response)
        }
        Some(_) => Admission::Refuse(Rejection::SequenceConflict { session: id, sequence }),
        None => Admission::Execute(Some(record)),
    })
}

/// Says whether the payload is not to be compared: a planted bug.
fn is_lax() -> bool {
    #[cfg(feature = "plant-dedup-accepts-other-payload")]
    return alluvium_stdx::plant::is_awake("dedup-accepts-other-payload");
    #[cfg(not(feature = "plant-dedup-accepts-other-payload"))]
    false
}

/// Remembers what a command of a session answered.
pub(super) fn remember(
    draft: &mut Draft<'_>,
    entry: &EntryRef<'_>,
    mut record: SessionRecord,
    response: &Response,
) -> Result<(), ViewError> {
    let Some(SessionRef { id, sequence }) = entry.envelope.session else { return Ok(()) };
    // The command may have closed the session that sent it, by opening one too many.
    if draft.record::<SessionRecord>(Table::Session, &Key::session(id))?.is_none() {
        return Ok(());
    }
    let result = ResultRecord { payload_hash: entry.payload_hash, response: response.clone() };
    draft.put_small(Table::SessionResult, Key::session_result(id, sequence), &result);
    if sequence > record.sequence_max {
        forget_results(draft, id, record.sequence_max, sequence)?;
        record.sequence_max = sequence;
    }
    // Most commands of a busy session leave its place among the others as it is.
    let (before, after) = (activity(record.active_at_ms, id), activity(draft.now_ms, id));
    if before != after {
        draft.delete(Table::SessionByActivity, before);
        draft.put_small(Table::SessionByActivity, after, &());
    }
    record.active_at_ms = draft.now_ms;
    draft.put_small(Table::Session, Key::session(id), &record);
    Ok(())
}

/// Returns where a session stands among those that may be closed: by the second of its last command.
fn activity(active_at_ms: u64, id: SessionId) -> Key {
    Key::session_activity(active_at_ms - active_at_ms % limits::SESSION_ACTIVITY_STEP_MS, id)
}

/// Removes the results that leave the window when its end moves.
fn forget_results(
    draft: &mut Draft<'_>,
    id: SessionId,
    before: Sequence,
    after: Sequence,
) -> Result<(), ViewError> {
    let Some(last) = after.0.checked_sub(limits::SESSION_WINDOW) else { return Ok(()) };
    let most = (after.0 - before.0).min(limits::SESSION_WINDOW);
    let prefix = Key::session(id);
    let limit = usize::try_from(most).expect("at most the window").saturating_add(1);
    // Lower numbers have left before: a store may have to step over what is left of each of them.
    let first = Sequence(before.0.saturating_add(1).saturating_sub(limits::SESSION_WINDOW));
    let from = Key::session_result(id, first);
    let from = Some(&from);
    let range = ScanRange { table: Table::SessionResult, prefix: &prefix, from, limit };
    for (key, _) in draft.view().scan_at(&range, LogIndex::MAX)? {
        if key.last_number().is_none_or(|number| number > last) {
            break;
        }
        draft.delete(Table::SessionResult, key);
    }
    Ok(())
}

/// Opens a session whose id is the entry's index. A time to live of zero is the default one.
pub(super) fn open(draft: &mut Draft<'_>, command: &OpenSession) -> Result<Outcome, Stop> {
    let closed = close_idle(draft)?;
    let count: u64 = draft.record(Table::SessionCount, &Key::empty())?.unwrap_or(0);
    assert!(closed <= count, "{closed} sessions closed of {count}");
    let id = SessionId(draft.index.0);
    let ttl_ms = match command.ttl_ms {
        0 => limits::SESSION_TTL_MS_DEFAULT,
        asked => asked.min(limits::SESSION_TTL_MS_MAX),
    };
    let record = SessionRecord { ttl_ms, active_at_ms: draft.now_ms, sequence_max: Sequence(0) };
    draft.put_small(Table::Session, Key::session(id), &record);
    draft.put_small(Table::SessionByActivity, activity(draft.now_ms, id), &());
    let count = count - closed + 1;
    assert!(count <= limits::SESSIONS_MAX, "{count} sessions are open");
    draft.put_small(Table::SessionCount, Key::empty(), &count);
    Ok(Outcome::SessionOpened { session: id })
}

/// Closes the longest idle sessions, as far as seconds tell: those that expired, and one more if there is no room for
/// another. Returns how many.
fn close_idle(draft: &mut Draft<'_>) -> Result<u64, ViewError> {
    let count: u64 = draft.record(Table::SessionCount, &Key::empty())?.unwrap_or(0);
    let prefix = Key::empty();
    let limit = limits::SESSIONS_EXPIRED_PER_ENTRY_MAX;
    let range = ScanRange { table: Table::SessionByActivity, prefix: &prefix, from: None, limit };
    let (mut closed, mut longest_idle) = (0, None);
    for (key, _) in draft.view().scan_at(&range, LogIndex::MAX)? {
        let table = Table::SessionByActivity;
        let id = SessionId(key.last_number().ok_or(ViewError::Dangling { table })?);
        let record: Option<SessionRecord> = draft.record(Table::Session, &Key::session(id))?;
        let record = record.ok_or(ViewError::Dangling { table })?;
        if record.is_open(draft.now_ms) {
            longest_idle = longest_idle.or(Some((id, record)));
        } else {
            close(draft, id, &record)?;
            closed += 1;
        }
    }
    if let Some((id, record)) = longest_idle
        && count - closed >= limits::SESSIONS_MAX
    {
        close(draft, id, &record)?;
        closed += 1;
    }
    Ok(closed)
}

fn close(draft: &mut Draft<'_>, id: SessionId, record: &SessionRecord) -> Result<(), ViewError> {
    for key in catalog::keys(draft.view(), Table::SessionResult, &Key::session(id))? {
        draft.delete(Table::SessionResult, key);
    }
    draft.delete(Table::SessionByActivity, activity(record.active_at_ms, id));
    draft.delete(Table::Session, Key::session(id));
    Ok(())
}

impl SessionRecord {
    /// Says whether its time to live has not passed. A session is open through the last millisecond
    /// of it.
    #[must_use]
    pub fn is_open(&self, now_ms: u64) -> bool {
        now_ms <= self.active_at_ms.saturating_add(self.ttl_ms)
    }
}
