//! Reading a local bucket: metadata, ranges and listings. Writes nothing.
//!
//! Must not: follow a symbolic link or show a temporary file. Invariant: a name that breaks the key grammar
//! is no object, whoever put it there.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path as FsPath;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ListResult, ObjectMeta};

use crate::error::{Error, Result, STORE_NAME};
use crate::layout::segment_fault;
use crate::local_root::{Root, Step, failed, is_absent};

pub(crate) fn get(root: &Root, key: &Path, options: GetOptions) -> object_store::Result<GetResult> {
    let (file, path, meta) = open(root, key)?;
    options.check_preconditions(&meta)?;
    let range = match options.range {
        Some(range) => range.as_range(meta.size).map_err(invalid_range)?,
        None => 0..meta.size,
    };
    let payload = GetResultPayload::File(file, path);
    Ok(GetResult { payload, meta, range, attributes: object_store::Attributes::default() })
}

pub(crate) fn get_ranges(
    root: &Root,
    key: &Path,
    ranges: &[std::ops::Range<u64>],
) -> object_store::Result<Vec<Bytes>> {
    let (file, path, meta) = open(root, key)?;
    let read_one = |range: &std::ops::Range<u64>| {
        let range = GetRange::Bounded(range.clone()).as_range(meta.size).map_err(invalid_range)?;
        let len = usize::try_from(range.end - range.start).expect("a range fits in memory");
        let mut buffer = vec![0; len];
        root.step(Step::Read, &path, || file.read_exact_at(&mut buffer, range.start))?;
        Ok(Bytes::from(buffer))
    };
    ranges.iter().map(read_one).collect()
}

pub(crate) fn e_tag(metadata: &Metadata) -> String {
    let (inode, size) = (metadata.ino(), metadata.size());
    format!("{inode:x}-{:x}.{:x}-{size:x}", metadata.mtime(), metadata.mtime_nsec())
}

/// Lists every object below `prefix`, in key order.
pub(crate) fn list(root: &Root, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
    let mut found = Vec::new();
    let mut pending = vec![prefix.cloned().unwrap_or_default()];
    while let Some(dir) = pending.pop() {
        let (dirs, files) = list_dir(root, &dir)?;
        pending.extend(dirs);
        found.extend(files);
    }
    found.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(found)
}

/// Lists the objects and the directories directly below `prefix`.
pub(crate) fn list_with_delimiter(root: &Root, prefix: Option<&Path>) -> Result<ListResult> {
    let (mut common_prefixes, mut objects) = list_dir(root, &prefix.cloned().unwrap_or_default())?;
    common_prefixes.sort();
    objects.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(ListResult { common_prefixes, objects })
}

fn open(root: &Root, key: &Path) -> object_store::Result<(File, std::path::PathBuf, ObjectMeta)> {
    let (file, path) = root.open_file(key)?.ok_or_else(|| absent(key))?;
    let metadata = root.step(Step::Read, &path, || file.metadata())?;
    if !metadata.is_file() {
        return Err(absent(key));
    }
    let meta = object_meta(key.clone(), &metadata, &path)?;
    Ok((file, path, meta))
}

fn list_dir(root: &Root, dir: &Path) -> Result<(Vec<Path>, Vec<ObjectMeta>)> {
    let (mut dirs, mut files) = (Vec::new(), Vec::new());
    let path = if dir.as_ref().is_empty() { root.dir().to_path_buf() } else { root.place(dir)? };
    let entries = match root.step(Step::Read, &path, || fs::read_dir(&path)) {
        Ok(entries) => entries,
        Err(Error::Io { source, .. }) if is_absent(&source) => return Ok((dirs, files)),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry.map_err(|source| failed(Step::Read, &path, source))?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| segment_fault(name).is_none()) else {
            continue;
        };
        let key = dir.clone().join(name);
        // `DirEntry::metadata` does not follow links, so a link is neither file nor directory here.
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => dirs.push(key),
            Ok(metadata) if metadata.is_file() => files.push(object_meta(key, &metadata, &path)?),
            Ok(_) => {}
            Err(error) if is_absent(&error) => {}
            Err(source) => return Err(failed(Step::Read, &path, source)),
        }
    }
    Ok((dirs, files))
}

fn object_meta(location: Path, metadata: &Metadata, path: &FsPath) -> Result<ObjectMeta> {
    let nanos = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    let last_modified: DateTime<Utc> = DateTime::from_timestamp(metadata.mtime(), nanos)
        .ok_or_else(|| failed(Step::Read, path, std::io::ErrorKind::InvalidData.into()))?;
    let e_tag = Some(e_tag(metadata));
    Ok(ObjectMeta { location, last_modified, size: metadata.size(), e_tag, version: None })
}

pub(crate) fn absent(key: &Path) -> object_store::Error {
    let source = Box::new(std::io::Error::from(std::io::ErrorKind::NotFound));
    object_store::Error::NotFound { path: key.to_string(), source }
}

pub(crate) fn invalid_range(
    source: impl std::error::Error + Send + Sync + 'static,
) -> object_store::Error {
    object_store::Error::Generic { store: STORE_NAME, source: Box::new(source) }
}
