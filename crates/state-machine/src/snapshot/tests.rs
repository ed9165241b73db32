//! The stream is pinned byte for byte, and no damage of it is read as a snapshot.

use alluvium_types::NodeId;

use super::*;
use crate::{CommitBatch, MemoryStore, MetaStore, Mutation, Operation, View};

fn small_store() -> MemoryStore {
    let mutation =
        |table, key: &[u8], operation| Mutation { table, key: Key(key.to_vec()), operation };
    let put = |value: &[u8]| Operation::Put(value.to_vec());
    let mutations = vec![
        (
            LogIndex(1),
            vec![
                mutation(Table::Clock, b"", put(b"now")),
                mutation(Table::Name, b"a", put(b"")),
                mutation(Table::Name, b"a\0b", put(b"one")),
            ],
        ),
        (LogIndex(3), vec![mutation(Table::Name, b"a", Operation::Delete)]),
    ];
    let applied = AppliedEntry { term: 2, leader: NodeId(1), index: LogIndex(3) };
    let raft = RaftRecord { applied: Some(applied), membership: b"m".to_vec() };
    let store = MemoryStore::new();
    store.commit(CommitBatch { mutations, raft }).expect("commits");
    store
}

fn export(store: &MemoryStore) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.export(&mut bytes).expect("exports");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A header, one chunk of four rows, a footer.
const GOLDEN: [&str; 8] = [
    "414c56530100000000000000000000000000000000000000000000000ab04df7",
    "010000005300000000000000000000005affc42b0000000000000000e84b9b8c",
    "0101000000000000000000000000030000006e6f770701010000000000000001",
    "0000000000000061070003000000000000000100000000000000610701010000",
    "000000000003000000030000006100626f6e65020000004a0000000100000000",
    "000000a10da1880000000000000000badf803b04000000000000000102000000",
    "000000000100000000000000030000000000000001000000000000006d9f104a",
    "93e092615a5c1cfbe0c964422cebf2309d52c489b6ad5031a18e2bb7e7",
];

#[test]
fn the_stream_is_pinned() {
    assert_eq!(hex(&export(&small_store())), GOLDEN.concat());
}

#[test]
fn a_snapshot_reads_back_and_replaces_what_was_there() {
    let store = small_store();
    let restored = MemoryStore::new();
    let meta = restored.import(&mut export(&store).as_slice()).expect("imports");
    assert_eq!((meta.rows, meta.digest), (4, store.digest()));
    assert_eq!(restored.raft(), store.raft());
    assert_eq!(restored.recompute_digest().expect("recomputes"), store.digest());
    assert_eq!(export(&restored), export(&store));
    let before = restored.get_at(Table::Name, &Key(b"a".to_vec()), LogIndex(2)).expect("reads");
    assert_eq!(before, Some(Vec::new()), "deletion markers travel too");
    let after = restored.get_at(Table::Name, &Key(b"a".to_vec()), LogIndex(3)).expect("reads");
    assert_eq!(after, None);
}

#[test]
fn every_flipped_bit_is_found() {
    let bytes = export(&small_store());
    let store = MemoryStore::new();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = store.import(&mut damaged.as_slice()).expect_err("damaged");
        assert!(matches!(error, StoreError::Snapshot { .. }), "bit {bit}: {error:?}");
    }
    assert_eq!(store.digest(), StateDigest::default(), "nothing was taken over");
}

#[test]
fn every_cut_and_every_addition_is_found() {
    let bytes = export(&small_store());
    let store = MemoryStore::new();
    for length in 0..bytes.len() {
        let error = store.import(&mut &bytes[..length]).expect_err("cut");
        let cut = matches!(error, StoreError::Snapshot { source: SnapshotError::Read { .. } });
        assert!(cut, "cut at {length}: {error:?}");
    }
    let mut longer = bytes;
    longer.push(0);
    let error = store.import(&mut longer.as_slice()).expect_err("longer");
    assert_eq!(
        std::error::Error::source(&error).map(ToString::to_string).as_deref(),
        Some("chunk 1 of the snapshot is damaged: bytes follow the footer"),
    );
}

#[test]
fn swapped_missing_and_repeated_chunks_are_found() {
    // Values of half a chunk, so that there are several chunks.
    let store = MemoryStore::new();
    let mutations = (0..6_u8).map(|number| Mutation {
        table: Table::Tombstone,
        key: Key(vec![number]),
        operation: Operation::Put(vec![number; 600 * 1024]),
    });
    let applied = AppliedEntry { term: 1, leader: NodeId(1), index: LogIndex(1) };
    let raft = RaftRecord { applied: Some(applied), membership: Vec::new() };
    let mutations = vec![(LogIndex(1), mutations.collect())];
    store.commit(CommitBatch { mutations, raft }).expect("commits");
    let bytes = export(&store);
    let chunks = split(&bytes);
    assert_eq!(chunks.len(), 5, "a header, three chunks of rows, a footer");
    let target = MemoryStore::new();
    for order in [
        &[0, 2, 1, 3, 4][..],
        &[0, 1, 3, 4],
        &[0, 1, 1, 2, 3, 4],
        &[0, 1, 2, 3],
        &[0, 4],
        &[1, 2, 3, 4],
    ] {
        let stream: Vec<u8> = order.iter().flat_map(|&chunk| chunks[chunk].to_vec()).collect();
        let error = target.import(&mut stream.as_slice()).expect_err("not whole");
        assert!(matches!(error, StoreError::Snapshot { .. }), "{order:?}: {error:?}");
    }
    target.import(&mut bytes.as_slice()).expect("imports");
    assert_eq!(target.digest(), store.digest());
}

fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    let (header, rest) = bytes.split_at(HEADER_BYTES);
    chunks.push(header);
    bytes = rest;
    while !bytes.is_empty() {
        let (chunk, rest) = bytes.split_at(HEADER_BYTES + four(bytes, 4) as usize);
        chunks.push(chunk);
        bytes = rest;
    }
    chunks
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let mut bytes = export(&small_store());
    bytes[4] = 2;
    let mut header: [u8; HEADER_BYTES] = bytes[..HEADER_BYTES].try_into().expect("a header");
    seal_header(&mut header);
    bytes[..HEADER_BYTES].copy_from_slice(&header);
    let error = SnapshotReader::new(&mut bytes.as_slice()).map(|_| ()).expect_err("newer");
    let expect = "the snapshot has format 2, this program reads up to 1";
    assert_eq!(error.to_string(), expect);
}
