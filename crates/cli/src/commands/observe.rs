//! `alluvium log`, `verify`, `status` and `version`.

use alluvium_proto::v1;
use alluvium_types::ErrorKind;
use arrow::temporal_conversions::timestamp_ms_to_datetime;
use serde_json::json;

use crate::args::Log;
use crate::backend::{Backend, Missing, verify_directory};
use crate::config::{Place, Settings};
use crate::failure::Failure;
use crate::output::{Format, Record, print_record, print_records};

const LOG_FIELDS: [&str; 9] =
    ["index", "kind", "dataset", "actor", "session", "proposed_at_ms", "rows", "bytes", "detail"];

pub(super) async fn log(log: &Log, backend: &Backend, format: Format) -> Result<(), Failure> {
    match log {
        Log::Tail { limit } => {
            let records = backend.log(None, *limit).await?;
            let records: Vec<Record> = records.iter().map(|r| log_record(r, format)).collect();
            let fields = LOG_FIELDS.map(|field| shown_field(field, format));
            print_records(format, &fields, &records)
        }
        Log::Show { index } => {
            let records = backend.log(Some(*index), 1).await?;
            match records.iter().find(|record| record.index == *index) {
                Some(record) => print_record(format, &log_record(record, format)),
                None => {
                    let message = format!("the log has no entry at index {index}");
                    Err(Failure::of_kind(ErrorKind::NotFound, message, None))
                }
            }
        }
    }
}

/// The machine formats have the time as it is in the log, a table has it as people read it.
fn shown_field(field: &'static str, format: Format) -> &'static str {
    match (field, format) {
        ("proposed_at_ms", Format::Table) => "proposed_at",
        (field, _) => field,
    }
}

fn log_record(record: &v1::LogRecord, format: Format) -> Record {
    let session = record.session.as_ref().map(|s| format!("{}/{}", s.id, s.sequence));
    let proposed_at = match format {
        Format::Table => json!(record.proposed_at_ms.map(utc)),
        Format::Json | Format::Jsonl | Format::Csv => json!(record.proposed_at_ms),
    };
    vec![
        ("index", json!(record.index)),
        ("kind", json!(record.kind)),
        ("dataset", json!(record.dataset)),
        ("actor", json!(record.actor)),
        ("session", json!(session)),
        (shown_field("proposed_at_ms", format), proposed_at),
        ("rows", json!(record.rows)),
        ("bytes", json!(record.bytes)),
        ("detail", json!(record.detail)),
    ]
}

/// Returns milliseconds since 1970 as RFC 3339 has them, or as they are when no calendar has that day.
fn utc(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds).ok().and_then(timestamp_ms_to_datetime);
    time.map_or_else(
        || milliseconds.to_string(),
        |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
    )
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
        ("agreed_at", json!(status.agreed_at)),
        ("quarantine", json!(status.quarantine)),
    ];
    print_record(format, &record)
}

pub(super) async fn verify(settings: &Settings) -> Result<(), Failure> {
    match &settings.place {
        Place::Directory(directory) => {
            let (report, notices) = verify_directory(directory, settings).await?;
            print_verified(settings.output, &report, &notices)
        }
        Place::Server(_) | Place::Unknown => {
            let backend = Backend::open(settings, Missing::Refuse).await?;
            let report = backend.verify().await;
            let done = report.and_then(|report| print_verified(settings.output, &report, &[]));
            super::close(backend, done).await
        }
    }
}

fn print_verified(
    format: Format,
    report: &v1::VerifyResponse,
    notices: &[String],
) -> Result<(), Failure> {
    let record = vec![
        ("index", json!(report.index)),
        ("digest_kept", json!(report.digest_kept)),
        ("digest_recomputed", json!(report.digest_recomputed)),
        ("entries", json!(report.entries)),
        ("files", json!(report.files)),
        ("rows", json!(report.rows)),
        ("damage", json!(report.damage)),
        ("notices", json!(notices)),
    ];
    print_record(format, &record)?;
    let message = match report.damage.as_slice() {
        [] => return Ok(()),
        [only] => format!("1 thing is wrong: {only}"),
        [first, ..] => format!("{} things are wrong; the first: {first}", report.damage.len()),
    };
    Err(Failure::of_kind(ErrorKind::Corrupt, message, None))
}

pub(super) fn version(format: Format) -> Result<(), Failure> {
    print_record(format, &vec![("version", json!(env!("CARGO_PKG_VERSION")))])
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn a_time_is_shown_in_utc_to_the_millisecond() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(1_795_260_858_332), "2026-11-21T11:34:18.332Z");
        assert_eq!(utc(u64::MAX), u64::MAX.to_string());
    }
}
