//! What the simulated disk may and may not do at a power cut.

use super::*;
use crate::storage::suite;

fn sectors(disk: &SimDisk, name: &str) -> Vec<u8> {
    let content = disk.content(name).unwrap_or_default();
    content.chunks(512).map(|sector| sector[0]).collect()
}

#[test]
fn the_simulated_disk_passes_the_storage_suite() {
    let mut seed = 0;
    suite::run(&mut || {
        seed += 1;
        Arc::new(SimDisk::new(seed))
    });
}

/// Writes four sectors of ones, synced, then twos, unsynced; returns what crashes leave.
fn crashed(seed: u64) -> Vec<u8> {
    let disk = SimDisk::new(seed);
    let file = disk.create("a", Access::Write).expect("create");
    disk.sync_dir().expect("sync");
    file.write_at(0, &mut [IoSlice::new(&[1; 2048])]).expect("write");
    file.sync_data().expect("sync");
    file.write_at(0, &mut [IoSlice::new(&[2; 2048])]).expect("write");
    disk.crash();
    sectors(&disk, "a")
}

#[test]
fn a_power_cut_keeps_synced_sectors_and_any_subset_of_the_others() {
    let left: std::collections::BTreeSet<Vec<u8>> = (0..400).map(crashed).collect();
    assert_eq!(left.len(), 16, "every subset of four sectors occurs: {left:?}");
    assert!(left.iter().flatten().all(|&byte| byte == 1 || byte == 2));
}

#[test]
fn a_name_that_is_not_synced_may_be_lost_and_one_that_is_synced_stays() {
    let outcomes: std::collections::BTreeSet<Vec<String>> = (0..50)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            disk.create("synced", Access::Write).expect("create");
            disk.sync_dir().expect("sync");
            disk.create("unsynced", Access::Write).expect("create");
            disk.crash();
            disk.list().expect("list")
        })
        .collect();
    let both = vec!["synced".to_owned(), "unsynced".to_owned()];
    assert_eq!(outcomes, [vec!["synced".to_owned()], both].into());
}

#[test]
fn a_failed_sync_says_success_when_asked_again_and_the_disk_lacks_what_the_cache_shows() {
    let lost = (0..20).any(|seed| {
        let disk = SimDisk::new(seed);
        let file = disk.create("a", Access::Write).expect("create");
        disk.sync_dir().expect("sync");
        file.write_at(0, &mut [IoSlice::new(&[7; 512])]).expect("write");
        let fail_at = Some(disk.operations() + 1);
        disk.set_faults(Faults { fail_at, ..Faults::default() });
        file.sync_data().expect_err("fails once");
        file.sync_data().expect("claims success");
        assert_eq!(sectors(&disk, "a"), [7], "the cache shows it");
        disk.crash();
        sectors(&disk, "a") != [7]
    });
    assert!(lost);
}

#[test]
fn a_lying_sync_loses_what_it_claimed() {
    let lost = (0..20).any(|seed| {
        let disk = SimDisk::new(seed);
        let file = disk.create("a", Access::Write).expect("create");
        disk.sync_dir().expect("sync");
        disk.set_faults(Faults { lying_sync_one_in: Some(1), ..Faults::default() });
        file.write_at(0, &mut [IoSlice::new(&[7; 512])]).expect("write");
        file.sync_data().expect("lies");
        disk.crash();
        sectors(&disk, "a") != [7]
    });
    assert!(lost);
}

#[test]
fn a_full_disk_refuses_growth_and_takes_overwrites() {
    let disk = SimDisk::new(0);
    let file = disk.create("a", Access::Write).expect("create");
    disk.set_faults(Faults { capacity_bytes: Some(1024), ..Faults::default() });
    file.write_at(0, &mut [IoSlice::new(&[1; 1024])]).expect("fits");
    let error = file.write_at(1024, &mut [IoSlice::new(&[1])]).expect_err("full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    file.write_at(0, &mut [IoSlice::new(&[2; 1024])]).expect("overwrites");
}

#[test]
fn files_of_a_killed_process_are_dead_and_its_lock_is_free() {
    let disk = SimDisk::new(0);
    let lock = disk.lock().expect("free");
    let file = disk.create("a", Access::Write).expect("create");
    disk.kill();
    file.sync_data().expect_err("dead");
    let next = disk.lock().expect("free again");
    drop(lock);
    assert!(disk.lock().is_err(), "the dead guard does not free the lock of the living");
    drop(next);
}
