//! A named bucket: puts that never replace other bytes, and reads that never mistake an error for absence.
//!
//! Must not: list, retry or fall back to another bucket; its callers decide that. Invariant INV-S4: once a
//! key holds bytes, no call of this file makes it hold other bytes.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::durable_local::DurableLocal;
use crate::error::{Error, Operation, Result, STORE_NAME};
use crate::identity::BucketIdentity;
use crate::layout::{check_key, marker_key};
use crate::limits::OBJECT_BYTES_MAX;

/// Where a bucket's objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketConfig {
    /// A directory of this node: every replica keeps its own copy.
    Local {
        /// The directory.
        root: PathBuf,
    },
    /// This process's memory: for tests and the simulator.
    Memory,
}

/// Who shares a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketKind {
    /// Each node has its own; each writes its own files.
    PerNode,
    /// All nodes see one; the leader writes.
    Shared,
}

/// What opening a bucket may do about a missing identity marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// First use on this node: claim the bucket.
    Claim,
    /// Used before: a missing marker means a wrong or emptied disk.
    Existing,
}

/// What a put found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is new.
    Created,
    /// The object was there with exactly these bytes: an earlier try, or another writer of the same file.
    AlreadyIdentical,
}

/// One bucket and the store behind it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket {
    name: Arc<str>,
    store: Arc<dyn ObjectStore>,
    kind: BucketKind,
}

impl Bucket {
    /// Opens the store that `config` names and checks that it is the bucket `identity`.
    ///
    /// # Errors
    /// `WrongBucket`, `MarkerMissing` or `MarkerDamaged`, with nothing written; else the store's failure.
    pub async fn open(
        name: &str,
        config: &BucketConfig,
        identity: &BucketIdentity,
        opening: Opening,
    ) -> Result<Self> {
        let store: Arc<dyn ObjectStore> = match config {
            BucketConfig::Local { root } => Arc::new(DurableLocal::open(root)?),
            BucketConfig::Memory => Arc::new(InMemory::new()),
        };
        let bucket = Self::over(name, store, BucketKind::PerNode);
        bucket.check_identity(identity, opening).await?;
        Ok(bucket)
    }

    /// Wraps a store whose identity the caller checks, or that needs none.
    #[must_use]
    pub fn over(name: &str, store: Arc<dyn ObjectStore>, kind: BucketKind) -> Self {
        Self { name: Arc::from(name), store, kind }
    }

    /// Returns the bucket's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns who shares the bucket.
    #[must_use]
    pub fn kind(&self) -> BucketKind {
        self.kind
    }

    /// Returns the store: for [`crate::VerifiedStore`], which checks what it reads.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Checks the identity marker, writing it when `opening` allows.
    ///
    /// # Errors
    /// As [`Bucket::open`]. A failed probe is an error: it never counts as a missing marker.
    pub async fn check_identity(&self, identity: &BucketIdentity, opening: Opening) -> Result<()> {
        let bucket = || self.name.to_string();
        let Some(found) = self.get(&marker_key()).await? else {
            return match opening {
                Opening::Claim => self.claim(identity).await,
                Opening::Existing => Err(Error::MarkerMissing { bucket: bucket() }),
            };
        };
        let found = BucketIdentity::decode(&found)
            .ok_or_else(|| Error::MarkerDamaged { bucket: bucket() })?;
        if found == *identity { Ok(()) } else { Err(Error::WrongBucket { bucket: bucket() }) }
    }

    async fn claim(&self, identity: &BucketIdentity) -> Result<()> {
        match self.put_new(&marker_key(), identity.encode().into()).await {
            Ok(Put::Created | Put::AlreadyIdentical) => Ok(()),
            // Somebody else claimed it between our probe and our put.
            Err(Error::Conflict { bucket, .. }) => Err(Error::WrongBucket { bucket }),
            Err(error) => Err(error),
        }
    }

    /// Puts an object that must be new or identical. It is durable when this returns.
    ///
    /// # Errors
    /// `Conflict` when the key holds other bytes, which stay untouched; `Store` when the store failed, and
    /// then the object may or may not be there: the same call again finds out.
    pub async fn put_new(&self, key: &Path, bytes: Bytes) -> Result<Put> {
        check_key(key)?;
        assert!(bytes.len() as u64 <= OBJECT_BYTES_MAX, "{key} is over the object limit");
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(key, bytes.clone().into(), options).await {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. }) => self.compare(key, &bytes).await,
            Err(source) => Err(self.failed(Operation::Put, key, source)),
        }
    }

    async fn compare(&self, key: &Path, bytes: &Bytes) -> Result<Put> {
        let conflict = || Error::Conflict { bucket: self.name.to_string(), key: key.to_string() };
        let found = self.head(key).await?.ok_or_else(|| self.gone(key))?;
        if found.size != bytes.len() as u64 {
            return Err(conflict());
        }
        let found = self.get(key).await?.ok_or_else(|| self.gone(key))?;
        if found == *bytes { Ok(Put::AlreadyIdentical) } else { Err(conflict()) }
    }

    /// Reads a whole object without verifying it; `None` only when the store says it is not there.
    ///
    /// # Errors
    /// `Store` for every failure that is not a plain "not found"; `Length` for a short answer.
    pub async fn get(&self, key: &Path) -> Result<Option<Bytes>> {
        check_key(key)?;
        let got = match self.store.get(key).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(self.failed(Operation::Get, key, source)),
        };
        let expected = got.meta.size;
        let bytes = got.bytes().await.map_err(|e| self.failed(Operation::Get, key, e))?;
        let found = bytes.len() as u64;
        if found != expected {
            let (bucket, key) = (self.name.to_string(), key.to_string());
            return Err(Error::Length { bucket, key, expected, found });
        }
        Ok(Some(bytes))
    }

    /// Reads some bytes of an object without verifying them.
    ///
    /// # Errors
    /// `Store` for every failure, also when the object is not there or has no such bytes.
    pub async fn get_part(&self, key: &Path, range: Range<u64>) -> Result<Bytes> {
        check_key(key)?;
        let part = self.store.get_ranges(key, std::slice::from_ref(&range)).await;
        let mut parts = part.map_err(|source| self.failed(Operation::Get, key, source))?;
        Ok(parts.pop().expect("bytes for the one range that was asked for"))
    }

    /// Asks whether an object is there; `None` only when the store says it is not.
    ///
    /// # Errors
    /// `Store` for every failure that is not a plain "not found".
    pub async fn head(&self, key: &Path) -> Result<Option<ObjectMeta>> {
        check_key(key)?;
        match self.store.head(key).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed(Operation::Head, key, source)),
        }
    }

    /// Deletes an object; one that is not there is no error. The absence is durable when this returns.
    ///
    /// # Errors
    /// `Store` when the store failed; the same call again is safe.
    pub async fn delete(&self, key: &Path) -> Result<()> {
        check_key(key)?;
        match self.store.delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.failed(Operation::Delete, key, source)),
        }
    }

    /// It was there for the put and is not for the look behind it: another put is under way, or was taken back. The same
    /// call again finds out.
    fn gone(&self, key: &Path) -> Error {
        let source = "the object is there for a put and not for a read".into();
        let source = object_store::Error::Generic { store: STORE_NAME, source };
        self.failed(Operation::Put, key, source)
    }

    fn failed(&self, operation: Operation, key: &Path, source: object_store::Error) -> Error {
        let (bucket, key) = (self.name.to_string(), key.to_string());
        Error::Store { bucket, key, operation, source }
    }
}

#[cfg(test)]
mod tests;
