//! Invariants with names: an assertion that says which promise it keeps.

/// Asserts an invariant by its id in `docs/INVARIANTS.md`; stays in release builds.
///
/// ```text
/// invariant!("INV-W1", next == last + 1, "log has a hole: {next} after {last}");
/// ```
#[macro_export]
macro_rules! invariant {
    ($id:literal, $condition:expr, $($message:tt)+) => {
        assert!($condition, "{} violated: {}", $id, format_args!($($message)+))
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_violation_names_its_id_and_what_to_conclude() {
        let broken = std::panic::catch_unwind(|| {
            let last = 3;
            crate::invariant!("INV-X0", last == 2, "last is {last}");
        });
        let message = *broken.expect_err("it must fire").downcast::<String>().expect("text");
        assert_eq!(message, "INV-X0 violated: last is 3");
    }
}
