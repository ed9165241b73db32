//! A certificate authority for one cluster, for development and for those who have no other.
//!
//! It must not be needed by a running node: that one reads certificates, whoever made them. Invariant: a key is
//! written so that its owner alone can read it, and never over another.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use crate::Error;
use crate::identity::Identity;
use crate::security::{certified_name, member_name};

const AUTHORITY_CERTIFICATE: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";

/// The authority of a cluster, in a directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The node's certificate.
    pub certificate: PathBuf,
    /// The node's key.
    pub key: PathBuf,
}

impl Authority {
    /// Opens the authority in a directory, or makes one there.
    ///
    /// # Errors
    /// [`Error::Unreadable`], [`Error::Unwritable`], [`Error::Certificate`], [`Error::Issue`].
    pub fn open_or_create(dir: &Path) -> Result<Self, Error> {
        let (certificate, key) = (dir.join(AUTHORITY_CERTIFICATE), dir.join(AUTHORITY_KEY));
        let there = |path: &Path| {
            let unreadable = |source| Error::Unreadable { path: path.to_path_buf(), source };
            path.try_exists().map_err(unreadable)
        };
        if !there(&certificate)? && !there(&key)? {
            create(dir, &certificate, &key)?;
        }
        let (text, key_text) = (read(&certificate)?, read(&key)?);
        let unusable = |path: &Path| {
            let path = path.to_path_buf();
            move |error: rcgen::Error| Error::Certificate { path, reason: error.to_string() }
        };
        let key_pair = KeyPair::from_pem(&key_text).map_err(unusable(&key))?;
        let issuer = Issuer::from_ca_cert_pem(&text, key_pair).map_err(unusable(&certificate))?;
        Ok(Self { dir: dir.to_path_buf(), issuer })
    }

    /// Makes a certificate for a node.
    ///
    /// # Errors
    /// [`Error::Unwritable`], also when the node has files there already; [`Error::Issue`].
    pub fn issue(&self, identity: Identity) -> Result<Issued, Error> {
        let names = vec![certified_name(identity), member_name(identity.cluster)];
        let mut params = CertificateParams::new(names).map_err(issue)?;
        params.distinguished_name = name(&format!("alluvium node {}", identity.node));
        params.is_ca = IsCa::NoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key_pair = KeyPair::generate().map_err(issue)?;
        let certificate = params.signed_by(&key_pair, &self.issuer).map_err(issue)?;
        let issued = Issued {
            authority: self.dir.join(AUTHORITY_CERTIFICATE),
            certificate: self.dir.join(format!("node-{}.crt", identity.node)),
            key: self.dir.join(format!("node-{}.key", identity.node)),
        };
        write(&issued.key, &key_pair.serialize_pem(), 0o600)?;
        write(&issued.certificate, &certificate.pem(), 0o644)?;
        Ok(issued)
    }
}

fn create(dir: &Path, certificate: &Path, key: &Path) -> Result<(), Error> {
    let unwritable = |source| Error::Unwritable { path: dir.to_path_buf(), source };
    alluvium_stdx::durable::create_dir_all(dir).map_err(unwritable)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name("alluvium development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key_pair = KeyPair::generate().map_err(issue)?;
    let made = params.self_signed(&key_pair).map_err(issue)?;
    write(key, &key_pair.serialize_pem(), 0o600)?;
    write(certificate, &made.pem(), 0o644)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn issue(error: rcgen::Error) -> Error {
    Error::Issue { reason: error.to_string() }
}

fn read(path: &Path) -> Result<String, Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_path_buf(), source };
    std::fs::read_to_string(path).map_err(unreadable)
}

fn write(path: &Path, content: &str, mode: u32) -> Result<(), Error> {
    let unwritable = |source| Error::Unwritable { path: path.to_path_buf(), source };
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(content.as_bytes())?;
        file.sync_all()
    });
    written.map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::Security;

    const ONE: Identity = Identity { cluster: 7, node: 1 };

    #[test]
    fn keys_are_for_their_owner_alone_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let authority = Authority::open_or_create(dir.path()).expect("makes one");
        let issued = authority.issue(ONE).expect("issues");
        for key in [&issued.key, &dir.path().join(AUTHORITY_KEY)] {
            let mode = std::fs::metadata(key).expect("is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", key.display());
        }
        let again = Authority::open_or_create(dir.path()).expect("opens it");
        let twice = again.issue(ONE).expect_err("node 1 has a certificate");
        assert!(matches!(&twice, Error::Unwritable { path, .. } if *path == issued.key), "{twice}");
        again.issue(Identity { node: 2, ..ONE }).expect("another node");
        let read = Security::read(&issued.authority, &issued.certificate, &issued.key);
        let read = read.expect("reads");
        assert_eq!(format!("{read:?}"), "Mutual", "no key is printed");
        assert_eq!(read.identity().expect("its certificate says"), Some(ONE));
        assert_eq!(Security::Open.identity().expect("nothing"), None);
    }

    #[test]
    fn files_that_are_no_certificates_are_refused_by_path() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let issued = Authority::open_or_create(dir.path()).expect("makes one").issue(ONE);
        let issued = issued.expect("issues");
        let missing = dir.path().join("nothing");
        let read = Security::read(&issued.authority, &missing, &issued.key).expect_err("missing");
        assert!(matches!(&read, Error::Unreadable { path, .. } if *path == missing), "{read}");
        let swapped = Security::read(&issued.authority, &issued.key, &issued.certificate);
        let swapped = swapped.expect_err("a key is no certificate");
        assert!(matches!(&swapped, Error::Certificate { path, .. } if *path == issued.key));
        let key = dir.path().join(AUTHORITY_KEY);
        std::fs::remove_file(&key).expect("removes");
        let half = Authority::open_or_create(dir.path()).expect_err("its key is gone");
        assert!(matches!(&half, Error::Unreadable { path, .. } if *path == key), "{half}");
    }
}
