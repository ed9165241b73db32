//! How a node that is no member becomes one: it asks any member, and is sent on to the leader.
//!
//! It must not give a vote: a node listens until it has caught up. Invariant: a node enters under an id that no other
//! ever had, and, where certificates are used, only as the node that its certificate names.

use alluvium_listen::remote_address;
use alluvium_proto::peer::v1 as wire;
use alluvium_proto::peer::v1::door_client::DoorClient;
use alluvium_proto::peer::v1::door_server::Door;
use alluvium_raft::{Error as RaftError, MembershipFault, RaftNode};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Response, Status};

use crate::call::error_of;
use crate::error::with_causes;
use crate::identity::{Identity, PROTOCOL, is_certified_as};
use crate::security::Security;
use crate::service::refusal;
use crate::{Error, limits};

/// Leaders that are asked one after the other before a newcomer gives up.
const HOPS_MAX: usize = 5;

/// Times that a newcomer waits for a cluster that has no leader just now.
const WAITS_MAX: u32 = 50;

/// Lets newcomers in.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    pub(crate) own: Identity,
    pub(crate) is_certified: bool,
    pub(crate) node: RaftNode,
}

impl Doorkeeper {
    fn check(&self, request: &Request<wire::JoinRequest>) -> Result<(), String> {
        let asked = request.get_ref();
        if asked.protocol != PROTOCOL {
            return Err(format!("it speaks protocol {}, this node {PROTOCOL}", asked.protocol));
        }
        let own = format!("{:032x}", self.own.cluster);
        if !asked.cluster.is_empty() && asked.cluster != own {
            return Err(format!("it is of cluster {:?}, this node of {own}", asked.cluster));
        }
        let claimed = Identity { node: asked.node, ..self.own };
        if self.is_certified && !is_certified_as(request, claimed) {
            return Err(format!("its certificate does not speak for node {}", asked.node));
        }
        Ok(())
    }
}

impl Doorkeeper {
    /// Adds a node that can be reached: a member that nobody reaches would take part in nothing, and never hear of it.
    async fn add(&self, node: Option<u64>, address: &str) -> Result<u64, RaftError> {
        let status = self.node.status();
        if status.leader == Some(status.node) {
            reach(address).await.map_err(|reason| {
                let (address, reason) = (address.to_owned(), reason.into_boxed_str());
                RaftError::Membership { fault: MembershipFault::Unreachable { address, reason } }
            })?;
        }
        self.node.add_learner(node, address).await
    }
}

/// Connects and hangs up. The newcomer listens and answers nothing yet: who it is, is proved when it is called.
async fn reach(address: &str) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "nobody speaks there yet")]
    let connected = TcpStream::connect(address);
    match tokio::time::timeout(limits::CONNECT_MAX, connected).await {
        Ok(Ok(_stream)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err("nothing answers there".to_owned()),
    }
}

#[tonic::async_trait]
impl Door for Doorkeeper {
    async fn join(
        &self,
        request: Request<wire::JoinRequest>,
    ) -> Result<Response<wire::JoinReply>, Status> {
        use wire::join_reply::Outcome;
        if let Err(reason) = self.check(&request) {
            let from = remote_address(request.extensions());
            tracing::warn!(?from, reason, "a node that wants to join is refused");
            return Err(Status::permission_denied(format!("the node may not join: {reason}")));
        }
        let asked = request.into_inner();
        let node = Some(asked.node).filter(|node| *node != 0);
        let outcome = match self.add(node, &asked.address).await {
            Ok(node) => {
                tracing::info!(node, address = asked.address, "a node joins");
                let cluster = format!("{:032x}", self.own.cluster);
                Outcome::Joined(wire::Joined { cluster, node })
            }
            Err(error) => Outcome::Refusal(refusal(&error)),
        };
        Ok(Response::new(wire::JoinReply { outcome: Some(outcome) }))
    }
}

/// Asks a member, by any address, to let this node in, and follows to the leader. Returns who this node is now.
///
/// `wanted` is the id, or nothing for the next free one; `address` is where peers reach this node.
///
/// # Errors
/// [`Error::NotLetIn`] when the cluster refuses the node as it is; [`Error::Join`] with the reason of the last node that
/// was asked.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else it says, it is told")]
pub async fn join(
    member: &str,
    security: &Security,
    wanted: Option<u64>,
    address: &str,
) -> Result<Identity, Error> {
    use wire::join_reply::Outcome;
    let own = security.identity()?;
    let request = wire::JoinRequest {
        protocol: PROTOCOL,
        cluster: own.map(|own| format!("{:032x}", own.cluster)).unwrap_or_default(),
        node: own.map(|own| own.node).or(wanted).unwrap_or(0),
        address: address.to_owned(),
    };
    let mut asked = member.to_owned();
    let mut hops = 0;
    let mut waits = 0;
    while hops < HOPS_MAX {
        let failed = |reason: String| Error::Join { member: asked.clone(), reason };
        let refused = |reason: String| Error::NotLetIn { member: asked.clone(), reason };
        let mut door = knock(&asked, security).map_err(failed)?;
        let answer = tokio::time::timeout(limits::FORWARD_MAX, door.join(request.clone())).await;
        let answer = answer.map_err(|_elapsed| failed("it did not answer in time".to_owned()))?;
        let answer = answer.map_err(|status| match status.code() {
            Code::PermissionDenied => refused(status.message().to_owned()),
            _ => failed(with_causes(status.message().to_owned(), &status)),
        })?;
        match answer.into_inner().outcome {
            Some(Outcome::Joined(joined)) => {
                let cluster = u128::from_str_radix(&joined.cluster, 16);
                let cluster = cluster.map_err(|_no| failed("it named no cluster".to_owned()))?;
                return Ok(Identity { cluster, node: joined.node });
            }
            Some(Outcome::Refusal(refusal)) => match error_of(refusal) {
                RaftError::NotLeader { hint } => {
                    asked = hint.address;
                    hops += 1;
                }
                // It has no leader just now, or lets somebody else in.
                RaftError::Unavailable if waits < WAITS_MAX => {
                    waits += 1;
                    tokio::time::sleep(limits::JOIN_AGAIN).await;
                }
                RaftError::Membership { fault } => return Err(refused(fault.to_string())),
                error => return Err(failed(error.to_string())),
            },
            None => return Err(failed("it answered nothing".to_owned())),
        }
    }
    Err(Error::Join { member: asked, reason: "the leadership keeps moving".to_owned() })
}

fn knock(
    address: &str,
    security: &Security,
) -> Result<DoorClient<tonic::transport::Channel>, String> {
    let scheme = if security.is_mutual() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"));
    let mut endpoint = endpoint
        .map_err(|error| format!("{address:?} is no address: {error}"))?
        .connect_timeout(limits::CONNECT_MAX);
    if let Some(tls) = security.of_newcomer().map_err(|error| error.to_string())? {
        let illegal = |error| format!("the certificates cannot be used: {error}");
        endpoint = endpoint.tls_config(tls).map_err(illegal)?;
    }
    Ok(DoorClient::new(endpoint.connect_lazy()))
}
