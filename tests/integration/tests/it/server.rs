//! A node behind its port: the calls of `alluvium.v1.Lake` over loopback.

use std::net::SocketAddr;
use std::time::Duration;

use alluvium_proto::v1;
use alluvium_proto::v1::lake_client::LakeClient;
use alluvium_server::failures::{hint_of, kind_of};
use alluvium_server::{Error, ServeOptions, Server};
use alluvium_types::ErrorKind;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::support::{Lake, batch, expect};

pub(crate) type Client = LakeClient<Channel>;

/// Serves a lake while `test` talks to it, then stops the server and waits for it.
pub(crate) async fn with_server(lake: &Lake, test: impl AsyncFnOnce(Client)) {
    with_channel(lake, async |channel| test(LakeClient::new(channel)).await).await;
}

/// The same for what is not a call of the lake.
pub(crate) async fn with_channel(lake: &Lake, test: impl AsyncFnOnce(Channel)) {
    with_address(lake, async |address| test(connect(address).await).await).await;
}

pub(crate) async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("connects")
}

/// The same for who does not even speak the protocol.
pub(crate) async fn with_address(lake: &Lake, test: impl AsyncFnOnce(SocketAddr)) {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(ServeOptions { listen, insecure: false }).expect("a free port");
    let address = server.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = server.run(lake.node.clone(), async move { drop(stopped.await) });
    let testing = async {
        test(address).await;
        drop(stop);
    };
    let (ended, ()) = tokio::join!(running, testing);
    ended.expect("the server ends cleanly");
}

pub(crate) fn arrow_stream(batch: &RecordBatch) -> Bytes {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("writer");
    writer.write(batch).expect("write");
    Bytes::from(writer.into_inner().expect("finish"))
}

fn target(session: Option<(u64, u64)>) -> v1::append_request::Part {
    let session = session.map(|(id, sequence)| v1::Session { id, sequence });
    let caller = v1::Caller { actor: "test".to_owned(), session, expected_index: None };
    let name = "t".to_owned();
    v1::append_request::Part::Target(v1::AppendTarget { caller: Some(caller), name, upsert: false })
}

pub(crate) fn rows(rows: &[(&str, i64)]) -> v1::append_request::Part {
    v1::append_request::Part::ArrowStream(arrow_stream(&batch(rows)))
}

pub(crate) fn messages(
    parts: Vec<v1::append_request::Part>,
) -> impl futures::Stream<Item = v1::AppendRequest> {
    stream::iter(parts).map(|part| v1::AppendRequest { part: Some(part) })
}

/// Runs a query and returns its index and rows; all messages together are one Arrow stream.
pub(crate) async fn query(
    client: &mut Client,
    sql: &str,
    as_of: Option<u64>,
) -> (u64, Vec<RecordBatch>) {
    let request = v1::QueryRequest { sql: sql.to_owned(), as_of, ..v1::QueryRequest::default() };
    let mut answers = client.query(request).await.expect("runs").into_inner();
    let (mut index, mut decoder, mut batches) = (None, StreamDecoder::new(), Vec::new());
    while let Some(message) = answers.message().await.expect("goes on") {
        index = index.or(message.index);
        let mut buffer = Buffer::from(message.arrow_stream);
        while !buffer.is_empty() {
            batches.extend(decoder.decode(&mut buffer).expect("one stream"));
        }
    }
    decoder.finish().expect("the stream has its end");
    (index.expect("the first message names the index"), batches)
}

