//! What an error of a call says about its effect: the table of definite and ambiguous outcomes.
//!
//! The server's own words for it are in `docs/ERRORS.md`: a kind whose advice is "Nothing happened" is taken at
//! its word, and a lie shows as an anomaly. It must not call an outcome definite because it is likely.
//! Invariant: what is in no row is ambiguous.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The domain of our `ErrorInfo`.
const DOMAIN: &str = "alluvium";

/// The reason of an answer that no right store gives.
pub(crate) const WRONG: &str = "WRONG";

/// The reason of a connection that nobody took.
pub(crate) const NOT_CONNECTED: &str = "NOT_CONNECTED";

/// The reason of a description that mixes two indexes.
pub(crate) const TORN: &str = "TORN";

/// What is known of a write that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// It took no effect and never will.
    Definite,
    /// It may have taken effect, or yet will.
    Ambiguous,
}

/// One reason that a server gives.
pub(crate) struct Row {
    /// The reason in `ErrorInfo`.
    pub(crate) reason: &'static str,
    /// The status that carries it.
    pub(crate) code: Code,
    /// What it means for a write.
    pub(crate) certainty: Certainty,
    /// Why.
    #[cfg_attr(not(test), expect(dead_code, reason = "the page about testing is made of it"))]
    pub(crate) because: &'static str,
}

/// The table as the page about testing has it.
#[cfg(test)]
pub(crate) fn page() -> String {
    let mut page = String::from("| reason | a write that failed so | because |\n|---|---|---|\n");
    for Row { reason, certainty, because, .. } in &TABLE {
        let words = match certainty {
            Certainty::Definite => "had no effect",
            Certainty::Ambiguous => "is in doubt",
        };
        page.push_str(&format!("| `{reason}` | {words} | {because} |\n"));
    }
    page.push_str(
        "| no connection was made | had no effect | nobody took the request |\n\
         | any other error of the transport, no answer in time, any other reason | is in doubt | the \
         request may have arrived |\n",
    );
    page
}

const fn definite(reason: &'static str, code: Code, because: &'static str) -> Row {
    Row { reason, code, certainty: Certainty::Definite, because }
}

const fn ambiguous(reason: &'static str, code: Code, because: &'static str) -> Row {
    Row { reason, code, certainty: Certainty::Ambiguous, because }
}

/// Every reason of `docs/ERRORS.md`, once.
pub(crate) const TABLE: [Row; 12] = [
    definite("INVALID_ARGUMENT", Code::InvalidArgument, "refused before the log, or by apply"),
    definite("NOT_FOUND", Code::NotFound, "there is nothing that it could have changed"),
    definite("CONFLICT", Code::FailedPrecondition, "refused by apply: an entry without effect"),
    definite("PRECONDITION", Code::FailedPrecondition, "refused by apply: an entry without effect"),
    definite("PERMISSION_DENIED", Code::PermissionDenied, "refused before the log"),
    definite("LIMIT", Code::ResourceExhausted, "refused before the log, or by apply"),
    definite("STORAGE_FULL", Code::ResourceExhausted, "refused before the log, by node or leader"),
    ambiguous("UNAVAILABLE", Code::Unavailable, "one kind for before and after the proposal"),
    ambiguous("DEADLINE", Code::DeadlineExceeded, "the proposal may be on its way"),
    ambiguous("CORRUPT", Code::DataLoss, "the damage may have been met after the proposal"),
    ambiguous("OUT_OF_RANGE", Code::OutOfRange, "an ended session forgot what it had done"),
    ambiguous("INTERNAL", Code::Internal, "a bug may be anywhere"),
];

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What it means for a write. A read has no effect, whatever is said of it.
    pub(crate) certainty: Certainty,
    /// The server's reason, or the transport's.
    pub(crate) reason: String,
    /// For people.
    pub(crate) message: String,
}

impl Fault {
    /// An answer that came and cannot be used: what it stands for may have happened.
    pub(crate) fn unusable(message: impl Into<String>) -> Self {
        let reason = "UNUSABLE".to_owned();
        Self { certainty: Certainty::Ambiguous, reason, message: message.into() }
    }

    /// An answer that no right store gives: evidence by itself.
    pub(crate) fn wrong(message: impl Into<String>) -> Self {
        let reason = WRONG.to_owned();
        Self { certainty: Certainty::Ambiguous, reason, message: message.into() }
    }

    /// A description that says of its index what came later. Nothing was done with it.
    pub(crate) fn torn(changed_at: u64, index: u64) -> Self {
        let message = format!("described at {index}, and changed at {changed_at}");
        Self { certainty: Certainty::Definite, reason: TORN.to_owned(), message }
    }

