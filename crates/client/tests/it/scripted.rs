//! Servers that do what a test says: answer, lose a reply, refuse, hang, die. They share one world, which keeps what
//! took effect and every call that came, as the log of a cluster would.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_client::verdict::DOMAIN;
use alluvium_proto::v1;
use alluvium_proto::v1::lake_server::{Lake, LakeServer};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::ipc::writer::StreamWriter;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use crate::whole::Whole;

/// What a node does with its next write, query, or change of members; when nothing is said it answers.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Answers as it should.
    Answer,
    /// It takes effect, and the answer is this.
    DoAndSay(Status),
    /// Nothing takes effect, and the answer is this.
    Say(Status),
    /// It takes effect, and then the process dies.
    DoAndDie,
    /// Nothing is ever answered.
    Hang,
    /// The answer of a query stops before its end marker.
    CutOff,
    /// The answer of a query stops in its middle and never goes on.
    Stall,
}

/// A call as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) node: u64,
    pub(crate) call: &'static str,
    pub(crate) number: Option<(u64, u64)>,
    pub(crate) payload: Vec<u8>,
}

/// What a session's number was answered with: the payload, and the answer.
type Known = BTreeMap<(u64, u64), (Vec<u8>, v1::WriteResponse)>;

#[derive(Debug, Default)]
struct State {
    calls: Vec<Seen>,
    known: Known,
    over: BTreeSet<u64>,
    index: u64,
    effects: u64,
    leader: Option<u64>,
    queries: Vec<v1::QueryRequest>,
}

/// What all nodes agree on.
#[derive(Debug, Default, Clone)]
pub(crate) struct World {
    // Shared by the servers of one test, each on threads of its own.
    state: Arc<Mutex<State>>,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says who leads from now on.
    pub(crate) fn led_by(&self, node: u64) {
        self.lock().leader = Some(node);
    }

    /// Ends a session, and forgets what it answered.
    pub(crate) fn end_session(&self, session: u64) {
        self.lock().over.insert(session);
    }

    /// Returns the calls of a name, in order.
    pub(crate) fn calls(&self, name: &str) -> Vec<Seen> {
        self.lock().calls.iter().filter(|seen| seen.call == name).cloned().collect()
    }

    /// Returns how many writes took effect.
    pub(crate) fn effects(&self) -> u64 {
        self.lock().effects
    }

    /// Returns the queries that came.
    pub(crate) fn queries(&self) -> Vec<v1::QueryRequest> {
        self.lock().queries.clone()
    }

    fn apply(
        &self,
        number: Option<(u64, u64)>,
        payload: &[u8],
    ) -> Result<v1::WriteResponse, Status> {
        let mut state = self.lock();
        if let Some((session, _)) = number
            && state.over.contains(&session)
        {
            return Err(refusal(Code::OutOfRange, "OUT_OF_RANGE", &[]));
        }
        match number.and_then(|number| state.known.get(&number)) {
            Some((first, answer)) if first == payload => return Ok(*answer),
            Some(_) => return Err(refusal(Code::InvalidArgument, "INVALID_ARGUMENT", &[])),
            None => {}
        }
        state.index += 1;
        state.effects += 1;
        let answer = v1::WriteResponse { index: state.index, count: 1 };
        if let Some(number) = number {
            state.known.insert(number, (payload.to_vec(), answer));
        }
        Ok(answer)
    }
}

#[expect(
    clippy::disallowed_types,
    reason = "the type of tonic-types; its order is never looked at"
)]
fn metadata(pairs: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Makes an error as a server does.
pub(crate) fn refusal(code: Code, reason: &str, pairs: &[(&str, &str)]) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata(pairs));
    Status::with_error_details(code, format!("scripted {reason}"), details)
}

/// Makes the error of a node that knows no leader, which asks for a wait.
pub(crate) fn unavailable(after: Option<Duration>, pairs: &[(&str, &str)]) -> Status {
    let mut details = ErrorDetails::with_error_info("UNAVAILABLE", DOMAIN, metadata(pairs));
    if after.is_some() {
        details.set_retry_info(after);
    }
    Status::with_error_details(Code::Unavailable, "scripted UNAVAILABLE", details)
}

/// A server of the script, with threads of its own, so that it can die.
pub(crate) struct Server {
    runtime: Option<Runtime>,
    pub(crate) url: String,
    steps: Arc<Mutex<VecDeque<Step>>>,
    died: mpsc::Receiver<()>,
}

