//! Conversions between the numbers of memory and those of files, where they cannot fail.
//!
//! Alluvium runs on 64-bit machines only, so `usize` and `u64` hold the same values.

const _: () = assert!(size_of::<usize>() == size_of::<u64>());

/// Returns a length in memory as a length in a file.
pub(crate) fn u64_of(value: usize) -> u64 {
    u64::try_from(value).expect("usize has 64 bits here")
}

/// Returns a length in a file as a length in memory.
pub(crate) fn usize_of(value: u64) -> usize {
    usize::try_from(value).expect("usize has 64 bits here")
}

/// Adds two sizes or positions whose sum no disk and no counter can reach the end of.
pub(crate) fn sum(left: u64, right: u64) -> u64 {
    left.checked_add(right).expect("a position beyond 2^64 does not exist")
}

/// Returns how far `right` lies behind `left`.
pub(crate) fn gap(left: u64, right: u64) -> u64 {
    left.checked_sub(right).expect("the caller has ordered the two positions")
}
