//! Reads that prove their bytes: whole blocks are fetched, hashed, compared, and only then sliced.
//!
//! Must not: return a byte that was not verified, answer for a key without a digest, write, or list.
//! Invariant INV-S5: every byte that leaves this file lay in a block whose hash matched its digest.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use crate::blocks::FileDigest;
use crate::bucket::Bucket;
use crate::error::{Error, Operation, Result};
use crate::limits::STREAM_BLOCKS;
use crate::local_read::invalid_range;

/// The digests of the files that may be read, by key. Cheap to clone; clones share their content.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    // Shared: the applier registers files while many readers look them up; each call holds it for one look-up.
    digests: Arc<RwLock<BTreeMap<Path, Arc<FileDigest>>>>,
}

impl Registry {
    /// Lets `key` be read under `digest`, replacing an earlier one.
    ///
    /// # Errors
    /// `Error::DigestShape` when the digest contradicts itself.
    pub fn register(&self, key: Path, digest: Arc<FileDigest>) -> Result<()> {
        digest.validate()?;
        self.digests.write().unwrap_or_else(PoisonError::into_inner).insert(key, digest);
        Ok(())
    }

    /// Forgets `key`: reads of it fail from now on.
    pub fn unregister(&self, key: &Path) {
        self.digests.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Returns the digest of `key`.
    #[must_use]
    pub fn get(&self, key: &Path) -> Option<Arc<FileDigest>> {
        self.digests.read().unwrap_or_else(PoisonError::into_inner).get(key).map(Arc::clone)
    }
}

/// One file of a bucket with the digest it must match.
#[derive(Debug, Clone)]
pub struct VerifiedFile {
    bucket: Bucket,
    key: Path,
    digest: Arc<FileDigest>,
}

impl VerifiedFile {
    /// Returns a reader of `key` that believes `digest`.
    ///
    /// # Errors
    /// `Error::DigestShape` when the digest contradicts itself.
    pub fn new(bucket: Bucket, key: Path, digest: Arc<FileDigest>) -> Result<Self> {
        digest.validate()?;
        Ok(Self { bucket, key, digest })
    }

    /// Returns the file's length as attested.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.digest.len_bytes
    }

