//! The object stores that one query may read: the buckets of the files it planned, and nothing else.
//!
//! Must not: serve a key that the query did not plan, or an address that a user names. Invariant: a store is
//! registered only by the planning of a dataset's files, with the digests that the log attests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use alluvium_materialize::{object_key, storage_digest};
use alluvium_state_machine::record::FileRecord;
use alluvium_storage::{Registry, VerifiedStore};
use alluvium_types::{Attested, DatasetKey};

use crate::Error;
use crate::sources::BucketSource;

/// The stores of one query, by the address under which plans name them.
pub(crate) struct QueryStores {
    buckets: Arc<dyn BucketSource>,
    /// Held for a lookup only: planning fills it, operators read it.
    open: Mutex<BTreeMap<String, OpenBucket>>,
}

#[derive(Clone)]
struct OpenBucket {
    store: Arc<dyn ObjectStore>,
    registry: Registry,
}

/// A data file that a query may read.
#[derive(Debug, Clone)]
pub(crate) struct OpenFile {
    /// Where its store is.
    pub(crate) url: ObjectStoreUrl,
    /// Its store, which verifies.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Its key.
    pub(crate) path: Path,
    /// Its length.
    pub(crate) len_bytes: u64,
}

impl QueryStores {
    pub(crate) fn new(buckets: Arc<dyn BucketSource>) -> Self {
        Self { buckets, open: Mutex::new(BTreeMap::new()) }
    }

    /// Lets the query read a file, whose bytes will be checked against what was attested.
    pub(crate) fn admit(
        &self,
        bucket: &str,
        dataset: DatasetKey,
        file: &FileRecord,
        attested: &Attested,
    ) -> Result<OpenFile, Error> {
        let (url, open) = self.open(bucket)?;
        let path = object_key(dataset, file.file, file.generation);
        if open.registry.get(&path).is_none() {
            let digest = Arc::new(storage_digest(&attested.digest));
            let register = open.registry.register(path.clone(), digest);
            register.map_err(|source| Error::Storage { source: Arc::new(source) })?;
        }
        let len_bytes = attested.digest.len_bytes;
        Ok(OpenFile { url, store: open.store, path, len_bytes })
    }

    fn open(&self, bucket: &str) -> Result<(ObjectStoreUrl, OpenBucket), Error> {
        let url = address(bucket);
        let mut stores = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = stores.get(url.as_str()) {
            return Ok((url, open.clone()));
        }
        let unknown = || Error::BucketUnknown { bucket: bucket.to_owned() };
        let found = self.buckets.bucket(bucket).ok_or_else(unknown)?;
        let registry = Registry::default();
        let store: Arc<dyn ObjectStore> =
            Arc::new(VerifiedStore::new(found.as_ref().clone(), registry.clone()));
        let open = OpenBucket { store, registry };
        stores.insert(url.as_str().to_owned(), open.clone());
        Ok((url, open))
    }
}

/// Returns the address of a bucket. Hexadecimal, because a host would fold case and refuse some characters.
fn address(bucket: &str) -> ObjectStoreUrl {
    let hex: String = bucket.bytes().map(|byte| format!("{byte:02x}")).collect();
    let url = format!("alluvium://b{hex}/");
    ObjectStoreUrl::parse(url).expect("a scheme and a hexadecimal host form an address")
}

impl fmt::Debug for QueryStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueryStores")
    }
}

impl ObjectStoreRegistry for QueryStores {
    fn register_store(
        &self,
        _url: &Url,
        _store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> PlanResult<Arc<dyn ObjectStore>> {
        let stores = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let base = &url[..url::Position::BeforePath];
        let found = stores.iter().find(|(known, _)| known.trim_end_matches('/') == base);
        found
            .map(|(_, open)| Arc::clone(&open.store))
            .ok_or_else(|| DataFusionError::from(Error::BucketUnknown { bucket: url.to_string() }))
    }
}
