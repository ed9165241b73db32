//! A failpoint that no test fires proves nothing: each name in the code stands in a test.
//!
//! It must not accept a computed name, which could not be searched for. Invariant: names are literals.

use super::Violation;
use crate::source::{Source, numbered};
use crate::tree::Tree;

const MACROS: [&str; 2] = ["fail_point!(", "failpoint!("];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in tree.sources.iter().filter(|source| !source.path.starts_with("crates/xtask/")) {
        for (line, code) in source.product_code() {
            if !MACROS.iter().any(|name| code.contains(name)) || code.contains('$') {
                continue;
            }
            found.extend(verdict(tree, source, line));
        }
    }
    found
}

fn verdict(tree: &Tree, source: &Source, line: usize) -> Option<Violation> {
    // rustfmt may put the name on the line below the macro.
    let mut near = source.masked.strings.iter().filter(|(at, _)| *at == line || *at == line + 1);
    let Some((_, name)) = near.next() else {
        return Some(Violation::new(&source.path, line, "the failpoint's name is not a literal"));
    };
    if tree.sources.iter().any(|other| names_in_test(other, name)) {
        return None;
    }
    Some(Violation::new(&source.path, line, format!("failpoint `{name}` is fired by no test")))
}

fn names_in_test(source: &Source, name: &str) -> bool {
    let mut lines = numbered(&source.text).filter(|(line, _)| source.is_test_line(*line));
    lines.any(|(_, text)| text.contains(name))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::assert_caught;

    #[test]
    fn a_failpoint_without_a_test_is_caught() {
        let code = ("wal/src/a.rs", "fn a() {\n    fail_point!(\"wal::sync::err\", |_| 1);\n}\n");
        assert_caught(check, &[code], &["a.rs:2: failpoint `wal::sync::err` is fired by no test"]);
        let test = ("tests/fault/a.rs", "fn a() { fail::cfg(\"wal::sync::err\", \"return\"); }\n");
        assert_caught(check, &[code, test], &[]);
    }

    #[test]
    fn a_failpoint_with_a_computed_name_is_caught() {
        let code = ("wal/src/a.rs", "fn a() {\n    fail_point!(NAME);\n\n}\n");
        assert_caught(check, &[code], &["name is not a literal"]);
    }
}
