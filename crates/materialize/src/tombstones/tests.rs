//! Which rows a tombstone hides: older ones with its key, as of any index.

use std::sync::Arc;

use alluvium_stdx::{Clock, SystemClock};
use alluvium_types::{DataType as T, Field, FieldId, KeyBlockBuilder, Schema};
use arrow::array::{ArrayRef, Int64Array, UInt64Array};

use super::*;

fn block(keys: &[&[u8]]) -> KeyBlock {
    let mut builder = KeyBlockBuilder::default();
    keys.iter().for_each(|key| builder.push(key.to_vec(), 0).expect("short"));
    builder.build_set().expect("few")
}

#[test]
fn only_older_rows_are_hidden_and_only_from_the_tombstone_on() {
    let blocks = [(LogIndex(5), block(&[b"a", b"b"])), (LogIndex(9), block(&[b"a"]))];
    let mut backwards = TombstoneIndex::default();
    blocks.iter().rev().for_each(|(index, keys)| backwards.extend(*index, keys));
    backwards.extend(LogIndex(5), &blocks[0].1);
    for index in [TombstoneIndex::from_blocks(&blocks), backwards] {
        let hidden = |key: &str, row, at| index.hidden(key.as_bytes(), LogIndex(row), LogIndex(at));
        assert!(!hidden("a", 4, 4) && hidden("a", 4, 5));
        // A row that was put again at the tombstone's own index or later stays.
        assert!(!hidden("a", 5, 8) && hidden("a", 5, 9) && !hidden("a", 9, 99));
        assert!(hidden("b", 0, 99) && !hidden("b", 5, 99) && !hidden("c", 0, 99));
        assert_eq!(index.latest(b"a"), Some(LogIndex(9)));
        assert_eq!(index.len(), 2);
    }
}

#[test]
fn an_index_agrees_with_a_scan_of_all_blocks() {
    let mut prng = alluvium_stdx::Prng::from_seed(4);
    let mut blocks = Vec::new();
    for index in 1..60 {
        let keys: Vec<[u8; 1]> = (0..20).map(|_| [prng.next_u64().to_le_bytes()[0]]).collect();
        let keys: Vec<&[u8]> = keys.iter().map(<[u8; 1]>::as_slice).collect();
        blocks.push((LogIndex(index), block(&keys)));
    }
    let index = TombstoneIndex::from_blocks(&blocks);
    for _ in 0..5_000 {
        let key = [prng.next_u64().to_le_bytes()[0]];
        let (row, at) = (LogIndex(prng.below(64)), LogIndex(prng.below(64)));
        let hides = |(t, keys): &(LogIndex, KeyBlock)| row < *t && *t <= at && keys.contains(&key);
        assert_eq!(index.hidden(&key, row, at), blocks.iter().any(hides), "{key:?} {row} {at}");
    }
}

#[test]
fn a_million_tombstones_resolve_against_a_million_rows() {
    let field = Field { id: FieldId(1), name: "k".into(), data_type: T::Int64, nullable: false };
    let schema = Schema { fields: vec![field], key_columns: vec!["k".into()] };
    let keys = KeyEncoder::new(&schema).expect("keyed");
    let count = 1_000_000;
    let batch = |start: i64| {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(start..start + count));
        RecordBatch::try_from_iter([("k", ids)]).expect("one column")
    };
    let tombstones = keys.key_block(&batch(count / 2)).expect("keys");
    let index_column: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..1_000_000));
    let ids = Arc::clone(batch(0).column(0));
    let rows = RecordBatch::try_from_iter([("k", ids), (INDEX_COLUMN, index_column)]);
    let rows = rows.expect("two columns");
    let clock = SystemClock::new();
    let start = clock.monotonic_ns();
    let index = TombstoneIndex::from_blocks(&[(LogIndex(800_000), tombstones)]);
    let hidden = index.resolve(&keys, &rows, LogIndex::MAX).expect("resolved");
    let millis = (clock.monotonic_ns() - start) / 1_000_000;
    // Rows from the middle on have a key that is hidden; those at 800,000 and above are younger.
    assert_eq!((hidden.min(), hidden.max(), hidden.len()), (Some(500_000), Some(799_999), 300_000));
    assert!(cfg!(debug_assertions) || millis < 1_000, "{millis} ms");
}

#[test]
fn rows_without_an_index_column_cannot_be_resolved() {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let rows = RecordBatch::try_from_iter([("k", ids)]).expect("one column");
    let field = Field { id: FieldId(1), name: "k".into(), data_type: T::Int64, nullable: false };
    let schema = Schema { fields: vec![field], key_columns: vec!["k".into()] };
    let keys = KeyEncoder::new(&schema).expect("keyed");
    let blocks = [(LogIndex(1), keys.key_block(&rows).expect("keys"))];
    let index = TombstoneIndex::from_blocks(&blocks);
    let error = index.resolve(&keys, &rows, LogIndex(9)).expect_err("no index column");
    assert!(error.to_string().contains(INDEX_COLUMN), "{error}");
}
