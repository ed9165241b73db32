//! Why a command failed: message, hint, kind, and whether a write may have happened all the same.
//!
//! It must not lose a cause or invent advice. Invariant: a failure ends the program with 1, a usage error with 2.

use std::io::{self, Write};
use std::process::ExitCode;

use alluvium_server::failures;
use alluvium_types::ErrorKind;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use crate::output::Format;

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Whether a write may have happened.
    pub(crate) ambiguous: bool,
    pub(crate) retryable: bool,
}

/// The kind of a command that was given wrongly.
const USAGE: &str = "USAGE";
/// The kind of a file or terminal that cannot be read or written.
const IO: &str = "IO";

impl Failure {
    fn plain(kind: &'static str, message: String) -> Self {
        Self { kind, message, hint: None, ambiguous: false, retryable: false }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::plain(USAGE, message.into())
    }

    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Self::plain(IO, format!("cannot {what}: {error}"))
    }

    /// A check of the program itself that came out wrong.
    pub(crate) fn check(message: impl Into<String>) -> Self {
        Self::plain("CHECK", message.into())
    }

    /// A file whose rows cannot be used.
    pub(crate) fn file(message: String, hint: Option<String>) -> Self {
        Self { hint, ..Self::plain("FILE", message) }
    }

    pub(crate) fn of_kind(kind: ErrorKind, message: String, hint: Option<String>) -> Self {
        let row = failures::row_of(kind);
        let ambiguous = failures::is_ambiguous(kind);
        let retryable = row.retry_after.is_some();
        Self { kind: row.reason, message, hint, ambiguous, retryable }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Nothing was asked to change: a read, or what comes before a write. Its outcome is never in doubt.
    pub(crate) fn of_read(mut self) -> Self {
        self.ambiguous = false;
        self
    }

    /// Prints the failure and returns the exit code.
    pub(crate) fn report(&self, format: Format) -> ExitCode {
        let text = match format {
            Format::Json | Format::Jsonl => self.as_json(),
            Format::Table | Format::Csv => self.as_text(),
        };
        // There is nowhere to report that standard error is closed.
        drop(writeln!(io::stderr().lock(), "{text}"));
        if self.kind == USAGE { ExitCode::from(2) } else { ExitCode::from(1) }
    }

    fn as_json(&self) -> String {
        let Self { kind, message, hint, ambiguous, .. } = self;
        let error = json!({"kind": kind, "message": message, "hint": hint, "ambiguous": ambiguous});
        json!({ "error": error }).to_string()
    }

    fn as_text(&self) -> String {
        let mut text = format!("error: {}", self.message);
        if self.ambiguous {
            text.push_str(
                "\ndetail: whether it took effect is not known; look before repeating it",
            );
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\nhint: {hint}"));
        }
        text
    }
}

impl From<alluvium_engine::Error> for Failure {
    fn from(error: alluvium_engine::Error) -> Self {
        let hint = if let alluvium_engine::Error::DirectoryLocked { .. } = &error {
            let hint = "a running server has it: say --connect http://127.0.0.1:7171 (the address \
                        that it printed) instead of --data-dir, or stop it";
            Some(hint.to_owned())
        } else {
            error.hint()
        };
        let failure = Self::of_kind(error.kind(), failures::chain(&error), hint);
        if error.is_before_the_log() { failure.of_read() } else { failure }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let is_ours = status.get_error_details().error_info().is_some();
        if !is_ours && is_timeout(&status) {
            let message = "the time limit passed before the server answered".to_owned();
            let hint = "give it longer with --statement-timeout".to_owned();
            return Self::of_kind(ErrorKind::DeadlineExceeded, message, Some(hint));
        }
        // Without our details it is the transport that speaks: the connection broke, or never was.
        let is_broken = !is_ours
            && matches!(
                status.code(),
                Code::Unknown
                    | Code::Cancelled
                    | Code::Internal
                    | Code::Aborted
                    | Code::Unavailable
            );
        if is_broken {
            let message = format!("the connection failed: {}", transport_causes(&status));
            let hint = "is the server running, and at this address?".to_owned();
            let failure = Self::of_kind(ErrorKind::Unavailable, message, Some(hint));
            return if never_connected(&status) { failure.of_read() } else { failure };
        }
        let kind = failures::kind_of(&status);
        let hint = failures::hint_of(&status);
        let failure = Self::of_kind(kind, status.message().to_owned(), hint);
        if failures::left_nothing(&status) { failure.of_read() } else { failure }
    }
}

