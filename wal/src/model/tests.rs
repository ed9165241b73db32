//! The seeds. `ALLUVIUM_SEEDS` sets how many each shard runs; the default takes seconds.

use super::run::{Tally, Violation, run};
use crate::planted::Planted;

const SEEDS_DEFAULT: u64 = 125;
const SHARDS: u64 = 8;

fn seeds() -> u64 {
    let wanted = std::env::var("ALLUVIUM_SEEDS").ok();
    wanted.map_or(SEEDS_DEFAULT, |text| text.parse().expect("ALLUVIUM_SEEDS is a number"))
}

fn check_shard(shard: u64) {
    let mut total = Tally::default();
    for seed in (0..seeds()).map(|number| number * SHARDS + shard) {
        match run(seed, None) {
            Ok(tally) => total.add(&tally),
            Err(Violation(what)) => panic!("seed {seed}: {what}"),
        }
    }
    let did = [
        total.commits,
        total.crashes,
        total.crashes_in_open,
        total.poisoned,
        total.full,
        total.refused_damage,
        total.torn_tails,
    ];
    assert!(did.iter().all(|&count| count > 0), "the runs did nothing of a kind: {total:?}");
}

#[test]
fn the_log_keeps_its_promises_under_faults_shard_0() {
    check_shard(0);
}

#[test]
fn the_log_keeps_its_promises_under_faults_shard_1() {
    check_shard(1);
}

#[test]
fn the_log_keeps_its_promises_under_faults_shard_2() {
    check_shard(2);
}

#[test]
fn the_log_keeps_its_promises_under_faults_shard_3() {
    check_shard(3);
}

#[test]
fn the_log_keeps_its_promises_under_faults_shard_4() {
    check_shard(4);
}

#[test]
fn the_log_keeps_its_promises_under_faults_shard_5() {
    check_shard(5);
}

#[test]
fn the_log_keeps_its_promises_under_faults_shard_6() {
    check_shard(6);
}

#[test]
fn the_log_keeps_its_promises_under_faults_shard_7() {
    check_shard(7);
}

#[test]
fn a_seed_gives_the_same_operations_each_time() {
    for seed in 0..20 {
        let runs = [run(seed, None), run(seed, None)].map(|run| run.map_err(|v| v.0));
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}

/// Returns the first seed that finds the planted bug; an assertion of the log counts as found.
fn found_at(bug: Planted, seeds_max: u64) -> Option<u64> {
    (0..seeds_max).find(|&seed| match std::panic::catch_unwind(|| run(seed, Some(bug))) {
        Ok(Ok(_)) => false,
        Ok(Err(Violation(_))) | Err(_) => true,
    })
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    assert_ne!(found_at(Planted::AckBeforeSync, 50), None);
}

#[test]
fn an_unsynced_name_of_a_new_segment_is_found() {
    assert_ne!(found_at(Planted::SkipDirectorySync, 200), None);
}

#[test]
fn a_cut_at_the_first_bad_record_is_found() {
    assert_ne!(found_at(Planted::CutAtFirstBad, 200), None);
}

#[test]
fn a_chain_that_is_not_verified_is_found() {
    assert_ne!(found_at(Planted::SkipChain, 400), None);
}

#[test]
fn a_sync_that_is_tried_again_is_found() {
    assert_ne!(found_at(Planted::RetrySync, 400), None);
}