impl Server {
    /// Starts a node.
    #[expect(clippy::disallowed_methods, reason = "the server must go on beside the test")]
    pub(crate) fn start(node: u64, world: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads");
        let (dies, died) = mpsc::channel(1);
        let steps = Arc::new(Mutex::new(VecDeque::new()));
        let lake = Scripted { node, world: world.clone(), steps: Arc::clone(&steps), dies };
        let entered = runtime.enter();
        let incoming =
            TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let url = format!("http://{}", incoming.local_addr().expect("bound"));
        drop(entered);
        let lake = LakeServer::new(lake).max_decoding_message_size(16 * 1024 * 1024);
        let serving = tonic::transport::Server::builder()
            .add_service(Whole(lake))
            .serve_with_incoming(incoming);
        runtime.spawn(async move { serving.await.expect("it serves until it dies") });
        Self { runtime: Some(runtime), url, steps, died }
    }

    /// Says what the node does next.
    pub(crate) fn then(&self, steps: impl IntoIterator<Item = Step>) -> &Self {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).extend(steps);
        self
    }

    /// Waits until the script says that the node dies, and lets it.
    pub(crate) async fn dies(&mut self) {
        self.died.recv().await.expect("the script says so");
        self.kill();
    }

    /// Ends the node as a signal would: its sockets close, nothing more is said.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Scripted {
    node: u64,
    world: World,
    steps: Arc<Mutex<VecDeque<Step>>>,
    dies: mpsc::Sender<()>,
}

impl Scripted {
    fn step(&self) -> Step {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.pop_front().unwrap_or(Step::Answer)
    }

    fn note(&self, call: &'static str, number: Option<(u64, u64)>, payload: Vec<u8>) {
        self.world.lock().calls.push(Seen { node: self.node, call, number, payload });
    }

    async fn write(
        &self,
        call: &'static str,
        caller: Option<v1::Caller>,
        payload: Vec<u8>,
    ) -> Result<Response<v1::WriteResponse>, Status> {
        let number = caller.and_then(|caller| caller.session).map(|s| (s.id, s.sequence));
        self.note(call, number, payload.clone());
        match self.step() {
            Step::Answer => self.world.apply(number, &payload).map(Response::new),
            Step::DoAndSay(status) => {
                self.world.apply(number, &payload)?;
                Err(status)
            }
            Step::Say(status) => Err(status),
            Step::DoAndDie => {
                self.world.apply(number, &payload)?;
                self.dies.send(()).await.expect("the test waits");
                std::future::pending().await
            }
            Step::Hang | Step::CutOff | Step::Stall => std::future::pending().await,
        }
    }
}

/// The rows that every query answers: two batches of two.
fn answer(index: u64) -> Vec<v1::QueryResponse> {
    let batch = |values: Vec<i64>| {
        let values: ArrayRef = Arc::new(Int64Array::from(values));
        RecordBatch::try_from_iter([("n", values)]).expect("one column")
    };
    let first = batch(vec![1, 2]);
    let mut writer = StreamWriter::try_new(Vec::new(), &first.schema()).expect("a schema");
    let mut parts = Vec::new();
    let mut take = |writer: &mut StreamWriter<Vec<u8>>| {
        writer.flush().expect("a vector");
        parts.push(std::mem::take(writer.get_mut()));
    };
    take(&mut writer);
    for batch in [first, batch(vec![3, 4])] {
        writer.write(&batch).expect("a batch");
        take(&mut writer);
    }
    writer.finish().expect("the end");
    take(&mut writer);
    let mut index = Some(index);
    let message =
        |bytes: Vec<u8>| v1::QueryResponse { index: index.take(), arrow_stream: bytes.into() };
    parts.into_iter().map(message).collect()
}

fn not_scripted<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in the script"))
}