fn transport_causes(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(cause) => failures::chain(cause),
        None => status.message().to_owned(),
    }
}

/// Says whether the deadline of the call passed. Both ends watch it; what the other one says of it comes as a
/// cancellation with the words of the library, and without a cause.
fn is_timeout(status: &tonic::Status) -> bool {
    let is_told = status.code() == Code::Cancelled
        && status.message() == tonic::TimeoutExpired(()).to_string();
    is_told || is_caused_by::<tonic::TimeoutExpired>(status)
}

/// Says whether nobody took the connection, so that nobody can have taken the request.
fn never_connected(status: &tonic::Status) -> bool {
    is_caused_by::<tonic::ConnectError>(status)
}

fn is_caused_by<E: std::error::Error + 'static>(status: &tonic::Status) -> bool {
    let mut next = std::error::Error::source(status);
    while let Some(cause) = next {
        if cause.is::<E>() {
            return true;
        }
        next = cause.source();
    }
    false
}

impl From<alluvium_ingest::Error> for Failure {
    fn from(error: alluvium_ingest::Error) -> Self {
        Self::file(failures::chain(&error), error.hint())
    }
}

impl From<alluvium_server::Error> for Failure {
    fn from(error: alluvium_server::Error) -> Self {
        let hint = error.hint().map(str::to_owned);
        let kind = if matches!(error, alluvium_server::Error::Exposed { .. }) { USAGE } else { IO };
        Self { hint, ..Self::plain(kind, failures::chain(&error)) }
    }
}

impl From<alluvium_server::convert::Error> for Failure {
    fn from(error: alluvium_server::convert::Error) -> Self {
        // Answers are converted after they came, and requests before they go.
        Self::of_kind(ErrorKind::Internal, error.to_string(), None).of_read()
    }
}

impl From<alluvium_rows::Error> for Failure {
    fn from(error: alluvium_rows::Error) -> Self {
        Self::of_kind(error.kind(), failures::chain(&error), None).of_read()
    }
}

impl From<alluvium_types::Error> for Failure {
    fn from(error: alluvium_types::Error) -> Self {
        Self::of_kind(ErrorKind::InvalidArgument, error.to_string(), None)
    }
}

impl From<arrow::error::ArrowError> for Failure {
    fn from(error: arrow::error::ArrowError) -> Self {
        // Rows are encoded before a whole request is sent, and decoded from answers of reads.
        Self::of_kind(ErrorKind::Internal, error.to_string(), None).of_read()
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Status, TimeoutExpired};

    use super::*;

    #[track_caller]
    fn check(status: Status, kind: &str, hint: &str) {
        let failure = Failure::from(status);
        assert_eq!((failure.kind, failure.hint.as_deref()), (kind, Some(hint)));
        assert!(failure.ambiguous && failure.retryable, "a write may have happened");
        assert!(!failure.of_read().ambiguous);
    }

    #[test]
    fn a_write_that_was_not_proposed_is_in_no_doubt() {
        let kind = ErrorKind::Unavailable;
        let told = |metadata: Vec<(&'static str, String)>| {
            Failure::from(failures::status_with(kind, "no leader", metadata))
        };
        let nothing = told(vec![(failures::EFFECT, failures::NONE.to_owned())]);
        assert!(nothing.retryable && !nothing.ambiguous, "{nothing:?}");
        let lost = told(vec![(failures::LEADER, "2".to_owned())]);
        assert!(lost.retryable && lost.ambiguous, "{lost:?}");
    }

    #[test]
    fn a_deadline_that_passed_is_no_broken_connection() {
        let longer = "give it longer with --statement-timeout";
        let expired = || Status::from_error(Box::new(TimeoutExpired(())));
        assert_eq!(expired().code(), Code::Cancelled, "so that it could be taken for another one");
        check(expired(), "DEADLINE", longer);
        // As it comes from the other end.
        check(Status::cancelled(expired().message()), "DEADLINE", longer);
        let there = "is the server running, and at this address?";
        check(Status::cancelled("stream reset"), "UNAVAILABLE", there);
    }

    #[test]
    fn what_a_server_says_of_its_deadline_is_said_as_it_is() {
        let hint = Some("its hint".to_owned());
        let status = failures::status(ErrorKind::DeadlineExceeded, "its words", hint.clone());
        let failure = Failure::from(status);
        assert_eq!((failure.kind, failure.message.as_str()), ("DEADLINE", "its words"));
        assert_eq!(failure.hint, hint);
    }
}
