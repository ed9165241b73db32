//! The workload of a seed, and what it must leave behind.

use alluvium_stdx::Prng;

/// Keys that the keyed dataset uses: few, so that tombstones and upserts meet rows.
const KEYS: u64 = 12;

/// One call of the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Rows for the keyless dataset, with values from `first` on.
    Append {
        /// The first value.
        first: i64,
        /// How many rows.
        rows: i64,
    },
    /// Rows for the keyed dataset: key and value.
    AppendKeyed(Vec<(String, i64)>),
    /// The same as upserts; no key twice.
    Upsert(Vec<(String, i64)>),
    /// Keys to hide.
    Tombstone(Vec<String>),
    /// Seal a dataset.
    Seal(&'static str),
    /// Compact a dataset.
    Compact(&'static str),
    /// Expire a dataset.
    Expire(&'static str),
}

/// The keyless dataset.
pub const PLAIN: &str = "plain";
/// The keyed dataset.
pub const KEYED: &str = "keyed";

/// The rows that must be visible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// Values of the keyless dataset.
    pub plain: Vec<i64>,
    /// Keys and values of the keyed dataset.
    pub keyed: Vec<(String, i64)>,
}

/// Returns the workload of a seed.
#[must_use]
pub fn operations(seed: u64, count: usize) -> Vec<Operation> {
    let mut prng = Prng::from_seed(seed);
    let mut next_value = 0;
    (0..count).map(|_| draw(&mut prng, &mut next_value)).collect()
}

fn draw(prng: &mut Prng, next_value: &mut i64) -> Operation {
    let dataset = if prng.one_in(2) { PLAIN } else { KEYED };
    match prng.below(12) {
        0..=2 => {
            let rows = i64::try_from(1 + prng.below(300)).expect("small");
            let first = *next_value;
            *next_value += rows;
            Operation::Append { first, rows }
        }
        3 | 4 => Operation::AppendKeyed(pairs(prng, next_value)),
        5 | 6 => Operation::Upsert(pairs(prng, next_value)),
        7 | 8 => Operation::Tombstone(pairs(prng, next_value).into_iter().map(|p| p.0).collect()),
        9 => Operation::Seal(dataset),
        10 => Operation::Compact(dataset),
        _ => Operation::Expire(dataset),
    }
}

fn pairs(prng: &mut Prng, next_value: &mut i64) -> Vec<(String, i64)> {
    let mut pairs = Vec::new();
    for key in 0..KEYS {
        if prng.one_in(4) || (key + 1 == KEYS && pairs.is_empty()) {
            pairs.push((format!("key-{key}"), *next_value));
            *next_value += 1;
        }
    }
    pairs
}

impl Model {
    /// Applies an operation.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Append { first, rows } => self.plain.extend(*first..first + rows),
            Operation::AppendKeyed(pairs) => self.keyed.extend(pairs.iter().cloned()),
            Operation::Upsert(pairs) => {
                self.keyed.retain(|(key, _)| pairs.iter().all(|(other, _)| other != key));
                self.keyed.extend(pairs.iter().cloned());
            }
            Operation::Tombstone(keys) => self.keyed.retain(|(key, _)| !keys.contains(key)),
            Operation::Seal(_) | Operation::Compact(_) | Operation::Expire(_) => {}
        }
    }

    /// Returns the model after the first `count` operations, its rows in order.
    #[must_use]
    pub fn after(operations: &[Operation], count: usize) -> Self {
        let mut model = Self::default();
        operations.iter().take(count).for_each(|operation| model.apply(operation));
        model.plain.sort_unstable();
        model.keyed.sort_unstable();
        model
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_workload_and_an_upsert_replaces() {
        assert_eq!(operations(3, 50), operations(3, 50));
        let pair = |value| vec![("a".to_owned(), value)];
        let steps = [Operation::AppendKeyed(pair(1)), Operation::Upsert(pair(2))];
        assert_eq!(Model::after(&steps, 2).keyed, pair(2));
    }
}