    /// Nothing came in time.
    pub(crate) fn silence() -> Self {
        let reason = "SILENCE".to_owned();
        Self { certainty: Certainty::Ambiguous, reason, message: "no answer in time".to_owned() }
    }

    /// Nothing was sent.
    pub(crate) fn unsent(message: impl Into<String>) -> Self {
        let reason = "UNSENT".to_owned();
        Self { certainty: Certainty::Definite, reason, message: message.into() }
    }

    /// Whether a write may have taken effect.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.certainty == Certainty::Ambiguous
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        let details = status.get_error_details();
        let ours = details.error_info().filter(|info| info.domain == DOMAIN);
        if let Some(info) = ours {
            let row = TABLE.iter().find(|row| row.reason == info.reason);
            // A reason under another status is not the one that the table is about.
            let row = row.filter(|row| row.code == status.code());
            // A server that knows that it proposed nothing says so: it is held to its word.
            let is_nothing = info.metadata.get("effect").is_some_and(|effect| effect == "none");
            let certainty = match is_nothing {
                true => Certainty::Definite,
                false => row.map_or(Certainty::Ambiguous, |row| row.certainty),
            };
            return Self { certainty, reason: info.reason.clone(), message };
        }
        if is_caused_by_connecting(&status) {
            let reason = NOT_CONNECTED.to_owned();
            return Self { certainty: Certainty::Definite, reason, message };
        }
        let reason = format!("TRANSPORT_{:?}", status.code()).to_uppercase();
        Self { certainty: Certainty::Ambiguous, reason, message }
    }
}

/// Whether nobody took the connection, so that nobody can have taken the request.
fn is_caused_by_connecting(status: &Status) -> bool {
    let first = std::error::Error::source(status);
    std::iter::successors(first, |error| error.source())
        .any(|error| error.is::<tonic::ConnectError>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tonic_types::ErrorDetails;

    use super::*;

    fn of(code: Code, reason: &str, domain: &str) -> Fault {
        let details = ErrorDetails::with_error_info(reason, domain, []);
        Fault::from(Status::with_error_details(code, "message", details))
    }

    #[test]
    fn each_reason_is_as_the_table_says() {
        for row in &TABLE {
            let fault = of(row.code, row.reason, DOMAIN);
            assert_eq!((fault.certainty, fault.reason.as_str()), (row.certainty, row.reason));
        }
        let reasons: BTreeSet<&str> = TABLE.iter().map(|row| row.reason).collect();
        assert_eq!(reasons.len(), TABLE.len());
    }

    #[test]
    fn what_is_in_no_row_is_ambiguous() {
        assert!(of(Code::InvalidArgument, "NEW_REASON", DOMAIN).is_ambiguous());
        assert!(of(Code::Unavailable, "INVALID_ARGUMENT", DOMAIN).is_ambiguous());
        assert!(of(Code::InvalidArgument, "INVALID_ARGUMENT", "proxy").is_ambiguous());
        for code in [Code::InvalidArgument, Code::Unavailable, Code::Cancelled, Code::Unknown] {
            assert!(Fault::from(Status::new(code, "bare")).is_ambiguous(), "{code:?}");
        }
        let details = ErrorDetails::with_error_info(
            "UNAVAILABLE",
            DOMAIN,
            [("effect".to_owned(), "none".to_owned())],
        );
        let nothing = Status::with_error_details(Code::Unavailable, "nobody leads", details);
        assert!(!Fault::from(nothing).is_ambiguous());
        assert!(Fault::silence().is_ambiguous() && !Fault::unsent("x").is_ambiguous());
    }

    #[test]
    fn the_page_about_testing_has_this_table() {
        let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo says where the crate is");
        let path = std::path::Path::new(&own).join("../../docs/TESTING.md");
        let text = std::fs::read_to_string(path).expect("the page");
        assert!(text.contains(&page()), "docs/TESTING.md lacks this:\n{}", page());
    }

    #[test]
    fn the_table_has_the_reasons_of_the_page_and_no_nothing_happened_is_doubted() {
        let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo says where the crate is");
        let path = std::path::Path::new(&own).join("../../docs/ERRORS.md");
        let page = std::fs::read_to_string(path).expect("the page");
        for row in &TABLE {
            let line = page.lines().find(|line| line.starts_with(&format!("| `{}` |", row.reason)));
            let line = line.unwrap_or_else(|| panic!("{} is not in the page", row.reason));
            let says_nothing = line.contains("Nothing happened.");
            assert_eq!(says_nothing, row.certainty == Certainty::Definite, "{line}");
            assert!(line.contains(&format!("{:?}", row.code)), "{line}");
        }
        let lines = page.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(lines, TABLE.len());
    }
}
