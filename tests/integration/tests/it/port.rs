//! The calls over the port that change the catalog, the conditions of writes, and bytes that lie.

use std::sync::Arc;

use alluvium_proto::v1;
use alluvium_proto::v1::append_request::Part;
use alluvium_proto::v1::tombstone_request::Part as Keys;
use alluvium_server::convert::{change_to, field_to};
use alluvium_server::failures::kind_of;
use alluvium_types::{DataType, ErrorKind, Field, FieldId, SchemaChange};
use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::server::{Client, arrow_stream, messages, query, rows, with_channel, with_server};
use crate::support::{Lake, batch, expect};

fn column(name: &str, data_type: DataType, nullable: bool) -> Field {
    Field { id: FieldId(0), name: name.to_owned(), data_type, nullable }
}

fn register(name: &str) -> v1::RegisterRequest {
    let columns = [column("key", DataType::Utf8, false), column("value", DataType::Int64, false)];
    v1::RegisterRequest {
        name: name.to_owned(),
        columns: columns.iter().map(field_to).collect(),
        key_columns: vec!["key".to_owned()],
        ..v1::RegisterRequest::default()
    }
}

fn place(name: &str, upsert: bool, expected_index: Option<u64>) -> Part {
    let caller = Some(v1::Caller { expected_index, ..v1::Caller::default() });
    Part::Target(v1::AppendTarget { caller, name: name.to_owned(), upsert })
}

async fn names(client: &mut Client, as_of: Option<u64>) -> Vec<String> {
    let listed = client.list_datasets(v1::ListDatasetsRequest { as_of }).await.expect("lists");
    listed.into_inner().datasets.into_iter().map(|dataset| dataset.name).collect()
}

