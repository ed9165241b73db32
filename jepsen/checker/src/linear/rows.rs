//! Rows by key: upsert, tombstone, read.
//!
//! It must not know predicates: a tombstone here names one key. Invariant: a row is its last upsert, unless
//! a tombstone came after it.

use super::Model;
use crate::call::{Call, Reply};

/// The model of keyed rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rows;

impl Model for Rows {
    type State = Option<i64>;

    fn subject(&self, call: &Call) -> Option<String> {
        let (Call::Upsert { key, .. } | Call::Tombstone { key } | Call::Get { key }) = call else {
            return None;
        };
        Some(format!("row {key}"))
    }

    fn initial(&self) -> Option<i64> {
        None
    }

    fn step(&self, state: &Option<i64>, call: &Call, reply: Option<&Reply>) -> Option<Option<i64>> {
        if let Call::Upsert { value, .. } = call {
            return Some(Some(*value));
        }
        if matches!(call, Call::Tombstone { .. }) {
            return Some(None);
        }
        let fits = matches!(reply, Some(Reply::Row { value }) if value == state);
        fits.then_some(*state)
    }
}
