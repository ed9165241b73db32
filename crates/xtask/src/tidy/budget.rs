//! Shared mutable state is counted: `Arc<Mutex<..>>` is an exception with a reason, not a habit.
//!
//! It must not count tests. Invariant: the whole tree stays within a fifth of one per 1,000 lines.

use super::Violation;
use crate::source::Source;
use crate::tree::Tree;

const SHARED: [&str; 4] =
    ["Arc<Mutex<", "Arc<RwLock<", "Arc<std::sync::Mutex<", "Arc<tokio::sync::Mutex<"];

/// Lines of code for each one that is allowed.
const LINES_EACH: usize = 5_000;

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut uses = Vec::new();
    let mut lines = 0;
    for source in tree.sources.iter().filter(|source| !source.is_generated()) {
        lines += source.non_test_lines();
        for (line, code) in source.product_code() {
            if !SHARED.iter().any(|shared| code.contains(shared)) {
                continue;
            }
            uses.push((source.path.as_str(), line));
            if !has_reason(source, line) {
                let message = "shared mutable state without a comment that says why";
                found.push(Violation::new(&source.path, line, message));
            }
        }
    }
    let allowed = lines.div_ceil(LINES_EACH);
    for (path, line) in uses.iter().skip(allowed) {
        let message =
            format!("{} shared locks, at most {allowed}: one owner task and a handle", uses.len());
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
        let text = "// Why.\ntype A = Arc<Mutex<u8>>;\n// Why.\ntype B = Arc<RwLock<u8>>;\n";
        assert_caught(check, &[("wal/src/a.rs", text)], &["a.rs:4: 2 shared locks, at most 1"]);
    }
}
