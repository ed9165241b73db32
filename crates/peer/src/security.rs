//! What proves to a node who its peers are: certificates of one authority on both sides, or nothing at all.
//!
//! A node's certificate is valid for one name, made of its id and its cluster's, so it speaks for nobody else. It must
//! not make certificates. Invariant: no key is ever printed.

use std::fmt;
use std::path::Path;

use rustls_pki_types::pem::PemObject as _;
use tonic::transport::{Certificate, CertificateDer, ClientTlsConfig, ServerTlsConfig};

use crate::Error;
use crate::identity::Identity;
use crate::limits::HANDSHAKE_MAX;

/// How a node knows its peers.
#[derive(Clone)]
pub enum Security {
    /// It does not: for a loopback address, or a network that nobody else can reach.
    Open,
    /// Each side shows a certificate of the same authority.
    Mutual {
        /// The authority's certificate, in PEM.
        authority: Vec<u8>,
        /// This node's certificate, in PEM.
        certificate: Vec<u8>,
        /// This node's key, in PEM.
        key: Vec<u8>,
    },
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Mutual { .. } => "Mutual",
        })
    }
}

/// Returns the name that a node's certificate is valid for.
#[must_use]
pub(crate) fn certified_name(identity: Identity) -> String {
    format!("node-{}.{:032x}.alluvium", identity.node, identity.cluster)
}

/// Returns the name that every node's certificate of a cluster is valid for beside its own: a newcomer does not know
/// which member it asks.
#[must_use]
pub(crate) fn member_name(cluster: u128) -> String {
    format!("member.{cluster:032x}.alluvium")
}

/// Returns the node that a name stands for.
fn identity_of_name(name: &str) -> Option<Identity> {
    let (node, rest) = name.strip_prefix("node-")?.split_once('.')?;
    let cluster = u128::from_str_radix(rest.strip_suffix(".alluvium")?, 16).ok()?;
    let identity = Identity { cluster, node: node.parse().ok()? };
    (certified_name(identity) == name).then_some(identity)
}

/// Says whether a certificate speaks for a node. That it comes from the authority was checked before.
pub(crate) fn speaks_for(certificate: &CertificateDer<'_>, claimed: Identity) -> bool {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return false };
    certificate.valid_dns_names().any(|name| name == certified_name(claimed))
}

impl Security {
    /// Reads certificates and the key from files in PEM.
    ///
    /// # Errors
    /// [`Error::Unreadable`]; [`Error::Certificate`] when a file holds something else.
    pub fn read(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, Error> {
        let read = |path: &Path, what: &str| {
            let unreadable = |source| Error::Unreadable { path: path.to_path_buf(), source };
            let bytes = std::fs::read(path).map_err(unreadable)?;
            let is_pem = bytes.windows(what.len()).any(|window| window == what.as_bytes());
            let reason = || format!("it holds no \"{what}\" in PEM");
            match is_pem {
                true => Ok(bytes),
                false => Err(Error::Certificate { path: path.to_path_buf(), reason: reason() }),
            }
        };
        Ok(Self::Mutual {
            authority: read(authority, "CERTIFICATE")?,
            certificate: read(certificate, "CERTIFICATE")?,
            key: read(key, "PRIVATE KEY")?,
        })
    }

    /// Returns who this node is by its certificate; nothing when it needs none.
    ///
    /// # Errors
    /// [`Error::Certificate`] when it is the certificate of no node.
    pub fn identity(&self) -> Result<Option<Identity>, Error> {
        let Self::Mutual { certificate, .. } = self else { return Ok(None) };
        let unusable = |reason: &str| Error::Certificate {
            path: "the node's certificate".into(),
            reason: reason.to_owned(),
        };
        let der = CertificateDer::from_pem_slice(certificate);
        let der = der.map_err(|_malformed| unusable("it is not in PEM"))?;
        let parsed = webpki::EndEntityCert::try_from(&der);
        let parsed = parsed.map_err(|_malformed| unusable("it cannot be parsed"))?;
        let found = parsed.valid_dns_names().find_map(identity_of_name);
        found.map(Some).ok_or_else(|| unusable("it names no node of a cluster"))
    }

    pub(crate) fn is_mutual(&self) -> bool {
        matches!(self, Self::Mutual { .. })
    }

    /// Returns how a server shows itself and checks who connects.
    pub(crate) fn of_server(&self) -> Option<ServerTlsConfig> {
        let Self::Mutual { authority, certificate, key } = self else { return None };
        let own = tonic::transport::Identity::from_pem(certificate, key);
        let authority = Certificate::from_pem(authority);
        let config = ServerTlsConfig::new().identity(own).client_ca_root(authority);
        Some(config.timeout(HANDSHAKE_MAX))
    }

    /// Returns how a newcomer shows itself and checks that it reached a member of its cluster.
    pub(crate) fn of_newcomer(&self) -> Result<Option<ClientTlsConfig>, Error> {
        let own = self.identity()?;
        Ok(own.and_then(|own| self.of_client_named(member_name(own.cluster))))
    }

    /// Returns how a client shows itself and checks that it reached the node it wanted.
    pub(crate) fn of_client(&self, target: Identity) -> Option<ClientTlsConfig> {
        self.of_client_named(certified_name(target))
    }

    fn of_client_named(&self, name: String) -> Option<ClientTlsConfig> {
        let Self::Mutual { authority, certificate, key } = self else { return None };
        let own = tonic::transport::Identity::from_pem(certificate, key);
        let authority = Certificate::from_pem(authority);
        let config = ClientTlsConfig::new().identity(own).ca_certificate(authority);
        Some(config.domain_name(name).timeout(HANDSHAKE_MAX))
    }
}