type Answers<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Lake for Scripted {
    async fn open_session(
        &self,
        _: Request<v1::OpenSessionRequest>,
    ) -> Answers<v1::OpenSessionResponse> {
        self.note("OpenSession", None, Vec::new());
        let mut state = self.world.lock();
        state.index += 1;
        Ok(Response::new(v1::OpenSessionResponse { session_id: state.index }))
    }

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Answers<v1::RegisterResponse> {
        let v1::RegisterRequest { caller, name, .. } = request.into_inner();
        let written = self.write("Register", caller, name.into_bytes()).await?.into_inner();
        let index = written.index;
        Ok(Response::new(v1::RegisterResponse { index, ..v1::RegisterResponse::default() }))
    }

    async fn evolve(&self, _: Request<v1::EvolveRequest>) -> Answers<v1::WriteResponse> {
        not_scripted()
    }

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Answers<v1::WriteResponse> {
        use v1::append_request::Part;
        let mut requests = request.into_inner();
        let (mut caller, mut payload) = (None, Vec::new());
        while let Some(request) = requests.message().await? {
            match request.part {
                Some(Part::Target(target)) => {
                    payload.extend(target.name.into_bytes());
                    caller = target.caller;
                }
                Some(Part::ArrowStream(bytes)) => payload.extend(bytes),
                None => return Err(Status::invalid_argument("an empty message")),
            }
        }
        self.write("Append", caller, payload).await
    }

    async fn tombstone(
        &self,
        _: Request<Streaming<v1::TombstoneRequest>>,
    ) -> Answers<v1::WriteResponse> {
        not_scripted()
    }

    async fn seal(&self, _: Request<v1::DatasetRequest>) -> Answers<v1::SealResponse> {
        not_scripted()
    }

    async fn compact(&self, request: Request<v1::DatasetRequest>) -> Answers<v1::CompactResponse> {
        let v1::DatasetRequest { caller, name } = request.into_inner();
        let written = self.write("Compact", caller, name.into_bytes()).await?.into_inner();
        let index = written.index;
        Ok(Response::new(v1::CompactResponse { index, ..v1::CompactResponse::default() }))
    }

    async fn expire(&self, _: Request<v1::ExpireRequest>) -> Answers<v1::WriteResponse> {
        not_scripted()
    }

    async fn drop(&self, request: Request<v1::DatasetRequest>) -> Answers<v1::WriteResponse> {
        let v1::DatasetRequest { caller, name } = request.into_inner();
        self.write("Drop", caller, name.into_bytes()).await
    }

    async fn list_datasets(
        &self,
        _: Request<v1::ListDatasetsRequest>,
    ) -> Answers<v1::ListDatasetsResponse> {
        not_scripted()
    }

    async fn get_dataset(&self, _: Request<v1::GetDatasetRequest>) -> Answers<v1::Dataset> {
        not_scripted()
    }

    type QueryStream = BoxStream<'static, Result<v1::QueryResponse, Status>>;

    async fn query(&self, request: Request<v1::QueryRequest>) -> Answers<Self::QueryStream> {
        let request = request.into_inner();
        self.note("Query", None, request.sql.clone().into_bytes());
        self.world.lock().queries.push(request);
        let index = self.world.lock().index;
        let mut messages = answer(index);
        let rest: Self::QueryStream = match self.step() {
            Step::Answer => stream::empty().boxed(),
            Step::CutOff => {
                messages.truncate(2);
                stream::empty().boxed()
            }
            Step::Stall => {
                messages.truncate(2);
                stream::pending().boxed()
            }
            Step::Say(status) | Step::DoAndSay(status) => return Err(status),
            Step::Hang | Step::DoAndDie => std::future::pending().await,
        };
        Ok(Response::new(stream::iter(messages).map(Ok).chain(rest).boxed()))
    }

    async fn log(&self, _: Request<v1::LogRequest>) -> Answers<v1::LogResponse> {
        not_scripted()
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answers<v1::StatusResponse> {
        let leader = self.world.lock().leader;
        let (node_id, term) = (self.node, 1);
        Ok(Response::new(v1::StatusResponse {
            node_id,
            leader,
            term,
            ..v1::StatusResponse::default()
        }))
    }

    async fn verify(&self, _: Request<v1::VerifyRequest>) -> Answers<v1::VerifyResponse> {
        not_scripted()
    }

    async fn reinstall(&self, _: Request<v1::ReinstallRequest>) -> Answers<v1::ReinstallResponse> {
        not_scripted()
    }

    async fn list_members(
        &self,
        _: Request<v1::ListMembersRequest>,
    ) -> Answers<v1::ListMembersResponse> {
        not_scripted()
    }

    async fn change_members(
        &self,
        _: Request<v1::ChangeMembersRequest>,
    ) -> Answers<v1::ChangeMembersResponse> {
        self.write("ChangeMembers", None, Vec::new()).await?;
        Ok(Response::new(v1::ChangeMembersResponse::default()))
    }
}
