//! Connections to the client port that say nothing, little, nonsense, or do not listen.

use std::net::SocketAddr;
use std::time::Duration;

use alluvium_proto::v1;
use alluvium_proto::v1::lake_client::LakeClient;
use alluvium_stdx::Prng;
use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Request;
use tonic::transport::Channel;

use crate::museum::data_files;
use crate::readers::{ROWS, two_files, wait_for_files};
use crate::server::{connect, query, with_address, with_channel};
use crate::support::{Lake, batch, caller};

/// What a client of HTTP/2 begins with, up to the head of its first frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A generous limit of waiting, so that a busy machine is no failure.
const LONG: Duration = Duration::from_secs(60);

async fn reach(address: SocketAddr) -> TcpStream {
    #[expect(clippy::disallowed_methods, reason = "a stranger that does not keep to the protocol")]
    let connected = TcpStream::connect(address);
    connected.await.expect("connects")
}

/// Waits until the other side hangs up.
async fn until_hung_up_on(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // An end or a reset: both are an answer.
    let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
    drop(ended.expect("it is hung up on"));
}

/// Says so many bytes of the preface, one after the other and so slowly that it never gets through.
async fn drip(address: SocketAddr, bytes: usize) {
    let mut stream = reach(address).await;
    for byte in &PREFACE[..bytes] {
        // Refused when it was hung up on.
        drop(stream.write_all(&[*byte]).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    until_hung_up_on(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_little_are_hung_up_on_and_others_are_served_meanwhile() {
    let lake = Lake::keyed().await;
    with_address(&lake, async |address| {
        let slow = Box::pin(join_all((0..200).map(|number| drip(address, number % 20))));
        let served = Box::pin(async {
            let mut client = LakeClient::new(connect(address).await);
            for value in 0..20 {
                lake.append(&[("a", value)]).await;
                let (_, rows) = query(&mut client, "SELECT 1", None).await;
                assert_eq!(rows.len(), 1);
            }
            // One that has begun and says nothing more is a client: it may take its time.
            let mut idle = reach(address).await;
            idle.write_all(PREFACE).await.expect("writes");
            idle
        });
        let (_slow, mut idle) = tokio::join!(slow, served);
        let mut settings = [0; 9];
        idle.read_exact(&mut settings).await.expect("it was not hung up on");
        assert_eq!(settings[3], 4, "the server's first frame");
    })
    .await;
    lake.node.shutdown().await.expect("stops");
}

/// What nobody who speaks gRPC sends.
fn nonsense() -> Vec<Vec<u8>> {
    let mut prng = Prng::from_seed(7);
    let random = (0..8_192).flat_map(|_| prng.next_u64().to_le_bytes()).collect();
    let begun = |rest: &[u8]| [PREFACE, rest].concat();
    vec![
        random,
        // A client that believes there is TLS.
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".repeat(40),
        // A frame of 16 MiB, a stream that nobody opened, headers that do not decode.
        begun(b"\xff\xff\xff\0\0\0\0\0\x01"),
        begun(b"\0\0\x04\0\0\0\0\0\x01data"),
        begun(b"\0\0\x04\x01\x04\0\0\0\x01\xff\xff\xff\xff"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_hung_up_on_and_the_node_serves_on() {
    let lake = Lake::keyed().await;
    with_address(&lake, async |address| {
        for bytes in nonsense() {
            let mut stream = reach(address).await;
            drop(stream.write_all(&bytes).await);
            until_hung_up_on(&mut stream).await;
        }
        let mut client = LakeClient::new(connect(address).await);
        query(&mut client, "SELECT 1", None).await;
    })
    .await;
    lake.node.shutdown().await.expect("stops");
}

/// Asks for an answer, and leaves it where it is while the files that it reads are replaced.
async fn leave_unread(lake: &Lake, mut client: LakeClient<Channel>) {
    let sql = "SELECT key, value FROM t".to_owned();
    let mut request = Request::new(v1::QueryRequest { sql, ..v1::QueryRequest::default() });
    request.set_timeout(Duration::from_secs(10));
    let unread = client.query(request).await.expect("runs").into_inner();
    lake.tombstone(&["key-0000000"]).await;
    lake.node.compact(&caller(), "t").await.expect("compacts");
    let floor = lake.node.applied();
    lake.node.expire(&caller(), "t", Some(floor)).await.expect("expires");
    assert_eq!(data_files(&lake.dir()).len(), 3, "the answer holds what it reads");
    wait_for_files(lake, 1).await;
    // It is there all the while, and nobody else waits for it.
    lake.node.append(&caller(), "t", vec![batch(&[("b", 1)])]).await.expect("appends");
    let (_, rows) = query(&mut client, "SELECT count(*) FROM t", None).await;
    assert_eq!(rows.len(), 1);
    drop(unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_its_answer_holds_no_file_beyond_its_time() {
    let lake = two_files().await;
    with_channel(&lake, async |channel| {
        Box::pin(leave_unread(&lake, LakeClient::new(channel))).await;
    })
    .await;
    assert_eq!(lake.number("SELECT count(*) FROM t").await.expect("counts"), 2 * ROWS);
    lake.node.shutdown().await.expect("stops");
}
