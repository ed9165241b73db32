//! How long a call may last: what the client says, within limits.
//!
//! It must not leave a call without a deadline. Invariant: the answer is on its way before the client gives up.

use std::future::Future;
use std::time::Duration;

use alluvium_types::ErrorKind;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use crate::failures;
use crate::limits::{DEADLINE_DEFAULT, DEADLINE_MAX};

/// The part of a deadline that is kept for the way back.
const RETURN_SHARE: u32 = 50;
/// The most that is kept for it.
const RETURN_MAX: Duration = Duration::from_millis(50);

/// Returns how long the call may last.
pub(crate) fn of(metadata: &MetadataMap) -> Duration {
    let asked = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
    let asked = asked.unwrap_or(DEADLINE_DEFAULT).min(DEADLINE_MAX);
    asked.saturating_sub((asked / RETURN_SHARE).min(RETURN_MAX))
}

/// Parses at most eight digits and a unit, as the gRPC protocol says.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = !digits.is_empty() && digits.len() <= 8;
    let count: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Runs a call to its end or its deadline.
pub(crate) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<Response<T>, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map(Response::new),
        Err(_elapsed) => {
            let message = format!(
                "the deadline of {} ms passed; whether it took effect is not known",
                limit.as_millis()
            );
            let hint = "send it again with the same session and sequence and a longer deadline";
            Err(failures::status(ErrorKind::DeadlineExceeded, message, Some(hint.to_owned())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: Option<&str>, expected: Duration) {
        let mut metadata = MetadataMap::new();
        if let Some(header) = header {
            metadata.insert("grpc-timeout", header.parse().expect("ascii"));
        }
        assert_eq!(of(&metadata), expected, "{header:?}");
    }

    #[test]
    fn a_deadline_is_the_clients_within_limits_and_leaves_time_to_answer() {
        check(None, DEADLINE_DEFAULT - RETURN_MAX);
        check(Some("2S"), Duration::from_millis(1_960));
        check(Some("100m"), Duration::from_millis(98));
        check(Some("99999999H"), DEADLINE_MAX - RETURN_MAX);
        for bad in ["", "S", "5", "999999999S", "-1S", "1é", "é"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
