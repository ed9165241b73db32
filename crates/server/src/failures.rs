//! From kinds of errors to what clients see: one table, and `docs/ERRORS.md` is made from it.
//!
//! It must not look at texts. Invariant: every [`ErrorKind`] has exactly one row.

use std::time::Duration;

use alluvium_types::{ErrorKind, Rejection};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "alluvium";
/// The key of the hint in an `ErrorInfo`'s metadata.
pub const HINT: &str = "hint";
/// The key of the leader's id, where a call that found no way to it is worth another node.
pub const LEADER: &str = "leader";
/// The key of what the call left behind, where it is known better than by the reason: `none`.
pub const EFFECT: &str = "effect";
/// The value of [`EFFECT`] when nothing was proposed, and nothing of the call will ever take effect.
pub const NONE: &str = "none";
/// The key of why, where a reason has several meanings: `session-expired`, `sequence-too-old` or `index`.
pub const CAUSE: &str = "cause";

/// One kind of error, in every protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The kind.
    pub kind: ErrorKind,
    /// The status of gRPC.
    pub code: Code,
    /// The reason in `ErrorInfo`: the kind's stable name.
    pub reason: &'static str,
    /// The status of HTTP.
    pub http: u16,
    /// The state of SQL.
    pub sqlstate: &'static str,
    /// When to send the same call again, with the same session and sequence.
    pub retry_after: Option<Duration>,
    /// What the caller can conclude and do.
    pub advice: &'static str,
}

const SOON: Option<Duration> = Some(Duration::from_millis(250));

/// Every kind, once.
pub const TABLE: [Row; 12] = [
    row(ErrorKind::InvalidArgument, Code::InvalidArgument, "INVALID_ARGUMENT", (400, "22023")).then(
        None,
        "Nothing happened. Change the request: the message says what is wrong with it.",
    ),
    row(ErrorKind::NotFound, Code::NotFound, "NOT_FOUND", (404, "42P01"))
        .then(None, "Nothing happened. What the request names does not exist."),
    row(ErrorKind::Conflict, Code::FailedPrecondition, "CONFLICT", (409, "42P07")).then(
        None,
        "Nothing happened. It conflicts with what exists: evolve that, or choose another name.",
    ),
    row(ErrorKind::Precondition, Code::FailedPrecondition, "PRECONDITION", (412, "40001"))
        .then(None, "Nothing happened. The expected index or version is not the current one: read again, then decide."),
    row(ErrorKind::PermissionDenied, Code::PermissionDenied, "PERMISSION_DENIED", (403, "42501"))
        .then(None, "Nothing happened. The caller may not do that."),
    row(ErrorKind::ResourceExhausted, Code::ResourceExhausted, "LIMIT", (413, "53000"))
        .then(None, "Nothing happened. The message names the limit and the value: send less at once."),
    row(ErrorKind::Unavailable, Code::Unavailable, "UNAVAILABLE", (503, "57P03")).then(
        SOON,
        "A write may or may not have happened. Send it again with the same session and sequence: it takes effect once. Without a session, look first.",
    ),
    row(ErrorKind::DeadlineExceeded, Code::DeadlineExceeded, "DEADLINE", (504, "57014")).then(
        SOON,
        "A write may or may not have happened. Send it again with the same session and sequence and a longer deadline.",
    ),
    row(ErrorKind::StorageFull, Code::ResourceExhausted, "STORAGE_FULL", (507, "53100"))
        .then(None, "Nothing happened. Free space on the node, then send it again."),
    row(ErrorKind::Corrupt, Code::DataLoss, "CORRUPT", (500, "XX001"))
        .then(None, "Stored bytes are not what was written. Nothing wrong was returned. Ask another node, run `alluvium verify`."),
    row(ErrorKind::OutOfRange, Code::OutOfRange, "OUT_OF_RANGE", (410, "72000"))
        .then(None, "The index is below the retention floor or not reached yet, or a session or lease has ended. Start from a newer index or a new session; if a session ended, look what took effect."),
    row(ErrorKind::Internal, Code::Internal, "INTERNAL", (500, "XX000"))
        .then(None, "A bug. A write may or may not have happened. Report it with the node's log."),
];

