//! Tests of a whole node through its public interfaces; see `tests/it`.
