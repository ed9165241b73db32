//! Multipart uploads into a local bucket: parts land in one temporary file that is published at the end.
//!
//! Must not: publish when a part failed or was never awaited. Invariant: until `complete` returns, the final
//! name shows what it showed before.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use object_store::{MultipartUpload, PutPayload, PutResult, UploadPart};

use crate::durable_local::blocking;
use crate::error::Error;
use crate::local_read::e_tag;
use crate::local_root::{Publish, Root, Step, Temporary, failed};

/// An upload in progress; dropping it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct LocalUpload {
    root: Arc<Root>,
    path: PathBuf,
    temporary: Option<Arc<Temporary>>,
    issued_bytes: u64,
    written_bytes: Arc<AtomicU64>,
}

impl LocalUpload {
    pub(crate) fn new(root: Arc<Root>, path: PathBuf, temporary: Temporary) -> Self {
        let temporary = Some(Arc::new(temporary));
        Self { root, path, temporary, issued_bytes: 0, written_bytes: Arc::default() }
    }

    fn ended(&self) -> object_store::Error {
        failed(Step::Write, &self.path, std::io::ErrorKind::BrokenPipe.into()).into()
    }
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let Some(temporary) = self.temporary.clone() else {
            return futures::future::ready(Err(self.ended())).boxed();
        };
        let start = self.issued_bytes;
        self.issued_bytes += payload.content_length() as u64;
        let (root, written) = (Arc::clone(&self.root), Arc::clone(&self.written_bytes));
        blocking(move || {
            let mut at = start;
            for chunk in &payload {
                let write = || temporary.file.write_all_at(chunk, at);
                root.step(Step::Write, &temporary.path, write)?;
                at += chunk.len() as u64;
            }
            written.fetch_add(at - start, Ordering::SeqCst);
            Ok(())
        })
        .boxed()
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let temporary = self.temporary.take().ok_or_else(|| self.ended())?;
        if self.written_bytes.load(Ordering::SeqCst) != self.issued_bytes {
            return Err(self.ended());
        }
        // A part that still holds the file has not returned to its caller; its bytes cannot be counted on.
        let temporary = Arc::try_unwrap(temporary).map_err(|_still_writing| self.ended())?;
        let (root, path, expected) = (Arc::clone(&self.root), self.path.clone(), self.issued_bytes);
        blocking(move || {
            let metadata = root.step(Step::Read, &path, || temporary.file.metadata())?;
            if metadata.len() != expected {
                let source = std::io::ErrorKind::UnexpectedEof.into();
                return Err(failed(Step::Write, &path, source).into());
            }
            root.publish(temporary, &path, Publish::Overwrite)?;
            Ok(PutResult { e_tag: Some(e_tag(&metadata)), version: None })
        })
        .await
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        drop(self.temporary.take());
        self.root.refuse_poisoned().map_err(|error: Error| error.into())
    }
}
