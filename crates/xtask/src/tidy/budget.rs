//! Shared mutable state is counted: `Arc<Mutex<..>>` is an exception with a reason, not a habit.
//!
//! It must not count tests. Invariant: the whole tree stays within a fifth of one per 1,000 lines.

use super::Violation;
use crate::source::Source;
use crate::tree::Tree;

/// Counted, and in need of a reason.
const MUTEXES: [&str; 3] = ["Arc<Mutex<", "Arc<std::sync::Mutex<", "Arc<tokio::sync::Mutex<"];

/// In need of a reason only: readers do not wait for each other.
const OTHERS: [&str; 2] = ["Arc<RwLock<", "Arc<tokio::sync::RwLock<"];

/// Lines of code for each one that is allowed.
const LINES_EACH: usize = 5_000;

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut uses = Vec::new();
    let mut lines = 0;
    for source in tree.sources.iter().filter(|source| !source.is_generated()) {
        lines += source.non_test_lines();
        for (line, code) in source.product_code() {
            let is_mutex = MUTEXES.iter().any(|shared| code.contains(shared));
            let is_other = OTHERS.iter().any(|shared| code.contains(shared));
            if is_mutex {
                uses.push((source.path.as_str(), line));
            }
            if (is_mutex || is_other) && !has_reason(source, line) {
                let message = "shared mutable state without a comment that says why";
                found.push(Violation::new(&source.path, line, message));
            }
        }
    }
    let allowed = lines.div_ceil(LINES_EACH);
    for (path, line) in uses.iter().skip(allowed) {
        let message = format!(
            "{} shared mutexes, at most {allowed}: one owner task and a handle",
            uses.len()
        );
        found.push(Violation::new(path, *line, message));
    }
    found
}

/// A comment on the line or right above it.
fn has_reason(source: &Source, line: usize) -> bool {
    let mut comments = source.masked.comments.lines().skip(line.saturating_sub(2)).take(2);
    comments.any(|comment| comment.contains("//"))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::assert_caught;

    #[test]
    fn a_shared_lock_needs_a_reason() {
        let bare = "struct A {\n    b: Arc<Mutex<u8>>,\n}\n";
        assert_caught(check, &[("wal/src/a.rs", bare)], &["a.rs:2: shared mutable state"]);
        let reasoned = "struct A {\n    // Two threads flip it.\n    b: Arc<Mutex<u8>>,\n}\n";
        assert_caught(check, &[("wal/src/a.rs", reasoned)], &[]);
        assert_caught(check, &[("wal/src/a/tests.rs", bare)], &[]);
    }

    #[test]
    fn shared_locks_above_the_budget_are_caught() {
        let text = "// Why.\ntype A = Arc<Mutex<u8>>;\n// Why.\ntype B = Arc<Mutex<u16>>;\n";
        assert_caught(check, &[("wal/src/a.rs", text)], &["a.rs:4: 2 shared mutexes, at most 1"]);
    }
}
