//! The kinds of errors of the crates below.
//!
//! It must not be generous: what may be damage is damage. Invariant: a disk without space is told as that, however deep.

use std::io;

use alluvium_state_machine::StoreError;
use alluvium_types::ErrorKind;

pub(super) fn invalid_kind(error: &alluvium_types::Error) -> ErrorKind {
    use alluvium_types::Error as Types;
    match error {
        Types::TooLarge { .. } | Types::TooManyKeys { .. } => ErrorKind::ResourceExhausted,
        Types::NewerFormat { .. } | Types::Frame { .. } => ErrorKind::Corrupt,
        Types::NameEmpty
        | Types::NameTooLong { .. }
        | Types::NameCharacter { .. }
        | Types::NameMixed { .. }
        | Types::NameLookAlike { .. }
        | Types::NameReserved { .. }
        | Types::SchemaEmpty
        | Types::TooManyColumns { .. }
        | Types::DuplicateColumn { .. }
        | Types::ColumnName { .. }
        | Types::ColumnReserved { .. }
        | Types::NestedTooDeep { .. }
        | Types::IllegalType { .. }
        | Types::KeyMissing { .. }
        | Types::KeyTwice { .. }
        | Types::KeyNullable { .. }
        | Types::KeyType { .. }
        | Types::TooManyKeyColumns { .. }
        | Types::KeyTooLong { .. }
        | Types::DuplicateKey { .. }
        | Types::KeyBlock { .. } => ErrorKind::InvalidArgument,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is wrong in the configuration")]
pub(super) fn peer_kind(error: &alluvium_peer::Error) -> ErrorKind {
    use alluvium_peer::Error as Peer;
    match error {
        Peer::Join { .. } | Peer::Transport { .. } => ErrorKind::Unavailable,
        Peer::Issue { .. } => ErrorKind::Internal,
        _ => ErrorKind::InvalidArgument,
    }
}

pub(crate) fn raft_kind(error: &alluvium_raft::Error) -> ErrorKind {
    use alluvium_raft::{Error as Raft, MembershipFault as Membership};
    match error {
        // A poisoned or stopped node decides nothing any more: another node, or a restart, does.
        Raft::NotLeader { .. }
        | Raft::Unavailable
        | Raft::Ambiguous
        | Raft::Poisoned { .. }
        | Raft::Quarantined
        | Raft::LeaderBusy { .. }
        | Raft::Removed { .. }
        | Raft::Shutdown => ErrorKind::Unavailable,
        Raft::NotInLog { .. } => ErrorKind::OutOfRange,
        Raft::ReadLog { source } => wal_kind(source),
        // What was verified and is shorter now is damage; a disk that does not answer is none.
        Raft::ReadSnapshot { source, .. } if source.kind() != io::ErrorKind::UnexpectedEof => {
            ErrorKind::Unavailable
        }
        Raft::ReadEntry { .. } | Raft::ReadSnapshot { .. } => ErrorKind::Corrupt,
        Raft::OtherMembership | Raft::Config { .. } => ErrorKind::InvalidArgument,
        Raft::Membership { fault } => match fault {
            Membership::Unknown { .. } => ErrorKind::NotFound,
            Membership::Lags { .. } | Membership::InProgress => ErrorKind::Unavailable,
            Membership::Taken { .. }
            | Membership::Used { .. }
            | Membership::Unreachable { .. }
            | Membership::NoVote { .. }
            | Membership::LastVoter
            | Membership::Full
            | Membership::Refused { .. } => ErrorKind::InvalidArgument,
        },
        Raft::Receive { .. } => ErrorKind::Unavailable,
        Raft::LeaderFull { .. } => ErrorKind::StorageFull,
        Raft::NotACommand | _ => ErrorKind::Internal,
    }
}

pub(super) fn wal_kind(error: &alluvium_wal::Error) -> ErrorKind {
    use alluvium_wal::Error as Wal;
    match error {
        Wal::Full { .. } => ErrorKind::StorageFull,
        Wal::Io { source, .. } if is_full(source) => ErrorKind::StorageFull,
        Wal::Busy | Wal::Closed | Wal::Poisoned { .. } | Wal::Io { .. } => ErrorKind::Unavailable,
        Wal::Foreign { .. } | Wal::NewerFormat { .. } => ErrorKind::InvalidArgument,
        Wal::TooLarge { .. } => ErrorKind::ResourceExhausted,
        Wal::NotFound { .. } => ErrorKind::OutOfRange,
        Wal::Corrupt { .. } | Wal::CorruptWatermark | Wal::MissingSegment { .. } => {
            ErrorKind::Corrupt
        }
        Wal::NotConsecutive { .. } | Wal::BelowPurged { .. } | _ => ErrorKind::Internal,
    }
}

pub(super) fn store_kind(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::View { source } => source.kind(),
        StoreError::Corrupt { .. } | StoreError::Snapshot { .. } => ErrorKind::Corrupt,
        StoreError::NewerFormat { .. } => ErrorKind::InvalidArgument,
        StoreError::Open { .. }
        | StoreError::Commit { .. }
        | StoreError::Flush { .. }
        | StoreError::File { .. } => match has_full_cause(error) {
            true => ErrorKind::StorageFull,
            false => ErrorKind::Unavailable,
        },
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Says whether a disk without space is among the causes of an error.
pub(super) fn has_full_cause(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let system = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<io::Error>().is_some_and(is_full)
    };
    { causes }.any(system)
}

pub(super) fn storage_kind(error: &alluvium_storage::Error) -> ErrorKind {
    use alluvium_storage::Error as Storage;
    let is_unmarked =
        matches!(error, Storage::MarkerMissing { .. } | Storage::MarkerDamaged { .. });
    if error.is_corruption() || is_unmarked {
        return ErrorKind::Corrupt;
    }
    let is_full = matches!(error, Storage::Full { .. });
    let is_misused = matches!(
        error,
        Storage::WrongBucket { .. }
            | Storage::SymbolicLink { .. }
            | Storage::Key { .. }
            | Storage::Url { .. }
    );
    match (is_full, is_misused) {
        (true, _) => ErrorKind::StorageFull,
        (false, true) => ErrorKind::InvalidArgument,
        (false, false) => ErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use crate::Error;

    #[test]
    fn only_a_call_whose_first_entry_found_no_leader_left_nothing() {
        use alluvium_raft::{Error as Raft, LeaderHint};
        let hint = LeaderHint { node: 2, address: "127.0.0.1:1".to_owned() };
        let busy = Raft::LeaderBusy { reason: "its disk cannot be measured".into() };
        for early in [Raft::Unavailable, Raft::NotLeader { hint }, Raft::Removed { node: 3 }, busy]
        {
            let early = Error::Raft(early);
            assert!(early.is_before_the_log(), "{early}");
            let later = early.after_an_entry();
            assert!(!later.is_before_the_log(), "{later}");
        }
        for doubtful in [Raft::Ambiguous, Raft::Shutdown, Raft::Quarantined] {
            assert!(!Error::Raft(doubtful.clone()).is_before_the_log(), "{doubtful}");
        }
        assert!(!Error::Reopen.is_before_the_log());
    }
}