pub(crate) fn count_of(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_in_and_come_out_over_the_port() {
    let lake = Lake::keyed().await;
    with_server(&lake, async |mut client| {
        let parts = vec![target(None), rows(&[("a", 1), ("b", 2)]), rows(&[("a", 3)])];
        let written = client.append(messages(parts)).await.expect("appends").into_inner();
        assert_eq!(written.count, 3);
        let (index, batches) = query(&mut client, "SELECT * FROM t", None).await;
        assert_eq!(count_of(&batches), 3);
        assert!(written.index <= index, "an acknowledged write is visible");

        use v1::tombstone_request::Part;
        let caller = Some(v1::Caller { actor: "test".to_owned(), ..v1::Caller::default() });
        let place =
            v1::TombstoneTarget { caller, name: "t".to_owned(), predicate: None, dry_run: false };
        let keys = v1::TextKeys { keys: vec![v1::TextKey { values: vec!["a".to_owned()] }] };
        let parts = stream::iter([Part::Target(place), Part::Texts(keys)]);
        let requests = parts.map(|part| v1::TombstoneRequest { part: Some(part) });
        let hidden = client.tombstone(requests).await.expect("hides").into_inner();
        assert_eq!(hidden.count, 1);
        let (_, batches) = query(&mut client, "SELECT * FROM t", None).await;
        assert_eq!(count_of(&batches), 1);
        let (at, batches) = query(&mut client, "SELECT * FROM t", Some(hidden.index - 1)).await;
        assert_eq!((at, count_of(&batches)), (hidden.index - 1, 3));
    })
    .await;
    assert_eq!(lake.rows().await, expect(&[("b", 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_and_the_care_of_a_dataset_work_over_the_port() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1), ("b", 2)]).await;
    with_server(&lake, async |mut client| {
        let name = "t".to_owned();
        let request = v1::DatasetRequest { caller: None, name: name.clone() };
        let sealed = client.seal(request.clone()).await.expect("seals").into_inner();
        assert_eq!((sealed.files.len(), sealed.rows), (1, 2));
        let compacted = client.compact(request).await.expect("compacts").into_inner();
        assert_eq!(compacted.rows_in, compacted.rows_out + compacted.rows_hidden);
        let found = client.get_dataset(v1::GetDatasetRequest { name: name.clone(), as_of: None });
        let found = found.await.expect("is there").into_inner();
        assert_eq!((found.file_rows, found.delta_rows), (2, 0));
        assert_eq!(found.columns.iter().map(|column| column.id).collect::<Vec<_>>(), [1, 2]);
        let expire = v1::ExpireRequest { caller: None, name, floor: None };
        client.expire(expire).await.expect("expires");
        let status = client.status(v1::StatusRequest {}).await.expect("status").into_inner();
        assert_eq!(status.datasets, 1);
        let log = v1::LogRequest { from: None, limit: 100 };
        let log = client.log(log).await.expect("log").into_inner().records;
        assert!(log.iter().any(|record| record.kind == "append" && record.rows == Some(2)));
        let report = client.verify(v1::VerifyRequest {}).await.expect("verifies").into_inner();
        assert_eq!(report.damage, Vec::<String>::new());
        assert_eq!(report.digest_kept, report.digest_recomputed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m40_a_repeated_append_gets_the_first_answer_and_adds_nothing() {
    let lake = Lake::keyed().await;
    with_server(&lake, async |mut client| {
        let open = v1::OpenSessionRequest { actor: "test".to_owned(), ttl_ms: None };
        let session = client.open_session(open).await.expect("opens").into_inner().session_id;
        let once = || messages(vec![target(Some((session, 1))), rows(&[("a", 1)])]);
        let first = client.append(once()).await.expect("appends").into_inner();
        for _ in 0..5 {
            assert_eq!(client.append(once()).await.expect("answers").into_inner(), first);
        }
        let other = messages(vec![target(Some((session, 1))), rows(&[("b", 2)])]);
        let refused = client.append(other).await.expect_err("another command, the same number");
        assert_eq!(kind_of(&refused), ErrorKind::InvalidArgument);
    })
    .await;
    assert_eq!(lake.rows().await, expect(&[("a", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m20_after_every_refusal_the_next_write_succeeds() {
    let lake = Lake::keyed().await;
    with_server(&lake, async |mut client| {
        use v1::append_request::Part;
        let whole = arrow_stream(&batch(&[("x", 1)]));
        let reordered = batch(&[("x", 1)]).project(&[1, 0]).expect("both columns");
        let reordered = Part::ArrowStream(arrow_stream(&reordered));
        let refused: [(&str, Vec<Part>); 7] = [
            ("columns in another order", vec![target(None), reordered]),
            ("rows first", vec![rows(&[("x", 1)])]),
            ("two targets", vec![target(None), target(None)]),
            ("no rows", vec![target(None)]),
            ("no Arrow", vec![target(None), Part::ArrowStream(Bytes::from_static(b"not arrow"))]),
            ("cut off", vec![target(None), Part::ArrowStream(whole.slice(..whole.len() - 9))]),
            (
                "good, then bad",
                vec![target(None), rows(&[("x", 1)]), Part::ArrowStream(Bytes::new())],
            ),
        ];
        for (round, (what, parts)) in (1_i64..).zip(refused) {
            let status = client.append(messages(parts)).await.expect_err(what);
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
            let parts = vec![target(None), rows(&[("ok", round)])];
            client.append(messages(parts)).await.expect("the next write succeeds");
        }
    })
    .await;
    let left = lake.rows().await;
    assert_eq!(left.len(), 7, "nothing of a refused append is visible: {left:?}");
    assert!(left.iter().all(|(key, _)| key == "ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_never_ends_meets_its_deadline_and_leaves_nothing() {
    let lake = Lake::keyed().await;
    with_server(&lake, async |mut client| {
        let parts = messages(vec![target(None), rows(&[("x", 1)])]).chain(stream::pending());
        let mut request = Request::new(parts);
        request.set_timeout(Duration::from_millis(500));
        let status = client.append(request).await.expect_err("the deadline passes");
        // The server answers, or the client gives up a moment earlier: both say that time is over.
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
        let parts = vec![target(None), rows(&[("ok", 1)])];
        client.append(messages(parts)).await.expect("the next write succeeds");
    })
    .await;
    assert_eq!(lake.rows().await, expect(&[("ok", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_its_kind_its_advice_and_when_to_try_again() {
    let lake = Lake::keyed().await;
    with_server(&lake, async |mut client| {
        let request = v1::GetDatasetRequest { name: "T".to_owned(), as_of: None };
        let status = client.get_dataset(request).await.expect_err("case matters");
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "dataset \"T\" does not exist");
        assert_eq!(hint_of(&status).as_deref(), Some("a dataset named \"t\" exists"));
        let details = status.get_error_details();
        let info = details.error_info().expect("details");
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("alluvium", "NOT_FOUND"));
        assert!(details.retry_info().is_none(), "asking again changes nothing");

        let request = v1::QueryRequest { sql: "SELEC 1".to_owned(), ..v1::QueryRequest::default() };
        let status = client.query(request).await.expect_err("no SQL");
        assert_eq!(status.code(), Code::InvalidArgument);
        let request = v1::QueryRequest {
            sql: "SELECT * FROM t".to_owned(),
            as_of: Some(1_000_000),
            ..v1::QueryRequest::default()
        };
        let status = client.query(request).await.expect_err("not reached");
        assert_eq!(status.code(), Code::OutOfRange);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_does_not_hold_changes_nothing() {
    let lake = Lake::keyed().await;
    with_server(&lake, async |mut client| {
        let name = "t".to_owned();
        let caller = Some(v1::Caller { expected_index: Some(999_999), ..v1::Caller::default() });
        let request = v1::DatasetRequest { caller, name };
        let status = client.drop(request).await.expect_err("the condition does not hold");
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(kind_of(&status), ErrorKind::Precondition);
    })
    .await;
    assert_eq!(lake.rows().await, Vec::new());
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused_unless_it_is_said() {
    let listen = SocketAddr::from(([0, 0, 0, 0], 0));
    let error = Server::bind(ServeOptions { listen, insecure: false }).expect_err("refused");
    assert!(matches!(error, Error::Exposed { .. }));
    assert_eq!(
        error.to_string(),
        "0.0.0.0:0 is reachable from other machines, and this server checks nobody"
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("--insecure")));
    let server = Server::bind(ServeOptions { listen, insecure: true }).expect("as it was said");
    assert_ne!(server.address().port(), 0);
}
