//! How large rows are: as they lie, and as they would be once encodings that share values are undone.
//!
//! It must not allocate in proportion to what it measures. Invariant: sums saturate, they never wrap.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow has forty types; those without a place in a dataset share one arm"
)]

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;

/// Bytes that one text, binary or list array may have: its offsets are 32 bits wide.
pub(crate) const ARRAY_BYTES_MAX: u64 = i32::MAX as u64;

/// Returns about how many bytes a batch's rows take, slices considered.
#[must_use]
pub fn slice_bytes(batch: &RecordBatch) -> u64 {
    let column = |column: &ArrayRef| {
        let data = column.to_data();
        // A type whose size cannot be told counts with its whole buffers: an estimate may be high.
        data.get_slice_memory_size().unwrap_or_else(|_unsized| column.get_array_memory_size())
            as u64
    };
    batch.columns().iter().map(column).fold(0, u64::saturating_add)
}

/// Returns the bytes of an array's text or binary values once views and dictionaries are undone; for other
/// types what they take in memory.
pub(crate) fn expanded_bytes(array: &dyn Array) -> u64 {
    match array.data_type() {
        DataType::Utf8View => view_bytes(array.as_string_view().views()),
        DataType::BinaryView => view_bytes(array.as_binary_view().views()),
        DataType::Dictionary(_, _) => dictionary_bytes(array),
        DataType::List(_) => expanded_bytes(array.as_list::<i32>().values()),
        DataType::LargeList(_) => expanded_bytes(array.as_list::<i64>().values()),
        DataType::Struct(_) => {
            let fields = array.as_struct().columns().iter();
            fields.map(|field| expanded_bytes(field)).fold(0, u64::saturating_add)
        }
        _ => array.to_data().get_slice_memory_size().map_or(u64::MAX, |bytes| bytes as u64),
    }
}

/// The low 32 bits of a view are its value's length.
fn view_bytes(views: &[u128]) -> u64 {
    let length = |view: &u128| u64::try_from(view & u128::from(u32::MAX)).unwrap_or(u64::MAX);
    views.iter().map(length).fold(16 * views.len() as u64, u64::saturating_add)
}

fn dictionary_bytes(array: &dyn Array) -> u64 {
    let dictionary = array.as_any_dictionary();
    match cast(dictionary.keys(), &DataType::Int64) {
        Ok(keys) => taken_bytes(dictionary.values(), keys.as_primitive()),
        Err(_) => u64::MAX,
    }
}

/// Returns the bytes that the values at `keys` take together; keys out of range count nothing.
pub(crate) fn taken_bytes(values: &ArrayRef, keys: &Int64Array) -> u64 {
    let lengths = value_lengths(values);
    let length = |key: i64| usize::try_from(key).ok().and_then(|key| lengths.get(key)).copied();
    keys.iter().flatten().filter_map(length).fold(0, u64::saturating_add)
}

/// Returns the bytes of each value, were it repeated.
fn value_lengths(values: &ArrayRef) -> Vec<u64> {
    let count = values.len();
    match values.data_type() {
        DataType::Utf8 => widths(values.as_string::<i32>().value_offsets().iter().copied()),
        DataType::Binary => widths(values.as_binary::<i32>().value_offsets().iter().copied()),
        DataType::LargeUtf8 => widths(values.as_string::<i64>().value_offsets().iter().copied()),
        DataType::LargeBinary => widths(values.as_binary::<i64>().value_offsets().iter().copied()),
        DataType::Utf8View => {
            values.as_string_view().views().iter().map(|view| view_bytes(&[*view])).collect()
        }
        DataType::BinaryView => {
            values.as_binary_view().views().iter().map(|view| view_bytes(&[*view])).collect()
        }
        DataType::FixedSizeBinary(width) => vec![u64::try_from(*width).unwrap_or(0); count],
        DataType::Boolean => vec![1; count],
        other => match other.primitive_width() {
            Some(width) => vec![width as u64; count],
            // Nested values of a dictionary: each might be as large as all of them.
            None => vec![expanded_bytes(values); count],
        },
    }
}

fn widths<O: Into<i64>>(offsets: impl Iterator<Item = O>) -> Vec<u64> {
    let offsets: Vec<i64> = offsets.map(Into::into).collect();
    // Eight bytes for the offset that each repetition costs.
    offsets.windows(2).map(|pair| pair[1].abs_diff(pair[0]).saturating_add(8)).collect()
}
