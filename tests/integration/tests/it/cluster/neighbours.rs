//! Nodes that would be members and cannot: what they are told, and that nothing of them stays behind.

use alluvium_engine::{Error, Node};
use alluvium_types::ErrorKind;

use super::{Machine, free_address, until};

/// A cluster of one that leads.
async fn founder(machine: &Machine) -> (Node, String) {
    let first = Node::open(machine.config(free_address(), &[])).await.expect("founds");
    until("it leads", || async { first.status().await.expect("status").leader == Some(1) }).await;
    let address = first.peer_address().expect("has a port").to_owned();
    (first, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_that_says_a_wrong_address_is_told_so_and_joins_nothing() {
    let machine = Machine::new();
    let (first, address) = founder(&machine).await;
    let newcomer = Machine::new();
    let nobody = free_address().to_string();
    for wrong in [nobody.as_str(), "no-such-host.invalid:1", "no port", &address] {
        let mut config = newcomer.config(free_address(), &[&address, "127.0.0.1:1"]);
        config.peer.as_mut().expect("a member").advertise = Some(wrong.to_owned());
        let error = Node::open(config).await.expect_err("nobody reaches it");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        let text = error.to_string();
        assert!(text.contains("does not let this node in") && text.contains(wrong), "{text}");
        assert_eq!(first.members().len(), 1, "{wrong}: nobody joined");
        assert!(!newcomer.path().join("node.alluvium").exists(), "{wrong}");
    }
    // The same directory joins by its right address, under the first id that is free.
    let second = Node::open(newcomer.config(free_address(), &[&address])).await.expect("joins");
    assert_eq!(second.node_id(), 2);
    for node in [second, first] {
        node.shutdown().await.expect("stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_on_one_new_directory_one_joins_and_the_other_leaves_no_member_behind() {
    let machine = Machine::new();
    let (first, address) = founder(&machine).await;
    let newcomer = Machine::new();
    let start = || Node::open(newcomer.config(free_address(), &[&address]));
    let (one, other) = tokio::join!(start(), start());
    let (joined, refused) = match (one, other) {
        (Ok(joined), Err(refused)) | (Err(refused), Ok(joined)) => (joined, refused),
        both => panic!("one of them has it: {both:?}"),
    };
    let named = matches!(&refused, Error::DirectoryLocked { path } if *path == newcomer.path());
    assert!(named, "{refused:?}");
    until("it has its vote", || async {
        first.members().iter().filter(|member| member.votes).count() == 2
    })
    .await;
    let ids: Vec<u64> = first.members().iter().map(|member| member.node).collect();
    assert_eq!(ids, [1, 2], "nobody else was let in");
    let refused = start().await.expect_err("it runs");
    assert!(matches!(refused, Error::DirectoryLocked { .. }), "{refused:?}");
    assert_eq!(first.members().len(), 2);
    for node in [joined, first] {
        node.shutdown().await.expect("stops");
    }
}
