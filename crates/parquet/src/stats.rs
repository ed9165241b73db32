//! Bounds of columns, for pruning: what is said is true, and what is unsure is left out.
//!
//! Must not: give a bound for a column with a NaN, whose place in the order readers disagree on. Invariant:
//! min <= every value <= max; a cut text bound is cut down for min and rounded up for max.

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Float64Type, Int64Type, Schema, UInt64Type,
};

use crate::limits::STAT_BYTES_MAX;

/// A bound, by kind. Dates, times and timestamps are `I64` in the column's own unit.
#[derive(Debug, Clone, PartialEq)]
pub enum StatValue {
    /// A truth value.
    Bool(bool),
    /// A signed integer, date, time or timestamp.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A floating-point number that is not NaN.
    F64(f64),
    /// An unscaled decimal.
    I128(i128),
    /// Text of at most `STAT_BYTES_MAX` bytes.
    Str(String),
    /// Bytes, at most `STAT_BYTES_MAX`.
    Bytes(Vec<u8>),
}

/// What is known of one column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStats {
    /// The column.
    pub name: String,
    /// How many values are null.
    pub null_count: u64,
    /// A value that none is below; nothing when unsure or all are null.
    pub min: Option<StatValue>,
    /// A value that none is above; nothing when unsure or all are null.
    pub max: Option<StatValue>,
}

/// Collects the bounds of every column over all chunks.
#[derive(Debug)]
pub struct StatsCollector {
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    stats: ColumnStats,
    /// Once true, no bound is ever given.
    unsure: bool,
}

impl StatsCollector {
    /// Returns a collector for the columns of `schema`.
    #[must_use]
    pub fn new(schema: &Schema) -> Self {
        let column = |name: &String| Column {
            stats: ColumnStats { name: name.clone(), null_count: 0, min: None, max: None },
            unsure: false,
        };
        Self { columns: schema.fields().iter().map(|field| column(field.name())).collect() }
    }

    /// Takes the next rows.
    ///
    /// # Panics
    /// When the batch has another number of columns than the schema.
    pub fn observe(&mut self, batch: &RecordBatch) {
        assert!(batch.num_columns() == self.columns.len(), "a batch of another schema");
        for (column, values) in self.columns.iter_mut().zip(batch.columns()) {
            column.observe(values);
        }
    }

    /// Returns the statistics, bounds cut to their limit.
    #[must_use]
    pub fn finish(self) -> Vec<ColumnStats> {
        self.columns.into_iter().map(Column::finish).collect()
    }
}

enum Bounds {
    /// No value that is not null.
    Empty,
    Unsure,
    Known(StatValue, StatValue),
}

impl Column {
    fn observe(&mut self, values: &ArrayRef) {
        self.stats.null_count += values.null_count() as u64;
        if self.unsure {
            return;
        }
        match bounds(values) {
            Bounds::Empty => {}
            Bounds::Unsure => self.unsure = true,
            Bounds::Known(min, max) => {
                let lower = self.stats.min.as_ref().is_none_or(|old| below(&min, old));
                let higher = self.stats.max.as_ref().is_none_or(|old| below(old, &max));
                if lower {
                    self.stats.min = Some(min);
                }
                if higher {
                    self.stats.max = Some(max);
                }
            }
        }
    }

    fn finish(mut self) -> ColumnStats {
        if self.unsure {
            self.stats.min = None;
            self.stats.max = None;
        }
        self.stats.min = self.stats.min.map(cut_down);
        self.stats.max = self.stats.max.and_then(round_up);
        self.stats
    }
}

