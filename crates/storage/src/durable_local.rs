//! A directory as an object store whose puts are durable and whole when they return.
//!
//! `object_store`'s own `LocalFileSystem` does not sync, so an acknowledged file may be gone or empty after a
//! power cut. Must not: follow links, accept a key outside the grammar, or list a temporary file. The caller
//! holds the lock that makes this the directory's only writer. Invariant INV-S2: see `local_root`.

use std::io::Write;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use crate::error::Result;
use crate::local_read;
use crate::local_root::{Publish, Published, Root, Step, StepHook};
use crate::local_upload::LocalUpload;

/// A local bucket's object store.
#[derive(Debug, Clone)]
pub struct DurableLocal {
    root: Arc<Root>,
}

impl DurableLocal {
    /// Opens the bucket at `dir`, making it if needed, and removes what a dead writer left half-written.
    ///
    /// # Errors
    /// `Error::Io` or `Error::SymbolicLink` when the directory cannot be prepared.
    pub fn open(dir: &FsPath) -> Result<Self> {
        Ok(Self { root: Arc::new(Root::open(dir, None)?) })
    }

    /// Opens the bucket at `dir` for reading what is there: nothing is made, removed or accepted.
    ///
    /// # Errors
    /// `Error::Io` when there is no such directory.
    pub fn open_to_read(dir: &FsPath) -> Result<Self> {
        Ok(Self { root: Arc::new(Root::open_to_read(dir)?) })
    }

    /// Opens the bucket at `dir` with `hook` called before every file operation: for fault tests.
    ///
    /// # Errors
    /// As [`DurableLocal::open`].
    pub fn open_with_hook(dir: &FsPath, hook: StepHook) -> Result<Self> {
        Ok(Self { root: Arc::new(Root::open(dir, Some(hook))?) })
    }

    /// Returns the directory below which all objects lie, free of links.
    #[must_use]
    pub fn dir(&self) -> &FsPath {
        self.root.dir()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> object_store::Result<T> + Send + 'static,
    ) -> object_store::Result<T> {
        let root = Arc::clone(&self.root);
        blocking(move || work(&root)).await
    }
}

/// Runs file operations beside the async threads when there are any, as `object_store` itself does.
///
/// Not a task of ours: the caller awaits it, and a cancelled caller leaves a complete file or none.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> object_store::Result<T> + Send + 'static,
) -> object_store::Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_no_runtime) => work(),
    }
}

fn write_payload(root: &Root, path: &FsPath, payload: &PutPayload) -> Result<Publishable> {
    root.refuse_poisoned()?;
    root.make_parents(path)?;
    let mut temporary = root.temporary()?;
    for chunk in payload {
        root.step(Step::Write, &temporary.path, || temporary.file.write_all(chunk))?;
    }
    let metadata = root.step(Step::Read, &temporary.path, || temporary.file.metadata())?;
    assert!(metadata.len() == payload.content_length() as u64, "a write came up short");
    Ok(Publishable { temporary, e_tag: local_read::e_tag(&metadata) })
}

struct Publishable {
    temporary: crate::local_root::Temporary,
    e_tag: String,
}

fn put(
    root: &Root,
    key: &Path,
    payload: &PutPayload,
    how: Publish,
) -> object_store::Result<PutResult> {
    let path = root.place(key)?;
    let Publishable { temporary, e_tag } = write_payload(root, &path, payload)?;
    match root.publish(temporary, &path, how)? {
        Published::Done => Ok(PutResult { e_tag: Some(e_tag), version: None }),
        Published::NameTaken => Err(already_exists(key, path)),
    }
}

fn copy(root: &Root, from: &Path, to: &Path, how: Publish) -> object_store::Result<()> {
    let (mut source, _) = root.open_file(from)?.ok_or_else(|| local_read::absent(from))?;
    let path = root.place(to)?;
    root.refuse_poisoned()?;
    root.make_parents(&path)?;
    let mut temporary = root.temporary()?;
    let copied = || std::io::copy(&mut source, &mut temporary.file);
    root.step(Step::Write, &path, copied)?;
    match root.publish(temporary, &path, how)? {
        Published::Done => Ok(()),
        Published::NameTaken => Err(already_exists(to, path)),
    }
}

fn already_exists(key: &Path, path: PathBuf) -> object_store::Error {
    let source = std::io::ErrorKind::AlreadyExists.into();
    let source = Box::new(crate::local_root::failed(Step::Publish, &path, source));
    object_store::Error::AlreadyExists { path: key.to_string(), source }
}

impl std::fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DurableLocal({})", self.root.dir().display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        let how = match opts.mode {
            PutMode::Create => Publish::Create,
            PutMode::Overwrite => Publish::Overwrite,
            // Fencing is the log's business: a store that pretends to compare and swap would be trusted.
            PutMode::Update(_) => return Err(not_implemented("put with PutMode::Update")),
        };
        let key = location.clone();
        self.run(move |root| put(root, &key, &payload, how)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let (key, root) = (location.clone(), Arc::clone(&self.root));
        self.run(move |opened| {
            opened.refuse_poisoned()?;
            let path = opened.place(&key)?;
            opened.make_parents(&path)?;
            let temporary = opened.temporary()?;
            Ok(Box::new(LocalUpload::new(root, path, temporary)) as Box<dyn MultipartUpload>)
        })
        .await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let key = location.clone();
        self.run(move |root| local_read::get(root, &key, options)).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        let (key, ranges) = (location.clone(), ranges.to_vec());
        self.run(move |root| local_read::get_ranges(root, &key, &ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let key = location?;
                    store
                        .run(move |root| {
                            let path = root.place(&key)?;
                            root.remove(&path)?;
                            Ok(key)
                        })
                        .await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let work = move |root: &Root| Ok(local_read::list(root, prefix.as_ref())?);
            match store.run(work).await {
                Ok(found) => stream::iter(found.into_iter().map(Ok)).boxed(),
                Err(error) => stream::once(futures::future::ready(Err(error))).boxed(),
            }
        };
        stream::once(listed).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let prefix = prefix.cloned();
        self.run(move |root| Ok(local_read::list_with_delimiter(root, prefix.as_ref())?)).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        let how = match options.mode {
            CopyMode::Create => Publish::Create,
            CopyMode::Overwrite => Publish::Overwrite,
        };
        let (from, to) = (from.clone(), to.clone());
        self.run(move |root| copy(root, &from, &to, how)).await
    }
}

fn not_implemented(operation: &str) -> object_store::Error {
    let implementer = "DurableLocal".to_owned();
    object_store::Error::NotImplemented { operation: operation.to_owned(), implementer }
}

#[cfg(test)]
mod tests;