const fn row(
    kind: ErrorKind,
    code: Code,
    reason: &'static str,
    (http, sqlstate): (u16, &'static str),
) -> Row {
    Row { kind, code, reason, http, sqlstate, retry_after: None, advice: "" }
}

impl Row {
    const fn then(mut self, retry_after: Option<Duration>, advice: &'static str) -> Self {
        self.retry_after = retry_after;
        self.advice = advice;
        self
    }
}

/// Returns the row of a kind.
///
/// # Panics
/// Never: a test looks up every kind.
#[must_use]
pub fn row_of(kind: ErrorKind) -> &'static Row {
    TABLE.iter().find(|row| row.kind == kind).expect("every kind has a row")
}

/// Returns the kind that a status from a server stands for.
#[must_use]
pub fn kind_of(status: &Status) -> ErrorKind {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    let by_reason = TABLE.iter().find(|row| Some(row.reason) == reason);
    let by_code = || TABLE.iter().find(|row| row.code == status.code());
    by_reason.or_else(by_code).map_or(ErrorKind::Internal, |row| row.kind)
}

/// Returns the hint that a status carries.
#[must_use]
pub fn hint_of(status: &Status) -> Option<String> {
    status.get_error_details().error_info()?.metadata.get(HINT).cloned()
}

/// Says whether a status tells that nothing was proposed.
#[must_use]
pub fn left_nothing(status: &Status) -> bool {
    let details = status.get_error_details();
    let said = details.error_info().and_then(|info| info.metadata.get(EFFECT));
    said.is_some_and(|said| said == NONE)
}

/// Makes a status of a kind, a message and a hint.
#[must_use]
pub fn status(kind: ErrorKind, message: impl Into<String>, hint: Option<String>) -> Status {
    status_with(kind, message, hint.map(|hint| (HINT, hint)))
}

/// Makes a status of a kind and a message that says more in its metadata.
#[must_use]
pub fn status_with(
    kind: ErrorKind,
    message: impl Into<String>,
    metadata: impl IntoIterator<Item = (&'static str, String)>,
) -> Status {
    let row = row_of(kind);
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let mut details = ErrorDetails::with_error_info(row.reason, DOMAIN, metadata_of(metadata));
    if row.retry_after.is_some() {
        details.set_retry_info(row.retry_after);
    }
    Status::with_error_details(row.code, message, details)
}

#[expect(
    clippy::disallowed_types,
    reason = "the type of tonic-types; its order is never looked at"
)]
fn metadata_of(pairs: Vec<(String, String)>) -> std::collections::HashMap<String, String> {
    pairs.into_iter().collect()
}

/// Makes the status of an engine's error. One that may pass at another node names the leader, if this node knows it.
#[must_use]
pub fn engine_status(node: &alluvium_engine::Node, error: &alluvium_engine::Error) -> Status {
    let kind = error.kind();
    if matches!(kind, ErrorKind::Internal | ErrorKind::Corrupt) {
        tracing::error!(error = %chain(error), "a call failed");
    }
    let leads = |member: &alluvium_engine::Member| member.leads;
    let leader = (kind == ErrorKind::Unavailable)
        .then(|| node.members().into_iter().find(leads).map(|member| member.node));
    let leader = leader.flatten().map(|leader| (LEADER, leader.to_string()));
    let hint = error.hint().map(|hint| (HINT, hint));
    status_with(kind, chain(error), hint.into_iter().chain(leader).chain(remark(error)))
}

/// Returns what is known of an error beyond its reason.
#[expect(clippy::wildcard_enum_match_arm, reason = "the reasons of most errors have one meaning")]
fn remark(error: &alluvium_engine::Error) -> Option<(&'static str, String)> {
    use alluvium_engine::Error;
    let (key, value) = match error {
        error if error.is_before_the_log() => (EFFECT, NONE),
        Error::Rejected(Rejection::SessionExpired { .. }) => (CAUSE, "session-expired"),
        Error::Rejected(Rejection::SequenceTooOld { .. }) => (CAUSE, "sequence-too-old"),
        error if error.kind() == ErrorKind::OutOfRange => (CAUSE, "index"),
        _ => return None,
    };
    Some((key, value.to_owned()))
}

/// Makes the status of rows that are not readable.
#[must_use]
pub fn rows_status(error: &alluvium_rows::Error) -> Status {
    status(error.kind(), chain(error), None)
}

