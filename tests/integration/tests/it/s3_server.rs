//! An S3 server of the test: the protocol of `s3s` over any object store, which can be held up, cut off or damaged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::error_handling::HandleError;
use bytes::Bytes;
use futures::StreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use s3s::auth::SimpleAuth;
use s3s::dto::{
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, GetObjectInput,
    GetObjectOutput, HeadObjectInput, HeadObjectOutput, PutObjectInput, PutObjectOutput,
    StreamingBlob, Timestamp,
};
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use tokio::sync::watch;

/// The one bucket that the server has.
const BUCKET: &str = "lake";
const ACCESS_KEY: &str = "test-key";
const SECRET_KEY: &str = "test-secret";

/// A running server. It ends with the test's runtime.
pub(crate) struct S3Server {
    address: SocketAddr,
    memory: Arc<InMemory>,
    served: Served,
}

#[derive(Clone)]
struct Served {
    store: Arc<dyn ObjectStore>,
    /// Requests that were answered well, by method and key.
    counts: Arc<Mutex<BTreeMap<(&'static str, String), u64>>>,
    is_cut: Arc<watch::Sender<bool>>,
    /// Puts of data files wait while this is true; how many have come is beside it.
    is_held: Arc<watch::Sender<bool>>,
    waiting: Arc<watch::Sender<u64>>,
}

impl S3Server {
    pub(crate) async fn start() -> Self {
        let memory = Arc::new(InMemory::new());
        Self::over(Arc::clone(&memory) as _, memory).await
    }

    /// Serves a store that breaks on purpose, over the memory that it lies on.
    #[expect(clippy::disallowed_methods, reason = "a server of the test")]
    pub(crate) async fn over(store: Arc<dyn ObjectStore>, memory: Arc<InMemory>) -> Self {
        let served = Served {
            store,
            counts: Arc::default(),
            is_cut: Arc::default(),
            is_held: Arc::default(),
            waiting: Arc::default(),
        };
        let mut builder = S3ServiceBuilder::new(served.clone());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = HandleError::new(builder.build(), async |error| format!("{error:?}"));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("has one");
        let router = axum::Router::new().fallback_service(service);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, memory, served }
    }

    /// Returns a client's store of the bucket, as a node is given it.
    pub(crate) fn client(&self) -> Arc<dyn ObjectStore> {
        let variables = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        alluvium_engine::open_s3(&format!("s3://{BUCKET}/here"), variables).expect("an address")
    }

    /// Returns how often each key was answered well.
    pub(crate) fn answered(&self, method: &'static str) -> BTreeMap<String, u64> {
        let counts = self.served.counts.lock().expect("no panic");
        let of_method = counts.iter().filter(|((found, _), _)| *found == method);
        of_method.map(|((_, key), count)| (key.clone(), *count)).collect()
    }

    /// Returns the data files that are there, with their bytes.
    pub(crate) async fn data_files(&self) -> BTreeMap<String, Bytes> {
        let mut found = BTreeMap::new();
        let mut listed = self.memory.list(None);
        while let Some(object) = listed.next().await {
            let path = object.expect("lists").location;
            if path.as_ref().ends_with(".parquet") {
                let got = self.memory.get(&path).await.expect("is there");
                found.insert(path.to_string(), got.bytes().await.expect("reads"));
            }
        }
        found
    }

    /// Replaces an object, as nobody should.
    pub(crate) async fn overwrite(&self, key: &str, bytes: Vec<u8>) {
        self.memory.put(&Path::from(key), bytes.into()).await.expect("puts");
    }

    /// Removes an object, as nobody should.
    pub(crate) async fn remove(&self, key: &str) {
        self.memory.delete(&Path::from(key)).await.expect("deletes");
    }

    /// Empties the bucket.
    pub(crate) async fn empty(&self) {
        let mut listed = self.memory.list(None);
        while let Some(object) = listed.next().await {
            let path = object.expect("lists").location;
            self.memory.delete(&path).await.expect("deletes");
        }
    }

    /// Answers every request with an error, or none again.
    pub(crate) fn cut(&self, cut: bool) {
        self.served.is_cut.send_replace(cut);
    }

    /// Lets puts of data files wait.
    pub(crate) fn hold(&self, hold: bool) {
        self.served.is_held.send_replace(hold);
    }