    /// Returns the bytes of `range`, verified.
    ///
    /// # Errors
    /// `Missing`, `Length` or `BlockDamaged` for what does not match; `Store` when the read failed.
    ///
    /// # Panics
    /// When the range is reversed or leaves the file.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        assert!(range.start <= range.end, "a reversed range");
        assert!(range.end <= self.digest.len_bytes, "a range past the end of {}", self.key);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let covering = self.covering(&range);
        let bytes = self.fetch(&covering).await?;
        let start = usize::try_from(range.start - covering.start).expect("within the blocks read");
        let len = usize::try_from(range.end - range.start).expect("within the blocks read");
        Ok(bytes.slice(start..start + len))
    }

    /// Returns the bytes of every range, each block fetched once.
    ///
    /// # Errors
    /// As [`VerifiedFile::read`].
    pub async fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let runs = merge(ranges.iter().filter(|r| !r.is_empty()).map(|r| self.covering(r)));
        let mut held = Vec::with_capacity(runs.len());
        for run in runs {
            let bytes = self.fetch(&run).await?;
            held.push((run, bytes));
        }
        let slice = |range: &Range<u64>| {
            if range.is_empty() {
                return Bytes::new();
            }
            let after = held.partition_point(|(run, _)| run.start <= range.start);
            let (run, bytes) = &held[after - 1];
            assert!(range.end <= run.end, "a range outside the blocks read for it");
            let start = usize::try_from(range.start - run.start).expect("within the run");
            let end = usize::try_from(range.end - run.start).expect("within the run");
            bytes.slice(start..end)
        };
        Ok(ranges.iter().map(slice).collect())
    }

    /// Reads the file once and checks its length, every block and the hash over the whole.
    ///
    /// # Errors
    /// As [`VerifiedFile::read`], and `FileHash` when the blocks match but the whole does not.
    pub async fn verify_whole(&self) -> Result<()> {
        let found = self.bucket.head(&self.key).await?.ok_or_else(|| self.missing())?.size;
        if found != self.digest.len_bytes {
            return Err(self.length(found));
        }
        let mut whole = blake3::Hasher::new();
        for run in self.runs(0..self.digest.len_bytes) {
            whole.update(&self.fetch(&run).await?);
        }
        if *whole.finalize().as_bytes() == self.digest.blake3 {
            return Ok(());
        }
        let (bucket, key) = self.names();
        Err(Error::FileHash { bucket, key })
    }

    /// Returns the range widened to whole blocks.
    fn covering(&self, range: &Range<u64>) -> Range<u64> {
        let block = u64::from(self.digest.block_bytes);
        let end = range.end.div_ceil(block).saturating_mul(block);
        range.start / block * block..end.min(self.digest.len_bytes)
    }

    /// Splits a range into runs of at most `STREAM_BLOCKS` whole blocks.
    fn runs(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send + use<> {
        let covering = self.covering(&range);
        let step = u64::from(self.digest.block_bytes) * STREAM_BLOCKS;
        let starts =
            (covering.start..covering.end).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        starts.map(move |start| start..covering.end.min(start + step))
    }

    /// Fetches whole blocks and verifies each; the only way bytes enter.
    async fn fetch(&self, range: &Range<u64>) -> Result<Bytes> {
        let bytes = match self.bucket.store().get_range(&self.key, range.clone()).await {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => return Err(self.missing()),
            Err(source) => return Err(self.read_failed(range, source).await),
        };
        let expected = range.end - range.start;
        if bytes.len() as u64 != expected {
            return Err(self.length(range.start + bytes.len() as u64));
        }
        let block_bytes = u64::from(self.digest.block_bytes);
        assert!(range.start.is_multiple_of(block_bytes), "a read that does not start at a block");
        let chunk = usize::try_from(block_bytes).expect("a block fits in memory");
        for (nth, content) in bytes.chunks(chunk).enumerate() {
            let block = range.start / block_bytes + nth as u64;
            if !self.digest.block_matches(block, content) {
                let (bucket, key) = self.names();
                return Err(Error::BlockDamaged { bucket, key, block });
            }
        }
        Ok(bytes)
    }

    /// Tells a file cut before `range`, which stores report as a bad range, from a store that failed.
    async fn read_failed(&self, range: &Range<u64>, source: object_store::Error) -> Error {
        match self.bucket.head(&self.key).await {
            Ok(None) => self.missing(),
            Ok(Some(meta)) if meta.size < range.end => self.length(meta.size),
            Ok(Some(_)) | Err(_) => {
                let (bucket, key) = self.names();
                Error::Store { bucket, key, operation: Operation::Get, source }
            }
        }
    }

    fn missing(&self) -> Error {
        let (bucket, key) = self.names();
        Error::Missing { bucket, key }
    }

    fn length(&self, found: u64) -> Error {
        let (bucket, key) = self.names();
        Error::Length { bucket, key, expected: self.digest.len_bytes, found }
    }

    fn names(&self) -> (String, String) {
        (self.bucket.name().to_owned(), self.key.to_string())
    }
}

fn merge(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.collect();
    sorted.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            Some(_) | None => merged.push(range),
        }
    }
    merged
}

/// A bucket as a read-only object store that answers only for registered keys, and only with verified bytes.
#[derive(Debug, Clone)]
pub struct VerifiedStore {
    bucket: Bucket,
    registry: Registry,
}

impl VerifiedStore {
    /// Returns a store over `bucket` that believes the digests in `registry`.
    #[must_use]
    pub fn new(bucket: Bucket, registry: Registry) -> Self {
        Self { bucket, registry }
    }

