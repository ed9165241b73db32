//! A cluster of one, through proposals, reads, power cuts, snapshots and faults.

use std::collections::BTreeSet;

use alluvium_state_machine::{Key, MetaStore, ScanRange, Table};
use alluvium_types::{Outcome, SessionId};
use alluvium_wal::sim::Faults;

use super::*;
use crate::status::Role;
use crate::support::{Machine, applied_index, command, propose};

fn sessions(store: &dyn MetaStore) -> Vec<Key> {
    let prefix = Key::empty();
    let range = ScanRange { table: Table::Session, prefix: &prefix, from: None, limit: usize::MAX };
    let rows = store.scan_at(&range, LogIndex::MAX).expect("reads");
    rows.into_iter().map(|(key, _)| key).collect()
}

fn opened(response: &Response) -> SessionId {
    match &response.outcome {
        Outcome::SessionOpened { session } => *session,
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_is_answered_after_it_is_applied_and_its_index_is_in_the_log() {
    let machine = Machine::new(1);
    let running = machine.start().await;
    let response = propose(&running.node, 1).await.remove(0);
    assert_eq!(opened(&response), SessionId(response.index.0));
    assert!(response.index <= running.node.applied().borrow().index);
    let entry = running.node.log_entry(response.index).expect("in the log");
    assert_eq!(entry, command("actor-0"));
    let status = running.node.status();
    assert_eq!((status.role, status.leader), (Role::Leader, Some(1)));
    assert_eq!((status.voters, status.learners), (vec![1], vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_recovers_vote_committed_log_and_applied() {
    let machine = Machine::new(2);
    let running = machine.start().await;
    let last = propose(&running.node, 10).await.pop().expect("ten").index;
    let before = running.node.status();
    let digest = machine.store.digest();
    running.node.shutdown().await.expect("stops");
    drop(running);

    let running = machine.start_unready().await.expect("starts");
    let early = running.node.status();
    assert!(before.term <= early.term, "a vote is never forgotten");
    assert_eq!(running.node.log_bounds().expect("reads").committed, last);
    assert_eq!((machine.store.digest(), applied_index(machine.store.as_ref())), (digest, last));
    running.node.initialize_single().await.expect("does nothing");
    running.node.wait_ready().await.expect("ready");
    let next = propose(&running.node, 1).await.remove(0);
    assert!(last < next.index);
    assert_eq!(sessions(machine.store.as_ref()).len(), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_from_64_tasks_are_each_applied_once_and_in_order() {
    let machine = Machine::new(3);
    let running = machine.start().await;
    let one = |number: u64| {
        let node = running.node.clone();
        async move {
            let actor = format!("task-{number}");
            let response = node.propose(command(&actor)).await.expect("acknowledged");
            (response.index, actor)
        }
    };
    let answers = futures::future::join_all((0..640).map(one)).await;
    let indexes: BTreeSet<LogIndex> = answers.iter().map(|(index, _)| *index).collect();
    assert_eq!(indexes.len(), 640, "every proposal has an index of its own");
    for (index, actor) in &answers {
        let entry = running.node.log_entry(*index).expect("in the log");
        assert_eq!(&entry.envelope().expect("a command").actor, actor);
    }
    let expected: Vec<Key> = indexes.iter().map(|index| Key::session(SessionId(index.0))).collect();
    assert_eq!(sessions(machine.store.as_ref()), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_the_state_lost_in_a_power_cut_are_applied_again() {
    let machine = Machine::new(4);
    let running = machine.start().await;
    let last = propose(&running.node, 20).await.pop().expect("twenty").index;
    let digest = machine.store.digest();
    machine.crash(running).await;
    assert_eq!(applied_index(machine.store.as_ref()), LogIndex(0), "nothing was flushed");

    let running = machine.start().await;
    running.node.wait_applied(last).await.expect("applied");
    assert_eq!(machine.store.digest(), digest);
    assert_eq!(sessions(machine.store.as_ref()).len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_index_covers_every_acknowledged_write() {
    let machine = Machine::new(5);
    let running = machine.start().await;
    for _ in 0..10 {
        let written = propose(&running.node, 1).await.remove(0).index;
        let read = running.node.read_index().await.expect("linearizable");
        assert!(written <= read, "{written} is not seen at {read}");
        assert!(read <= applied_index(machine.store.as_ref()), "the read's entries are applied");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_acknowledged_and_the_node_says_why() {
    let machine = Machine::new(6);
    let running = machine.start().await;
    propose(&running.node, 3).await;
    let next = Some(machine.disk.operations() + 1);
    machine.disk.set_faults(Faults { fail_at: next, ..Faults::default() });
    let outcome = running.node.propose(command("lost")).await;
    assert!(matches!(outcome, Err(Error::Ambiguous)), "{outcome:?}");
    let fault = running.node.stopped().await.expect("a fault ended it");
    let poisoned = matches!(fault.as_ref(), Fault::Log(alluvium_wal::Error::Poisoned { .. }));
    assert!(poisoned, "{fault:?}");
    let refused = running.node.propose(command("later")).await;
    assert!(matches!(refused, Err(Error::Poisoned { .. })), "{refused:?}");
    let read = running.node.read_index().await;
    assert!(matches!(read, Err(Error::Poisoned { .. })), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_commands_may_be_proposed_and_only_while_the_node_runs() {
    let machine = Machine::new(7);
    let running = machine.start().await;
    let blank = running.node.propose(Entry::blank()).await;
    assert!(matches!(blank, Err(Error::NotACommand)), "{blank:?}");
    running.node.shutdown().await.expect("stops");
    assert!(running.node.stopped().await.is_none(), "a shutdown is no fault");
    let late = running.node.propose(command("late")).await;
    assert!(matches!(late, Err(Error::Shutdown)), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uninitialized_node_has_no_leader_and_proposes_nothing() {
    let machine = Machine::new(8);
    let running = machine.start_unready().await.expect("starts");
    let outcome = running.node.propose(command("early")).await;
    assert!(matches!(outcome, Err(Error::Unavailable)), "{outcome:?}");
    assert_eq!(running.node.log_bounds().expect("reads").last, None);
}
