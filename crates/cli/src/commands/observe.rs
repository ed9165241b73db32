//! `alluvium log`, `verify`, `status` and `version`.

use alluvium_proto::v1;
use alluvium_types::ErrorKind;
use serde_json::json;

use crate::args::Log;
use crate::backend::Backend;
use crate::failure::Failure;
use crate::output::{Format, Record, print_record, print_records};

const LOG_FIELDS: [&str; 9] =
    ["index", "kind", "dataset", "actor", "session", "proposed_at_ms", "rows", "bytes", "detail"];

pub(super) async fn log(log: &Log, backend: &Backend, format: Format) -> Result<(), Failure> {
    match log {
        Log::Tail { limit } => {
            let records = backend.log(None, *limit).await?;
            let records: Vec<Record> = records.iter().map(log_record).collect();
            print_records(format, &LOG_FIELDS, &records)
        }
        Log::Show { index } => {
            let records = backend.log(Some(*index), 1).await?;
            match records.iter().find(|record| record.index == *index) {
                Some(record) => print_record(format, &log_record(record)),
                None => {
                    let message = format!("the log has no entry at index {index}");
                    Err(Failure::of_kind(ErrorKind::NotFound, message, None))
                }
            }
        }
    }
}

fn log_record(record: &v1::LogRecord) -> Record {
    let session = record.session.as_ref().map(|s| format!("{}/{}", s.id, s.sequence));
    vec![
        ("index", json!(record.index)),
        ("kind", json!(record.kind)),
        ("dataset", json!(record.dataset)),
        ("actor", json!(record.actor)),
        ("session", json!(session)),
        ("proposed_at_ms", json!(record.proposed_at_ms)),
        ("rows", json!(record.rows)),
        ("bytes", json!(record.bytes)),
        ("detail", json!(record.detail)),
    ]
}

pub(super) async fn status(backend: &Backend, format: Format) -> Result<(), Failure> {
    let status = backend.status().await?;
    let record = vec![
        ("version", json!(status.version)),
        ("cluster_id", json!(status.cluster_id)),
        ("node_id", json!(status.node_id)),
        ("leader", json!(status.leader)),
        ("term", json!(status.term)),
        ("log_first", json!(status.log_first)),
        ("log_last", json!(status.log_last)),
        ("log_bytes", json!(status.log_bytes)),
        ("committed", json!(status.committed)),
        ("applied", json!(status.applied)),
        ("durable", json!(status.durable)),
        ("snapshot", json!(status.snapshot)),
        ("digest", json!(status.digest)),
        ("datasets", json!(status.datasets)),
        ("jobs", json!(status.jobs)),
        ("job_errors", json!(status.job_errors)),
        ("scrubs", json!(status.scrubs)),
        ("damage", json!(status.damage)),
    ];
    print_record(format, &record)
}

pub(super) async fn verify(backend: &Backend, format: Format) -> Result<(), Failure> {
    let report = backend.verify().await?;
    let record = vec![
        ("index", json!(report.index)),
        ("digest_kept", json!(report.digest_kept)),
        ("digest_recomputed", json!(report.digest_recomputed)),
        ("entries", json!(report.entries)),
        ("files", json!(report.files)),
        ("rows", json!(report.rows)),
        ("damage", json!(report.damage)),
    ];
    print_record(format, &record)?;
    let count = report.damage.len();
    match count {
        0 => Ok(()),
        _ => {
            let message = format!("{count} things are wrong; the first: {}", report.damage[0]);
            Err(Failure::of_kind(ErrorKind::Corrupt, message, None))
        }
    }
}

pub(super) fn version(format: Format) -> Result<(), Failure> {
    print_record(format, &vec![("version", json!(env!("CARGO_PKG_VERSION")))])
}