    /// Returns the registered file `key`.
    ///
    /// # Errors
    /// `Error::Unregistered` when no digest is known for it.
    pub fn file(&self, key: &Path) -> Result<VerifiedFile> {
        let digest = self.registry.get(key).ok_or_else(|| Error::Unregistered {
            bucket: self.bucket.name().to_owned(),
            key: key.to_string(),
        })?;
        VerifiedFile::new(self.bucket.clone(), key.clone(), digest)
    }

    /// Checks a registered file against its digest, whole: for seals and the scrubber.
    ///
    /// # Errors
    /// As [`VerifiedFile::verify_whole`].
    pub async fn verify_whole(&self, key: &Path) -> Result<()> {
        self.file(key)?.verify_whole().await
    }
}

/// What a reader sees of a file without asking the store: the log knows its length, and files do not change.
fn attested_meta(key: &Path, digest: &FileDigest) -> ObjectMeta {
    ObjectMeta {
        location: key.clone(),
        last_modified: DateTime::UNIX_EPOCH,
        size: digest.len_bytes,
        e_tag: Some(blake3::Hash::from(digest.blake3).to_hex().to_string()),
        version: None,
    }
}

fn read_only<T>(operation: &str) -> object_store::Result<T> {
    let implementer = "VerifiedStore".to_owned();
    Err(object_store::Error::NotImplemented { operation: operation.to_owned(), implementer })
}

impl std::fmt::Display for VerifiedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifiedStore({})", self.bucket.name())
    }
}

#[async_trait]
impl ObjectStore for VerifiedStore {
    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let file = self.file(location)?;
        let meta = attested_meta(location, &file.digest);
        options.check_preconditions(&meta)?;
        let range = match options.range {
            Some(range) => range.as_range(meta.size).map_err(invalid_range)?,
            None => 0..meta.size,
        };
        let attributes = object_store::Attributes::default();
        if options.head || range.is_empty() {
            let payload = GetResultPayload::Stream(stream::empty().boxed());
            return Ok(GetResult { payload, meta, range, attributes });
        }
        let payload = GetResultPayload::Stream(verified_stream(file, range.clone()));
        Ok(GetResult { payload, meta, range, attributes })
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        let file = self.file(location)?;
        for range in ranges {
            let asked = object_store::GetRange::Bounded(range.clone());
            let answered = asked.as_range(file.len_bytes()).map_err(invalid_range)?;
            if answered != *range {
                let (bucket, key) = file.names();
                let (expected, found) = (range.end, file.len_bytes());
                return Err(Error::Length { bucket, key, expected, found }.into());
            }
        }
        Ok(file.read_ranges(ranges).await?)
    }

    async fn put_opts(
        &self,
        _location: &Path,
        _payload: PutPayload,
        _opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        read_only("put")
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        read_only("put_multipart")
    }

    fn delete_stream(
        &self,
        _locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        stream::once(futures::future::ready(read_only("delete"))).boxed()
    }

    fn list(&self, _prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        stream::once(futures::future::ready(read_only("list"))).boxed()
    }

    async fn list_with_delimiter(
        &self,
        _prefix: Option<&Path>,
    ) -> object_store::Result<ListResult> {
        read_only("list")
    }

    async fn copy_opts(
        &self,
        _from: &Path,
        _to: &Path,
        _options: CopyOptions,
    ) -> object_store::Result<()> {
        read_only("copy")
    }
}

fn verified_stream(
    file: VerifiedFile,
    range: Range<u64>,
) -> BoxStream<'static, object_store::Result<Bytes>> {
    let runs: Vec<Range<u64>> = file.runs(range.clone()).collect();
    stream::iter(runs)
        .then(move |run| {
            let (file, range) = (file.clone(), range.clone());
            async move {
                let wanted = range.start.max(run.start)..range.end.min(run.end);
                file.read(wanted).await
            }
        })
        .map_err(object_store::Error::from)
        .boxed()
}

#[cfg(test)]
mod tests;
