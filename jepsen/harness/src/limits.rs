//! How long, how many and how large: the numbers of a run that nobody chooses on the command line.
//!
//! It must not hold what a seed decides. Invariant: a history stays small enough for its checker.

use std::time::Duration;

/// How long a call of a workload may last.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// How long a final read or a resolution may last.
pub(crate) const PATIENT_DEADLINE: Duration = Duration::from_secs(20);
/// What is waited beyond a deadline for the server to say itself that it passed.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// How long connecting may last.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After which silence a connection is asked whether it is there, and how long it may take to say so.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// How long a client waits after a call that nobody took.
pub(crate) const AWAY_PAUSE: Duration = Duration::from_millis(150);
/// Bytes of one message of an answer.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Entries of the log that are asked for at once.
pub(crate) const LOG_RECORDS: u32 = 10_000;

/// How often all nodes are asked for an entry of the log before it is given up.
pub(crate) const SEEK_ROUNDS: usize = 4;
/// How long is waited between two looks at the log, while clients work.
pub(crate) const FOLLOW_PAUSE: Duration = Duration::from_millis(300);

/// Operations on one register, row space, bank or list dataset before the clients take another one.
pub(crate) const BOOK_OPERATIONS_MAX: u64 = 160;
/// Ambiguous outcomes in one such part: each one doubles what a search may have to try.
pub(crate) const BOOK_DOUBTS_MAX: u64 = 6;
/// Elements that one set gets.
pub(crate) const SET_ELEMENTS_MAX: u64 = 250;
/// Steps of a search for each subject.
pub(crate) const SEARCH_STEPS_MAX: u64 = 3_000_000;
/// How long the judges of a run may think.
pub(crate) const JUDGE_TIME: Duration = Duration::from_secs(120);
/// Rows after which a dataset's files are cut: small, so that files are cut and rewritten all the time.
pub(crate) const SEAL_ROWS: u64 = 64;
/// How often a final read is tried, and how long is waited between.
pub(crate) const SWEEP_TRIES: usize = 8;
/// See above.
pub(crate) const SWEEP_PAUSE: Duration = Duration::from_millis(700);
/// How long the cluster may take to come together after a fault, and at the end.
pub(crate) const CONVERGE_LIMIT: Duration = Duration::from_secs(90);
/// How often a fault that cannot be done now is tried again.
pub(crate) const NOT_NOW_TRIES: u32 = 4;
/// How long clients work before the first fault.
pub(crate) const QUIET: Duration = Duration::from_secs(2);
/// In which each workload must get a write through after the healing.
pub(crate) const PROOF_LIMIT: Duration = Duration::from_secs(30);
/// Calls of a workload that must succeed for its verdict to count.
pub(crate) const OK_MIN: usize = 20;
/// How long the replicas have to be at one index.
pub(crate) const DIGEST_LIMIT: Duration = Duration::from_secs(30);
/// Findings of one source that are shown; all are in the results.
pub(crate) const SHOWN_MAX: usize = 5;
