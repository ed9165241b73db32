//! The log as queries, jobs and people read it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use alluvium_materialize::{LogError, LogSource};
use alluvium_query::{SharedError, SystemSource};
use alluvium_raft::{Frame, RaftNode};
use alluvium_state_machine::record::ResultRecord;
use alluvium_state_machine::{Key, Table, record_at};
use alluvium_types::{
    AttestOutcome, Checkpoint, Command, Entry, EntryKind, Envelope, LogIndex, RowSource, Sequence,
    SessionId, StageContent, Term, TombstoneSource,
};
use bytes::Bytes;

use crate::node::Node;
use crate::tasks::blocking;
use crate::{Error, LogRecord};

/// Entries that one call of [`Node::log`] returns at most.
const LOG_RECORDS_MAX: usize = 10_000;
/// Bytes of entries that one call of [`Node::log`] reads, about.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Reads entries from this node's log.
#[derive(Debug, Clone)]
pub(crate) struct NodeLog {
    raft: RaftNode,
}

impl NodeLog {
    pub(crate) fn new(raft: RaftNode) -> Self {
        Self { raft }
    }

    /// Returns the records of a range, as many as their entries' bytes allow and at least one.
    fn records(&self, indexes: RangeInclusive<u64>) -> Result<Vec<LogRecord>, Error> {
        let (mut records, mut bytes) = (Vec::new(), 0_u64);
        for index in indexes {
            let record = self.record(LogIndex(index))?;
            bytes = bytes.saturating_add(record.bytes);
            records.push(record);
            if bytes > LOG_BYTES_MAX {
                break;
            }
        }
        Ok(records)
    }

    pub(crate) fn record(&self, index: LogIndex) -> Result<LogRecord, Error> {
        let entry = self.raft.log_entry(index)?;
        decode(index, &entry)
    }
}

impl Node {
    /// Returns decoded entries by ascending index: from `from`, or the last `limit`; fewer when they are large.
    ///
    /// # Errors
    /// When an entry is purged or damaged.
    pub async fn log(&self, from: Option<LogIndex>, limit: usize) -> Result<Vec<LogRecord>, Error> {
        let limit = limit.min(LOG_RECORDS_MAX);
        let bounds = self.raft().log_bounds()?;
        let Some(first) = bounds.first else { return Ok(Vec::new()) };
        let last = bounds.committed.0;
        let start = match from {
            Some(index) => index.0.max(first.0),
            None => last.saturating_sub(limit as u64).saturating_add(1).max(first.0),
        };
        let log = NodeLog::new(self.raft().clone());
        let end = last.min(start.saturating_add(limit as u64).saturating_sub(1));
        let mut records = blocking(move || log.records(start..=end)).await?;
        for record in &mut records {
            self.mark_repeated(record)?;
        }
        Ok(records)
    }

    /// Says of an entry that repeats a numbered command that it took no effect, as long as the session is remembered.
    fn mark_repeated(&self, record: &mut LogRecord) -> Result<(), Error> {
        let Some((session, sequence)) = record.session else { return Ok(()) };
        let key = Key::session_result(SessionId(session), Sequence(sequence));
        let found: Option<ResultRecord> =
            record_at(self.view(), Table::SessionResult, &key, LogIndex::MAX)?;
        if let Some(first) = found.map(|found| found.response.index)
            && first != record.index
        {
            record.detail = format!("repeats {first}");
        }
        Ok(())
    }
}

/// Decodes an entry for people.
pub(crate) fn decode(index: LogIndex, entry: &Entry) -> Result<LogRecord, Error> {
    let bytes = entry.as_bytes().len() as u64;
    let (kind, detail) = match entry.kind() {
        EntryKind::Command => return Ok(describe(index, bytes, &entry.envelope()?, entry)),
        EntryKind::Blank => ("blank", String::new()),
        EntryKind::Membership => ("membership", members(index, entry)?),
    };
    Ok(LogRecord {
        index,
        kind: kind.to_owned(),
        dataset: None,
        actor: None,
        session: None,
        proposed_at_ms: None,
        rows: None,
        bytes,
        detail,
    })
}

fn members(index: LogIndex, entry: &Entry) -> Result<String, Error> {
    let frame = Frame::parse(Bytes::copy_from_slice(entry.as_bytes()))
        .map_err(|source| alluvium_raft::Error::ReadEntry { index, source })?;
    Ok(frame.members_in_words().unwrap_or_default())
}

fn describe(index: LogIndex, bytes: u64, envelope: &Envelope, entry: &Entry) -> LogRecord {
    let command = &envelope.command;
    LogRecord {
        index,
        kind: command.kind().name().to_owned(),
        dataset: command.dataset().map(|dataset| dataset.to_string()),
        actor: Some(envelope.actor.clone()),
        session: envelope.session.map(|session| (session.id.0, session.sequence.0)),
        proposed_at_ms: Some(envelope.proposed_at_ms),
        rows: rows_in(command, entry),
        bytes,
        detail: detail(command),
    }
}

