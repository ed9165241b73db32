//! The calls of `alluvium.v1.Lake`, each a call of the engine.
//!
//! It must not decide: it reads a request, calls the node, and writes the answer. Invariant: every call runs
//! within its deadline.

use std::time::Duration;

use alluvium_engine::{DEFAULT_BUCKET, Node, RegisterOptions, SqlOptions};
use alluvium_proto::v1;
use alluvium_proto::v1::lake_server::Lake;
use alluvium_types::{ErrorKind, LogIndex, Schema};
use tonic::{Request, Response, Status, Streaming};

use crate::deadline::{self, within};
use crate::failures::{engine_status, rows_status, status};
use crate::limits::LOG_RECORDS_MAX;
use crate::streams::{self, Answers};
use crate::{convert, replies};

/// The node behind the port.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    node: Node,
}

impl Service {
    pub(crate) fn new(node: Node) -> Self {
        Self { node }
    }

    async fn register_dataset(
        &self,
        request: v1::RegisterRequest,
    ) -> Result<v1::RegisterResponse, Status> {
        let fields = convert::fields_from(request.columns).map_err(|error| bad_message(&error))?;
        let fields = fields.into_iter().map(|mut field| {
            field.id = alluvium_types::FieldId(0);
            field
        });
        let schema = Schema { fields: fields.collect(), key_columns: request.key_columns };
        schema.validate().map_err(|error| rows_status(&error.into()))?;
        let options = RegisterOptions {
            key_columns: schema.key_columns.clone(),
            bucket: request.bucket.unwrap_or_else(|| DEFAULT_BUCKET.to_owned()),
            options: convert::options_from(request.options).map_err(|error| bad_message(&error))?,
        };
        let caller = convert::caller_from(request.caller);
        let arrow = alluvium_rows::to_arrow(&schema);
        let registered = self.node.register(&caller, &request.name, arrow, options).await;
        Ok(replies::registered(&registered.map_err(|error| engine_status(&self.node, &error))?))
    }

    async fn list(&self, as_of: Option<u64>) -> Result<v1::ListDatasetsResponse, Status> {
        let datasets = self.node.datasets(as_of.map(LogIndex)).await;
        let (index, datasets) = datasets.map_err(|error| engine_status(&self.node, &error))?;
        let datasets = datasets.iter().map(replies::dataset).collect::<Result<_, _>>();
        let datasets = datasets.map_err(|error| rows_status(&error))?;
        Ok(v1::ListDatasetsResponse { datasets, index: index.0 })
    }

    async fn change(
        &self,
        request: v1::ChangeMembersRequest,
    ) -> Result<v1::ChangeMembersResponse, Status> {
        use v1::change_members_request::Change;
        let nothing = || status(ErrorKind::InvalidArgument, "the change is missing", None);
        let changed = match request.change.ok_or_else(nothing)? {
            Change::AddLearner(new) => {
                self.node.add_learner(new.node, &new.address).await.map(Some)
            }
            Change::Promote(ids) => self.node.promote(&ids.nodes).await.map(|()| None),
            Change::Remove(ids) => self.node.remove(&ids.nodes).await.map(|()| None),
            Change::TransferLeader(to) => self.node.transfer_leader(to).await.map(|()| None),
        };
        let added = changed.map_err(|error| engine_status(&self.node, &error))?;
        let members = replies::members(&self.node.members_as_led().await);
        Ok(v1::ChangeMembersResponse { members, added, index: self.node.applied().0 })
    }

    async fn run_query(
        &self,
        request: v1::QueryRequest,
        limit: Duration,
    ) -> Result<Answers, Status> {
        let memory_bytes = request.memory_bytes.map(usize::try_from).transpose();
        if request.local && request.max_stale_ms.is_some() {
            let both = "a read is either local or at most max_stale_ms behind";
            return Err(status(ErrorKind::InvalidArgument, both, None));
        }
        let too_large = |_| status(ErrorKind::InvalidArgument, "memory_bytes is too large", None);
        let options = SqlOptions {
            as_of: request.as_of.map(LogIndex),
            at_least: request.at_least.map(LogIndex),
            local: request.local,
            max_stale: request.max_stale_ms.map(Duration::from_millis),
            timeout: Some(limit.min(self.node.statement_timeout())),
            memory_bytes: memory_bytes.map_err(too_large)?,
            row_limit: request.row_limit,
        };
        let query = self.node.sql(&request.sql, options).await;
        let query = query.map_err(|error| engine_status(&self.node, &error))?;
        streams::answers(&self.node, query)
    }
}

fn bad_message(error: &convert::Error) -> Status {
    status(ErrorKind::InvalidArgument, error.to_string(), None)
}

