//! Lost replies, hints, cut-off answers, slow nodes, and time limits.

use std::sync::Arc;
use std::time::Duration;

use alluvium_client::{
    Client, Error, ErrorKind, Level, LogIndex, MemberChange, Options, QueryOptions, Rows,
    WriteOptions,
};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::scripted::{Seen, Server, Step, World, refusal, unavailable};

pub(crate) fn batch(value: i64) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![value]));
    RecordBatch::try_from_iter([("n", values)]).expect("one column")
}

pub(crate) fn rows(value: i64) -> Rows {
    Rows::kept(&[batch(value)]).expect("it is small")
}

pub(crate) fn within(limit_ms: u64) -> WriteOptions {
    WriteOptions { limit: Some(Duration::from_millis(limit_ms)), expected_index: None }
}

pub(crate) fn options() -> Options {
    Options { limit: Duration::from_secs(20), seed: Some(7), ..Options::named("test") }
}

pub(crate) fn client(servers: &[&Server]) -> Client {
    let urls = servers.iter().map(|server| server.url.clone());
    Client::connect(urls, options()).expect("legal URLs")
}

/// A reply that the connection lost, as the transport tells it.
pub(crate) fn lost() -> Status {
    Status::unknown("transport error")
}

/// Asserts that all tries carried one number and the same bytes.
#[track_caller]
pub(crate) fn assert_one_command(tries: &[Seen], count: usize) {
    assert_eq!(tries.len(), count, "{tries:?}");
    for other in tries {
        assert!(other.number.is_some(), "it has no number");
        assert_eq!((other.number, &other.payload), (tries[0].number, &tries[0].payload));
    }
}

#[tokio::test]
async fn a_node_that_dies_after_its_commit_loses_a_reply_and_another_one_gives_it() {
    let world = World::default();
    world.led_by(1);
    let (mut first, second) = (Server::start(1, &world), Server::start(2, &world));
    first.then([Step::DoAndDie]);
    let client = client(&[&first, &second]);
    let append = client.append("d", rows(1), WriteOptions::default());
    let (written, ()) = tokio::join!(append, first.dies());
    let written = written.expect("the second node knows the answer");
    assert_one_command(&world.calls("Append"), 2);
    assert_eq!((world.effects(), written.count), (1, 1));
    assert_eq!(client.seen(), written.index);
}

#[tokio::test]
async fn writes_go_to_the_leader_and_a_hint_names_a_node_that_was_not_given() {
    let world = World::default();
    world.led_by(2);
    let nodes = [Server::start(1, &world), Server::start(2, &world), Server::start(3, &world)];
    let all = client(&[&nodes[0], &nodes[1], &nodes[2]]);
    all.append("d", rows(1), WriteOptions::default()).await.expect("it is led");
    assert_eq!(world.calls("Append")[0].node, 2);

    let hint = [("leader", "3"), ("leader-url", nodes[2].url.as_str())];
    nodes[0].then([Step::Say(unavailable(None, &hint))]);
    let one = client(&[&nodes[0]]);
    one.append("d", rows(2), WriteOptions::default()).await.expect("the hint leads to the leader");
    let tries = world.calls("Append");
    assert_eq!(tries[1..].iter().map(|seen| seen.node).collect::<Vec<_>>(), [1, 3]);
    assert_one_command(&tries[1..], 2);
    assert_eq!(one.urls(), [nodes[0].url.clone(), nodes[2].url.clone()]);
}

#[tokio::test]
async fn a_doubt_stays_when_a_later_try_is_refused_unless_the_server_settles_it() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    let refused = || refusal(Code::NotFound, "NOT_FOUND", &[]);
    node.then([Step::Say(refused())]);
    let error = client.append("d", rows(1), WriteOptions::default()).await.expect_err("refused");
    assert!(matches!(&error, Error::Refused { failure } if failure.kind == ErrorKind::NotFound));

    node.then([Step::DoAndSay(lost()), Step::Say(refused())]);
    let error = client.append("d", rows(2), WriteOptions::default()).await.expect_err("in doubt");
    let Error::Ambiguous { number: Some(number), tries: 2, pending: Some(pending), .. } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(pending.number(), number);
    assert_eq!(pending.resume(None).await.expect("it was done").index().0, client.seen().0);
    assert_eq!(world.effects(), 1);

    let settled = refusal(Code::FailedPrecondition, "PRECONDITION", &[("effect", "settled")]);
    node.then([Step::Say(lost()), Step::Say(settled)]);
    let error = client.append("d", rows(3), WriteOptions::default()).await.expect_err("refused");
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_refusal_that_left_nothing_is_repeated_without_leaving_a_doubt() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    let nothing = || Step::Say(unavailable(None, &[("effect", "none")]));
    node.then([nothing(), nothing(), Step::Say(refusal(Code::NotFound, "NOT_FOUND", &[]))]);
    let error = client.append("d", rows(1), WriteOptions::default()).await.expect_err("refused");
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert_one_command(&world.calls("Append"), 3);
}