fn rows_in(command: &Command, entry: &Entry) -> Option<u64> {
    let keys = || {
        entry
            .body()
            .get(..4)
            .map(|four| u64::from(u32::from_le_bytes(four.try_into().expect("four bytes"))))
    };
    match command {
        Command::Append(append) => rows_of(append.source),
        Command::Upsert(upsert) => rows_of(upsert.source),
        Command::Stage(stage) => match stage.content {
            StageContent::Rows { rows, .. } | StageContent::KeyedRows { rows, .. } => {
                Some(u64::from(rows))
            }
            StageContent::Keys => keys(),
        },
        Command::Tombstone(tombstone) => match tombstone.source {
            TombstoneSource::Inline => keys(),
            TombstoneSource::Staged { .. } => None,
        },
        Command::OpenSession(_)
        | Command::Register(_)
        | Command::Evolve(_)
        | Command::Seal(_)
        | Command::Compact(_)
        | Command::Attest(_)
        | Command::Expire(_)
        | Command::Swept(_)
        | Command::Drop(_)
        | Command::Checkpoint(_) => None,
    }
}

fn rows_of(source: RowSource) -> Option<u64> {
    match source {
        RowSource::Inline { rows, .. } => Some(u64::from(rows)),
        RowSource::Staged { .. } => None,
    }
}

fn detail(command: &Command) -> String {
    match command {
        Command::OpenSession(open) => format!("ttl {} ms", open.ttl_ms),
        Command::Register(register) => format!("{} in bucket {}", register.name, register.bucket),
        Command::Evolve(evolve) => format!("{} changes", evolve.changes.len()),
        Command::Stage(stage) => format!("part {} of upload {}", stage.part, stage.upload),
        Command::Append(append) => source_detail(append.source),
        Command::Upsert(upsert) => source_detail(upsert.source),
        Command::Tombstone(tombstone) => match (&tombstone.predicate, tombstone.source) {
            (Some(predicate), _) => format!("where {predicate}"),
            (None, TombstoneSource::Staged { upload, parts, .. }) => {
                format!("{parts} parts of upload {upload}")
            }
            (None, TombstoneSource::Inline) => String::new(),
        },
        Command::Seal(_) | Command::Drop(_) => String::new(),
        Command::Compact(compact) => {
            format!("{} files, tombstones up to {}", compact.inputs.len(), compact.cutoff)
        }
        Command::Attest(attest) => match &attest.outcome {
            AttestOutcome::Written(written) => format!(
                "file {}: {} rows, {} bytes, blake3 {}",
                attest.file,
                written.rows,
                written.digest.len_bytes,
                hex(&written.digest.blake3)
            ),
            AttestOutcome::Empty { rows_hidden } => {
                format!("file {}: none, {rows_hidden} rows were hidden", attest.file)
            }
            AttestOutcome::Abandoned { reason } => {
                format!("file {}: given up: {reason}", attest.file)
            }
        },
        Command::Expire(expire) => format!("floor {}", expire.floor),
        Command::Swept(swept) => format!("{} files", swept.files.len()),
        Command::Checkpoint(Checkpoint::Point) => "point".to_owned(),
        Command::Checkpoint(Checkpoint::Agreed { point, digest }) => {
            format!("at {point} the digest is {}", hex(digest))
        }
        Command::Checkpoint(Checkpoint::Disputed { point }) => {
            format!("at {point} no majority has the same digest")
        }
    }
}

fn source_detail(source: RowSource) -> String {
    match source {
        RowSource::Inline { .. } => String::new(),
        RowSource::Staged { upload, parts, .. } => format!("{parts} parts of upload {upload}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl SystemSource for NodeLog {
    fn log_bounds(&self) -> Result<Option<(LogIndex, LogIndex)>, SharedError> {
        let bounds = self.raft.log_bounds().map_err(|error| Arc::new(error) as SharedError)?;
        // Entries above the committed index may yet be replaced: nobody may see them.
        Ok(bounds.first.map(|first| (first, bounds.committed)))
    }

    fn term(&self, index: LogIndex) -> Result<Option<Term>, SharedError> {
        self.raft
            .log_term(index)
            .map(Some)
            .map_err(|error| Arc::new(unread(index, error)) as SharedError)
    }
}

impl LogSource for NodeLog {
    fn entry(&self, index: LogIndex) -> Result<Entry, LogError> {
        self.raft.log_entry(index).map_err(|error| unread(index, error))
    }
}

/// Tells an entry that is purged, damaged or out of reach.
pub(crate) fn unread(index: LogIndex, error: alluvium_raft::Error) -> LogError {
    if let alluvium_raft::Error::NotInLog { index } = error {
        return LogError::Purged { index };
    }
    let kind = crate::error::raft_kind(&error);
    LogError::Read { index, kind, source: Box::new(error) }
}
