//! A node that was away too long gets a snapshot, also over a way that breaks.

use alluvium_peer::Security;
use alluvium_proto::peer::v1 as wire;
use alluvium_types::LogIndex;
use bytes::Bytes;
use futures::stream;
use tonic::{Code, Status};

use crate::support::{
    CLUSTER, Claim, Machine, Raw, Running, cluster, converged, endpoint, promote, raw, until,
};

fn open(count: u64) -> Vec<Machine> {
    (1..=count).map(|node| Machine::new(node, Security::Open)).collect()
}

/// Makes a log whose beginning is in no log any more.
async fn purged(running: &[Running]) -> LogIndex {
    let mut last = LogIndex(0);
    for number in 0..60 {
        last = running[0].propose(&format!("actor-{number}")).await.expect("acknowledged").index;
    }
    converged(running, last).await;
    for node in running {
        node.node.trigger_snapshot().await.expect("built");
        let purged = node.node.purge(LogIndex::MAX).await.expect("purges");
        assert!(purged.is_some_and(|purged| LogIndex(20) < purged), "{purged:?}");
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_down_past_the_purge_and_a_new_one_get_the_snapshot() {
    let machines = open(4);
    let mut running = cluster(&machines[..3]).await;
    running.pop().expect("three").stop().await;
    let last = purged(&running).await;
    running.push(machines[2].start().await);
    let (_, digest) = converged(&running, last).await;
    assert!(running[2].node.status().snapshot.is_some(), "it was installed, not replayed");
    let fourth = machines[3].start().await;
    running[0].node.add_learner(Some(4), &fourth.address.to_string()).await.expect("joins");
    promote(&running[0].node, &[4]).await;
    running.push(fourth);
    let next = running[0].propose("after").await.expect("acknowledged").index;
    let (_, after) = converged(&running, next).await;
    assert_ne!(digest, after);
    // What was installed is durable: the node has it after a restart, and goes on behind it.
    running.pop().expect("four").stop().await;
    running.push(machines[3].start().await);
    converged(&running, next).await;
    for node in running {
        node.stop().await;
    }
}

/// A snapshot of a cluster of one, and a node of the same cluster that has nothing.
struct Sending {
    source: Running,
    target: Running,
    machines: Vec<Machine>,
    wire: Raw,
    offer: wire::SnapshotOffer,
    content: Bytes,
}

impl Sending {
    async fn new() -> Self {
        let machines = open(2);
        let source = cluster(&machines[..1]).await.remove(0);
        purged(std::slice::from_ref(&source)).await;
        let target = machines[1].start().await;
        let claim = Claim { cluster: CLUSTER, from: 1, to: 2 };
        let wire = raw(&endpoint(target.address), claim);
        let file = alluvium_raft::check_snapshots(&machines[0].snapshots(), &mut |_| {
            std::ops::ControlFlow::Continue(())
        });
        let file = file.expect("lists").pop().expect("a snapshot");
        let meta = file.found.expect("whole");
        let last = meta.applied.expect("not empty");
        let position =
            wire::Position { term: last.term, leader: last.leader.0, index: last.index.0 };
        let offer = wire::SnapshotOffer {
            vote: Some(wire::Ballot { term: last.term, node: 1, granted: true }),
            last: Some(position),
            membership: alluvium_raft::encode_membership_of(&alluvium_raft::SnapshotMeta {
                last_log_id: None,
                last_membership: openraft::StoredMembership::new(None, source.node.membership()),
            })
            .into(),
            bytes: file.bytes,
            digest: meta.digest.to_string(),
        };
        let content = Bytes::from(std::fs::read(&file.path).expect("reads"));
        Self { source, target, machines, wire, offer, content }
    }

    async fn have(&mut self) -> u64 {
        let offered = self.wire.offer_snapshot(self.offer.clone()).await.expect("answered");
        offered.into_inner().have
    }

    fn part(&self, range: std::ops::Range<usize>) -> wire::SnapshotPart {
        let content = self.content.slice(range.clone());
        let crc32c = crc32c::crc32c(&content);
        let offset = u64::try_from(range.start).expect("small");
        wire::SnapshotPart { offer: Some(self.offer.clone()), offset, content, crc32c }
    }

    async fn send(
        &mut self,
        parts: Vec<wire::SnapshotPart>,
    ) -> Result<wire::SnapshotInstalled, Status> {
        let sent = self.wire.send_snapshot(stream::iter(parts)).await;
        sent.map(tonic::Response::into_inner)
    }

    async fn stop(self) {
        self.source.stop().await;
        self.target.stop().await;
        drop(self.machines);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_goes_on_where_it_broke_off_and_is_installed_once_it_is_whole() {
    let mut sending = Sending::new().await;
    let end = sending.content.len();
    assert_eq!(sending.have().await, 0);
    for cut in (0..end).step_by(end / 7 + 1).skip(1) {
        let have = usize::try_from(sending.have().await).expect("small");
        let broken = sending.send(vec![sending.part(have..cut)]).await.expect_err("not whole");
        assert_eq!(broken.code(), Code::Aborted, "{broken}");
        assert_eq!(sending.have().await, u64::try_from(cut).expect("small"));
        assert_eq!(sending.target.digest().0, LogIndex(0), "nothing is installed");
    }
    let have = usize::try_from(sending.have().await).expect("small");
    let installed = sending.send(vec![sending.part(have..end)]).await.expect("installed");
    assert_eq!(installed.vote, sending.offer.vote);
    until("it is applied", || sending.target.digest() == sending.source.digest()).await;
    sending.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_are_damaged_out_of_place_or_too_long_are_refused_and_nothing_is_lost() {
    let mut sending = Sending::new().await;
    let end = sending.content.len();
    let half = end / 2;
    let broken = sending.send(vec![sending.part(0..half)]).await.expect_err("not whole");
    assert_eq!(broken.code(), Code::Aborted);
    let mut damaged = sending.part(half..end);
    damaged.crc32c ^= 1;
    let refused = sending.send(vec![damaged]).await.expect_err("damaged");
    assert_eq!(refused.code(), Code::DataLoss, "{refused}");
    let refused = sending.send(vec![sending.part(0..half)]).await.expect_err("it has that");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let mut long = sending.part(half..end);
    long.content = Bytes::from([&long.content[..], b"more"].concat());
    long.crc32c = crc32c::crc32c(&long.content);
    let refused = sending.send(vec![long]).await.expect_err("longer than announced");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let mut unnamed = sending.part(half..end);
    unnamed.offer = None;
    let refused = sending.send(vec![unnamed]).await.expect_err("nobody knows of what");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(sending.have().await, u64::try_from(half).expect("small"));
    sending.send(vec![sending.part(half..end)]).await.expect("installed");
    until("it is applied", || sending.target.digest() == sending.source.digest()).await;
    sending.stop().await;
}

/// Whoever sends it made the checksums of the parts right: the snapshot's own are left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_not_what_was_announced_is_not_installed_and_the_node_lives() {
    let mut sending = Sending::new().await;
    let (end, whole) = (sending.content.len(), sending.content.clone());
    for place in (0..end).step_by(end / 20 + 1) {
        let mut bytes = whole.to_vec();
        bytes[place] ^= 0x10;
        sending.content = Bytes::from(bytes);
        let refused = sending.send(vec![sending.part(0..end)]).await.expect_err("damaged");
        assert_eq!(refused.code(), Code::DataLoss, "byte {place}: {refused}");
        assert_eq!(sending.have().await, 0, "what is damaged is not kept");
    }
    sending.content = whole;
    let mut other = sending.part(0..end);
    if let Some(offer) = other.offer.as_mut()
        && let Some(last) = offer.last.as_mut()
    {
        last.index += 1;
    }
    let refused = sending.send(vec![other]).await.expect_err("it ends elsewhere");
    assert_eq!(refused.code(), Code::DataLoss, "{refused}");
    let mut named = sending.part(0..end);
    if let Some(offer) = named.offer.as_mut() {
        offer.digest = "../../../../etc/passwd".to_owned();
    }
    let refused = sending.send(vec![named]).await.expect_err("no digest");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(sending.target.digest().0, LogIndex(0));
    assert!(sending.target.node.status().fault.is_none());
    sending.send(vec![sending.part(0..end)]).await.expect("installed");
    until("it is applied", || sending.target.digest() == sending.source.digest()).await;
    sending.stop().await;
}