#[tokio::test]
async fn a_node_that_is_silent_is_left_for_another_one() {
    let world = World::default();
    world.led_by(1);
    let (slow, other) = (Server::start(1, &world), Server::start(2, &world));
    slow.then([Step::Hang]);
    let urls = [slow.url.clone(), other.url.clone()];
    let options = Options { try_limit: Duration::from_millis(200), ..options() };
    let client = Client::connect(urls, options).expect("legal URLs");
    client.append("d", rows(1), WriteOptions::default()).await.expect("the other one answers");
    let tries = world.calls("Append");
    assert_one_command(&tries, 2);
    assert_eq!([tries[0].node, tries[1].node], [1, 2]);
}

#[tokio::test]
async fn a_limit_that_passes_leaves_a_write_in_doubt_and_a_read_without_answer() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    client.append("d", rows(0), WriteOptions::default()).await.expect("the node answers");
    node.then([Step::Hang, Step::Hang]);
    let begun = Instant::now();
    let error = client.append("d", rows(1), within(300)).await.expect_err("it hangs");
    assert!(error.is_ambiguous() && error.kind() == ErrorKind::DeadlineExceeded, "{error:?}");
    let query = QueryOptions { limit: Some(Duration::from_millis(300)), ..QueryOptions::default() };
    let error = client.query("SELECT 1", query).await.expect_err("it hangs");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nobody_there_is_no_doubt() {
    let world = World::default();
    let mut node = Server::start(1, &world);
    let client = client(&[&node]);
    client.append("d", rows(0), WriteOptions::default()).await.expect("the node answers");
    node.kill();
    // The connection that is there breaks under the first call; the later ones find nobody.
    drop(client.append("d", rows(1), within(300)).await);
    let error = client.append("d", rows(2), within(300)).await.expect_err("nobody is there");
    assert!(matches!(error, Error::Unavailable { tries: 2.., .. }), "{error:?}");
}

#[tokio::test]
async fn what_the_server_asks_to_wait_is_waited_even_if_another_node_is_there() {
    let world = World::default();
    let (first, second) = (Server::start(1, &world), Server::start(2, &world));
    let wait = Duration::from_millis(400);
    for server in [&first, &second] {
        server.then([Step::Say(unavailable(Some(wait), &[]))]);
    }
    let client = client(&[&first, &second]);
    let begun = Instant::now();
    client.append("d", rows(1), WriteOptions::default()).await.expect("the third try");
    assert!(wait * 2 <= begun.elapsed(), "{:?}", begun.elapsed());
    assert_one_command(&world.calls("Append"), 3);
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_an_error_and_never_looks_whole() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    let options = QueryOptions { limit: Some(Duration::from_secs(2)), ..QueryOptions::default() };
    for step in [Step::CutOff, Step::Stall] {
        node.then([step]);
        let mut answer = client.query("SELECT n", options).await.expect("its head is there");
        let first = answer.next().await.expect("a batch").expect("it is whole");
        assert_eq!(first.num_rows(), 2);
        let error = answer.next().await.expect("not the end").expect_err("cut off");
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    }
    node.then([Step::CutOff, Step::CutOff]);
    let whole = client.query_all("SELECT n", options).await.expect("the third answer is whole");
    assert_eq!((whole.rows(), world.calls("Query").len()), (4, 5));
}

