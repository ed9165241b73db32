//! The table against the page, reason by reason, and what is read from a status. It must not need a server.

use tonic_types::ErrorDetails;

use super::*;

#[expect(
    clippy::disallowed_types,
    reason = "the type of tonic-types; its order is never looked at"
)]
fn metadata(pairs: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn status(kind: ErrorKind, pairs: &[(&str, &str)]) -> Status {
    let (_, reason, code) = REASONS.iter().find(|row| row.0 == kind).expect("every kind has a row");
    let details = ErrorDetails::with_error_info(*reason, DOMAIN, metadata(pairs));
    Status::with_error_details(*code, "words", details)
}

fn effect(kind: ErrorKind, pairs: &[(&str, &str)]) -> Effect {
    read(&status(kind, pairs)).verdict.effect
}

/// The rows of the table in `docs/ERRORS.md`: reason, gRPC status, retry, advice.
fn page() -> Vec<[String; 4]> {
    // Read at run time: two checkouts that share a target directory share this program.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo says where the crate is");
    let page = std::fs::read_to_string(std::path::Path::new(&own).join("../../docs/ERRORS.md"));
    let page = page.expect("the page is there");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    rows.map(|line| match cells(line).as_slice() {
        [_, reason, code, _, _, retry, advice, _] => {
            [reason.trim_matches('`').to_owned(), code.clone(), retry.clone(), advice.clone()]
        }
        other => panic!("a row of another shape: {other:?}"),
    })
    .collect()
}

#[test]
fn the_table_is_that_of_the_page_reason_by_reason() {
    let page = page();
    assert_eq!(page.len(), REASONS.len());
    for (row, (kind, reason, code)) in page.iter().zip(REASONS) {
        let [found, status, retry, advice] = row;
        assert_eq!((found.as_str(), status), (reason, &format!("{code:?}")));
        let Verdict { effect, again } = of_kind(kind);
        // What the page calls definite, and nothing else, is definite here.
        assert_eq!(effect == Effect::None, advice.starts_with("Nothing happened."), "{reason}");
        if advice.contains("may or may not have happened") {
            assert_eq!(effect, Effect::Unknown, "{reason}");
        }
        assert_eq!(again == Again::Later, retry.contains("same session and sequence"), "{reason}");
        assert_eq!(again == Again::OtherNode, advice.contains("Ask another node"), "{reason}");
        assert_eq!(
            effect == Effect::SessionOver,
            advice.contains("if a session ended"),
            "{reason}"
        );
    }
}

#[test]
fn every_reason_comes_through_a_status_as_its_kind() {
    for (kind, _, code) in REASONS {
        let told = read(&status(kind, &[(key::HINT, "do this"), (key::LEADER, "3")]));
        assert_eq!((told.kind, told.code, told.speaker), (kind, code, Speaker::Server));
        assert_eq!(told.verdict, of_kind(kind));
        assert_eq!((told.hint.as_deref(), told.leader), (Some("do this"), Some(3)));
    }
}

#[test]
fn a_server_may_say_more_than_the_reason_but_never_undo_a_doubt_by_a_wrong_word() {
    let none = [(key::EFFECT, effect::NONE)];
    let settled = [(key::EFFECT, effect::SETTLED)];
    assert_eq!(effect(ErrorKind::Unavailable, &none), Effect::None);
    assert_eq!(effect(ErrorKind::Precondition, &settled), Effect::Settled);
    // Only a refusal settles.
    assert_eq!(effect(ErrorKind::Unavailable, &settled), Effect::Unknown);
    assert_eq!(effect(ErrorKind::Unavailable, &[(key::EFFECT, "whatever")]), Effect::Unknown);
    assert_eq!(effect(ErrorKind::OutOfRange, &[(key::CAUSE, cause::INDEX)]), Effect::None);
    for cause in [cause::SESSION_EXPIRED, cause::SEQUENCE_TOO_OLD, "newer words"] {
        assert_eq!(effect(ErrorKind::OutOfRange, &[(key::CAUSE, cause)]), Effect::SessionOver);
    }
}

#[test]
fn a_reason_of_a_newer_server_is_judged_by_its_status() {
    let newer = |code, reason: &str| {
        let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata(&[]));
        read(&Status::with_error_details(code, "words", details)).verdict
    };
    assert_eq!(newer(Code::NotFound, "VIEW_NOT_FOUND"), of_kind(ErrorKind::NotFound));
    assert_eq!(newer(Code::Unavailable, "DRAINING"), of_kind(ErrorKind::Unavailable));
    assert_eq!(
        newer(Code::Aborted, "NOVEL"),
        Verdict { effect: Effect::Unknown, again: Again::No }
    );
}

#[test]
fn a_status_that_is_not_ours_is_in_doubt_unless_nobody_can_have_run_it() {
    const ALL: [Code; 16] = [
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];
    for code in ALL {
        let verdict = read(&Status::new(code, "from a stranger")).verdict;
        let is_definite = matches!(code, Code::Unimplemented | Code::Unauthenticated);
        assert_eq!(verdict.effect == Effect::None, is_definite, "{code:?}");
        assert!(is_definite || verdict.effect == Effect::Unknown, "{code:?}");
    }
    let foreign = ErrorDetails::with_error_info("NOT_FOUND", "elsewhere.example", metadata(&[]));
    let told = read(&Status::with_error_details(Code::NotFound, "words", foreign));
    assert_eq!((told.speaker, told.verdict.effect), (Speaker::Stranger, Effect::Unknown));
}

#[test]
fn a_time_limit_is_no_broken_connection_although_the_library_calls_both_cancelled() {
    let expired = Status::from_error(Box::new(TimeoutExpired(())));
    assert_eq!(expired.code(), Code::Cancelled);
    // As this end says it, and as it comes from the other one.
    for status in [Status::cancelled(expired.message()), expired] {
        let told = read(&status);
        assert_eq!((told.speaker, told.kind), (Speaker::Time, ErrorKind::DeadlineExceeded));
    }
    let reset = read(&Status::cancelled("stream reset"));
    assert_eq!((reset.speaker, reset.kind), (Speaker::Connection, ErrorKind::Unavailable));
}