/// Returns a message with its causes, without saying one twice.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// Returns `docs/ERRORS.md`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         Made from the table in `crates/server/src/failures.rs`; a test compares them.\n\n\
         gRPC statuses carry `google.rpc.ErrorInfo` with the domain `alluvium`, the reason below, and a\n\
         `hint` in its metadata where there is one; where a retry is safe also `google.rpc.RetryInfo`. The\n\
         metadata may also say who leads (`leader`, a node id: with `UNAVAILABLE`, for a caller that reaches it where\n\
         this node does not), that nothing was proposed (`effect` is `none`), and which meaning `OUT_OF_RANGE` has\n\
         (`cause` is `session-expired`, `sequence-too-old` or `index`). The command line prints message, detail and hint, and as JSON `{\"error\": {\"kind\", \"message\", \"hint\",\n\
         \"ambiguous\"}}`. HTTP and SQL columns say what those protocols will answer.\n\n\
         | reason | gRPC | HTTP | SQLSTATE | retry | what to conclude |\n\
         |---|---|---|---|---|---|\n",
    );
    for row in &TABLE {
        let retry = match row.retry_after {
            Some(after) => format!("after {} ms, same session and sequence", after.as_millis()),
            None => "no".to_owned(),
        };
        let Row { reason, code, http, sqlstate, advice, .. } = row;
        page.push_str(&format!(
            "| `{reason}` | {code:?} | {http} | {sqlstate} | {retry} | {advice} |\n"
        ));
    }
    page.push_str(
        "\n## Ambiguity\n\n\
         A reply that was lost says nothing about the write. `UNAVAILABLE`, `DEADLINE` and `INTERNAL` are\n\
         ambiguous; so is a connection that broke. Within a session the same sequence may be sent again until\n\
         it is answered: the answer is the first one. The command line does that by itself for appends,\n\
         upserts and tombstones, and says so when it had to give up without knowing.\n",
    );
    page
}

/// Says whether a write that failed with this kind may still have happened.
#[must_use]
pub fn is_ambiguous(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded | ErrorKind::Internal => true,
        ErrorKind::InvalidArgument
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Precondition
        | ErrorKind::PermissionDenied
        | ErrorKind::ResourceExhausted
        | ErrorKind::StorageFull
        | ErrorKind::Corrupt
        | ErrorKind::OutOfRange => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists every kind; a new one breaks the build here.
    fn all() -> Vec<ErrorKind> {
        TABLE.iter().map(|row| row.kind).inspect(|kind| _ = is_ambiguous(*kind)).collect()
    }

    #[test]
    fn every_kind_survives_the_way_through_a_status() {
        assert_eq!(all().len(), 12);
        for kind in all() {
            let made = status(kind, "message", Some("do this".to_owned()));
            assert_eq!(kind_of(&made), kind);
            assert_eq!(hint_of(&made).as_deref(), Some("do this"));
            assert_eq!(made.code(), row_of(kind).code);
            let retry = made.get_error_details().retry_info().and_then(|info| info.retry_delay);
            assert_eq!(retry, row_of(kind).retry_after);
        }
    }

    #[test]
    fn what_is_known_beyond_the_reason_is_said() {
        use alluvium_engine::Error;
        use alluvium_types::{LogIndex, SessionId};
        let session = SessionId(7);
        let said = |error: Error| remark(&error).map(|(key, value)| format!("{key}={value}"));
        let expired = Error::Rejected(Rejection::SessionExpired { session });
        assert_eq!(said(expired).as_deref(), Some("cause=session-expired"));
        let (index, low, high) = (LogIndex(1), LogIndex(5), LogIndex(9));
        let early = Error::IndexOutOfRange { index, low, high };
        assert_eq!(said(early).as_deref(), Some("cause=index"));
        assert_eq!(said(Error::NoPeerPort), None);
    }

    #[test]
    fn only_what_may_have_happened_is_retried() {
        for row in &TABLE {
            let is_retried = row.retry_after.is_some();
            assert!(!is_retried || is_ambiguous(row.kind), "{:?}", row.kind);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a page under version control")]
    fn the_page_is_what_the_table_says() {
        // Read at run time: two checkouts that share a target directory share this program.
        let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo says where the crate is");
        let path = std::path::Path::new(&own).join("../../docs/ERRORS.md");
        if std::env::var_os("ALLUVIUM_WRITE_PAGES").is_some() {
            std::fs::write(&path, page()).expect("write the page");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == page(), "docs/ERRORS.md is old: ALLUVIUM_WRITE_PAGES=1 writes it");
    }
}
