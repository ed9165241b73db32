//! Which lines of a node's log are no surprise, each with the reason.
//!
//! Must not explain a line by a fault that was not installed. Invariant: a panic is never explained.

use std::collections::BTreeSet;

use crate::mode::Family;

/// A line that is no surprise.
struct Allowed {
    /// What it contains.
    sign: &'static str,
    /// The faults that explain it; none means that it belongs to every start and end.
    by: &'static [Family],
    /// Why it is no surprise.
    reason: &'static str,
}

/// Whatever ends a process, or cuts it off from others.
const ANY_LOSS: &[Family] = &[
    Family::Kill,
    Family::Pause,
    Family::Partition,
    Family::Wire,
    Family::Powercut,
    Family::Bitflip,
    Family::FsyncFail,
    Family::FsyncLie,
    Family::Eio,
    Family::Strace,
    Family::Device,
    Family::Enospc,
    Family::Slowdisk,
    Family::Clock,
    Family::Membership,
    Family::Upgrade,
    Family::Resource,
];

/// Whatever ends a process without warning.
const CRASH: &[Family] = &[
    Family::Kill,
    Family::Powercut,
    Family::Bitflip,
    Family::FsyncFail,
    Family::FsyncLie,
    Family::Eio,
    Family::Strace,
    Family::Device,
    Family::Enospc,
    Family::Membership,
    Family::Resource,
];

/// Whatever lets a call on a file fail.
const FAILED_CALL: &[Family] = &[
    Family::FsyncFail,
    Family::Eio,
    Family::Strace,
    Family::Device,
    Family::Enospc,
    Family::Powercut,
];

/// The same, and what else a node stops itself for.
const FAULT: &[Family] = &[
    Family::FsyncFail,
    Family::Eio,
    Family::Strace,
    Family::Device,
    Family::Enospc,
    Family::Bitflip,
    Family::Powercut,
];

/// Where a power cut is part of a fault, or is the fault: calls fail between the cut and the end of the process.
const CUT: &[Family] = &[
    Family::FsyncFail,
    Family::FsyncLie,
    Family::Eio,
    Family::Strace,
    Family::Device,
    Family::Powercut,
];