    /// Waits until so many puts of data files have come since the start.
    pub(crate) async fn until_asked(&self, puts: u64) {
        let mut waiting = self.served.waiting.subscribe();
        waiting.wait_for(|asked| puts <= *asked).await.expect("the server lives");
    }
}

impl Served {
    fn check(&self, bucket: &str) -> S3Result<()> {
        if *self.is_cut.borrow() {
            return Err(s3_error!(ServiceUnavailable));
        }
        match bucket == BUCKET {
            true => Ok(()),
            false => Err(s3_error!(NoSuchBucket)),
        }
    }

    fn count(&self, method: &'static str, key: String) {
        *self.counts.lock().expect("no panic").entry((method, key)).or_default() += 1;
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all others are the server's fault")]
fn failed(error: object_store::Error) -> S3Error {
    match error {
        object_store::Error::NotFound { .. } => s3_error!(NoSuchKey),
        object_store::Error::AlreadyExists { .. } => s3_error!(PreconditionFailed),
        other => S3Error::internal_error(other),
    }
}

#[expect(clippy::disallowed_types, reason = "the protocol's own")]
fn time_of(meta: &object_store::ObjectMeta) -> Timestamp {
    std::time::SystemTime::from(meta.last_modified).into()
}

fn tag(meta: &object_store::ObjectMeta) -> Option<ETag> {
    meta.e_tag.clone().map(|tag| ETag::Strong(tag.trim_matches('"').to_owned()))
}

#[async_trait::async_trait]
impl S3 for Served {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        self.check(&input.bucket)?;
        if input.key.ends_with(".parquet") {
            self.waiting.send_modify(|asked| *asked += 1);
            let mut held = self.is_held.subscribe();
            held.wait_for(|held| !held).await.expect("the server lives");
        }
        let mut bytes = Vec::new();
        let mut body = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        while let Some(part) = body.next().await {
            bytes.extend_from_slice(&part.map_err(|error| S3Error::internal_error(Cut(error)))?);
        }
        let mode = match input.if_none_match {
            Some(ETagCondition::Any) => PutMode::Create,
            Some(_) => return Err(s3_error!(NotImplemented)),
            None => PutMode::Overwrite,
        };
        let options = PutOptions { mode, ..PutOptions::default() };
        let path = Path::from(input.key.as_str());
        let put = self.store.put_opts(&path, bytes.into(), options).await.map_err(failed)?;
        self.count("PUT", input.key);
        let e_tag = put.e_tag.map(|tag| ETag::Strong(tag.trim_matches('"').to_owned()));
        Ok(S3Response::new(PutObjectOutput { e_tag, ..PutObjectOutput::default() }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        self.check(&input.bucket)?;
        let path = Path::from(input.key.as_str());
        let meta = self.store.head(&path).await.map_err(failed)?;
        let (range, content_range) = match input.range {
            Some(range) => {
                let range = range.check(meta.size).map_err(|_outside| s3_error!(InvalidRange))?;
                let last = range.end - 1;
                let text = format!("bytes {}-{last}/{}", range.start, meta.size);
                (range, Some(text))
            }
            None => (0..meta.size, None),
        };
        let bytes = self.store.get_range(&path, range).await.map_err(failed)?;
        self.count("GET", input.key);
        let output = GetObjectOutput {
            content_length: Some(i64::try_from(bytes.len()).expect("small")),
            content_range,
            e_tag: tag(&meta),
            last_modified: Some(time_of(&meta)),
            body: Some(StreamingBlob::from(Body::from(bytes))),
            ..GetObjectOutput::default()
        };
        Ok(S3Response::new(output))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        self.check(&input.bucket)?;
        let meta = self.store.head(&Path::from(input.key.as_str())).await.map_err(failed)?;
        let output = HeadObjectOutput {
            content_length: Some(i64::try_from(meta.size).expect("small")),
            e_tag: tag(&meta),
            last_modified: Some(time_of(&meta)),
            ..HeadObjectOutput::default()
        };
        Ok(S3Response::new(output))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        self.check(&input.bucket)?;
        let mut deleted = Vec::new();
        for object in input.delete.objects {
            match self.store.delete(&Path::from(object.key.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
            self.count("DELETE", object.key.clone());
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        let output =
            DeleteObjectsOutput { deleted: Some(deleted), ..DeleteObjectsOutput::default() };
        Ok(S3Response::new(output))
    }
}

/// A body that broke off.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cut(Box<dyn std::error::Error + Send + Sync>);
