//! Medians and percentiles.
//!
//! It must not average: one slow sync would hide in it, or rule it. Invariant: no value is invented, every
//! median and percentile is one that was measured.

/// Returns the median: of an even count, the lower one.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// Returns the smallest and the largest.
#[must_use]
pub fn range(values: &[f64]) -> Option<(f64, f64)> {
    let smallest = values.iter().copied().min_by(f64::total_cmp)?;
    let largest = values.iter().copied().max_by(f64::total_cmp)?;
    Some((smallest, largest))
}

/// Returns the value below which `per_mille` of all lie; `sorted` must be sorted.
///
/// # Panics
/// In builds with debug assertions, when it is not.
#[must_use]
pub fn percentile(sorted: &[u64], per_mille: usize) -> Option<u64> {
    debug_assert!(sorted.is_sorted(), "percentiles are read from sorted values");
    let position = (sorted.len() * per_mille).div_ceil(1000).saturating_sub(1);
    sorted.get(position).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_are_measured_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(1.0));
        assert_eq!(median(&[]), None);
        assert_eq!(range(&[3.0, 1.0, 2.0]), Some((1.0, 3.0)));
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&values, 500), percentile(&values, 990)), (Some(50), Some(99)));
        assert_eq!((percentile(&[7], 990), percentile(&[], 500)), (Some(7), None));
    }
}
