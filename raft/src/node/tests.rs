//! A cluster of one, through proposals, reads, power cuts, snapshots and faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alluvium_state_machine::{Key, MetaStore, ScanRange, Table};
use alluvium_stdx::durable;
use alluvium_types::{Outcome, SessionId};
use alluvium_wal::sim::Faults;

use openraft::entry::RaftPayload as _;

use super::*;
use crate::status::Role;
use crate::support::{Machine, applied_index, command, propose};
use crate::type_config::Membership;

fn sessions(store: &dyn MetaStore) -> Vec<Key> {
    let prefix = Key::empty();
    let range = ScanRange { table: Table::Session, prefix: &prefix, from: None, limit: usize::MAX };
    let rows = store.scan_at(&range, LogIndex::MAX).expect("reads");
    rows.into_iter().map(|(key, _)| key).collect()
}

fn opened(response: &Response) -> SessionId {
    let Outcome::SessionOpened { session } = response.outcome else {
        panic!("unexpected {response:?}")
    };
    session
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
    assert!(before.term <= running.node.status().term, "a vote is never forgotten");
    // A new leader's blank entry may be behind it already; it changes no state.
    assert!(last <= running.node.log_bounds().expect("reads").committed);
    assert!(last <= applied_index(machine.store.as_ref()));
    assert_eq!(machine.store.digest(), digest);
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
async fn a_node_that_gets_a_second_voter_asks_it_before_it_answers_a_read() {
    let machine = Machine::new(15);
    let running = machine.start().await;
    let node = &running.node;
    assert!(node.alone.is_sure() && node.is_ready.load(Ordering::SeqCst));
    node.read_index().await.expect("it decides alone");
    let address = Address { peer: "nowhere".to_owned() };
    node.raft.add_learner(2, address, false).await.expect("a learner has no vote");
    assert!(node.alone.is_sure());
    let before = node.log_bounds().expect("reads").last;
    let change = node.raft.change_membership([1, 2], false);
    let in_log = async {
        while node.log_bounds().expect("reads").last <= before {
            tokio::task::yield_now().await;
        }
    };
    let (change, in_log) = (std::pin::pin!(change), std::pin::pin!(in_log));
    let Either::Right(((), _change)) = select(change, in_log).await else {
        panic!("a voter that cannot be reached agreed")
    };
    assert!(!node.alone.is_sure(), "noted before it was in the log");
    let read = std::pin::pin!(node.read_index());
    assert!(futures::poll!(read).is_pending(), "nobody has confirmed that it leads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_ends_a_leadership() {
    let machine = Machine::new(16);
    // What a node shows of itself comes a moment later.
    let leadership = async |node: &RaftNode| {
        let shown = |_: &RaftMetrics<TypeConfig>| node.leadership().is_some();
        let wait = node.raft.wait(Some(Duration::from_secs(10)));
        wait.metrics(shown, "it leads, and has applied an entry of its own").await.expect("leads");
        node.leadership().expect("it still does")
    };
    let running = machine.start().await;
    let before = leadership(&running.node).await;
    let first = running.node.propose_under(&before, command("first")).await.expect("acknowledged");
    machine.crash(running).await;
    let running = machine.start().await;
    let after = leadership(&running.node).await;
    assert_ne!(before, after, "it was elected again");
    let late = running.node.propose_under(&before, command("late")).await.expect_err("over");
    assert!(matches!(late, Error::NotLeader { .. } | Error::Unavailable), "{late:?}");
    let second = running.node.propose_under(&after, command("second")).await.expect("acknowledged");
    // The first entry of the new leadership lies between, and nothing else.
    assert_eq!(second.index.0, first.index.0 + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_voters_that_was_cut_off_between_its_steps_is_ended() {
    let machine = Machine::new(16);
    let running = machine.start().await;
    let node = &running.node;
    let own = node.membership();
    let voters = own.get_joint_config().first().expect("it votes").clone();
    let nodes: BTreeMap<u64, Address> =
        own.nodes().map(|(id, address)| (*id, address.clone())).collect();
    // Both sets are this node: what matters is that there are two, as after the first step of a change.
    let between = Membership::new(vec![voters.clone(), voters], nodes).expect("legal");
    let entry = Frame::blank().with_membership(between.clone());
    node.raft.append_membership(between, entry, []).await.expect("committed");
    // What a node shows of itself comes a moment later.
    let sets = async |count: usize| {
        let shown = move |metrics: &RaftMetrics<TypeConfig>| {
            metrics.membership_config.membership().get_joint_config().len() == count
        };
        node.raft.wait(Some(Duration::from_secs(10))).metrics(shown, "sets of voters").await
    };
    sets(2).await.expect("the first step is committed");
    node.settle_voters().await.expect("it leads");
    sets(1).await.expect("the change is ended");
    let last = node.log_bounds().expect("reads").last;
    node.settle_voters().await.expect("there is nothing to do");
    assert_eq!(node.log_bounds().expect("reads").last, last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_acknowledged_and_the_node_says_why() {
    let machine = Machine::new(6);
    let running = machine.start().await;
    // The log's own idle work counts too, so the fault is set some operations ahead and proposals run into it.
    let soon = Some(machine.disk.operations() + 20);
    machine.disk.set_faults(Faults { fail_at: soon, ..Faults::default() });
    let mut outcome = running.node.propose(command("first")).await;
    let mut acknowledged = 0;
    while outcome.is_ok() && acknowledged < 100 {
        acknowledged += 1;
        outcome = running.node.propose(command("next")).await;
    }
    assert!(matches!(outcome, Err(Error::Ambiguous)), "{outcome:?}");
    assert_eq!(sessions(machine.store.as_ref()).len(), acknowledged, "unsynced is not applied");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_stops_at_the_snapshot_less_the_margin_at_durability_and_at_the_caller_s_limit() {
    let machine = Machine::new(9);
    let running = machine.start().await;
    let node = &running.node;
    let last = propose(node, 20).await.pop().expect("twenty").index;
    assert_eq!(node.purge(last).await.expect("nothing to do"), None, "no snapshot, no purge");
    let snapshot = node.trigger_snapshot().await.expect("built");
    assert_eq!(snapshot, last);
    assert_eq!(node.purge(LogIndex(5)).await.expect("purges"), Some(LogIndex(5)));
    let behind = LogIndex(last.0 - node.config.purge_margin);
    assert_eq!(node.purge(LogIndex::MAX).await.expect("purges"), Some(behind));
    let bounds = node.log_bounds().expect("reads");
    assert_eq!((bounds.first, bounds.last), (Some(behind.next()), Some(last)));
    let gone = node.log_entry(behind);
    assert!(matches!(gone, Err(Error::NotInLog { .. })), "{gone:?}");
    let hole = node.log_range(behind..last);
    assert!(matches!(hole, Err(Error::NotInLog { .. })), "a hole is no answer: {hole:?}");
    let tail = node.log_range(last..last.next()).expect("reads");
    assert_eq!(tail, vec![(last, command("actor-19"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_keeps_no_node_from_starting_whose_log_is_purged_beyond_the_older_one() {
    let machine = Machine::new(16);
    let running = machine.start().await;
    for _ in 0..2 {
        propose(&running.node, 20).await;
        running.node.trigger_snapshot().await.expect("built");
        running.node.purge(LogIndex::MAX).await.expect("purged");
    }
    running.node.shutdown().await.expect("stops");
    drop(running);
    let mut names: Vec<_> = std::fs::read_dir(machine.snapshots_dir())
        .expect("lists")
        .map(|entry| entry.expect("lists").path())
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    let newest = names.pop().expect("two");
    let mut bytes = std::fs::read(&newest).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    durable::write(&newest, &bytes).expect("writes");
    // Twice: a start that made something up would be found out by the next.
    for _ in 0..2 {
        let running = machine.start().await;
        propose(&running.node, 1).await;
        assert!(running.node.status().snapshot.is_some());
        running.node.shutdown().await.expect("stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m45_purges_and_snapshots_under_load_never_overtake_an_apply() {
    let machine = Machine::new(10);
    let running = machine.start().await;
    let node = &running.node;
    let writers = (0..32).map(|_| propose(node, 40));
    let purges = async {
        for _ in 0..20 {
            node.trigger_snapshot().await.expect("built");
            node.purge(LogIndex::MAX).await.expect("purged");
        }
    };
    let (answers, ()) = futures::join!(futures::future::join_all(writers), purges);
    let indexes: BTreeSet<_> = answers.iter().flatten().map(|response| response.index).collect();
    assert_eq!(indexes.len(), 32 * 40);
    assert_eq!(sessions(machine.store.as_ref()).len(), 32 * 40);
    assert!(node.status().fault.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_breaks_an_invariant_stops_the_node_instead_of_hanging_it() {
    let machine = Machine::new(15);
    let running = machine.start().await;
    propose(&running.node, 1).await;
    // A store that moved under the node: the next entry is not above what it has applied.
    let mut raft = machine.store.raft();
    raft.applied = raft.applied.map(|mut applied| {
        applied.index = LogIndex(applied.index.0 + 1_000);
        applied
    });
    let batch = alluvium_state_machine::CommitBatch::without_mutations(raft);
    machine.store.commit(batch).expect("commits");
    let outcome = running.node.propose(command("next")).await;
    assert!(matches!(outcome, Err(Error::Ambiguous)), "{outcome:?}");
    let fault = running.node.stopped().await.expect("a fault");
    assert!(matches!(fault.as_ref(), Fault::ApplyPanicked { .. }), "{fault:?}");
}
