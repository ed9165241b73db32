//! How much to measure: full sizes for figures, small ones to see that everything runs.
//!
//! Invariant: the same plan asks every contender for the same work.

use crate::args::Request;

pub(crate) const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;

/// Sizes of one run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) quick: bool,
    pub(crate) rounds: u64,
    /// Length of one timed run.
    pub(crate) millis: u64,
    /// Bytes of one log segment, of every log.
    pub(crate) segment_bytes: u64,
    /// Records of the log that is opened again.
    pub(crate) reopen_records: u64,
    /// Rows of the dataset that is queried.
    pub(crate) sql_rows: u64,
    /// Times that each query is repeated warm.
    pub(crate) sql_repeats: u64,
    /// Files that are compacted, each with the rows of the sample.
    pub(crate) compact_files: u64,
    /// Megabytes of unsealed rows in the logs that a node is opened with.
    pub(crate) restart_megabytes: &'static [u64],
}

impl Plan {
    pub(crate) fn of(request: &Request) -> Self {
        let plan = if request.quick { Self::quick() } else { Self::full() };
        Self {
            millis: request.millis.unwrap_or(plan.millis),
            rounds: request.rounds.unwrap_or(plan.rounds),
            ..plan
        }
    }

    fn full() -> Self {
        Self {
            quick: false,
            rounds: 3,
            millis: 2_000,
            segment_bytes: 64 * MIB,
            reopen_records: 2 * MIB,
            sql_rows: 1_000_000,
            sql_repeats: 15,
            compact_files: 20,
            restart_megabytes: &[10, 100, 1_000],
        }
    }

    fn quick() -> Self {
        Self {
            quick: true,
            rounds: 1,
            millis: 100,
            segment_bytes: 8 * MIB,
            reopen_records: 64 * KIB,
            sql_rows: 60_000,
            sql_repeats: 3,
            compact_files: 3,
            restart_megabytes: &[1, 5],
        }
    }
}
