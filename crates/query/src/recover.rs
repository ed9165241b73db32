//! From what DataFusion reports back to what happened.
//!
//! Must not: decide by the text of a message where a type will do. Invariant: an error of ours comes out as it
//! went in, however often it was wrapped.

use std::error::Error as StdError;
use std::sync::Arc;

use datafusion::common::SchemaError;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::error::DataFusionError;
use object_store::path::Path;

use alluvium_storage::{DataFileName, Error as StorageError};

use crate::Error;
use crate::stream::QueryStats;

/// The most links of a chain that are followed.
const CHAIN_MAX: usize = 64;

/// Recovers what went wrong, while planning or while running.
#[expect(clippy::wildcard_enum_match_arm, reason = "DataFusion's errors; the rest are bugs")]
pub(crate) fn recover(error: DataFusionError, stats: &QueryStats, limit_bytes: usize) -> Error {
    if let Some(own) = find::<Error>(&error) {
        return deepen(own.clone(), stats);
    }
    if let Some(storage) = StorageError::find_in(&error) {
        let found = damage(storage, stats);
        return found(Arc::new(error));
    }
    let source = Arc::new(error);
    match source.find_root() {
        DataFusionError::ResourcesExhausted(_) => Error::Memory { limit_bytes, source },
        DataFusionError::SchemaError(schema, _) => {
            unknown_column(schema).unwrap_or(Error::Plan { source: Arc::clone(&source) })
        }
        DataFusionError::Plan(_)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::SQL(..)
        | DataFusionError::Diagnostic(..)
        | DataFusionError::Collection(_) => Error::Plan { source },
        DataFusionError::ArrowError(..) | DataFusionError::Execution(_) => {
            Error::Evaluation { source }
        }
        _ => Error::Internal { source },
    }
}

/// An error of ours may have damage below that says more.
fn deepen(own: Error, stats: &QueryStats) -> Error {
    let (Error::Delta { source, .. } | Error::Tombstones { source, .. }) = &own else {
        return own;
    };
    let below = Arc::clone(source);
    match StorageError::find_in(below.as_ref()) {
        Some(storage) => damage(storage, stats)(Arc::clone(&below)),
        None => own,
    }
}

fn damage(
    storage: &StorageError,
    stats: &QueryStats,
) -> impl FnOnce(crate::error::SharedError) -> Error + use<> {
    let named = if let StorageError::Missing { bucket, key }
    | StorageError::BlockDamaged { bucket, key, .. }
    | StorageError::Length { bucket, key, .. }
    | StorageError::FileHash { bucket, key } = storage
    {
        Some((bucket.clone(), key.clone()))
    } else {
        None
    };
    let file =
        named.as_ref().and_then(|(_, key)| DataFileName::parse(&Path::from(key.as_str())).ok());
    let dataset = file.map(|file| stats.dataset_name(file.dataset, file.incarnation));
    move |source| match (named, file, dataset) {
        (Some((bucket, key)), Some(file), Some(dataset)) => {
            Error::DataFile { dataset, file: file.file, key, bucket, source }
        }
        _ => Error::Storage { source },
    }
}

/// Finds an error of a type among an error's sources and payloads.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    for _ in 0..CHAIN_MAX {
        let current = next?;
        if let Some(found) = current.downcast_ref::<T>() {
            return Some(found);
        }
        // Boxes and shared errors hide what they hold from `downcast_ref`.
        next = match current.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Context(_, inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Diagnostic(_, inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Collection(all)) => {
                all.first().map(|first| first as &(dyn StdError + 'static))
            }
            Some(_) | None => {
                let payload = current.downcast_ref::<std::io::Error>();
                match payload.and_then(std::io::Error::get_ref) {
                    Some(payload) => Some(payload),
                    None => current.source(),
                }
            }
        };
    }
    None
}

fn unknown_column(error: &SchemaError) -> Option<Error> {
    let SchemaError::FieldNotFound { field, valid_fields } = error else { return None };
    let names = valid_fields.iter().map(|column| column.name.as_str());
    let suggestion = nearest(&field.name, names);
    Some(Error::ColumnNotFound { name: field.name.clone(), suggestion })
}

/// Returns the name that is most like `name`, unless none is.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let folded = name.to_lowercase();
    let scored = candidates.map(|other| (levenshtein(&folded, &other.to_lowercase()), other));
    let (distance, best) = scored.min()?;
    let close = distance <= 1 + name.chars().count() / 3;
    close.then(|| best.to_owned())
}
