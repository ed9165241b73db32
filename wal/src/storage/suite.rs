//! What every storage must do while there is power. What a power cut leaves is tested with the
//! simulated disk.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use crate::storage::{Access, Storage};

/// Runs every check, each on a fresh storage.
pub(crate) fn run(fresh: &mut dyn FnMut() -> Arc<dyn Storage>) {
    written_bytes_are_read_back(fresh().as_ref());
    a_read_over_the_end_fails(fresh().as_ref());
    names_are_listed_in_order_and_follow_renames(fresh().as_ref());
    names_are_never_taken_over(fresh().as_ref());
    open_files_outlive_their_names(fresh().as_ref());
    many_slices_land_in_order(fresh().as_ref());
}

fn written_bytes_are_read_back(storage: &dyn Storage) {
    let file = storage.create("a", Access::Write).expect("create");
    assert!(file.is_empty().expect("length"));
    file.write_at(3, &mut [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"two")])
        .expect("write");
    file.sync_data().expect("sync");
    storage.sync_dir().expect("sync names");
    let mut bytes = [9; 9];
    storage.open("a", Access::Read).expect("open").read_at(0, &mut bytes).expect("read");
    assert_eq!((&bytes, file.len().expect("length")), (b"\0\0\0onetwo", 9));
    let through = storage.open("a", Access::WriteThrough).expect("open");
    through.write_at(0, &mut [IoSlice::new(b"xyz")]).expect("write");
    file.read_at(0, &mut bytes).expect("read");
    assert_eq!(&bytes, b"xyzonetwo");
}

fn a_read_over_the_end_fails(storage: &dyn Storage) {
    let file = storage.create("a", Access::Write).expect("create");
    file.write_at(0, &mut [IoSlice::new(b"abc")]).expect("write");
    let error = file.read_at(1, &mut [0; 3]).expect_err("over the end");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    file.read_at(3, &mut []).expect("nothing can be read at the end");
}

fn names_are_listed_in_order_and_follow_renames(storage: &dyn Storage) {
    for name in ["b", "a", "c"] {
        storage.create(name, Access::Write).expect("create");
    }
    storage.rename("a", "d").expect("rename");
    storage.remove("b").expect("remove");
    storage.sync_dir().expect("sync names");
    assert_eq!(storage.list().expect("list"), ["c", "d"]);
}

fn names_are_never_taken_over(storage: &dyn Storage) {
    storage.create("a", Access::Write).expect("create");
    storage.create("b", Access::Write).expect("create");
    let kinds = [
        storage.create("a", Access::Write).map(|_| ()).expect_err("exists").kind(),
        storage.rename("a", "b").expect_err("exists").kind(),
        storage.rename("x", "y").expect_err("absent").kind(),
        storage.remove("x").expect_err("absent").kind(),
        storage.open("x", Access::Read).map(|_| ()).expect_err("absent").kind(),
    ];
    use ErrorKind::{AlreadyExists, NotFound};
    assert_eq!(kinds, [AlreadyExists, AlreadyExists, NotFound, NotFound, NotFound]);
}

fn open_files_outlive_their_names(storage: &dyn Storage) {
    let file = storage.create("a", Access::Write).expect("create");
    file.write_at(0, &mut [IoSlice::new(b"abc")]).expect("write");
    storage.rename("a", "b").expect("rename");
    file.write_at(3, &mut [IoSlice::new(b"def")]).expect("write");
    storage.remove("b").expect("remove");
    let mut bytes = [0; 6];
    file.read_at(0, &mut bytes).expect("read");
    assert_eq!(&bytes, b"abcdef");
}

fn many_slices_land_in_order(storage: &dyn Storage) {
    let file = storage.create("a", Access::Write).expect("create");
    let numbers: Vec<[u8; 4]> = (0..3_000_u32).map(u32::to_le_bytes).collect();
    let mut slices: Vec<IoSlice<'_>> = numbers.iter().map(|n| IoSlice::new(n)).collect();
    file.write_at(0, &mut slices).expect("write");
    let mut bytes = vec![0; 12_000];
    file.read_at(0, &mut bytes).expect("read");
    assert_eq!(bytes, numbers.concat());
}
