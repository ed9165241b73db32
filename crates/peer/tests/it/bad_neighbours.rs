//! Who does not belong to the cluster, or does not keep to the protocol, changes nothing in it.

use alluvium_peer::{Authority, Identity, Issued, Security};
use alluvium_proto::peer::v1 as wire;
use alluvium_types::Entry;
use bytes::Bytes;
use futures::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use crate::support::{CLUSTER, Claim, Machine, Raw, Running, cluster, converged, endpoint, raw};

const FROM_TWO: Claim = Claim { cluster: CLUSTER, from: 2, to: 1 };
/// A term that no cluster reaches: whoever takes it over has believed the wrong one.
const HUGE: u64 = 1 << 40;

async fn three() -> (Vec<Machine>, Vec<Running>) {
    let machines: Vec<Machine> = (1..=3).map(|node| Machine::new(node, Security::Open)).collect();
    let running = cluster(&machines).await;
    (machines, running)
}

/// The term is as it was, and the cluster works.
async fn unharmed(running: Vec<Running>) {
    let last = running[0].propose("after").await.expect("acknowledged").index;
    converged(&running, last).await;
    for node in &running {
        let status = node.node.status();
        assert!(status.term.0 < HUGE && status.fault.is_none(), "{status:?}");
    }
    for node in running {
        node.stop().await;
    }
}

fn vote_of(node: u64) -> wire::VoteRequest {
    let vote = wire::Ballot { term: HUGE, node, granted: false };
    let last = wire::Position { term: HUGE, leader: node, index: HUGE };
    wire::VoteRequest { vote: Some(vote), last: Some(last), leadership_transfer: false }
}

fn append_of(node: u64, frame: Bytes) -> wire::AppendRequest {
    let position = |index| wire::Position { term: HUGE, leader: node, index };
    wire::AppendRequest {
        vote: Some(wire::Ballot { term: HUGE, node, granted: true }),
        previous: Some(position(3)),
        entries: vec![wire::Entry { position: Some(position(4)), frame }],
        committed: None,
    }
}

