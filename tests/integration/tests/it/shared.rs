//! A bucket that all members see: one of them writes a file, the others check it, and it goes when nobody needs it.

use std::sync::Arc;
use std::time::Duration;

use alluvium_engine::{Config, Node, RegisterOptions, SqlOptions, TombstoneKeys};
use alluvium_storage::{FaultRates, FaultStore};
use alluvium_types::ErrorKind;
use object_store::memory::InMemory;

use crate::cluster::{Three, caller, check_same, data_files, rows, schema, totals, until};
use crate::s3_server::S3Server;

fn with(server: &S3Server) -> impl Fn(Config) -> Config {
    let store = server.client();
    move |mut config| {
        config.shared_buckets.insert("lake".to_owned(), Arc::clone(&store));
        config
    }
}

async fn register_in_lake(node: &Node) {
    let options = RegisterOptions { bucket: "lake".to_owned(), ..RegisterOptions::keyed(&["id"]) };
    node.register(&caller(), "t", schema(), options).await.expect("registers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_writes_a_file_the_others_check_it_and_it_goes_when_nobody_needs_it() {
    let server = S3Server::start().await;
    let three = Three::start_with(with(&server)).await;
    let nodes = &three.nodes;
    register_in_lake(&nodes[1]).await;
    for round in 0..3 {
        let numbers = round * 100..(round + 1) * 100;
        let node = &nodes[usize::try_from(round).expect("small")];
        node.append(&caller(), "t", vec![rows(numbers)]).await.expect("acknowledged");
        node.seal(&caller(), "t").await.expect("seals");
        // Another one writes the next.
        node.transfer_leader(u64::try_from((round + 1) % 3 + 1).expect("small"))
            .await
            .expect("leads");
    }
    check_same(nodes, 300, (0..300).sum()).await;
    let files = server.data_files().await;
    assert_eq!(files.len(), 3);
    let puts = server.answered("PUT");
    let of_files = puts.iter().filter(|(key, _)| key.ends_with(".parquet"));
    assert!({ of_files }.all(|(_, times)| *times == 1), "each was put once: {puts:?}");
    for (place, node) in nodes.iter().enumerate() {
        assert!(data_files(&three.path(place)).is_empty(), "nothing lies in a member's own bucket");
        let status = node.status().await.expect("status");
        assert_eq!((status.files_missing, status.job_errors), (0, vec![]), "all are checked");
    }
    let read = server.answered("GET");
    assert!(files.keys().all(|key| 3 <= read[key]), "each was read by every member: {read:?}");
    // What a reader of another member holds on to stays.
    let options = SqlOptions { local: true, ..SqlOptions::default() };
    let reading = nodes[2].sql("SELECT id, n FROM t", options).await.expect("plans");
    let keys = TombstoneKeys::Predicate("n < 150".to_owned());
    nodes[0].tombstone(&caller(), "t", keys).await.expect("hides");
    let report = nodes[0].compact(&caller(), "t").await.expect("compacts");
    assert_eq!((report.rows_in, report.rows_out), (300, 150));
    nodes[0].expire(&caller(), "t", None).await.expect("expires");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.data_files().await.len(), 4, "somebody reads the old ones");
    let batches = reading.collect().await.expect("reads to the end");
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 300);
    until("the old files are gone", || async { server.data_files().await.len() == 1 }).await;
    let left = server.data_files().await;
    let deleted = server.answered("DELETE");
    assert!(files.keys().all(|key| deleted.contains_key(key) && !left.contains_key(key)));
    check_same(nodes, 150, (150..300).sum()).await;
    for node in nodes {
        let report = node.verify().await.expect("looks");
        assert_eq!((report.damage, report.rows), (vec![], 150));
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_of_the_past_that_still_puts_a_file_finds_the_same_bytes() {
    let server = S3Server::start().await;
    let three = Three::start_with(with(&server)).await;
    let nodes = &three.nodes;
    register_in_lake(&nodes[0]).await;
    nodes[0].append(&caller(), "t", vec![rows(0..100)]).await.expect("acknowledged");
    server.hold(true);
    let caller = caller();
    let sealing = nodes[1].seal(&caller, "t");
    let deposing = async {
        server.until_asked(1).await;
        // The first is in the middle of it when the second takes over and begins, too.
        nodes[0].transfer_leader(2).await.expect("hands over");
        server.until_asked(2).await;
        server.hold(false);
    };
    let (sealed, ()) = tokio::join!(sealing, deposing);
    assert_eq!(sealed.expect("seals").rows, 100);
    check_same(nodes, 100, (0..100).sum()).await;
    let puts = server.answered("PUT");
    let of_files: Vec<_> = puts.iter().filter(|(key, _)| key.ends_with(".parquet")).collect();
    assert_eq!(of_files.len(), 1);
    assert_eq!(*of_files[0].1, 1, "the second put was refused, and found what it would have put");
    for node in nodes {
        assert_eq!(node.status().await.expect("status").job_errors, Vec::<String>::new());
        assert_eq!(node.verify().await.expect("looks").damage, Vec::<String>::new());
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_damaged_is_named_by_who_checks_it_and_by_who_reads_it() {
    let server = S3Server::start().await;
    let mut three = Three::start_with(with(&server)).await;
    register_in_lake(&three.nodes[0]).await;
    three.close(2).await;
    three.nodes[0].append(&caller(), "t", vec![rows(0..100)]).await.expect("acknowledged");
    three.nodes[0].seal(&caller(), "t").await.expect("seals");
    let (key, bytes) = server.data_files().await.pop_first().expect("one file");
    let mut damaged = bytes.to_vec();
    damaged[bytes.len() / 2] ^= 1;
    server.overwrite(&key, damaged).await;
    three.open(2).await;
    let late = three.nodes[2].clone();
    until("the one that comes late says which file is damaged", || async {
        let errors = late.status().await.expect("status").job_errors;
        errors.iter().any(|error| error.contains("damaged"))
    })
    .await;
    let failed = totals(&late, SqlOptions::default()).await.expect_err("it is damaged");
    assert_eq!(failed.kind(), ErrorKind::Corrupt, "{failed}");
    assert_eq!(late.status().await.expect("status").files_missing, 1, "it is not taken as checked");
    // Nobody writes over it, and when it is put back all go on.
    let found = server.data_files().await;
    assert_ne!(found[&key], bytes, "somebody wrote over what may be evidence");
    server.overwrite(&key, bytes.to_vec()).await;
    until("it is checked", || async { late.status().await.expect("status").files_missing == 0 })
        .await;
    check_same(&three.nodes, 100, (0..100).sum()).await;
    drop(late);
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_another_ones_or_was_emptied_is_refused() {
    let server = S3Server::start().await;
    let mut three = Three::start_with(with(&server)).await;
    register_in_lake(&three.nodes[0]).await;
    three.nodes[0].append(&caller(), "t", vec![rows(0..10)]).await.expect("acknowledged");
    three.nodes[0].seal(&caller(), "t").await.expect("seals");
    // Another cluster is given the same bucket.
    let directory = tempfile::tempdir().expect("temporary directory");
    let config = with(&server)(Config::single(directory.path().join("other")));
    let error = Node::open(config).await.expect_err("it is the first one's");
    assert!(error.to_string().contains("names another bucket or cluster"), "{error}");
    check_same(&three.nodes, 10, (0..10).sum()).await;
    three.close(2).await;
    let kept = server.data_files().await;
    server.empty().await;
    let error = Node::open(three.tuned[2].clone()).await.expect_err("it was emptied");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("identity marker is missing"), "{error}");
    assert!(server.data_files().await.is_empty(), "nothing was put into it");
    assert_eq!(kept.len(), 1);
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_no_bucket_can_have_and_buckets_that_a_node_lacks_are_refused() {
    let server = S3Server::start().await;
    let directory = tempfile::tempdir().expect("temporary directory");
    for name in ["", "local", "A", "a/b", &"x".repeat(64)] {
        let mut config = Config::single(directory.path().join("node"));
        config.shared_buckets.insert(name.to_owned(), server.client());
        let error = Node::open(config).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    let node = Node::open(Config::single(directory.path().join("node"))).await.expect("opens");
    let options = RegisterOptions { bucket: "lake".to_owned(), ..RegisterOptions::keyed(&["id"]) };
    let refused = node.register(&caller(), "t", schema(), options).await.expect_err("unknown");
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_stops_no_append_and_no_start() {
    let server = S3Server::start().await;
    let mut three = Three::start_with(with(&server)).await;
    register_in_lake(&three.nodes[0]).await;
    server.cut(true);
    three.close(2).await;
    three.open(2).await;
    three.nodes[2].append(&caller(), "t", vec![rows(0..100)]).await.expect("acknowledged");
    check_same(&three.nodes, 100, (0..100).sum()).await;
    let refused = three.nodes[0].seal(&caller(), "t").await.expect_err("the bucket is away");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    three.nodes[1].append(&caller(), "t", vec![rows(100..200)]).await.expect("acknowledged");
    server.cut(false);
    until("the file is made after all", || async { server.data_files().await.len() == 1 }).await;
    check_same(&three.nodes, 200, (0..200).sum()).await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_a_bad_day_costs_time_and_no_row() {
    let memory = Arc::new(InMemory::new());
    let store = Arc::new(FaultStore::new(Arc::clone(&memory) as _, 42, FaultRates::BAD_DAY));
    let server = S3Server::over(Arc::clone(&store) as _, memory).await;
    let three = Three::start_with(with(&server)).await;
    let nodes = &three.nodes;
    register_in_lake(&nodes[0]).await;
    let insist =
        async |what: &str, call: &dyn Fn() -> futures::future::BoxFuture<'static, bool>| {
            for _ in 0..200 {
                if call().await {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("never: {what}");
        };
    for round in 0..8_i64 {
        let node = nodes[usize::try_from(round % 3).expect("small")].clone();
        let numbers = round * 100..(round + 1) * 100;
        node.append(&caller(), "t", vec![rows(numbers)]).await.expect("needs no bucket");
        insist("seals", &|| {
            let node = node.clone();
            Box::pin(async move { node.seal(&caller(), "t").await.is_ok() })
        })
        .await;
    }
    insist("compacts", &|| {
        let node = nodes[1].clone();
        Box::pin(async move { node.compact(&caller(), "t").await.is_ok() })
    })
    .await;
    let counts = store.counts();
    assert!(0 < counts.without_effect && 0 < counts.lost_replies, "nothing struck: {counts:?}");
    assert!(0 < counts.damaged_reads, "nothing struck: {counts:?}");
    store.set_rates(FaultRates::NONE);
    check_same(nodes, 800, (0..800).sum()).await;
    for node in nodes {
        assert_eq!(node.verify().await.expect("looks").damage, Vec::<String>::new());
    }
    three.stop().await;
}

async fn count(node: &Node, text: &str) -> Result<usize, alluvium_engine::Error> {
    let answer = node.sql(text, SqlOptions::default()).await?.collect().await?;
    Ok(answer.iter().map(|batch| batch.num_rows()).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_object_or_bucket_holds_up_its_own_datasets_alone() {
    let server = S3Server::start().await;
    let mut three = Three::start_with(with(&server)).await;
    register_in_lake(&three.nodes[0]).await;
    let options = RegisterOptions::keyed(&["id"]);
    three.nodes[0].register(&caller(), "own", schema(), options).await.expect("registers");
    three.close(2).await;
    three.nodes[0].append(&caller(), "t", vec![rows(0..100)]).await.expect("acknowledged");
    three.nodes[0].seal(&caller(), "t").await.expect("seals");
    let (key, _) = server.data_files().await.pop_first().expect("one file");
    server.remove(&key).await;
    three.open(2).await;
    let late = three.nodes[2].clone();
    until("the one that comes late says that it is missing", || async {
        let errors = late.status().await.expect("status").job_errors;
        errors.iter().any(|error| error.contains("missing"))
    })
    .await;
    for first in [0, 100] {
        late.append(&caller(), "own", vec![rows(first..first + 100)]).await.expect("acknowledged");
        late.seal(&caller(), "own").await.expect("seals");
    }
    let keys = TombstoneKeys::Predicate("n < 50".to_owned());
    late.tombstone(&caller(), "own", keys).await.expect("hides");
    let report = late.compact(&caller(), "own").await.expect("compacts");
    assert_eq!((report.rows_in, report.rows_out), (200, 150));
    late.expire(&caller(), "own", None).await.expect("expires");
    assert_eq!(count(&late, "SELECT id FROM own").await.expect("answers"), 150);
    let refused = count(&late, "SELECT id FROM t").await.expect_err("it is missing");
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    // A member that was not told of the bucket at all.
    drop(late);
    three.close(2).await;
    three.tuned[2].shared_buckets.clear();
    three.open(2).await;
    assert_eq!(count(&three.nodes[2], "SELECT id FROM own").await.expect("answers"), 150);
    let refused =
        count(&three.nodes[2], "SELECT id FROM t").await.expect_err("it lacks the bucket");
    assert!(refused.to_string().contains("lake"), "{refused}");
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_nobody_has_claimed_is_claimed_by_the_first_file_alone() {
    let server = S3Server::start().await;
    let three = Three::start_with(with(&server)).await;
    register_in_lake(&three.nodes[0]).await;
    three.nodes[2].append(&caller(), "t", vec![rows(0..10)]).await.expect("acknowledged");
    assert!(server.answered("PUT").is_empty(), "no member has written yet");
    three.nodes[2].seal(&caller(), "t").await.expect("seals");
    let puts = server.answered("PUT");
    assert_eq!((puts.len(), puts.values().sum::<u64>()), (2, 2), "a marker and a file: {puts:?}");
    three.stop().await;
}
