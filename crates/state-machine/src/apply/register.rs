//! Register: a name gets a dataset, once.

use alluvium_types::{DataType, Error};
use alluvium_types::{
    DatasetId, DatasetKey, DatasetName, DatasetOptions, Field, FieldId, Incarnation, LogIndex,
    Outcome, Register, Rejection, Schema, SchemaVersion, codec, limits,
};

use crate::record::{DatasetCounters, DatasetRecord, NameRecord};
use crate::{Key, Table, catalog};

use super::draft::{Draft, Stop};

/// Bytes of a bucket's name.
const BUCKET_BYTES_MAX: usize = 256;

pub(super) fn apply(draft: &mut Draft<'_>, command: &Register) -> Result<Outcome, Stop> {
    check(draft, command)?;
    let fingerprint = fingerprint(command).map_err(|error| draft.illegal_value(&error))?;
    if let Some(found) = catalog::find(draft.view(), &command.name, LogIndex::MAX)? {
        let (dataset, name) = (found.dataset, command.name.clone());
        return match found.fingerprint == fingerprint {
            true => Ok(Outcome::Registered {
                dataset,
                schema_version: found.schema_version,
                existing: true,
            }),
            false => Err(Rejection::SchemaConflict { name, dataset }.into()),
        };
    }
    create(draft, command, fingerprint)
}

fn create(draft: &mut Draft<'_>, command: &Register, fingerprint: u128) -> Result<Outcome, Stop> {
    let incarnation = Incarnation(draft.index.0);
    let dataset = DatasetKey { id: DatasetId::of(&command.name), incarnation };
    let schema_version = SchemaVersion(1);
    let mut schema = command.schema.clone();
    let mut next_field = 1;
    schema.fields.iter_mut().for_each(|field| number_fields(field, &mut next_field));
    let record = DatasetRecord {
        dataset,
        name: command.name.clone(),
        fingerprint,
        schema_version,
        next_field,
        bucket: command.bucket.clone(),
        options: command.options.clone(),
        registered_at_ms: draft.now_ms,
        floor: LogIndex(0),
        dropped: false,
    };
    let counters = DatasetCounters { changed_at: draft.index, ..DatasetCounters::default() };
    draft.put(Table::Name, Key::name(&command.name), &NameRecord { dataset, live: true })?;
    draft.put(Table::Dataset, Key::dataset(dataset), &record)?;
    draft.put(Table::Schema, Key::schema(dataset, schema_version), &schema)?;
    draft.put_small(Table::Counters, Key::dataset(dataset), &counters);
    Ok(Outcome::Registered { dataset, schema_version, existing: false })
}

/// The proposer checked all this; apply checks it again, because an entry may come from another
/// version.
fn check(draft: &Draft<'_>, command: &Register) -> Result<(), Stop> {
    let illegal = |error: Error| draft.illegal_value(&error);
    command.name.as_str().parse::<DatasetName>().map_err(illegal)?;
    command.schema.validate().map_err(illegal)?;
    let length = command.bucket.len();
    if length > BUCKET_BYTES_MAX {
        let (length, limit) = (length as u64, BUCKET_BYTES_MAX as u64);
        return Err(illegal(Error::TooLarge { part: "bucket name", length, limit }));
    }
    // A seal that could never be written would hold the log for ever.
    if let Some(fault) = command.options.recipe.fault() {
        return Err(draft.illegal(fault));
    }
    let DatasetOptions { seal_bytes, seal_rows, .. } = command.options;
    if !(1..=limits::SEAL_BYTES_MAX).contains(&seal_bytes) || seal_rows == 0 {
        return Err(draft.illegal("a file is cut at 1 byte to 1.5 GiB and at one row or more"));
    }
    Ok(())
}

/// Returns what a later register must match: the schema without ids, the bucket and the options.
fn fingerprint(command: &Register) -> Result<u128, Error> {
    let mut schema: Schema = command.schema.clone();
    schema.fields.iter_mut().for_each(clear_ids);
    let bytes = codec::encode(&(&schema, &command.bucket, &command.options))?;
    Ok(xxhash_rust::xxh3::xxh3_128(&bytes))
}

fn clear_ids(field: &mut Field) {
    field.id = FieldId(0);
    children_mut(&mut field.data_type).iter_mut().for_each(clear_ids);
}

/// Gives a field and the fields within it the next ids, parents first.
pub(super) fn number_fields(field: &mut Field, next: &mut u32) {
    field.id = FieldId(*next);
    *next = next.checked_add(1).expect("a dataset has fewer than 2^32 columns in its life");
    children_mut(&mut field.data_type).iter_mut().for_each(|child| number_fields(child, next));
}

fn children_mut(data_type: &mut DataType) -> &mut [Field] {
    match data_type {
        DataType::List(element) => std::slice::from_mut(element),
        DataType::Struct(fields) => fields,
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::FixedSizeBinary(_)
        | DataType::Date32
        | DataType::Time64Microsecond
        | DataType::Timestamp(..)
        | DataType::Decimal128(..) => &mut [],
    }
}
