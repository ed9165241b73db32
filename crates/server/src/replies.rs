//! What the engine answers, as messages.
//!
//! It must not leave a field out: a client that sees zero must be able to believe it.

use alluvium_engine::{
    CompactReport, DatasetInfo, LogRecord, Member, Registered, SealReport, Status, VerifyReport,
    Written,
};
use alluvium_proto::v1;
use alluvium_types::{Field, FieldId};

use crate::convert::field_to;

/// Makes the message: the answer to a register.
#[must_use]
pub fn registered(answer: &Registered) -> v1::RegisterResponse {
    v1::RegisterResponse {
        dataset_id: answer.dataset.id.to_string(),
        incarnation: answer.dataset.incarnation.0,
        schema_version: answer.schema_version.0,
        existing: answer.existing,
        index: answer.index.0,
    }
}

/// Makes the message: the answer to a write.
#[must_use]
pub fn written(answer: &Written) -> v1::WriteResponse {
    v1::WriteResponse { index: answer.index.0, count: answer.count }
}

/// Makes the message: the answer to a seal.
#[must_use]
pub fn sealed(answer: &SealReport) -> v1::SealResponse {
    v1::SealResponse {
        index: answer.index.0,
        files: answer.files.iter().map(|file| file.0).collect(),
        rows: answer.rows,
    }
}

/// Makes the message: the answer to a compaction.
#[must_use]
pub fn compacted(answer: &CompactReport) -> v1::CompactResponse {
    v1::CompactResponse {
        index: answer.index.0,
        files_in: answer.files_in,
        files_out: answer.files_out,
        rows_in: answer.rows_in,
        rows_hidden: answer.rows_hidden,
        rows_out: answer.rows_out,
        bytes_in: answer.bytes_in,
        bytes_out: answer.bytes_out,
    }
}

/// Makes the message: a dataset as the catalog shows it.
///
/// # Errors
/// When a column has a type that the protocol does not know.
pub fn dataset(answer: &DatasetInfo) -> Result<v1::Dataset, alluvium_rows::Error> {
    let columns = fields_of(answer)?;
    Ok(v1::Dataset {
        name: answer.name.as_str().to_owned(),
        dataset_id: answer.dataset.id.to_string(),
        incarnation: answer.dataset.incarnation.0,
        schema_version: answer.schema_version.0,
        columns: columns.iter().map(field_to).collect(),
        key_columns: answer.key_columns.clone(),
        bucket: answer.bucket.clone(),
        changed_at: answer.changed_at.0,
        floor: answer.floor.0,
        files: answer.files,
        file_bytes: answer.file_bytes,
        file_rows: answer.file_rows,
        deltas: answer.deltas,
        delta_rows: answer.delta_rows,
        tombstones: answer.tombstones,
        index: answer.index.0,
    })
}

/// Returns a dataset's columns with the identities that its Arrow schema carries.
pub fn fields_of(answer: &DatasetInfo) -> Result<Vec<Field>, alluvium_rows::Error> {
    let mut schema = alluvium_rows::from_arrow(&answer.schema, &answer.key_columns)?;
    for (field, arrow) in schema.fields.iter_mut().zip(answer.schema.fields()) {
        let id = arrow.metadata().get(alluvium_rows::schema::FIELD_ID_KEY);
        if let Some(id) = id.and_then(|id| id.parse().ok()) {
            field.id = FieldId(id);
        }
    }
    Ok(schema.fields)
}

/// Makes the message: an entry of the log in words.
#[must_use]
pub fn log_record(answer: LogRecord) -> v1::LogRecord {
    v1::LogRecord {
        index: answer.index.0,
        kind: answer.kind,
        dataset: answer.dataset,
        actor: answer.actor,
        session: answer.session.map(|(id, sequence)| v1::Session { id, sequence }),
        proposed_at_ms: answer.proposed_at_ms,
        rows: answer.rows,
        bytes: answer.bytes,
        detail: answer.detail,
    }
}

/// Makes the message: how the node is doing.
#[must_use]
pub fn status(answer: Status) -> v1::StatusResponse {
    v1::StatusResponse {
        version: answer.version,
        cluster_id: answer.cluster_id,
        node_id: answer.node_id,
        leader: answer.leader,
        term: answer.term,
        log_first: answer.log.0.0,
        log_last: answer.log.1.0,
        log_bytes: answer.log_bytes,
        committed: answer.committed.0,
        applied: answer.applied.0,
        durable: answer.durable.0,
        snapshot: answer.snapshot.map(|index| index.0),
        digest: answer.digest,
        datasets: answer.datasets,
        jobs: answer.jobs,
        job_errors: answer.job_errors,
        scrubs: answer.scrubs,
        damage: answer.damage,
        agreed_at: answer.agreed_at.map(|index| index.0),
        quarantine: answer.quarantine,
    }
}

/// Makes the message: the members of a cluster.
#[must_use]
pub fn members(members: &[Member]) -> Vec<v1::Member> {
    let member = |member: &Member| v1::Member {
        node: member.node,
        address: member.address.clone(),
        votes: member.votes,
        leads: member.leads,
        behind: member.behind,
        silent_ms: member
            .silent_for
            .map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
    };
    members.iter().map(member).collect()
}

/// Makes the message: what a verification found.
#[must_use]
pub fn verified(answer: VerifyReport) -> v1::VerifyResponse {
    v1::VerifyResponse {
        index: answer.index.0,
        digest_kept: answer.digest_kept,
        digest_recomputed: answer.digest_recomputed,
        entries: answer.entries,
        files: answer.files,
        rows: answer.rows,
        damage: answer.damage,
    }
}
