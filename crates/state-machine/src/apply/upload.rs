//! Uploads: parts wait, invisible, until one command takes them all.

use alluvium_types::{
    DatasetKey, KeyBlock, LogIndex, Rejection, SchemaVersion, StageContent, UploadFault, UploadId,
    limits,
};

use crate::record::{DeltaEntry, UploadPartRecord, UploadRecord};
use crate::view::{ViewError, decode_record};
use crate::{Key, Table, catalog};

use super::draft::{Draft, Stop};

/// Uploads that one entry may forget as expired, so that no entry grows without bound.
const UPLOADS_EXPIRED_PER_ENTRY_MAX: usize = 8;

/// What the parts of an upload hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadKind {
    /// Rows of an append.
    Rows(SchemaVersion),
    /// Rows and keys of an upsert.
    KeyedRows(SchemaVersion),
    /// Keys of a tombstone.
    Keys,
}

impl UploadKind {
    pub(super) fn of(content: StageContent) -> Self {
        match content {
            StageContent::Rows { schema_version, .. } => Self::Rows(schema_version),
            StageContent::KeyedRows { schema_version, .. } => Self::KeyedRows(schema_version),
            StageContent::Keys => Self::Keys,
        }
    }
}

/// The parts of an upload that was taken.
pub(super) struct Taken {
    /// The entries that hold the rows, in order; empty for keys.
    pub(super) entries: Vec<DeltaEntry>,
    /// The key block of each part; empty for rows without keys.
    pub(super) blocks: Vec<Vec<u8>>,
    /// Rows or keys.
    pub(super) items: u64,
}

/// Refuses a command for its upload.
pub(super) fn fault(upload: UploadId, reason: UploadFault) -> Stop {
    Rejection::Upload { upload, reason }.into()
}

/// Returns an upload that did not expire.
pub(super) fn open(draft: &Draft<'_>, id: UploadId) -> Result<Option<UploadRecord>, ViewError> {
    let record: Option<UploadRecord> = draft.record(Table::Upload, &Key::upload(id))?;
    Ok(record.filter(|record| record.is_open(draft.now_ms)))
}

/// Takes all parts of an upload out of the state.
pub(super) fn take(
    draft: &mut Draft<'_>,
    id: UploadId,
    parts: u32,
    dataset: DatasetKey,
    kind: UploadKind,
) -> Result<Taken, Stop> {
    let record = open(draft, id)?.ok_or_else(|| fault(id, UploadFault::NotFound))?;
    if record.dataset != dataset || UploadKind::of(record.content) != kind {
        return Err(fault(id, UploadFault::Mixed));
    }
    if record.parts != parts {
        return Err(fault(id, UploadFault::PartCount));
    }
    let stored = draft.view().scan_prefix(Table::UploadPart, &Key::upload(id), LogIndex::MAX)?;
    let keys = draft.view().scan_prefix(Table::UploadKeys, &Key::upload(id), LogIndex::MAX)?;
    if stored.len() != parts as usize {
        return Err(ViewError::Dangling { table: Table::Upload }.into());
    }
    let mut entries = Vec::new();
    for (_, value) in &stored {
        let part: UploadPartRecord = decode_record(Table::UploadPart, value)?;
        if kind != UploadKind::Keys {
            let UploadPartRecord { index, items: rows, rows_bytes, .. } = part;
            entries.push(DeltaEntry { index, rows, rows_bytes });
        }
    }
    remove(draft, id)?;
    let blocks = keys.into_iter().map(|(_, value)| value).collect();
    Ok(Taken { entries, blocks, items: record.items })
}

/// Forgets an upload and its parts.
pub(super) fn remove(draft: &mut Draft<'_>, id: UploadId) -> Result<(), ViewError> {
    for table in [Table::UploadPart, Table::UploadKeys] {
        for key in catalog::keys(draft.view(), table, &Key::upload(id))? {
            draft.delete(table, key);
        }
    }
    draft.delete(Table::Upload, Key::upload(id));
    Ok(())
}

/// Forgets expired uploads and returns how many remain.
pub(super) fn expire(draft: &mut Draft<'_>) -> Result<usize, ViewError> {
    let uploads = all(draft)?;
    let expired: Vec<UploadId> = uploads
        .iter()
        .filter(|(_, record)| !record.is_open(draft.now_ms))
        .map(|(id, _)| *id)
        .take(UPLOADS_EXPIRED_PER_ENTRY_MAX)
        .collect();
    for id in &expired {
        remove(draft, *id)?;
    }
    Ok(uploads.len() - expired.len())
}

/// Returns all uploads; `UPLOADS_MAX` bounds them.
pub(super) fn all(draft: &Draft<'_>) -> Result<Vec<(UploadId, UploadRecord)>, ViewError> {
    let table = Table::Upload;
    let mut uploads = Vec::new();
    for (key, value) in draft.view().scan_prefix(table, &Key::empty(), LogIndex::MAX)? {
        let id = key.0.as_slice().try_into().map(u128::from_be_bytes).ok();
        let id = id.ok_or(ViewError::Dangling { table })?;
        uploads.push((UploadId(id), decode_record(table, &value)?));
    }
    debug_assert!(uploads.len() <= limits::UPLOADS_MAX as usize, "{} uploads", uploads.len());
    Ok(uploads)
}

/// Parses a key block that came from outside and must not be empty.
pub(super) fn parse_keys(draft: &Draft<'_>, bytes: bytes::Bytes) -> Result<KeyBlock, Stop> {
    let block = KeyBlock::parse(bytes).map_err(|error| draft.illegal_value(&error))?;
    match block.is_empty() {
        true => Err(draft.illegal("it names no key")),
        false => Ok(block),
    }
}
