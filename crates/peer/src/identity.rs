//! Who calls whom: checked before a message is decoded.
//!
//! Each call names its cluster, its sender, its target and the protocol in its metadata. It must not look into
//! messages. Invariant: a call that passes [`Gate`] is of this cluster, for this node, and, where certificates are
//! used, from the node that it names.

use std::sync::{Arc, Mutex, PoisonError};

use alluvium_listen::{Origin, remote_address};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Request, Status};

use crate::security::speaks_for;

/// The version of the protocol between nodes. A node refuses to speak another one.
pub const PROTOCOL: u32 = 1;

const KEY_PROTOCOL: &str = "alluvium-protocol";
const KEY_CLUSTER: &str = "alluvium-cluster";
const KEY_FROM: &str = "alluvium-from";
const KEY_TO: &str = "alluvium-to";

/// A node of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: u128,
    /// The node.
    pub node: u64,
}

/// Writes into each call who makes it and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    values: [(&'static str, MetadataValue<Ascii>); 4],
}

impl Stamp {
    pub(crate) fn new(own: Identity, target: u64) -> Self {
        let value =
            |text: String| MetadataValue::try_from(text).expect("digits are legal in a header");
        let values = [
            (KEY_PROTOCOL, value(PROTOCOL.to_string())),
            (KEY_CLUSTER, value(format!("{:032x}", own.cluster))),
            (KEY_FROM, value(own.node.to_string())),
            (KEY_TO, value(target.to_string())),
        ];
        Self { values }
    }
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (key, value) in &self.values {
            request.metadata_mut().insert(*key, value.clone());
        }
        Ok(request)
    }
}

/// Who made a call that passed the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender(pub(crate) u64);

/// Lets calls through that are meant for this node.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    own: Identity,
    is_certified: bool,
    /// The refusal that was logged last: a neighbour that keeps trying is told of once.
    last: Arc<Mutex<Option<String>>>,
}

impl Gate {
    pub(crate) fn new(own: Identity, is_certified: bool) -> Self {
        Self { own, is_certified, last: Arc::default() }
    }

    fn check(&self, request: &Request<()>) -> Result<Sender, String> {
        let metadata = request.metadata();
        let protocol: u32 = number(metadata, KEY_PROTOCOL)?;
        if protocol != PROTOCOL {
            return Err(format!("it speaks protocol {protocol}, this node {PROTOCOL}"));
        }
        let cluster = text(metadata, KEY_CLUSTER)?;
        let own = format!("{:032x}", self.own.cluster);
        if cluster != own {
            return Err(format!("it is of cluster {cluster:?}, this node of {own}"));
        }
        let from: u64 = number(metadata, KEY_FROM)?;
        let to: u64 = number(metadata, KEY_TO)?;
        if to != self.own.node {
            return Err(format!("it is for node {to}, this is node {}", self.own.node));
        }
        if from == self.own.node {
            return Err(format!("its sender claims node id {from}, which is this node's"));
        }
        if self.is_certified && !is_certified_as(request, Identity { node: from, ..self.own }) {
            return Err(format!("its certificate does not speak for node {from}"));
        }
        Ok(Sender(from))
    }

    fn log(&self, refusal: &str, from: Option<std::net::SocketAddr>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(refusal) {
            tracing::warn!(?from, refusal, "a call on the peer port is refused");
            *last = Some(refusal.to_owned());
        }
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match self.check(&request) {
            Ok(sender) => {
                request.extensions_mut().insert(sender);
                Ok(request)
            }
            Err(refusal) => {
                self.log(&refusal, remote_address(request.extensions()));
                Err(Status::permission_denied(format!("the call is refused: {refusal}")))
            }
        }
    }
}

pub(crate) fn is_certified_as<T>(request: &Request<T>, claimed: Identity) -> bool {
    let connection = request.extensions().get::<TlsConnectInfo<Origin>>();
    let certificates = connection.and_then(TlsConnectInfo::peer_certs);
    let own = certificates.as_ref().and_then(|certificates| certificates.first());
    own.is_some_and(|certificate| speaks_for(certificate, claimed))
}

fn text<'m>(metadata: &'m MetadataMap, key: &str) -> Result<&'m str, String> {
    let value = metadata.get(key).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| format!("it does not say {key}"))
}

fn number<T: std::str::FromStr>(metadata: &MetadataMap, key: &str) -> Result<T, String> {
    text(metadata, key)?.parse().map_err(|_invalid| format!("its {key} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Identity = Identity { cluster: 7, node: 2 };

    fn refusal(change: impl FnOnce(&mut MetadataMap)) -> String {
        let mut request = Stamp::new(Identity { node: 1, ..OWN }, 2)
            .call(Request::new(()))
            .expect("stamps everything");
        change(request.metadata_mut());
        let refused = Gate::new(OWN, false).call(request);
        refused.map_or_else(|status| status.message().to_owned(), |_| String::new())
    }

    fn set(key: &'static str, value: &'static str) -> impl FnOnce(&mut MetadataMap) {
        move |metadata| drop(metadata.insert(key, MetadataValue::from_static(value)))
    }

    #[test]
    fn a_stamped_call_passes_and_names_its_sender() {
        let request = Stamp::new(Identity { node: 1, ..OWN }, 2).call(Request::new(()));
        let passed = Gate::new(OWN, false).call(request.expect("stamps")).expect("passes");
        assert_eq!(passed.extensions().get::<Sender>(), Some(&Sender(1)));
    }

    #[test]
    fn another_cluster_target_sender_or_protocol_is_refused_by_name() {
        let other = "00000000000000000000000000000008";
        let check = |change: (&'static str, &'static str), expected: &str| {
            let refusal = refusal(set(change.0, change.1));
            assert!(refusal.contains(expected), "{change:?}: {refusal}");
        };
        check((KEY_CLUSTER, other), "is of cluster");
        check((KEY_TO, "3"), "is for node 3, this is node 2");
        check((KEY_FROM, "2"), "claims node id 2, which is this node's");
        check((KEY_FROM, "x"), "alluvium-from is no number");
        check((KEY_PROTOCOL, "2"), "speaks protocol 2, this node 1");
        for key in [KEY_CLUSTER, KEY_TO, KEY_FROM, KEY_PROTOCOL] {
            let refusal = refusal(|metadata| drop(metadata.remove(key)));
            assert!(refusal.contains(&format!("does not say {key}")), "{refusal}");
        }
    }

    #[test]
    fn where_certificates_are_used_a_call_without_one_is_refused() {
        let request = Stamp::new(Identity { node: 1, ..OWN }, 2).call(Request::new(()));
        let refused = Gate::new(OWN, true).call(request.expect("stamps")).expect_err("refused");
        assert!(refused.message().contains("does not speak for node 1"), "{refused}");
    }
}
