//! Stage: one part of a large append, upsert or tombstone.

use alluvium_types::{KeyBlock, Outcome, Rejection, Stage, StageContent, UploadFault, limits};

use crate::record::{DatasetRecord, UploadPartRecord, UploadRecord};
use crate::{Key, Table};

use super::EntryRef;
use super::append::{check_rows, check_version};
use super::draft::{Draft, Stop};
use super::tombstone::check_keyed;
use super::upload::{self, UploadKind, fault};
use super::upsert::split_keys;

/// Bytes of key blocks of one upload: its command writes them all in one batch.
const UPLOAD_KEY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What a part adds.
struct Part {
    items: u32,
    rows_bytes: u32,
    keys: Option<KeyBlock>,
}

pub(super) fn apply(
    draft: &mut Draft<'_>,
    command: &Stage,
    entry: &EntryRef<'_>,
) -> Result<Outcome, Stop> {
    let staged = Outcome::Staged { upload: command.upload, part: command.part };
    let record = draft.live_dataset(command.dataset)?;
    if command.part >= limits::UPLOAD_PARTS_MAX {
        return Err(fault(command.upload, UploadFault::TooManyParts));
    }
    let open = upload::open(draft, command.upload)?;
    if let Some(open) = &open
        && command.part < open.parts
    {
        return repeated(draft, command, entry).map(|()| staged);
    }
    let mut upload = match (open, command.part) {
        (Some(open), part) if open.parts == part => open,
        (Some(_), _) => return Err(fault(command.upload, UploadFault::PartOrder)),
        (None, 0) => begin(draft, command)?,
        (None, _) => return Err(fault(command.upload, UploadFault::NotFound)),
    };
    let same_kind = UploadKind::of(upload.content) == UploadKind::of(command.content);
    if upload.dataset != command.dataset || !same_kind {
        return Err(fault(command.upload, UploadFault::Mixed));
    }
    let part = check(draft, &record, command, entry)?;
    add(draft, command, entry, &part, &mut upload)?;
    draft.put(Table::Upload, Key::upload(command.upload), &upload)?;
    Ok(staged)
}

/// Accepts a part that is there already, if it is the same.
fn repeated(draft: &Draft<'_>, command: &Stage, entry: &EntryRef<'_>) -> Result<(), Stop> {
    let key = Key::upload_part(command.upload, command.part);
    let stored: Option<UploadPartRecord> = draft.record(Table::UploadPart, &key)?;
    match stored.is_some_and(|stored| stored.payload_hash == entry.payload_hash) {
        true => Ok(()),
        false => Err(fault(command.upload, UploadFault::PartOrder)),
    }
}

fn begin(draft: &mut Draft<'_>, command: &Stage) -> Result<UploadRecord, Stop> {
    // An expired upload of the same id may still be there: its parts must not mix with the new
    // ones.
    upload::remove(draft, command.upload)?;
    let remaining = upload::expire(draft)?;
    if remaining >= limits::UPLOADS_MAX as usize {
        return Err(Rejection::TooManyUploads { limit: limits::UPLOADS_MAX }.into());
    }
    Ok(UploadRecord {
        dataset: command.dataset,
        content: command.content,
        parts: 0,
        items: 0,
        bytes: 0,
        key_bytes: 0,
        last_key: Vec::new(),
        first_index: draft.index,
        active_at_ms: draft.now_ms,
    })
}

fn check(
    draft: &Draft<'_>,
    record: &DatasetRecord,
    command: &Stage,
    entry: &EntryRef<'_>,
) -> Result<Part, Stop> {
    let body = entry.body;
    match command.content {
        StageContent::Rows { schema_version, rows } => {
            check_version(record, schema_version)?;
            let rows_bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
            check_rows(draft, rows, rows_bytes, body)?;
            Ok(Part { items: rows, rows_bytes, keys: None })
        }
        StageContent::KeyedRows { schema_version, rows, rows_bytes } => {
            check_keyed(draft, record)?;
            check_version(record, schema_version)?;
            let keys = split_keys(draft, rows, rows_bytes, body)?;
            Ok(Part { items: rows, rows_bytes, keys: Some(keys) })
        }
        StageContent::Keys => {
            check_keyed(draft, record)?;
            let keys = upload::parse_keys(draft, body.clone())?;
            Ok(Part { items: keys.len(), rows_bytes: 0, keys: Some(keys) })
        }
    }
}

fn add(
    draft: &mut Draft<'_>,
    command: &Stage,
    entry: &EntryRef<'_>,
    part: &Part,
    upload: &mut UploadRecord,
) -> Result<(), Stop> {
    assert!(upload.parts == command.part, "part {} after {}", command.part, upload.parts);
    let key = Key::upload_part(command.upload, command.part);
    if let Some(block) = &part.keys {
        let (first, last) = block.bounds().expect("an empty block was refused");
        if upload.parts > 0 && first <= upload.last_key.as_slice() {
            return Err(fault(command.upload, UploadFault::KeyOrder));
        }
        last.clone_into(&mut upload.last_key);
        upload.key_bytes += block.as_bytes().len() as u64;
        if upload.key_bytes > UPLOAD_KEY_BYTES_MAX {
            return Err(fault(command.upload, UploadFault::TooManyParts));
        }
        draft.put_bytes(Table::UploadKeys, key.clone(), block.as_bytes().to_vec());
    }
    upload.parts += 1;
    upload.items += u64::from(part.items);
    upload.bytes += entry.body.len() as u64;
    upload.active_at_ms = draft.now_ms;
    let stored = UploadPartRecord {
        index: draft.index,
        payload_hash: entry.payload_hash,
        items: part.items,
        rows_bytes: part.rows_bytes,
    };
    draft.put_small(Table::UploadPart, key, &stored);
    Ok(())
}