const ALLOWED: &[Allowed] = &[
    Allowed {
        sign: "remotely-reset pending-accept streams reached limit",
        by: ANY_LOSS,
        reason: "heartbeats that were given up while a node did not run are many when it runs again",
    },
    Allowed {
        sign: "Input/output error",
        by: CUT,
        reason: "the error that was injected, as whoever met it says it",
    },
    Allowed {
        sign: "is poisoned by a failed directory sync",
        by: FAILED_CALL,
        reason: "what a failed sync of a bucket's directory must lead to, until the next start",
    },
    Allowed {
        sign: "Read-only file system",
        by: &[Family::Device],
        reason: "what the kernel makes of a device whose journal failed",
    },
    Allowed {
        sign: "failed to send RaftMsg to RaftCore",
        by: CUT,
        reason: "peers still call a node that stops on a fault",
    },
    Allowed {
        sign: "an earlier write or flush failed",
        by: FAILED_CALL,
        reason: "what a failed write of the metadata must lead to",
    },
    Allowed {
        sign: "a peer cannot be called",
        by: ANY_LOSS,
        reason: "a peer that does not run or is cut off cannot be called",
    },
    Allowed {
        sign: "the leader cannot be called",
        by: ANY_LOSS,
        reason: "the same, of the leader",
    },
    Allowed {
        sign: "a stream of entries is refused",
        by: ANY_LOSS,
        reason: "a leader of an earlier term learns of the next one by it",
    },
    Allowed {
        sign: "found while opening the log",
        by: CRASH,
        reason: "a crash leaves a torn tail, which is cut with a notice",
    },
    Allowed {
        sign: "a call on the peer port is refused",
        by: &[Family::Membership, Family::Bitflip],
        reason: "a member that was removed goes on calling until it is stopped",
    },
    Allowed {
        sign: "nobody took the leadership over",
        by: &[],
        reason: "a leader that stops while it has no majority finds nobody: at the end of a run they all stop",
    },
    Allowed {
        sign: "the log is poisoned since",
        by: FAILED_CALL,
        reason: "what a failed sync must lead to, as openraft and the engine repeat it",
    },
    Allowed {
        sign: "failed to send HeartbeatProgress",
        by: FAILED_CALL,
        reason: "openraft's core ends before its workers do",
    },
    Allowed {
        sign: "failed to forward IO completion",
        by: &[],
        reason: "a command that opens a node and ends does not wait for openraft to hear of the last sync",
    },
    Allowed {
        sign: "the node stopped by itself",
        by: FAULT,
        reason: "what a failed sync or a damaged store must lead to",
    },
    Allowed {
        sign: "the raft node stops on a fault",
        by: FAULT,
        reason: "the same, as consensus says it",
    },
    Allowed {
        sign: "the metadata is damaged",
        by: &[Family::Bitflip, Family::Device],
        reason: "damage that is met in use is named; a store that cannot be read is built anew too",
    },
    Allowed {
        sign: "the metadata store is damaged",
        by: &[Family::Bitflip, Family::Device],
        reason: "damage is set aside at a start, and named; a store that cannot be read is built anew too",
    },
    Allowed {
        sign: "set a damaged snapshot aside",
        by: &[Family::Bitflip],
        reason: "the same, of a snapshot",
    },
    Allowed {
        sign: "the scrub found damage",
        by: &[Family::Bitflip, Family::Objstore],
        reason: "it looked",
    },
    Allowed {
        sign: "the scrub could not read a file",
        by: &[Family::Objstore],
        reason: "it lies in a store that did not answer",
    },
    Allowed {
        sign: "cannot be believed",
        by: &[Family::Objstore],
        reason: "a call that failed because an object was damaged; where none was, its answer is an anomaly",
    },
    Allowed {
        sign: "compaction given up",
        by: &[Family::Objstore],
        reason: "what it reads was damaged, and nothing was changed",
    },
    Allowed {
        sign: "open calls did not end in time",
        by: ANY_LOSS,
        reason: "calls that wait for a majority are cut off by a stop",
    },
    Allowed {
        sign: "could not be completed, will try again",
        by: ANY_LOSS,
        reason: "files come from peers, and these were gone",
    },
    Allowed {
        sign: "will try again",
        by: &[
            Family::Enospc,
            Family::FsyncFail,
            Family::Eio,
            Family::Strace,
            Family::Device,
            Family::Powercut,
            Family::Slowdisk,
            Family::Objstore,
        ],
        reason: "background jobs on a disk or a store that refuses",
    },
    Allowed { sign: "log maintenance failed", by: FAILED_CALL, reason: "the same" },
];

/// Whether a line is a warning, an error or a panic.
pub(super) fn is_noteworthy(line: &str) -> bool {
    line.contains(" WARN ") || line.contains(" ERROR ") || line.contains("panicked at")
}

/// Returns why the line is no surprise; nothing when it is one.
pub(super) fn explanation(line: &str, done: &BTreeSet<Family>) -> Option<&'static str> {
    let explains = |allowed: &&Allowed| {
        let is_done = allowed.by.is_empty() || allowed.by.iter().any(|by| done.contains(by));
        is_done && line.contains(allowed.sign)
    };
    let is_panic = line.contains("panicked at");
    ALLOWED.iter().find(explains).filter(|_| !is_panic).map(|allowed| allowed.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_explained_by_an_installed_fault_alone() {
        let line =
            "2026-01-01T00:00:00Z  WARN alluvium_peer::network: a peer cannot be called node=2";
        assert!(is_noteworthy(line));
        assert!(explanation(line, &BTreeSet::new()).is_none());
        assert!(explanation(line, &BTreeSet::from([Family::Kill])).is_some());
        let panic = "thread 'raft' panicked at raft/src/node.rs: will try again";
        assert!(is_noteworthy(panic));
        assert_eq!(explanation(panic, &BTreeSet::from([Family::Enospc])), None);
    }

    #[test]
    fn every_rule_says_why() {
        assert!(
            ALLOWED.iter().all(|allowed| !allowed.reason.is_empty() && allowed.sign.len() > 10)
        );
    }
}