fn numbers(batches: &[RecordBatch], column: usize) -> Vec<Option<i64>> {
    let columns = batches.iter().map(|batch| batch.column(column).as_primitive::<Int64Type>());
    columns.flat_map(|column| column.iter().collect::<Vec<_>>()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_is_registered_filled_evolved_listed_and_dropped_over_the_port() {
    let lake = Lake::new().await;
    with_server(&lake, async |mut client| {
        let first = client.register(register("p")).await.expect("registers").into_inner();
        assert_eq!((first.existing, first.schema_version, first.incarnation > 0), (false, 1, true));
        let again = client.register(register("p")).await.expect("registers").into_inner();
        assert_eq!((again.existing, &again.dataset_id), (true, &first.dataset_id));
        client.register(register("q")).await.expect("registers");
        assert_eq!(names(&mut client, None).await, ["p", "q"]);
        assert_eq!(names(&mut client, Some(first.index)).await, ["p"]);

        for rows_of in [[("a", 1), ("b", 2)], [("b", 3), ("c", 4)]] {
            let parts = vec![place("p", true, None), rows(&rows_of)];
            let written = client.append(messages(parts)).await.expect("upserts").into_inner();
            assert_eq!(written.count, 2);
        }
        let (_, found) = query(&mut client, "SELECT * FROM p ORDER BY key", None).await;
        assert_eq!(numbers(&found, 1), [Some(1), Some(3), Some(4)]);

        let steps = [
            SchemaChange::Rename { column: "value".to_owned(), to: "amount".to_owned() },
            SchemaChange::Add(column("extra", DataType::Int64, true)),
        ];
        let changes = steps.iter().map(change_to).collect();
        let request = v1::EvolveRequest { caller: None, name: "p".to_owned(), changes };
        let evolved = client.evolve(request).await.expect("evolves").into_inner();
        assert_eq!(evolved.count, 2);
        let text = "SELECT amount, extra FROM p ORDER BY key";
        let (_, found) = query(&mut client, text, None).await;
        assert_eq!(numbers(&found, 0), [Some(1), Some(3), Some(4)]);
        assert_eq!(numbers(&found, 1), [None; 3]);

        let request = v1::DatasetRequest { caller: None, name: "p".to_owned() };
        client.drop(request.clone()).await.expect("drops");
        assert_eq!(names(&mut client, None).await, ["q"]);
        let gone = client.drop(request).await.expect_err("it is gone");
        assert_eq!(gone.code(), Code::NotFound);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_says_that_it_serves_and_what() {
    let lake = Lake::new().await;
    with_channel(&lake, async |channel| {
        let mut health = HealthClient::new(channel.clone());
        for service in ["", "alluvium.v1.Lake"] {
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = health.check(request).await.expect(service).into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
        }
        let unknown = HealthCheckRequest { service: "alluvium.v1.Sea".to_owned() };
        assert_eq!(
            health.check(unknown).await.expect_err("no such service").code(),
            Code::NotFound
        );

        let list = MessageRequest::ListServices(String::new());
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
        let mut reflection = ServerReflectionClient::new(channel);
        let answers = reflection.server_reflection_info(stream::iter([request])).await;
        let answer = answers.expect("reflects").into_inner().next().await.expect("an answer");
        let Some(MessageResponse::ListServicesResponse(listed)) =
            answer.expect("reflects").message_response
        else {
            panic!("not a list of services");
        };
        let listed: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
        assert!(listed.contains(&"alluvium.v1.Lake".to_owned()), "{listed:?}");
    })
    .await;
}

async fn changed_at(client: &mut Client) -> u64 {
    let request = v1::GetDatasetRequest { name: "t".to_owned(), as_of: None };
    client.get_dataset(request).await.expect("is there").into_inner().changed_at
}

/// Appends, hides and evolves, each on the condition that the dataset last changed at `stale`, or when it did;
/// returns how each ended.
async fn writes_on(client: &mut Client, stale: Option<u64>) -> [Result<(), tonic::Status>; 3] {
    let expected = stale.unwrap_or(changed_at(client).await);
    let parts = vec![place("t", false, Some(expected)), rows(&[("b", 2)])];
    let appended = client.append(messages(parts)).await.map(drop);

    let expected = stale.unwrap_or(changed_at(client).await);
    let caller = Some(v1::Caller { expected_index: Some(expected), ..v1::Caller::default() });
    let target =
        v1::TombstoneTarget { caller, name: "t".to_owned(), predicate: None, dry_run: false };
    let keys = v1::TextKeys { keys: vec![v1::TextKey { values: vec!["a".to_owned()] }] };
    let parts = stream::iter([Keys::Target(target), Keys::Texts(keys)]);
    let parts = parts.map(|part| v1::TombstoneRequest { part: Some(part) });
    let hidden = client.tombstone(parts).await.map(drop);

    let step = SchemaChange::Add(column("extra", DataType::Int64, true));
    let expected = stale.unwrap_or(changed_at(client).await);
    let caller = Some(v1::Caller { expected_index: Some(expected), ..v1::Caller::default() });
    let changes = vec![change_to(&step)];
    let request = v1::EvolveRequest { caller, name: "t".to_owned(), changes };
    [appended, hidden, client.evolve(request).await.map(drop)]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_over_the_port_can_be_conditional() {
    let lake = Lake::keyed().await;
    let stale = lake.node.dataset("t", None).await.expect("there").changed_at.0;
    lake.append(&[("a", 1)]).await;
    with_server(&lake, async |mut client| {
        let before = changed_at(&mut client).await;
        assert!(stale < before);
        for ended in writes_on(&mut client, Some(stale)).await {
            let refused = ended.expect_err("the dataset changed since");
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            assert_eq!(kind_of(&refused), ErrorKind::Precondition, "{refused}");
        }
        assert_eq!(changed_at(&mut client).await, before, "nothing happened");
        let (_, found) = query(&mut client, "SELECT * FROM t", None).await;
        assert_eq!((numbers(&found, 1), found[0].num_columns()), (vec![Some(1)], 2));

        let ended = writes_on(&mut client, None).await;
        ended.into_iter().for_each(|ended| ended.expect("nobody else wrote"));
        let (_, found) = query(&mut client, "SELECT * FROM t", None).await;
        assert_eq!((numbers(&found, 1), found[0].num_columns()), (vec![Some(2)], 3));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_names_the_index_at_which_it_holds() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1)]).await;
    with_server(&lake, async |mut client| {
        let written = changed_at(&mut client).await;
        let newest = v1::ListDatasetsRequest { as_of: None };
        let listed = client.list_datasets(newest).await.expect("lists").into_inner();
        assert!(written <= listed.index && !listed.datasets.is_empty(), "{listed:?}");
        let is_below = |dataset: &v1::Dataset| {
            dataset.index == listed.index && dataset.changed_at <= listed.index
        };
        assert!(listed.datasets.iter().all(is_below), "{listed:?}");
        let past = v1::ListDatasetsRequest { as_of: Some(written) };
        let past = client.list_datasets(past).await.expect("lists").into_inner();
        assert_eq!(past.index, written);
        let last = v1::LogRequest { from: None, limit: 10 };
        let shown = client.log(last).await.expect("shows").into_inner();
        assert!(written <= shown.index && !shown.records.is_empty());
        assert!(shown.records.iter().all(|record| record.index <= shown.index), "{shown:?}");
        let members = client.list_members(v1::ListMembersRequest {}).await.expect("lists");
        assert!(written <= members.into_inner().index);
        let status = client.status(v1::StatusRequest {}).await.expect("says").into_inner();
        assert!(written <= status.applied);
        let report = client.verify(v1::VerifyRequest {}).await.expect("looks").into_inner();
        assert!(written <= report.index);
        let session = v1::OpenSessionRequest { actor: "tester".to_owned(), ttl_ms: None };
        let session = client.open_session(session).await.expect("opens").into_inner();
        assert!(report.index < session.session_id, "a session's id is the index of its entry");
    })
    .await;
}

/// Where the length of the batch's body stands in an Arrow stream, and that length.
fn body_length_of(stream: &[u8]) -> (usize, i64) {
    let word = |at: usize| {
        let four = stream[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(four) as usize
    };
    // Marker, length and schema; then marker, length and header of the batch; its body; the end: 8 bytes.
    let batch = 8 + word(4);
    let (header, length) = (batch + 8, word(batch + 4));
    let body = i64::try_from(stream.len() - 8 - header - length).expect("small");
    let is_length = |at: &usize| stream[*at..*at + 8] == body.to_le_bytes();
    let at = (header..header + length - 8).find(is_length).expect("the header has it");
    (at, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arrow_stream_that_lies_about_its_body_is_refused_and_nothing_is_appended() {
    let lake = Lake::keyed().await;
    with_server(&lake, async |mut client| {
        let whole = arrow_stream(&batch(&[("x", 1), ("y", 2)]));
        let (at, body) = body_length_of(&whole);
        for lie in [0, 8, body - 8, body + 8, i64::from(i32::MAX), i64::MAX, -1, i64::MIN] {
            let mut lying = whole.to_vec();
            lying[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            let parts = vec![place("t", false, None), Part::ArrowStream(Bytes::from(lying))];
            let refused = client.append(messages(parts)).await.expect_err(&format!("{lie}"));
            assert_eq!(refused.code(), Code::InvalidArgument, "{lie}: {refused}");
        }
        let parts = vec![place("t", false, None), Part::ArrowStream(whole)];
        client.append(messages(parts)).await.expect("the truth is taken");
    })
    .await;
    assert_eq!(lake.rows().await, expect(&[("x", 1), ("y", 2)]));
}

/// A row of dataset `w` whose text has so many bytes.
fn row_of(bytes: usize) -> Part {
    let (key, text) = (StringArray::from(vec!["a"]), StringArray::from(vec!["x".repeat(bytes)]));
    let columns = [("key", Arc::new(key) as ArrayRef), ("text", Arc::new(text) as ArrayRef)];
    Part::ArrowStream(arrow_stream(&RecordBatch::try_from_iter(columns).expect("two columns")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_over_a_limit_is_refused_over_the_port_and_the_next_append_succeeds() {
    let lake = Lake::new().await;
    with_server(&lake, async |mut client| {
        let columns = [column("key", DataType::Utf8, false), column("text", DataType::Utf8, false)];
        let columns = columns.iter().map(field_to).collect();
        client.register(v1::RegisterRequest { columns, ..register("w") }).await.expect("registers");
        let before = lake.node.status().await.expect("tells").applied;
        // No message may be so large, and no entry has room for a row that a message may hold. The server says both
        // by size and limit: this client has no limit of its own.
        let sizes = [(100 * 1024 * 1024, "message"), (9 * 1024 * 1024, "entry")];
        for upsert in [false, true] {
            for (bytes, what) in sizes {
                let parts = vec![place("w", upsert, None), row_of(bytes)];
                let status = client.append(messages(parts)).await.expect_err(what);
                assert_eq!(status.code(), Code::ResourceExhausted, "{bytes}: {status:?}");
                assert_eq!(kind_of(&status), ErrorKind::ResourceExhausted, "{bytes}: {status:?}");
                let (text, limit) = (status.message(), limit_of(what));
                let named = text.contains("limit") && text.contains(&limit.to_string());
                assert!(named, "{bytes}: {text}");
            }
        }
        let after = lake.node.status().await.expect("tells").applied;
        assert_eq!(after, before, "nothing of them is in the log");
        let parts = vec![place("w", false, None), row_of(7 * 1024 * 1024)];
        client.append(messages(parts)).await.expect("a large row below the limit");
        let (_, found) = query(&mut client, "SELECT length(text) FROM w", None).await;
        let found: Vec<String> = found
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(|row| (batch.column(0), row)))
            .map(|(column, row)| array_value_to_string(column, row).expect("a number"))
            .collect();
        assert_eq!(found, [(7 * 1024 * 1024).to_string()]);
    })
    .await;
    lake.node.shutdown().await.expect("stops");
}

fn limit_of(what: &str) -> u64 {
    match what {
        "message" => alluvium_server::limits::REQUEST_BYTES_MAX as u64,
        _ => u64::from(alluvium_types::limits::BODY_BYTES_MAX),
    }
}
