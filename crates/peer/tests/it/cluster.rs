//! Three nodes: replication, failover, membership, forwarded calls.

use std::time::Duration;

use alluvium_peer::{Authority, Security};
use alluvium_raft::{Error, LeaderHint, MembershipFault};
use alluvium_types::LogIndex;

use crate::support::{Machine, assert_opened, cluster, command, converged, leader, promote, until};

fn open(count: u64) -> Vec<Machine> {
    (1..=count).map(|node| Machine::new(node, Security::Open)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_hold_the_same_and_go_on_without_the_one_that_led() {
    let machines = open(3);
    let mut running = cluster(&machines).await;
    let mut last = LogIndex(0);
    for number in 0..50 {
        let response = running[0].propose(&format!("before-{number}")).await;
        last = response.expect("acknowledged").index;
    }
    let (_, before) = converged(&running, last).await;
    running.remove(0).stop().await;
    let new = leader(&running).await;
    let mut outcome = running[new].propose("after").await;
    while matches!(outcome, Err(Error::Unavailable | Error::NotLeader { .. })) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        outcome = running[leader(&running).await].propose("after").await;
    }
    let next = outcome.expect("acknowledged").index;
    assert!(last < next);
    let (_, after) = converged(&running, next).await;
    assert_ne!(before, after);
    // The one that was away catches up from the log.
    running.push(machines[0].start().await);
    converged(&running, next).await;
    for node in running {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_gone_is_asked_now_and_then_and_not_without_end() {
    let machines = open(2);
    let mut running = cluster(&machines).await;
    let last = running[0].propose("whole").await.expect("acknowledged").index;
    converged(&running, last).await;
    let gone = running.pop().expect("two");
    let address = gone.address;
    gone.stop().await;
    // In its place somebody who hangs up, and counts.
    #[expect(clippy::disallowed_methods, reason = "a stranger in the place of a member")]
    let listener = tokio::net::TcpListener::bind(address).await.expect("the port is free");
    let counting = async {
        let mut count = 0_u32;
        let until = tokio::time::Instant::now() + Duration::from_secs(3);
        while let Ok(Ok(_hung_up)) = tokio::time::timeout_at(until, listener.accept()).await {
            count += 1;
        }
        count
    };
    let (count, _pending) = tokio::join!(counting, async {
        tokio::time::timeout(Duration::from_secs(3), running[0].propose("alone")).await
    });
    // Twenty heartbeats, and entries again after waits that double.
    assert!((1..=120).contains(&count), "asked {count} times");
    for node in running {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_acknowledged_and_nothing_invented() {
    let machines = open(3);
    let mut running = cluster(&machines).await;
    let last = running[0].propose("whole").await.expect("acknowledged").index;
    converged(&running, last).await;
    running.pop().expect("three").stop().await;
    running.pop().expect("two").stop().await;
    let alone = &running[0];
    let proposed = tokio::time::timeout(Duration::from_secs(3), alone.propose("alone")).await;
    assert!(!matches!(proposed, Ok(Ok(_))), "{proposed:?}");
    let read = tokio::time::timeout(Duration::from_secs(3), alone.node.read_index()).await;
    assert!(!matches!(read, Ok(Ok(_))), "{read:?}");
    // What was applied before is there, and no more.
    assert_eq!(alone.digest().0, last);
    let second = machines[1].start().await;
    running.push(second);
    // What was proposed alone may take effect now, or never: its caller was told that it is not known.
    let again = leader(&running).await;
    until("it serves again", || running[again].digest().0 > last).await;
    converged(&running, last).await;
    for node in running {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_forwards_to_the_one_that_leads() {
    let machines = open(3);
    let running = cluster(&machines).await;
    let follower = &running[2];
    let refused = follower.propose("follower").await.expect_err("it does not lead");
    let Error::NotLeader { hint } = refused else { panic!("unexpected {refused:?}") };
    assert_eq!(hint, LeaderHint { node: 1, address: running[0].address.to_string() });
    let answered = follower.calls.propose(&hint, &command("forwarded")).await.expect("answered");
    assert_opened(&answered);
    let read = follower.calls.read_index(&hint).await.expect("answered");
    assert!(answered.index <= read);
    follower.node.wait_applied(read).await.expect("applied");
    // A wrong hint is answered with a better one.
    let wrong = LeaderHint { node: 2, address: running[1].address.to_string() };
    let refused = follower.calls.propose(&wrong, &command("astray")).await;
    assert!(matches!(&refused, Err(Error::NotLeader { hint: better }) if *better == hint));
    let nobody = LeaderHint { node: 9, address: "127.0.0.1:1".to_owned() };
    let refused = follower.calls.propose(&nobody, &command("nowhere")).await;
    assert!(matches!(refused, Err(Error::Unavailable)), "nothing was sent: {refused:?}");
    for node in running {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_proposed_under_a_leadership_that_is_over_is_not_made() {
    let machines = open(3);
    let running = cluster(&machines).await;
    let (first, second) = (&running[0].node, &running[1].node);
    let within = Duration::from_secs(20);
    first.wait_ready().await.expect("ready");
    until("node 1 leads", || first.leadership().is_some()).await;
    let old = first.leadership().expect("it leads");
    assert_eq!(second.leadership(), None, "it follows");
    let proposed = first.propose_under(&old, command("under it")).await.expect("acknowledged");
    first.transfer_leader(2, within).await.expect("hands over");
    until("node 2 leads", || second.leadership().is_some()).await;
    until("node 1 knows", || first.status().leader == Some(2)).await;
    assert_eq!(first.leadership(), None);
    let late = first.propose_under(&old, command("late")).await.expect_err("it does not lead");
    assert!(matches!(&late, Error::NotLeader { hint } if hint.node == 2), "{late:?}");
    second.transfer_leader(1, within).await.expect("hands back");
    until("node 1 leads again", || first.leadership().is_some()).await;
    let new = first.leadership().expect("it leads");
    assert_ne!(old, new);
    // It leads, and still: another one did in between.
    let late = first.propose_under(&old, command("late")).await.expect_err("that one is over");
    assert!(matches!(&late, Error::NotLeader { .. } | Error::Unavailable), "{late:?}");
    let last = first.propose_under(&new, command("under the new one")).await.expect("acknowledged");
    // Two leaders' first entries lie between, and nothing else.
    assert_eq!(last.index.0, proposed.index.0 + 3);
    converged(&running, last.index).await;
    for node in running {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leadership_is_handed_over_and_a_member_replaced() {
    let machines = open(4);
    let mut running = cluster(&machines[..3]).await;
    let within = Duration::from_secs(20);
    let no_vote = running[0].node.transfer_leader(4, within).await.expect_err("not a member");
    let fault = MembershipFault::NoVote { node: 4 };
    assert!(matches!(&no_vote, Error::Membership { fault: found } if *found == fault));
    running[0].node.transfer_leader(2, within).await.expect("hands over");
    until("node 2 leads", || running[1].node.status().leader == Some(2)).await;
    let late = running[0].node.transfer_leader(1, within).await.expect_err("it does not lead");
    assert!(matches!(&late, Error::NotLeader { hint } if hint.node == 2), "{late:?}");

    // Node 3 dies and is replaced by node 4.
    running.pop().expect("three").stop().await;
    let fourth = machines[3].start().await;
    let address = fourth.address.to_string();
    let leading = running[1].node.clone();
    leading.wait_ready().await.expect("ready");
    let unknown = leading.promote(&[4]).await.expect_err("no member yet");
    assert!(matches!(unknown, Error::Membership { fault: MembershipFault::Unknown { node: 4 } }));
    leading.add_learner(Some(4), &address).await.expect("joins");
    let taken = leading.add_learner(Some(4), "127.0.0.1:1").await.expect_err("the id is taken");
    let expected = Error::Membership { fault: MembershipFault::Taken { node: 4, address } };
    assert_eq!(taken.to_string(), expected.to_string());
    promote(&leading, &[4]).await;
    // It has acknowledged entries: a directory that comes under its id now would not have them.
    for wanted in [Some(4), None] {
        let again = leading.add_learner(wanted, &fourth.address.to_string()).await;
        let again = again.expect_err("the id is never given twice");
        assert!(matches!(
            &again,
            Error::Membership { fault: MembershipFault::Taken { node: 4, .. } }
        ));
    }
    leading.remove(&[3]).await.expect("removes");
    let gone = leading.remove(&[3]).await.expect_err("it is gone");
    assert!(matches!(gone, Error::Membership { fault: MembershipFault::Unknown { node: 3 } }));
    let nobody = leading.remove(&[1, 2, 4]).await.expect_err("nobody would be left");
    assert!(matches!(nobody, Error::Membership { fault: MembershipFault::LastVoter }));
    let used = leading.add_learner(Some(3), "127.0.0.1:3").await.expect_err("it was used");
    let fault = MembershipFault::Used { node: 3, next: 5 };
    assert!(matches!(&used, Error::Membership { fault: found } if *found == fault), "{used:?}");
    let voters: Vec<u64> = leading.membership().voter_ids().collect();
    assert_eq!(voters, [1, 2, 4]);
    running.push(fourth);
    let last = running[1].propose("after").await.expect("acknowledged").index;
    converged(&running, last).await;
    for node in running {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_certificates_of_one_authority_make_a_cluster() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let authority = Authority::open_or_create(dir.path()).expect("makes one");
    let machine = |node| {
        let mut machine = Machine::new(node, Security::Open);
        let files = authority.issue(machine.identity()).expect("issues");
        let security = Security::read(&files.authority, &files.certificate, &files.key);
        machine.security = security.expect("reads");
        machine
    };
    let machines: Vec<Machine> = (1..=3).map(machine).collect();
    let running = cluster(&machines).await;
    let last = running[0].propose("sealed").await.expect("acknowledged").index;
    converged(&running, last).await;
    for node in running {
        node.stop().await;
    }
}
