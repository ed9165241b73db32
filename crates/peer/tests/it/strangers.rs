//! Connections to the peer port that lead nowhere, and messages of the past.

use std::net::SocketAddr;
use std::time::Duration;

use alluvium_peer::{Authority, Security};
use alluvium_proto::peer::v1 as wire;
use alluvium_proto::peer::v1::append_reply::Outcome;
use alluvium_types::LogIndex;
use futures::future::join_all;
use futures::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    CLUSTER, Claim, Machine, Running, cluster, converged, endpoint, leader, raw, until,
};

/// A generous limit of waiting, so that a busy machine is no failure.
const LONG: Duration = Duration::from_secs(60);
/// The whole beginning of HTTP/2: whoever says no more than this has called nobody.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The head of a TLS handshake that never comes to its end.
const HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";

/// Connects, says something, and waits until it is hung up on.
async fn linger(address: SocketAddr, bytes: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "a neighbour that does not keep to the protocol")]
    let connected = tokio::net::TcpStream::connect(address).await;
    let mut stream = connected.expect("connects");
    for byte in bytes {
        // Refused when it was hung up on.
        drop(stream.write_all(&[*byte]).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await;
    drop(ended.expect("it is hung up on"));
}

/// Many linger at each node while the cluster works.
async fn besieged(running: Vec<Running>) {
    let words: [&[u8]; 4] = [b"", &PREFACE[..7], PREFACE, HELLO];
    let stranger = |number: usize| linger(running[number % 3].address, words[number % words.len()]);
    let strangers = join_all((0..300).map(stranger));
    let working = async {
        let mut last = LogIndex(0);
        for _ in 0..50 {
            last = running[0].propose("meanwhile").await.expect("acknowledged").index;
        }
        last
    };
    let (_strangers, last) = tokio::join!(strangers, working);
    converged(&running, last).await;
    for node in running {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_a_call_are_hung_up_on_and_peers_are_served_meanwhile() {
    let machines: Vec<Machine> = (1..=3).map(|node| Machine::new(node, Security::Open)).collect();
    besieged(cluster(&machines).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_without_an_end_are_hung_up_on_and_peers_are_served_meanwhile() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let authority = Authority::open_or_create(dir.path()).expect("makes one");
    let machine = |node| {
        let identity = alluvium_peer::Identity { cluster: CLUSTER, node };
        let files = authority.issue(identity).expect("issues");
        let security = Security::read(&files.authority, &files.certificate, &files.key);
        Machine::new(node, security.expect("reads"))
    };
    let machines: Vec<Machine> = (1..=3).map(machine).collect();
    besieged(cluster(&machines).await).await;
}

/// Returns a message that the leader once sent: an entry behind the one before it.
fn message_of(leader: &Running, node: u64, index: LogIndex) -> wire::AppendRequest {
    let term = |index| leader.node.log_term(index).expect("in the log").0;
    let position =
        |index: LogIndex| wire::Position { term: term(index), leader: node, index: index.0 };
    let frame = leader.node.log_entry(index).expect("in the log").as_bytes().clone();
    let status = leader.node.status();
    let committed = Some(position(index));
    wire::AppendRequest {
        vote: Some(wire::Ballot { term: status.term.0, node, granted: true }),
        previous: Some(position(LogIndex(index.0 - 1))),
        entries: vec![wire::Entry { position: Some(position(index)), frame }],
        committed,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_replayed_change_nothing_before_and_after_another_leads() {
    let machines: Vec<Machine> = (1..=3).map(|node| Machine::new(node, Security::Open)).collect();
    let running = cluster(&machines).await;
    let mut last = LogIndex(0);
    for _ in 0..5 {
        last = running[0].propose("first").await.expect("acknowledged").index;
    }
    let before = converged(&running, last).await;
    let old = message_of(&running[0], 1, LogIndex(last.0 - 1));
    let mut to_third =
        raw(&endpoint(running[2].address), Claim { cluster: CLUSTER, from: 1, to: 3 });
    let mut replayed = async || {
        let replies = to_third.append(stream::iter([old.clone()])).await;
        let mut replies = replies.expect("a message of a member").into_inner();
        replies.message().await.expect("answered").expect("an answer")
    };
    let reply = replayed().await;
    assert!(matches!(reply.outcome, Some(Outcome::Synced(_))), "it has that entry: {reply:?}");
    assert_eq!(converged(&running, last).await, before, "what came after it is still there");
    // Another leads: the leader of the past is heard no more.
    running[0].node.transfer_leader(2, Duration::from_secs(10)).await.expect("hands over");
    until("the second leads", || running[1].node.status().leader == Some(2)).await;
    assert_eq!(leader(&running).await, 1);
    until("a quorum has answered it: before that it takes nothing", || {
        let status = running[1].node.status();
        status.committed == status.last && last < status.last
    })
    .await;
    last = running[1].propose("second").await.expect("acknowledged").index;
    let before = converged(&running, last).await;
    let reply = replayed().await;
    assert!(matches!(reply.outcome, Some(Outcome::HigherVote(_))), "another leads: {reply:?}");
    assert_eq!(converged(&running, last).await, before);
    assert_eq!(running[2].node.status().leader, Some(2));
    for node in running {
        node.stop().await;
    }
}