async fn append(wire: &mut Raw, request: wire::AppendRequest) -> Result<(), Status> {
    let mut replies = wire.append(stream::iter([request])).await?.into_inner();
    while replies.message().await?.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_another_cluster_for_another_node_or_with_a_taken_id_are_refused() {
    let (_machines, running) = three().await;
    let to_one = endpoint(running[0].address);
    for claim in [
        Claim { cluster: CLUSTER + 1, ..FROM_TWO },
        Claim { to: 3, ..FROM_TWO },
        Claim { from: 1, ..FROM_TWO },
    ] {
        let mut wire = raw(&to_one, claim);
        let refused = wire.vote(vote_of(claim.from)).await.expect_err("refused");
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        let frame = Entry::blank().as_bytes().clone();
        let refused = append(&mut wire, append_of(claim.from, frame)).await.expect_err("refused");
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    unharmed(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_that_is_asked_while_a_leader_lives_changes_no_term() {
    let (_machines, running) = three().await;
    let follower = &running[1];
    // An old member that missed its removal: it asks everyone.
    let mut wire = raw(&endpoint(follower.address), Claim { from: 9, to: 2, ..FROM_TWO });
    let reply = wire.vote(vote_of(9)).await.expect("answered").into_inner();
    assert!(!reply.granted && reply.vote.is_some_and(|vote| vote.term < HUGE), "{reply:?}");
    let mut leading = raw(&endpoint(running[0].address), Claim { from: 9, ..FROM_TWO });
    let reply = leading.vote(vote_of(9)).await.expect("answered").into_inner();
    assert!(!reply.granted && reply.vote.is_some_and(|vote| vote.term < HUGE), "{reply:?}");
    unharmed(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_no_node_sends_are_refused_by_their_fault() {
    let (_machines, running) = three().await;
    let mut wire = raw(&endpoint(running[0].address), FROM_TWO);
    let frame = Entry::blank().as_bytes().clone();
    let check = |refused: Result<(), Status>, expected: &str| {
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(expected), "{expected}: {refused}");
    };
    let other = append_of(3, frame.clone());
    check(append(&mut wire, other).await, "of one leader that another node sends");
    let mut unelected = append_of(2, frame.clone());
    unelected.vote = unelected.vote.map(|vote| wire::Ballot { granted: false, ..vote });
    check(append(&mut wire, unelected).await, "does not say it leads");
    let mut gap = append_of(2, frame.clone());
    gap.previous = gap.previous.map(|previous| wire::Position { index: 2, ..previous });
    check(append(&mut wire, gap).await, "does not follow the one before it");
    let mut newer = append_of(2, frame.clone());
    newer.vote = newer.vote.map(|vote| wire::Ballot { term: HUGE - 1, ..vote });
    check(append(&mut wire, newer).await, "newer leader than the sender's vote");
    let mut empty = append_of(2, frame.clone());
    empty.vote = None;
    check(append(&mut wire, empty).await, "lacks a vote");
    for place in 0..frame.len() {
        let mut mutated = frame.to_vec();
        mutated[place] ^= 0x40;
        let mutated = append_of(2, mutated.into());
        check(append(&mut wire, mutated).await, "entry 4 cannot be read");
    }
    let foreign = wire.vote(vote_of(3)).await.map(drop);
    check(foreign, "a vote that is asked for another node");
    unharmed(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_beyond_the_limit_is_refused_and_garbage_is_hung_up_on() {
    let (_machines, running) = three().await;
    let mut wire = raw(&endpoint(running[0].address), FROM_TWO).max_encoding_message_size(1 << 30);
    let bytes = Bytes::from(vec![7; alluvium_peer::limits::MESSAGE_BYTES_MAX + 1]);
    let refused = append(&mut wire, append_of(2, bytes)).await.expect_err("too large");
    assert!(matches!(refused.code(), Code::OutOfRange | Code::Unavailable), "{refused}");
    #[expect(clippy::disallowed_methods, reason = "a neighbour that speaks another protocol")]
    let connected = tokio::net::TcpStream::connect(running[0].address).await;
    let mut stream = connected.expect("connects");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("writes");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    drop(tokio::time::timeout(std::time::Duration::from_secs(20), read).await.expect("ends"));
    unharmed(running).await;
}

fn secured(files: &Issued) -> Security {
    Security::read(&files.authority, &files.certificate, &files.key).expect("reads")
}

/// The way to node 1 for someone who has these files, or none.
fn way(address: std::net::SocketAddr, trusted: &Issued, own: Option<&Issued>) -> Endpoint {
    let pem = |path: &std::path::Path| std::fs::read(path).expect("reads");
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pem(&trusted.authority)))
        .domain_name(format!("node-1.{CLUSTER:032x}.alluvium"));
    if let Some(own) = own {
        let own = tonic::transport::Identity::from_pem(pem(&own.certificate), pem(&own.key));
        tls = tls.identity(own);
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
    endpoint.tls_config(tls).expect("certificates")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_certificate_no_message_is_read() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let authority = |name| Authority::open_or_create(&dir.path().join(name)).expect("makes one");
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let issue = |authority: &Authority, cluster, node| {
        authority.issue(Identity { cluster, node }).expect("issues")
    };
    let (mut machines, mut files) = (Vec::new(), Vec::new());
    for node in 1..=3 {
        let issued = issue(&ours, CLUSTER, node);
        machines.push(Machine::new(node, secured(&issued)));
        files.push(issued);
    }
    let running = cluster(&machines).await;
    let address = running[0].address;
    let stranger = issue(&theirs, CLUSTER, 2);
    for own in [None, Some(&stranger)] {
        let mut wire = raw(&way(address, &files[0], own), FROM_TWO);
        let refused = wire.vote(vote_of(2)).await.expect_err("no connection");
        assert_ne!(refused.code(), Code::PermissionDenied, "it came as far as the gate: {refused}");
    }
    // The same authority, as someone has it who runs two clusters with one.
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).expect("creates");
    for file in ["ca.crt", "ca.key"] {
        std::fs::copy(dir.path().join("ours").join(file), copy.join(file)).expect("copies");
    }
    let elsewhere = issue(&authority("copy"), CLUSTER + 1, 2);
    for own in [&files[2], &elsewhere] {
        let mut wire = raw(&way(address, &files[0], Some(own)), FROM_TWO);
        let refused = wire.vote(vote_of(2)).await.expect_err("not node 2 of this cluster");
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    // In clear text nothing is answered.
    let mut wire = raw(&endpoint(address), FROM_TWO);
    let refused = wire.vote(vote_of(2)).await.expect_err("no connection");
    assert_ne!(refused.code(), Code::PermissionDenied, "it came as far as the gate: {refused}");
    unharmed(running).await;
}