/// What a call answers.
type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Lake for Service {
    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Answer<v1::OpenSessionResponse> {
        within(deadline::of(request.metadata()), async {
            let v1::OpenSessionRequest { actor, ttl_ms } = request.into_inner();
            let session = self.node.open_session(&actor, ttl_ms.map(Duration::from_millis)).await;
            let session = session.map_err(|error| engine_status(&self.node, &error))?;
            Ok(v1::OpenSessionResponse { session_id: session.0 })
        })
        .await
    }

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Answer<v1::RegisterResponse> {
        let limit = deadline::of(request.metadata());
        within(limit, self.register_dataset(request.into_inner())).await
    }

    async fn evolve(&self, request: Request<v1::EvolveRequest>) -> Answer<v1::WriteResponse> {
        within(deadline::of(request.metadata()), async {
            let v1::EvolveRequest { caller, name, changes } = request.into_inner();
            let changes = convert::changes_from(changes).map_err(|error| bad_message(&error))?;
            let caller = convert::caller_from(caller);
            let written = self.node.evolve(&caller, &name, changes).await;
            Ok(replies::written(&written.map_err(|error| engine_status(&self.node, &error))?))
        })
        .await
    }

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Answer<v1::WriteResponse> {
        let limit = deadline::of(request.metadata());
        Box::pin(within(limit, streams::append(&self.node, request.into_inner()))).await
    }

    async fn tombstone(
        &self,
        request: Request<Streaming<v1::TombstoneRequest>>,
    ) -> Answer<v1::WriteResponse> {
        let limit = deadline::of(request.metadata());
        Box::pin(within(limit, streams::tombstone(&self.node, request.into_inner()))).await
    }

    async fn seal(&self, request: Request<v1::DatasetRequest>) -> Answer<v1::SealResponse> {
        within(deadline::of(request.metadata()), async {
            let v1::DatasetRequest { caller, name } = request.into_inner();
            let report = self.node.seal(&convert::caller_from(caller), &name).await;
            Ok(replies::sealed(&report.map_err(|error| engine_status(&self.node, &error))?))
        })
        .await
    }

    async fn compact(&self, request: Request<v1::DatasetRequest>) -> Answer<v1::CompactResponse> {
        within(deadline::of(request.metadata()), async {
            let v1::DatasetRequest { caller, name } = request.into_inner();
            let report = self.node.compact(&convert::caller_from(caller), &name).await;
            Ok(replies::compacted(&report.map_err(|error| engine_status(&self.node, &error))?))
        })
        .await
    }

    async fn expire(&self, request: Request<v1::ExpireRequest>) -> Answer<v1::WriteResponse> {
        within(deadline::of(request.metadata()), async {
            let v1::ExpireRequest { caller, name, floor } = request.into_inner();
            let caller = convert::caller_from(caller);
            let written = self.node.expire(&caller, &name, floor.map(LogIndex)).await;
            Ok(replies::written(&written.map_err(|error| engine_status(&self.node, &error))?))
        })
        .await
    }

    async fn drop(&self, request: Request<v1::DatasetRequest>) -> Answer<v1::WriteResponse> {
        within(deadline::of(request.metadata()), async {
            let v1::DatasetRequest { caller, name } = request.into_inner();
            let written = self.node.drop_dataset(&convert::caller_from(caller), &name).await;
            Ok(replies::written(&written.map_err(|error| engine_status(&self.node, &error))?))
        })
        .await
    }

    async fn list_datasets(
        &self,
        request: Request<v1::ListDatasetsRequest>,
    ) -> Answer<v1::ListDatasetsResponse> {
        within(deadline::of(request.metadata()), self.list(request.get_ref().as_of)).await
    }

    async fn get_dataset(&self, request: Request<v1::GetDatasetRequest>) -> Answer<v1::Dataset> {
        within(deadline::of(request.metadata()), async {
            let v1::GetDatasetRequest { name, as_of } = request.into_inner();
            let found = self.node.dataset(&name, as_of.map(LogIndex)).await;
            let found = found.map_err(|error| engine_status(&self.node, &error))?;
            replies::dataset(&found).map_err(|error| rows_status(&error))
        })
        .await
    }

    type QueryStream = Answers;

    async fn query(&self, request: Request<v1::QueryRequest>) -> Answer<Answers> {
        let limit = deadline::of(request.metadata());
        within(limit, self.run_query(request.into_inner(), limit)).await
    }

    async fn log(&self, request: Request<v1::LogRequest>) -> Answer<v1::LogResponse> {
        within(deadline::of(request.metadata()), async {
            let v1::LogRequest { from, limit } = request.into_inner();
            let limit = usize::try_from(limit.min(LOG_RECORDS_MAX)).expect("it is small");
            let records = self.node.log(from.map(LogIndex), limit).await;
            let records = records.map_err(|error| engine_status(&self.node, &error))?;
            let records = records.into_iter().map(replies::log_record).collect();
            Ok(v1::LogResponse { records, index: self.node.applied().0 })
        })
        .await
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        within(deadline::of(request.metadata()), async {
            let found = self.node.status().await;
            found.map(replies::status).map_err(|error| engine_status(&self.node, &error))
        })
        .await
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Answer<v1::VerifyResponse> {
        within(deadline::of(request.metadata()), async {
            let report = self.node.verify().await;
            report.map(replies::verified).map_err(|error| engine_status(&self.node, &error))
        })
        .await
    }

    async fn list_members(
        &self,
        request: Request<v1::ListMembersRequest>,
    ) -> Answer<v1::ListMembersResponse> {
        within(deadline::of(request.metadata()), async {
            let members = replies::members(&self.node.members_as_led().await);
            Ok(v1::ListMembersResponse { members, index: self.node.applied().0 })
        })
        .await
    }

    async fn reinstall(
        &self,
        request: Request<v1::ReinstallRequest>,
    ) -> Answer<v1::ReinstallResponse> {
        within(deadline::of(request.metadata()), async {
            let asked = self.node.reinstall().await;
            asked
                .map(|()| v1::ReinstallResponse {})
                .map_err(|error| engine_status(&self.node, &error))
        })
        .await
    }

    async fn change_members(
        &self,
        request: Request<v1::ChangeMembersRequest>,
    ) -> Answer<v1::ChangeMembersResponse> {
        within(deadline::of(request.metadata()), async {
            Box::pin(self.change(request.into_inner())).await
        })
        .await
    }
}