/// Returns whether `a` is below `b`, both of one kind.
fn below(a: &StatValue, b: &StatValue) -> bool {
    match (a, b) {
        (StatValue::Bool(a), StatValue::Bool(b)) => !a & b,
        (StatValue::I64(a), StatValue::I64(b)) => a < b,
        (StatValue::U64(a), StatValue::U64(b)) => a < b,
        (StatValue::F64(a), StatValue::F64(b)) => a.total_cmp(b).is_lt(),
        (StatValue::I128(a), StatValue::I128(b)) => a < b,
        (StatValue::Str(a), StatValue::Str(b)) => a < b,
        (StatValue::Bytes(a), StatValue::Bytes(b)) => a < b,
        (a, b) => unreachable!("a column changed its kind from {a:?} to {b:?}"),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a type without an order has no bounds")]
fn bounds(values: &ArrayRef) -> Bounds {
    let integer = |array: &ArrayRef| primitive::<Int64Type>(array, StatValue::I64);
    let through = |target: &DataType| compute::cast(values, target).ok();
    match values.data_type() {
        DataType::Boolean => {
            let array = values.as_boolean();
            known(compute::min_boolean(array), compute::max_boolean(array), StatValue::Bool)
        }
        DataType::Date32 | DataType::Time32(_) => through(&DataType::Int32)
            .and_then(|days| compute::cast(&days, &DataType::Int64).ok())
            .map_or(Bounds::Unsure, |array| integer(&array)),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Date64
        | DataType::Time64(_)
        | DataType::Timestamp(_, _) => {
            through(&DataType::Int64).map_or(Bounds::Unsure, |array| integer(&array))
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            through(&DataType::UInt64)
                .map_or(Bounds::Unsure, |array| primitive::<UInt64Type>(&array, StatValue::U64))
        }
        DataType::Float32 | DataType::Float64 => {
            through(&DataType::Float64).map_or(Bounds::Unsure, |array| floats(array.as_primitive()))
        }
        DataType::Decimal128(_, _) => primitive::<Decimal128Type>(values, StatValue::I128),
        DataType::Utf8 => text(values.as_string::<i32>().iter()),
        DataType::LargeUtf8 => text(values.as_string::<i64>().iter()),
        DataType::Binary => binary(values.as_binary::<i32>().iter()),
        DataType::LargeBinary => binary(values.as_binary::<i64>().iter()),
        DataType::FixedSizeBinary(_) => {
            let array: &FixedSizeBinaryArray = values.as_fixed_size_binary();
            binary(array.iter())
        }
        // Nested values have no order that every reader shares.
        _ => Bounds::Unsure,
    }
}

fn known<T>(min: Option<T>, max: Option<T>, wrap: fn(T) -> StatValue) -> Bounds {
    match (min, max) {
        (Some(min), Some(max)) => Bounds::Known(wrap(min), wrap(max)),
        (None, _) | (_, None) => Bounds::Empty,
    }
}

fn primitive<T>(values: &ArrayRef, wrap: fn(T::Native) -> StatValue) -> Bounds
where
    T: ArrowPrimitiveType,
    T::Native: arrow::datatypes::ArrowNativeType + PartialOrd,
{
    let array: &PrimitiveArray<T> = values.as_primitive();
    known(compute::min(array), compute::max(array), wrap)
}

fn floats(array: &PrimitiveArray<Float64Type>) -> Bounds {
    if array.iter().flatten().any(f64::is_nan) {
        return Bounds::Unsure;
    }
    // A zero bound covers both zeros, whichever of them a reader compares with.
    let min = compute::min(array).map(|min| if min == 0.0 { -0.0 } else { min });
    let max = compute::max(array).map(|max| if max == 0.0 { 0.0 } else { max });
    known(min, max, StatValue::F64)
}

fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Bounds {
    let (min, max) = extremes(values.flatten());
    known(min, max, |value| StatValue::Str(value.to_owned()))
}

fn binary<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> Bounds {
    let (min, max) = extremes(values.flatten());
    known(min, max, |value| StatValue::Bytes(value.to_owned()))
}

fn extremes<T: Ord + Copy>(values: impl Iterator<Item = T>) -> (Option<T>, Option<T>) {
    values.fold((None, None), |(min, max), value| {
        let min = min.map_or(value, |old: T| old.min(value));
        let max = max.map_or(value, |old: T| old.max(value));
        (Some(min), Some(max))
    })
}

/// A prefix is never above what it is a prefix of.
fn cut_down(value: StatValue) -> StatValue {
    match value {
        StatValue::Str(text) => StatValue::Str(prefix(&text).to_owned()),
        StatValue::Bytes(mut bytes) => {
            bytes.truncate(STAT_BYTES_MAX);
            StatValue::Bytes(bytes)
        }
        StatValue::Bool(_)
        | StatValue::I64(_)
        | StatValue::U64(_)
        | StatValue::F64(_)
        | StatValue::I128(_) => value,
    }
}

/// The prefix's successor is above everything with that prefix; some prefixes have none.
fn round_up(value: StatValue) -> Option<StatValue> {
    match value {
        StatValue::Str(text) if STAT_BYTES_MAX < text.len() => {
            text_successor(prefix(&text)).map(StatValue::Str)
        }
        StatValue::Bytes(bytes) if STAT_BYTES_MAX < bytes.len() => {
            bytes_successor(&bytes[..STAT_BYTES_MAX]).map(StatValue::Bytes)
        }
        StatValue::Str(_)
        | StatValue::Bytes(_)
        | StatValue::Bool(_)
        | StatValue::I64(_)
        | StatValue::U64(_)
        | StatValue::F64(_)
        | StatValue::I128(_) => Some(value),
    }
}

fn prefix(text: &str) -> &str {
    &text[..text.floor_char_boundary(STAT_BYTES_MAX)]
}

fn bytes_successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut successor = prefix[..=last].to_vec();
    successor[last] += 1;
    Some(successor)
}

/// UTF-8 sorts as code points do, so the next code point makes the next text.
fn text_successor(prefix: &str) -> Option<String> {
    let mut kept = prefix;
    while let Some(last) = kept.chars().next_back() {
        kept = &kept[..kept.len() - last.len_utf8()];
        let next = match u32::from(last) + 1 {
            0xd800 => char::from_u32(0xe000),
            code => char::from_u32(code),
        };
        // A longer code point could push the bound over its limit; the character before it has room.
        if let Some(next) = next.filter(|next| next.len_utf8() <= last.len_utf8()) {
            return Some(format!("{kept}{next}"));
        }
    }
    None
}

#[cfg(test)]
mod tests;
