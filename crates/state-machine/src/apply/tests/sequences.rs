//! Random sequences: batch sizes, restores and replays change neither answers nor the digest.

use alluvium_stdx::Prng;
use proptest::prelude::*;

use crate::workload::Workload;

use super::*;

type Log = Vec<(Envelope, Bytes)>;

/// Applies a workload one entry at a time; returns the store, the log and the answers.
pub(super) fn record(seed: u64, entries: usize) -> (Machine, Log, Vec<Response>) {
    let mut machine = Machine::new();
    let mut workload = Workload::from_seed(seed);
    let (mut log, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..entries {
        let (envelope, body) = workload.next(&machine.store, machine.last().next()).expect("reads");
        let response = machine.send(&envelope, &body);
        workload.answered(&response);
        log.push((envelope, body));
        answers.push(response);
    }
    (machine, log, answers)
}

/// Applies part of a log in batches of random size.
fn replay(store: &MemoryStore, log: &Log, prng: &mut Prng, size_max: u64) -> Vec<Response> {
    let mut answers = Vec::new();
    loop {
        let done = store.raft().applied.map_or(0, |applied| applied.index.0);
        let start = usize::try_from(done).expect("small");
        let size = usize::try_from(1 + prng.below(size_max)).expect("small");
        let end = log.len().min(start + size);
        if start == end {
            return answers;
        }
        let mut batch = Vec::new();
        for (index, (envelope, body)) in (done + 1..).zip(&log[start..end]) {
            let payload_hash = payload_hash(&envelope.command, body);
            let content = EntryContent::Command { envelope, body, payload_hash };
            batch.push(BatchEntry { id: entry_id(LogIndex(index)), content });
        }
        let result = apply_batch(store, &batch).expect("applies");
        store.commit(result.commit).expect("commits");
        answers.extend(result.responses.into_iter().flatten());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_size_of_batches_changes_nothing(seed: u64, size_max in 2_u64..40) {
        let (machine, log, answers) = record(seed, 160);
        let store = MemoryStore::new();
        let again = replay(&store, &log, &mut Prng::from_seed(seed), size_max);
        prop_assert_eq!(again, answers);
        prop_assert_eq!(store.digest(), machine.digest());
        prop_assert_eq!(store.recompute_digest().expect("recomputes"), machine.digest());
    }

    #[test]
    fn museum_m33_m35_m36_replay_from_zero_equals_snapshot_and_tail(
        seed: u64,
        cut in 1_usize..159,
    ) {
        let (machine, log, answers) = record(seed, 160);
        let mut prng = Prng::from_seed(seed);
        let head = MemoryStore::new();
        replay(&head, &log[..cut].to_vec(), &mut prng, 8);
        let mut snapshot = Vec::new();
        let meta = head.export(&mut snapshot).expect("exports");
        prop_assert_eq!(meta.applied.map(|applied| applied.index), Some(LogIndex(cut as u64)));
        // A store with another past: the import replaces all of it, index and data alike.
        let (other, _, _) = record(seed ^ 1, 20);
        let restored = other.store;
        prop_assert_eq!(restored.import(&mut snapshot.as_slice()).expect("imports"), meta);
        prop_assert_eq!(restored.digest(), head.digest());
        prop_assert_eq!(restored.raft(), head.raft());
        let tail = replay(&restored, &log, &mut prng, 8);
        prop_assert_eq!(&tail[..], &answers[cut..]);
        prop_assert_eq!(restored.digest(), machine.digest());
    }
}

#[test]
fn the_workload_reaches_every_outcome() {
    let mut reached = std::collections::BTreeSet::new();
    for seed in 0..12 {
        let (_, _, answers) = record(seed, 300);
        for answer in answers {
            let text = format!("{:?}", answer.outcome);
            let end = text.find([' ', '(']).unwrap_or(text.len());
            reached.insert(text[..end].to_owned());
        }
    }
    let expect = [
        "Appended",
        "Attested",
        "Checked",
        "CompactionPlanned",
        "Dropped",
        "Evolved",
        "Expired",
        "Registered",
        "Rejected",
        "Sealed",
        "SessionOpened",
        "Staged",
        "Swept",
        "Tombstoned",
        "Upserted",
    ];
    assert_eq!(reached.iter().map(String::as_str).collect::<Vec<_>>(), expect);
}

#[test]
fn a_crash_goes_back_to_the_flush_and_replay_catches_up() {
    let (machine, log, _) = record(7, 120);
    let store = MemoryStore::new();
    let mut prng = Prng::from_seed(7);
    replay(&store, &log[..50].to_vec(), &mut prng, 5);
    let flushed = store.flush().expect("flushes");
    replay(&store, &log[..90].to_vec(), &mut prng, 5);
    assert_eq!(store.durable(), flushed);
    store.lose_unflushed();
    assert_eq!(store.raft().applied, flushed);
    replay(&store, &log, &mut prng, 5);
    assert_eq!(store.digest(), machine.digest());
}

#[test]
fn blank_entries_and_memberships_move_the_applied_index_alone() {
    let store = MemoryStore::new();
    let batch = [
        BatchEntry { id: entry_id(LogIndex(1)), content: EntryContent::Blank },
        BatchEntry { id: entry_id(LogIndex(2)), content: EntryContent::Membership(b"three") },
    ];
    let result = apply_batch(&store, &batch).expect("applies");
    assert_eq!(result.responses, [None, None]);
    let digest = store.commit(result.commit).expect("commits");
    assert_eq!(digest, StateDigest::default());
    assert_eq!(store.raft().applied, Some(entry_id(LogIndex(2))));
    assert_eq!(store.raft().membership, b"three");
}

/// Pins commands, records, keys and the digest at once: if it changes, nodes of two versions
/// differ.
#[test]
fn the_digest_of_a_kept_sequence_is_pinned() {
    let (machine, _, _) = record(1, 400);
    let expect = "d059456c4e3b34425786399ec76ece308f84426f5c95a09a5ebc03389ec41f34";
    assert_eq!(machine.digest().to_string(), expect);
}
