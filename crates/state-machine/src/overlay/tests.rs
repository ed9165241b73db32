//! A batch that is not committed reads as it will once it is.

use alluvium_stdx::Prng;
use alluvium_types::NodeId;

use super::*;
use crate::record::{AppliedEntry, RaftRecord};
use crate::{CommitBatch, MemoryStore, MetaStore};

fn commit(store: &MemoryStore, index: LogIndex, mutations: Vec<Mutation>) {
    let applied = Some(AppliedEntry { term: 1, leader: NodeId(1), index });
    let raft = RaftRecord { applied, membership: Vec::new() };
    store.commit(CommitBatch { mutations: vec![(index, mutations)], raft }).expect("commits");
}

fn random_key(prng: &mut Prng) -> Key {
    let length = prng.below(3);
    Key((0..length).filter_map(|_| prng.pick(b"\0ab\xff").copied()).collect())
}

/// One change of a random key, as an entry would make it.
fn random_mutation(prng: &mut Prng, index: LogIndex) -> Mutation {
    let table = if prng.one_in(3) { Table::Counters } else { Table::File };
    let operation = match prng.below(6) {
        0 | 1 => Operation::Delete,
        2 if table.is_versioned() => Operation::Prune { floor: LogIndex(prng.below(index.0)) },
        _ => Operation::Put(vec![u8::try_from(prng.below(256)).expect("a byte")]),
    };
    Mutation { table, key: random_key(prng), operation }
}

#[test]
fn an_overlay_answers_as_the_store_does_after_the_commit() {
    for seed in 0..60 {
        let mut prng = Prng::from_seed(seed);
        let (base, committed) = (MemoryStore::new(), MemoryStore::new());
        let (early, late) = (20, 40);
        for index in (1..=early).map(LogIndex) {
            let mutation = random_mutation(&mut prng, index);
            commit(&base, index, vec![mutation.clone()]);
            commit(&committed, index, vec![mutation]);
        }
        let mut overlay = Overlay::new(&base);
        let mut floor = LogIndex(0);
        for index in (early + 1..=late).map(LogIndex) {
            let mutation = random_mutation(&mut prng, index);
            if let Operation::Prune { floor: pruned } = mutation.operation {
                floor = floor.max(pruned);
            }
            commit(&committed, index, vec![mutation.clone()]);
            overlay.record(index, mutation);
        }
        for _ in 0..40 {
            compare(&overlay, &committed, floor, &mut prng);
        }
    }
}

fn compare(overlay: &Overlay<'_>, committed: &MemoryStore, floor: LogIndex, prng: &mut Prng) {
    // Reads below a floor are refused before they get here.
    let at = LogIndex(floor.0 + prng.below(45 - floor.0));
    let (key, prefix, from) = (random_key(prng), random_key(prng), random_key(prng));
    let table = if prng.one_in(2) { Table::Counters } else { Table::File };
    assert_eq!(
        overlay.get_at(table, &key, at).expect("reads"),
        committed.get_at(table, &key, at).expect("reads"),
    );
    assert_eq!(
        overlay.versions(table, &key).expect("reads"),
        committed.versions(table, &key).expect("reads"),
    );
    let limit = usize::try_from(1 + prng.below(4)).expect("small");
    let from = prng.one_in(2).then_some(&from);
    let range = ScanRange { table, prefix: &prefix, from, limit };
    assert_eq!(
        overlay.scan_at(&range, at).expect("reads"),
        committed.scan_at(&range, at).expect("reads"),
    );
    assert_eq!(
        overlay.prunable(&range, at).expect("reads"),
        committed.prunable(&range, at).expect("reads"),
    );
}