#[tokio::test]
async fn a_client_reads_what_it_wrote_at_any_node_without_a_quorum() {
    let world = World::default();
    world.led_by(1);
    let (first, second) = (Server::start(1, &world), Server::start(2, &world));
    let client = client(&[&first, &second]);
    let seen = QueryOptions { level: Level::Seen, ..QueryOptions::default() };
    client.query_all("SELECT 1", seen).await.expect("nothing was seen yet");
    let written = client.append("d", rows(1), WriteOptions::default()).await.expect("it is led");
    client.query_all("SELECT 1", seen).await.expect("answered");
    let as_of = QueryOptions { as_of: Some(LogIndex(1)), ..seen };
    client.query_all("SELECT 1", as_of).await.expect("answered");
    client.query_all("SELECT 1", QueryOptions::default()).await.expect("answered");
    let asked = world.queries();
    let found: Vec<_> =
        asked.iter().map(|query| (query.local, query.at_least, query.as_of)).collect();
    let index = Some(written.index.0);
    assert_eq!(
        found,
        [(true, None, None), (true, index, None), (true, index, Some(1)), (false, None, None)]
    );
    let nodes: Vec<_> = world.calls("Query").iter().map(|seen| seen.node).collect();
    assert!(nodes.contains(&1) && nodes.contains(&2), "{nodes:?}");
}

#[tokio::test]
async fn rows_that_are_gone_are_sent_once_and_rows_that_fail_are_never_appended() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    let once = || stream::iter([Ok(batch(1))]).boxed();
    node.then([Step::DoAndSay(lost())]);
    let error = client.append_once("d", once(), WriteOptions::default()).await.expect_err("lost");
    assert!(
        matches!(&error, Error::Ambiguous { number: None, pending: None, tries: 1, .. }),
        "{error:?}"
    );
    client.append_once("d", once(), WriteOptions::default()).await.expect("answered");
    assert_eq!(world.effects(), 2);

    let broken = || stream::iter([Ok(batch(1)), Err("the disk is gone".into())]).boxed();
    let error =
        client.append_once("d", broken(), WriteOptions::default()).await.expect_err("broken");
    assert!(matches!(error, Error::Rows { .. }), "{error:?}");
    let error = client.append("d", Rows::replayed(broken), WriteOptions::default()).await;
    assert!(matches!(error, Err(Error::Rows { .. })), "{error:?}");
    // The server was never told that the rows had ended.
    assert_eq!((world.calls("Append").len(), world.effects()), (2, 2));
}

#[tokio::test]
async fn rows_that_are_made_anew_are_the_same_command() {
    let world = World::default();
    let node = Server::start(1, &world);
    node.then([Step::DoAndSay(lost())]);
    let rows = Rows::replayed(|| stream::iter((0..3).map(|n| Ok(batch(n)))).boxed());
    let client = client(&[&node]);
    client.append("d", rows, WriteOptions::default()).await.expect("the second try");
    assert_one_command(&world.calls("Append"), 2);
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn a_change_of_members_is_not_repeated_when_something_may_have_come_of_it() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    node.then([Step::Say(unavailable(None, &[]))]);
    let error =
        client.change_members(MemberChange::Remove(vec![3]), None).await.expect_err("in doubt");
    assert!(matches!(&error, Error::Ambiguous { number: None, pending: None, .. }), "{error:?}");
    node.then([Step::Say(unavailable(None, &[("effect", "none")]))]);
    client.change_members(MemberChange::Remove(vec![3]), None).await.expect("the second try");
    assert_eq!(world.calls("ChangeMembers").len(), 3);
}

#[tokio::test]
async fn a_compaction_is_repeated_without_a_number() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    node.then([Step::DoAndSay(lost())]);
    client.compact("d", WriteOptions::default()).await.expect("the second try");
    let tries = world.calls("Compact");
    assert_eq!(tries.iter().map(|seen| seen.number).collect::<Vec<_>>(), [None, None]);
}

#[tokio::test]
async fn many_writers_of_one_client_each_write_once_whatever_is_lost() {
    let world = World::default();
    world.led_by(1);
    let (first, second) = (Server::start(1, &world), Server::start(2, &world));
    for server in [&first, &second] {
        let steps = (0..60).map(|n| match n % 3 {
            0 => Step::DoAndSay(lost()),
            1 => Step::Say(unavailable(None, &[])),
            _ => Step::Answer,
        });
        server.then(steps);
    }
    let client = client(&[&first, &second]);
    let appends = (0..100).map(|n| client.append("d", rows(n), WriteOptions::default()));
    for written in join_all(appends).await {
        written.expect("all are answered in the end");
    }
    assert_eq!((world.effects(), world.calls("OpenSession").len()), (100, 1));
    let numbers: std::collections::BTreeSet<_> =
        world.calls("Append").into_iter().map(|seen| seen.number).collect();
    let session = client.session().expect("it is open").0;
    assert_eq!(numbers, (1..=100).map(|n| Some((session, n))).collect());
}
